"""The part of a run that is a Transformer scorer's own: encoder and essays as tensors, training or an exact head."""

from __future__ import annotations

import copy
import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from accelerate import Accelerator
from accelerate.utils import set_seed
from numpy.typing import NDArray
from torch import Tensor

from aes_dynloss.configfile import user_path
from aes_dynloss.errors import ConfigError
from aes_dynloss.essays.classical.left_out import parts_of
from aes_dynloss.essays.data.essay_table import EssayTable, Prompt, trait_numbers, traits_of
from aes_dynloss.essays.data.ratings import rater_names
from aes_dynloss.essays.finetune.config import FinetuneConfig
from aes_dynloss.essays.finetune.exact_head import fit_exact_head
from aes_dynloss.essays.finetune.predicted import AUGMENTED, CROSS_FIT, SELECT_BY, Predicted, feature_table
from aes_dynloss.essays.finetune.suspects import believed_ratings
from aes_dynloss.essays.finetune.warm_start import WarmStart
from aes_dynloss.essays.model.activations import frozen_part_computed
from aes_dynloss.essays.model.chunks import Chunker, remembering
from aes_dynloss.essays.model.encoder_folder import Screening
from aes_dynloss.essays.model.encoders import check_vocabulary, load_encoder, load_tokenizer, longest_window
from aes_dynloss.essays.model.examples import EssayExamples, scored_examples
from aes_dynloss.essays.model.int8_linear import linear_to_int8
from aes_dynloss.essays.model.lora import require_peft
from aes_dynloss.essays.model.ood_distance import OodDistance, fit_ood_distance, reference_rows
from aes_dynloss.essays.model.prompt_scales import fit_postprocessing, measure_scales
from aes_dynloss.essays.model.scorer import EncoderScorer
from aes_dynloss.essays.model.scoring_model import ScoringModel
from aes_dynloss.essays.model.training_essays import FeatureSpread, TrainingEssays
from aes_dynloss.essays.screening.screen import Screen
from aes_dynloss.measures.agreement import quadratic_weighted_kappa, sd_ratio
from aes_dynloss.reports.features import FeatureTable
from aes_dynloss.reports.ratings import TRUSTED
from aes_dynloss.tables.atomic import atomic_file
from aes_dynloss.teaching.losses.learned_loss import LearnedLoss
from aes_dynloss.teaching.losses.loss_spec import ForwardSpec
from aes_dynloss.teaching.teachers.config import FrozenTeacherConfig, forward_correction
from aes_dynloss.training.batching import packed
from aes_dynloss.training.loop import RunContext
from aes_dynloss.training.prediction import CPU_TOKENS, predict
from aes_dynloss.training.run import train_student
from aes_dynloss.training.teacher_folder import read_teacher

logger = logging.getLogger(__name__)

# Training essays that tell between which values the inputs of layers in int8 lie.
_INT8_SAMPLE = 128


