"""Fine-tuning of an essay scorer, from a configuration to a model folder, predictions and a report."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from numpy.typing import NDArray
from torch import Tensor

from aes_dynloss.errors import ConfigError, DataError
from aes_dynloss.essays.data.augmentation import augment
from aes_dynloss.essays.data.essay_table import EssayTable, Prompt
from aes_dynloss.essays.data.readers import read_essays
from aes_dynloss.essays.data.splits import split_essays
from aes_dynloss.essays.finetune.config import FinetuneConfig
from aes_dynloss.essays.finetune.exact_head import fit_exact_head
from aes_dynloss.essays.finetune.held_out import OUT_OF_FOLD
from aes_dynloss.essays.finetune.products import (
    PRODUCTS,
    check_kept,
    prediction_table,
    record_manifest,
    write_products,
)
from aes_dynloss.essays.finetune.warm_start import MODEL, WarmStart, contamination_notes, read_warm_start
from aes_dynloss.essays.floors import essay_floors
from aes_dynloss.essays.model.activations import frozen_part_computed
from aes_dynloss.essays.model.chunks import Chunker
from aes_dynloss.essays.model.encoders import check_vocabulary, load_encoder, load_tokenizer, longest_window
from aes_dynloss.essays.model.examples import EssayExamples, scored_examples
from aes_dynloss.essays.model.model_config import ModelConfig
from aes_dynloss.essays.model.model_folder import Screening
from aes_dynloss.essays.model.ood_distance import fit_ood_distance
from aes_dynloss.essays.model.prompt_scales import fit_postprocessing, measure_scales
from aes_dynloss.essays.model.scorer import EssayScorer, agreement_probability
from aes_dynloss.essays.model.scoring_model import ScoringModel
from aes_dynloss.essays.screening.screen import Screen
from aes_dynloss.measures.agreement import quadratic_weighted_kappa, sd_ratio
from aes_dynloss.measures.intervals import equal_points, fit_certainty, fit_intervals
from aes_dynloss.reports.model import Report
from aes_dynloss.reports.prompts import read_report
from aes_dynloss.reports.report_files import REPORT
from aes_dynloss.tables.formats import STANDARD_INPUT
from aes_dynloss.tables.score_range import ScoreRange
from aes_dynloss.teaching.teachers.config import DlfConfig, DlnConfig
from aes_dynloss.training.accelerator import build_accelerator
from aes_dynloss.training.loop import RunContext
from aes_dynloss.training.prediction import predict
from aes_dynloss.training.run import train_student
from aes_dynloss.training.run_folder import run_folder

logger = logging.getLogger(__name__)

SELECT_BY = "qwk"
# Changed copies of training essays: learned from, and in no statistic of them, nor in any floor.
AUGMENTED = "augmented"


@dataclass(frozen=True)
class FinetuneResult:
    """What a run left behind.

    Args:
        folder: The output folder.
        report: The content of report.json.
    """

    folder: Path
    report: Report


def finetune(
    config: FinetuneConfig,
    output_dir: Path,
    *,
    resume: bool = False,
    force: bool = False,
    accelerator: Accelerator | None = None,
) -> FinetuneResult:
    """Fine-tune a scorer, predict dev and test, and report.

    Args:
        config: The run's configuration.
        output_dir: Folder for everything the run leaves behind, see the README.
        resume: Go on with a run that was stopped.
        force: Replace an earlier run.
        accelerator: Devices, processes and precision; by default as ``config.training`` says.

    Returns:
        The report and where it lies.

    Raises:
        AesDynlossError: One of its kinds; the message says what to mend.

    Example:
        >>> config = FinetuneConfig(data={"source": "made-up-essays"}, training={"epochs": 1})
        >>> result = finetune(config, Path("runs/first"))  # doctest: +SKIP
        >>> sorted(result.report.prompts), result.folder.name  # doctest: +SKIP
        (['phones', 'river'], 'first')
    """
    accelerator = accelerator or build_accelerator(config.training, output_dir)
    if config.data.source == STANDARD_INPUT and accelerator.num_processes > 1:
        raise ConfigError("data.source: standard input reaches one process only. Name a file, or start one process.")
    values = config.model_dump(mode="json")
    with run_folder(accelerator, output_dir, values, PRODUCTS, resume=resume, force=force) as complete:
        if complete:
            check_kept(config, output_dir)
            logger.info("The run in %s is complete; nothing is left to do.", output_dir)
        else:
            _run(accelerator, config, output_dir, resume=resume)
    for tracker in accelerator.trackers:
        tracker.finish()
    accelerator.wait_for_everyone()
    return FinetuneResult(output_dir, read_report(output_dir / REPORT))


def _run(accelerator: Accelerator, config: FinetuneConfig, folder: Path, *, resume: bool) -> None:
    start = read_warm_start(config.model)
    table = read_essays(config.data)
    splits = split_essays(table, config.data.split)
    parts = {name: part for name, part in splits.tables().items() if len(part)}
    augmentation = None if config.data.augmentation is None else augment(splits.train, config.data.augmentation)
    if augmentation is not None:
        parts[AUGMENTED] = augmentation.table
    if isinstance(config.teacher, DlfConfig | DlnConfig) and "teacher_dev" not in parts:
        raise DataError(
            "A teacher learns on essays of its own, and there are none. Set data.split.teacher_dev_fraction, such "
            "as 0.25 of train, or add teacher_dev_ids.txt to data.split.folds_dir."
        )
    logger.info("Essays: %s.", ", ".join(f"{len(part)} {name}" for name, part in parts.items()))
    notes = contamination_notes(start, parts)
    if config.data.split.target_prompt is not None and config.evaluation.floors:
        notes.append("There are no floors: they are fitted prompt by prompt, and the test prompt has no train essays.")
    notes += augmentation.notes if augmentation is not None else ()
    # What can fail without training comes before the first file: a refused run must not block the corrected one.
    scorer, examples = _build(accelerator, config, list(table.prompts.values()), parts, start)
    floors = None
    if accelerator.is_main_process:
        floors = _floors(config, parts, {prompt.id: prompt.range for prompt in table.prompts.values()})
        for path in (*folder.glob("activations-*"), *folder.glob(f".{MODEL}.*")):
            shutil.rmtree(path, ignore_errors=True)  # a run that was killed could not
        record_manifest(accelerator, config, table, splits, start, augmentation, folder, resume=resume)

    ends = np.cumsum([len(part) for part in parts.values()])
    rows = dict(zip(parts, np.split(np.arange(len(examples)), ends[:-1]), strict=True))
    with frozen_part_computed(accelerator, scorer.model, examples, rows["train"], folder) as ready:
        dev, human = ready.select(rows["dev"]), parts["dev"].scores
        learned = np.concatenate([rows[name] for name in ("train", AUGMENTED) if name in rows])
        train, teacher_dev = ready.select(learned), ready.select(rows.get("teacher_dev", []))
        if config.model.solver == "sgd":
            measure = partial(_dev_measures, scorer, dev, human)
            context = RunContext(accelerator, config.training, folder, measure, SELECT_BY, resume)
            classes = None if config.model.head == "regression" else scorer.model.head.points
            train_student(context, scorer.model, train, teacher_dev, config.loss, config.teacher, classes=classes)
            left_out = {}
        else:
            head = fit_exact_head(scorer.model, train, parts["train"].values("text"))
            left_out, scorer.strings = {"train": head.left_out}, head.strings
        measured: list[str] = [name for name in ("dev", "test") if name in parts]
        outputs = {name: scorer.outputs(ready.select(rows[name]), parts[name]) for name in measured}
        genuine = ready.select(rows["train"])
        ood_distance = fit_ood_distance(accelerator, scorer.model, genuine, dev, config.training.seed)

    name = "train" if left_out else "dev"
    _fit_postprocessing(scorer, parts[name], (outputs | left_out)[name], examples.groups[rows[name]], config.model)
    _learn_from_dev(scorer, parts["dev"], outputs["dev"], dev.groups)
    if accelerator.is_main_process:
        texts = {prompt.id: prompt.text for prompt in table.prompts.values()}
        screen = Screen.fit(parts["train"].values("text"), parts["train"].values("prompt_id"), texts)
        scorer.screening = Screening(screen, ood_distance)
        predictions = {
            OUT_OF_FOLD if name == "train" else name: prediction_table(
                scorer, parts[name], examples.select(rows[name]), values, config.data.subgroups
            )
            for name, values in (outputs | left_out).items()
        }
        write_products(config, scorer, floors, predictions, folder, notes)
    accelerator.wait_for_everyone()


def _fit_postprocessing(
    scorer: EssayScorer, part: EssayTable, outputs: Tensor, groups: NDArray[np.int64], config: ModelConfig
) -> None:
    """Give a scorer its rounding, fitted on essays that the head did not learn from."""
    ranges = {prompt.id: prompt.range for prompt in scorer.prompts.values()}
    prompt_ids = np.array(part.values("prompt_id"), dtype=object)
    raw = scorer.raw_scores(outputs, groups)
    scorer.postprocessing = fit_postprocessing(config.postprocessing, ranges, prompt_ids, raw, part.scores)


def _learn_from_dev(scorer: EssayScorer, dev: EssayTable, outputs: Tensor, groups: NDArray[np.int64]) -> None:
    """Give a scorer its prediction intervals and certainty."""
    prompt_ids = dev.values("prompt_id")
    ranges = {prompt.id: prompt.range for prompt in scorer.prompts.values()}
    raw = scorer.raw_scores(outputs, groups)
    scorer.intervals = fit_intervals(prompt_ids, raw, dev.scores)
    probabilities = scorer.probabilities(outputs)
    score = scorer.score_points(raw, groups)
    chances = agreement_probability(scorer.prompts, scorer.intervals, prompt_ids, raw, score, probabilities)
    same = equal_points(ranges, prompt_ids, score, dev.scores)
    scorer.certainty = fit_certainty(prompt_ids, chances, same)


def _build(
    accelerator: Accelerator,
    config: FinetuneConfig,
    prompts: list[Prompt],
    parts: Mapping[str, EssayTable],
    start: WarmStart | None,
) -> tuple[EssayScorer, EssayExamples]:
    """The scorer as training finds it, and all parts' essays as examples, one part after the other."""
    tokenizer = load_tokenizer(config.model.encoder) if start is None else start.tokenizer
    dropout = config.model.encoder_dropout
    encoder = load_encoder(config.model.encoder, dropout) if start is None else start.encoder(dropout)
    check_vocabulary(encoder, tokenizer)
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
        list(parts.values()), prompts, chunker, int(tokenizer.pad_token_id), config.model.linguistic_groups
    )
    train = examples.select(np.arange(len(parts["train"])))
    shared = config.model.prompts == "shared"
    scales = measure_scales(prompts, train.groups, parts["train"].scores, train.log_lengths, shared=shared)
    model = ScoringModel(encoder, config.model, scales if start is None else start.scales(scales))
    if train.linguistic is not None:
        model.scale_linguistic(torch.from_numpy(train.linguistic), torch.from_numpy(train.groups))
    if start is not None:
        start.copy_weights_to(model)
    return EssayScorer(model, tokenizer, accelerator=accelerator), examples