class EncoderRun:
    """A Transformer scorer, from its encoder to its predictions.

    Args:
        accelerator: The run's.
        config: Its configuration.
        prompts: All prompts; a prompt's number is its place here.
        parts: Essays by part: train, dev, and where they are there test, teacher_dev, augmented.
        start: The model whose weights it starts with, if there is one.

    Raises:
        AesDynlossError: The encoder cannot be read, or the essays do not suffice.
    """

    def __init__(
        self,
        accelerator: Accelerator,
        config: FinetuneConfig,
        prompts: Sequence[Prompt],
        parts: Mapping[str, EssayTable],
        start: WarmStart | None,
    ) -> None:
        self._accelerator, self._config, self._parts = accelerator, config, parts
        self.scorer, self._examples = _build(accelerator, config, prompts, parts, start)
        ends = np.cumsum([len(part) for part in parts.values()])
        self._rows = dict(zip(parts, np.split(np.arange(len(self._examples)), ends[:-1]), strict=True))
        self._raters: list[str] = []
        trusted = parts["train"].trusted
        # Whether a frozen teacher does is known when it is read.
        corrects = isinstance(config.teacher, FrozenTeacherConfig) or forward_correction(config.teacher) is not None
        by_trust = corrects and trusted is not None and trusted.any()
        if by_trust and AUGMENTED in parts and isinstance(config.teacher, FrozenTeacherConfig):
            _check_copies(config.teacher)
        if "trait" in config.loss.by:
            self._raters = traits_of(prompts)
            numbers = np.array(trait_numbers(prompts))
            self._examples = replace(self._examples, raters=numbers[self._examples.groups])
        elif config.loss.by or by_trust:
            self._raters, numbers = rater_names(parts["train"], by_rater="rater" in config.loss.by)
            every = np.zeros(len(self._examples), dtype=np.int64)
            every[self._rows["train"]] = numbers
            self._examples = replace(self._examples, raters=every)
        self._trusted = np.flatnonzero(trusted) if trusted is not None and "teacher_dev" not in parts else None
        self._ood_distance: OodDistance | None = None
        self.ratings: pd.DataFrame | None = None

    def fit(self, folder: Path, *, resume: bool) -> dict[str, Predicted]:
        """Train, or fit in closed form.

        Args:
            folder: The run's, for checkpoints.
            resume: Go on with a run that was stopped.

        Returns:
            Predictions of dev and test; of train too, where each essay's is by a head that was fitted without it.
        """
        accelerator, config, scorer, rows = self._accelerator, self._config, self.scorer, self._rows
        with frozen_part_computed(accelerator, scorer.model, self._examples, rows["train"], folder) as ready:
            dev = ready.select(rows.get("dev", rows["train"][:0]))
            learned_from = np.concatenate([rows[name] for name in ("train", AUGMENTED) if name in rows])
            of_teacher = (
                rows.get("teacher_dev", rows["train"][:0]) if self._trusted is None else rows["train"][self._trusted]
            )
            train, teacher_dev = ready.select(learned_from), ready.select(of_teacher)
            outputs = {}
            if config.model.solver == "sgd":
                untrained = copy.deepcopy(scorer.model) if config.model.cross_fit is not None else None
                learned = self._train(scorer.model, train, dev, teacher_dev, folder, resume=resume)
                if untrained is not None:
                    outputs["train"] = self._cross_fitted(untrained, train, dev, folder / CROSS_FIT, resume=resume)
                if learned is not None and self._rated:
                    self.ratings = self._believed(learned, ready.select(rows["train"]), outputs.get("train"))
            else:
                head = fit_exact_head(scorer.model, train, self._parts["train"].values("text"))
                scorer.strings = head.strings
                if config.leaves_out_of_fold or "dev" not in self._parts:
                    outputs["train"] = head.left_out
            for name in ("dev", "test"):
                if name in self._parts:
                    outputs[name] = scorer.outputs(ready.select(rows[name]), self._parts[name])
            genuine = ready.select(rows["train"])
            self._ood_distance = fit_ood_distance(accelerator, scorer.model, genuine, dev, config.training.seed)
        return {name: self._predicted(name, values) for name, values in outputs.items()}

    def _train(
        self,
        model: ScoringModel,
        train: EssayExamples,
        dev: EssayExamples,
        teacher_dev: EssayExamples,
        folder: Path,
        *,
        resume: bool,
    ) -> LearnedLoss | None:
        """Train a model under the run's loss; it keeps the weights of its best dev measure."""
        config, scorer = self._config, copy.copy(self.scorer)
        scorer.model = model
        measure = partial(_dev_measures, scorer, dev, self._parts["dev"].scores)
        context = RunContext(self._accelerator, config.training, folder, measure, SELECT_BY, resume)
        classes = None if config.model.head == "regression" else model.head.points
        result = train_student(
            context,
            model,
            train,
            teacher_dev,
            config.loss,
            config.teacher,
            classes=classes,
            raters=self._raters,
            unit=TRUSTED if TRUSTED in self._raters else None,
            shared=self._trusted,
        )
        return result.learned

    @property
    def _rated(self) -> bool:
        """Whether scores of training essays are known to be of unequal worth."""
        return self._parts["train"].raters is not None or self._parts["train"].trusted is not None

    def _believed(self, learned: LearnedLoss, train: EssayExamples, outputs: Tensor | None) -> pd.DataFrame:
        """What the learned loss makes of train essays' scores, by outputs for them, by default the trained model's."""
        model = self.scorer.model
        if outputs is None:
            outputs = predict(self._accelerator, model, train)
        told = outputs, train.batch_targets(np.arange(len(train))), torch.from_numpy(train.groups)
        weights = learned.weights(model, *(tensor.to(model.mean.device) for tensor in told))
        raw = self.scorer.raw_scores(outputs, train.groups)
        return believed_ratings(self._parts["train"], raw, weights.double().cpu().numpy())

    def _cross_fitted(
        self, untrained: ScoringModel, train: EssayExamples, dev: EssayExamples, folder: Path, *, resume: bool
    ) -> Tensor:
        """Outputs for train examples, (N, D), each of a head trained without its part.

        What is done of a part is kept in a folder of the run until the run is complete.
        """
        count = self._config.model.cross_fit or 0
        essays = np.arange(len(train)) if train.units is None else np.unique(train.units, return_inverse=True)[1]
        part = parts_of(essays, count, self._parts["train"].groups, self._parts["train"].answered)
        outputs: dict[int, Tensor] = {}
        for number in np.unique(part).tolist():
            kept = folder / str(number) / "outputs.npy"
            if not (resume and kept.exists()):
                logger.info("Head %d of %d for predictions of train essays.", number + 1, count)
                if self._accelerator.is_main_process:
                    kept.parent.mkdir(parents=True, exist_ok=True)
                self._accelerator.wait_for_everyone()
                set_seed(self._config.training.seed + number + 1)
                model, nobody = copy.deepcopy(untrained), train.select([])
                rest, left_out = train.select(np.flatnonzero(part != number)), np.flatnonzero(part == number)
                self._train(model, rest, dev, nobody, kept.parent, resume=resume)
                answers = predict(self._accelerator, model, train.select(left_out))
                if self._accelerator.is_main_process:
                    with atomic_file(kept) as temporary, temporary.open("wb") as file:
                        np.save(file, answers.numpy())
                self._accelerator.wait_for_everyone()
            outputs[number] = torch.from_numpy(np.load(kept))
        first = next(iter(outputs.values()))
        whole = torch.empty((len(train), first.shape[1]), dtype=first.dtype)
        for number, answers in outputs.items():
            whole[torch.from_numpy(part == number)] = answers
        return whole

    def add_screen(self, screen: Screen) -> None:
        """Give the scorer what was learned from training essays' words, and from their vectors."""
        if self._ood_distance is not None:
            self.scorer.screening = Screening(screen, self._ood_distance)

    def add_training(self, scores: NDArray[np.float64], *, keep_ids: bool) -> None:
        """Give the scorer what it is to know of single training essays, and of their features.

        Args:
            scores: Their human scores as they were given, (N,).
            keep_ids: Whether it knows their ids.
        """
        train, rows = self._parts["train"], self._rows["train"]
        groups, ids = self._examples.groups[rows], np.array(train.essay_ids, dtype=object)
        screening, scales = self.scorer.screening, [scale.prompt.id for scale in self.scorer.model.scales]
        kept: dict[str, NDArray[np.int64]] = {}
        if screening is not None:
            drawn = reference_rows(groups, len(scales), self._config.training.seed)
            vectors = screening.ood_distance.references
            kept = {scale: own for scale, own, one in zip(scales, drawn, vectors, strict=True) if len(one)}
        counted = self._examples.linguistic
        spreads = {}
        if counted is not None:
            for number, scale in enumerate(scales):
                own = np.flatnonzero(groups == number)
                if len(own):
                    spreads[scale] = FeatureSpread.of(counted[rows[own]].astype(np.float64), scores[own])
        self.scorer.training = TrainingEssays(
            {scale: ids[own].tolist() for scale, own in kept.items()} if keep_ids else {},
            {scale: scores[own] for scale, own in kept.items()},
            self._config.model.feature_names,
            spreads,
        )

    def features(self, name: str) -> FeatureTable | None:
        """The linguistic features of a part's essays as the head sees them; None where it sees none."""
        model, examples = self.scorer.model, self._examples.select(self._rows[name])
        if examples.linguistic is None:
            return None
        mean, sd = (values.double().cpu().numpy() for values in (model.linguistic_mean, model.linguistic_sd))
        scales = {scale.prompt.id: (mean[number], sd[number]) for number, scale in enumerate(model.scales)}
        shared = model.config.prompts == "shared"
        compared_with = "all training essays" if shared else "the training essays of the same prompt"
        if model.config.starts_with_head:
            compared_with += ", those of the earlier run where that knew the prompt"
        return feature_table(self._parts[name], model.config.feature_names, examples.linguistic, scales, compared_with)

    def _predicted(self, name: str, outputs: Tensor) -> Predicted:
        examples = self._examples.select(self._rows[name])
        dropped = None
        if self._config.model.max_tokens is not None:
            dropped = np.array([essay.dropped for essay in examples.essays], dtype=np.int64)
        raw = self.scorer.raw_scores(outputs, examples.groups)
        return Predicted(raw, self.scorer.probabilities(outputs), dropped)


def _check_copies(teacher: FrozenTeacherConfig) -> None:
    """Refuse a forward correction beside changed copies of essays."""
    spec, _ = read_teacher(user_path(teacher.folder, "teacher.from"), torch.device("cpu"))
    if isinstance(spec, ForwardSpec):
        raise ConfigError(
            "teacher.from: that teacher corrects targets that are not trusted, and nobody rated changed copies of "
            "essays; leave data.augmentation out."
        )


def _build(
    accelerator: Accelerator,
    config: FinetuneConfig,
    prompts: Sequence[Prompt],
    parts: Mapping[str, EssayTable],
    start: WarmStart | None,
) -> tuple[EncoderScorer, EssayExamples]:
    """The scorer as training finds it, and all parts' essays as examples, one part after the other."""
    tokenizer = load_tokenizer(config.model.encoder) if start is None else start.tokenizer
    dropout = config.model.encoder_dropout
    encoder = load_encoder(config.model.encoder, dropout) if start is None else start.encoder(dropout)
    check_vocabulary(encoder, tokenizer)
    if config.model.lora is not None:
        require_peft()
    if config.model.gradient_checkpointing:
        new_name, old_name = "activation_checkpointing_enable", "gradient_checkpointing_enable"
        try:
            getattr(encoder, new_name if hasattr(encoder, new_name) else old_name)({"use_reentrant": False})
        except ValueError:  # transformers knows for which encoders it can
            kind = encoder.config.model_type
            raise ConfigError(
                f"model.gradient_checkpointing: an encoder of the kind {kind} cannot recompute its activations. Set it "
                "to false, and training.micro_batch_size lower if memory is short."
            ) from None
    chunker = Chunker(
        tokenizer, config.model.window or longest_window(encoder.config, tokenizer), config.model.max_tokens
    )
    examples = scored_examples(
        list(parts.values()),
        list(prompts),
        remembering(chunker),
        int(tokenizer.pad_token_id),
        config.model.linguistic_groups,
        config.model.own_features,
    )
    train = examples.select(np.arange(len(parts["train"])))
    if prompts[0].trait is not None and config.model.solver == "sgd":  # in closed form each is fitted by itself
        weights = trait_weights(prompts, examples.groups, train.groups, config.loss.traits)
        examples = replace(examples, weights=weights if examples.weights is None else weights * examples.weights)
        train = examples.select(np.arange(len(parts["train"])))
    if examples.weights is not None and train.weights is not None:  # 1 in the mean, so that rates keep their meaning
        examples = replace(examples, weights=examples.weights / train.weights.mean())
    if config.model.int8:
        sample = np.linspace(0, len(train) - 1, min(len(train), _INT8_SAMPLE)).round().astype(np.int64)
        packs = packed(sample, train, CPU_TOKENS, None)
        linear_to_int8(encoder, (train.batch(pack.tolist()).inputs for pack in packs))
    shared = config.model.prompts == "shared"
    scales = measure_scales(prompts, train.groups, parts["train"].scores, train.log_lengths, shared=shared)
    earlier = start if config.model.starts_with_head else None
    model = ScoringModel(encoder, config.model, scales if earlier is None else earlier.scales(scales))
    if train.linguistic is not None:
        model.scale_linguistic(torch.from_numpy(train.linguistic), torch.from_numpy(train.groups))
    if earlier is not None:
        earlier.copy_weights_to(model)
    return EncoderScorer(model, tokenizer, accelerator=accelerator), examples