def _dev_measures(scorer: EssayScorer, dev: EssayExamples, human: NDArray[np.float64]) -> dict[str, float]:
    """Mean over prompts of the kappa of rounded raw predictions, each prompt's own kappa, and the mean sd ratio."""
    raw = scorer.raw_scores(predict(scorer.accelerator, scorer.model, dev), dev.groups)
    points = scorer.score_points(raw, dev.groups)
    kappas: dict[str, float] = {}
    ratios = []
    for number, prompt in enumerate(scorer.prompts):
        rows = dev.groups == number
        if rows.any():
            kappas[f"qwk_{prompt}"] = float(quadratic_weighted_kappa(human[rows], points[rows]))
            ratios.append(float(sd_ratio(human[rows], raw[rows])))
    return {SELECT_BY: float(np.mean(list(kappas.values()))), "sd_ratio": float(np.mean(ratios)), **kappas}


def _floors(
    config: FinetuneConfig, parts: Mapping[str, EssayTable], ranges: Mapping[str, ScoreRange]
) -> dict[str, dict[str, Any]] | None:
    unseen = config.data.split.target_prompt is not None  # no floor can be fitted on its own essays
    if not config.evaluation.floors or "test" not in parts or unseen:
        return None
    try:
        return essay_floors(parts, ranges)
    except DataError as error:
        raise DataError(f"{error} Change data.split, or leave floors out by evaluation.floors: false.") from None