def trait_weights(
    prompts: Sequence[Prompt],
    groups: NDArray[np.int64],
    train: NDArray[np.int64],
    wanted: Mapping[str, float],
) -> NDArray[np.float64]:
    """What each example counts so that the mean loss is that of the traits' own means, though some have fewer scores.

    Args:
        prompts: Prompts and traits, in the order of ``groups``.
        groups: Of N examples, (N,).
        train: Of the training examples, by which traits are counted.
        wanted: What each trait is to count, 1 where it is not named.

    Returns:
        (N,), 1 in the mean over training examples.

    Example:
        >>> from aes_dynloss.tables.score_range import ScoreRange
        >>> prompts = [Prompt(f"1/{trait}", ScoreRange(1, 6), trait=trait) for trait in ("content", "style")]
        >>> groups = np.array([0, 0, 0, 1])
        >>> trait_weights(prompts, groups, groups, {}).round(2)
        array([0.67, 0.67, 0.67, 2.  ])
    """
    names, trait = traits_of(prompts), np.array(trait_numbers(prompts))
    counts = np.bincount(trait[train], minlength=len(names))
    share = np.array([wanted.get(name, 1.0) for name in names]) * (counts > 0)
    by_trait = share / share.sum() * counts.sum() / np.maximum(counts, 1)
    weights: NDArray[np.float64] = by_trait[trait[groups]]
    return weights


def _dev_measures(scorer: EncoderScorer, dev: EssayExamples, human: NDArray[np.float64]) -> dict[str, float]:
    """Mean over prompts of the kappa of rounded predictions, each prompt's own kappa, and the mean sd ratio.

    Where scores will be rescaled, or rounded at cut points, predictions are rescaled first: the weights that are best
    then are not those whose raw predictions have the right spread.
    """
    raw = scorer.raw_scores(predict(scorer.accelerator, scorer.model, dev), dev.groups)
    prompts = list(scorer.prompts)
    answered = np.array([prompts[number] for number in dev.groups], dtype=object)
    postprocessing = scorer.postprocessing
    kind = scorer.model.config.postprocessing
    if kind != "none":
        present = {prompt: scorer.prompts[prompt].range for prompt in dict.fromkeys(answered)}
        postprocessing = fit_postprocessing(
            "auto" if kind == "auto" else "rescale", present, answered, raw, human, quiet=True
        )
    points = postprocessing.points(scorer.prompts, answered.tolist(), raw)
    kappas: dict[str, float] = {}
    ratios = []
    for number, prompt in enumerate(prompts):
        rows = dev.groups == number
        if rows.any():
            kappas[f"qwk_{prompt}"] = float(quadratic_weighted_kappa(human[rows], points[rows]))
            ratios.append(float(sd_ratio(human[rows], raw[rows])))
    return {SELECT_BY: float(np.mean(list(kappas.values()))), "sd_ratio": float(np.mean(ratios)), **kappas}
