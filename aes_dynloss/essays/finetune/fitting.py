"""One scorer fitted to some essays: what it learns from, its fit, and how its raw predictions become scores."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from accelerate import Accelerator
from numpy.typing import NDArray

from aes_dynloss.errors import ConfigError, DataError
from aes_dynloss.essays.classical.kernel_memory import check_kernels
from aes_dynloss.essays.data.augmentation import Augmentation, augment
from aes_dynloss.essays.data.data_config import TextKind
from aes_dynloss.essays.data.essay_table import EssayTable, Prompt
from aes_dynloss.essays.data.ratings import treated
from aes_dynloss.essays.data.splits import Splits
from aes_dynloss.essays.finetune.classical_run import ClassicalRun
from aes_dynloss.essays.finetune.config import FinetuneConfig
from aes_dynloss.essays.finetune.encoder_run import EncoderRun
from aes_dynloss.essays.finetune.predicted import AUGMENTED, Predicted, TrainedScorer, learn_from_dev
from aes_dynloss.essays.finetune.transfer_run import TransferRun
from aes_dynloss.essays.finetune.warm_start import WarmStart
from aes_dynloss.essays.model.model_config import ModelConfig
from aes_dynloss.essays.model.prompt_scales import fit_postprocessing
from aes_dynloss.essays.screening.screen import Screen
from aes_dynloss.teaching.teachers.config import DlfConfig, GlcConfig, TeachingConfig

Fitting = EncoderRun | ClassicalRun


@dataclass(frozen=True)
class Parts:
    """Essays by part.

    Args:
        tables: train as the scorer learns from it, dev, test, teacher_dev, augmented; none without an essay.
        as_read: train with the scores that humans gave, the essays that ``tables`` has.
        augmentation: What the changed copies of training essays are, if there are any.
    """

    tables: dict[str, EssayTable]
    as_read: EssayTable
    augmentation: Augmentation | None

    @classmethod
    def of(cls, splits: Splits, config: FinetuneConfig) -> Parts:
        """The parts of a split, train treated and its copies made as the configuration says.

        Raises:
            ConfigError: Changed copies would be trained on of essays by which a teacher measures.
            DataError: A treatment, the copies or a teacher lack the essays that they need.
        """
        tables = {name: part for name, part in splits.tables().items() if len(part)}
        tables["train"] = treated(splits.train, config.data)
        augmentation = None if config.data.augmentation is None else augment(tables["train"], config.data.augmentation)
        if augmentation is not None:
            tables[AUGMENTED] = augmentation.table
        _check_essays_of_teacher(config, tables)
        learned = set(tables["train"].essay_ids)
        rows = [row for row, essay_id in enumerate(splits.train.essay_ids) if essay_id in learned]
        return cls(tables, splits.train.select(rows), augmentation)


def build_fitting(
    accelerator: Accelerator,
    config: FinetuneConfig,
    prompts: Sequence[Prompt],
    parts: Parts,
    start: WarmStart | None,
) -> Fitting:
    """The scorer's own part of a run, before it learns.

    Raises:
        AesDynlossError: The encoder cannot be read, the essays do not suffice, or their kernels do not fit into memory.
    """
    _check_kernels(config.model, parts.tables["train"])
    if config.model.kind == "encoder":
        return EncoderRun(accelerator, config, prompts, parts.tables, start)
    kind = TransferRun if config.model.kind == "transfer" else ClassicalRun
    return kind(config.model, prompts, parts.tables)


def _check_kernels(model: ModelConfig, train: EssayTable) -> None:
    """Refuse the kernel of a prompt with too many training essays for the memory."""
    strings = bool(model.strings)
    if not strings and model.solver != "kernel_ridge":
        return
    prompt, essays = Counter(train.values("prompt_id")).most_common(1)[0]
    instead = (
        "Set model.solver to ridge and model.strings to false"
        if model.kind == "encoder"
        else "Set model.kind to boosting"
    )
    check_kernels(f"Prompt {prompt}", essays, strings=strings, instead=instead)


def fit_scorer(
    fitting: Fitting, config: FinetuneConfig, parts: Parts, folder: Path, *, resume: bool
) -> dict[str, Predicted]:
    """Let the scorer learn, and fit the way from its raw predictions to scores on essays that it did not learn from.

    Args:
        fitting: The scorer's part of a run.
        config: The run's configuration.
        parts: Its essays.
        folder: For checkpoints.
        resume: Go on with a run that was stopped.

    Returns:
        Predictions by part.
    """
    predicted = fitting.fit(folder, resume=resume)
    fitted_on = post_processed_on(predicted)
    essays = parts.tables[fitted_on]
    fit_scores(fitting, config, essays.values("prompt_id"), essays.scores, predicted[fitted_on])
    return predicted


def fit_to_all(accelerator: Accelerator, config: FinetuneConfig, table: EssayTable, folder: Path) -> TrainedScorer:
    """A scorer that is fitted to all essays of a table, which it predicts out of fold for intervals and advisories.

    Args:
        accelerator: Devices and precision.
        config: Its model, of an exact solver.
        table: The essays.
        folder: For what is kept on the way.

    Raises:
        ConfigError: The solver predicts no training essay by a model that was fitted without it.
        DataError: A prompt has too few essays.
    """
    if config.model.solver == "sgd":
        raise ConfigError(
            "model.solver sgd needs dev essays. Set it to ridge or kernel_ridge, or fine-tune by aes_dynloss.finetune."
        )
    none, prompts = table.select([]), list(table.prompts.values())
    parts = Parts.of(Splits(table, none, none, none), config)
    fitting = build_fitting(accelerator, config, prompts, parts, None)
    predicted = fit_scorer(fitting, config, parts, folder, resume=False)
    learn_errors(fitting, config, parts, predicted)
    fitting.add_screen(learned_screen(parts.tables["train"], prompts, config.data.kind))
    fitting.add_training(parts.as_read.scores, keep_ids=False)
    return fitting.scorer


def learn_errors(fitting: Fitting, config: FinetuneConfig, parts: Parts, predicted: Mapping[str, Predicted]) -> None:
    """Give a scorer its prediction intervals and certainty, from its errors on dev.

    They are of train where there is no dev, and for kind transfer, which predicts each training essay without its
    prompt: there the errors of all prompts together tell those of a prompt never seen.

    Args:
        fitting: The scorer's part of a run.
        config: The run's configuration.
        parts: Its essays.
        predicted: Predictions by part.
    """
    unseen = config.model.kind == "transfer"
    part = "train" if unseen or "dev" not in predicted else "dev"
    essays = parts.tables[part]
    learn_from_dev(fitting.scorer, essays.values("prompt_id"), essays.scores, predicted[part], pooled=unseen)


def learned_screen(train: EssayTable, prompts: Sequence[Prompt], kind: TextKind) -> Screen:
    """What advisories go by: the training essays, or answers, of each prompt, whatever they are scored on."""
    texts = {prompt.prompt_id: prompt.text for prompt in prompts}
    return Screen.fit(train.once.values("text"), train.once.answered, texts, kind)


def post_processed_on(predicted: Mapping[str, Predicted]) -> str:
    """The part on whose predictions post-processing is fitted: train, where each essay's was made without it."""
    return "train" if "train" in predicted else "dev"


def fit_scores(
    fitting: Fitting,
    config: FinetuneConfig,
    prompt_ids: Sequence[str],
    reference: NDArray[np.float64],
    predicted: Predicted,
) -> None:
    """Fit the way from raw predictions to scores.

    Args:
        fitting: The scorer's part of a run.
        config: Its configuration.
        prompt_ids: Prompt of each of N essays that the scorer did not learn from.
        reference: Their human scores, (N,).
        predicted: Its predictions of them.
    """
    ranges = {prompt.id: prompt.range for prompt in fitting.scorer.prompts.values()}
    answered = np.array(prompt_ids, dtype=object)
    fitting.scorer.postprocessing = fit_postprocessing(
        config.model.postprocessing, ranges, answered, predicted.raw, reference=reference
    )


def _check_essays_of_teacher(config: FinetuneConfig, parts: Mapping[str, EssayTable]) -> None:
    """Refuse a teacher that has nothing to learn on, or whose measure training would know."""
    train = parts["train"].once
    number = 0 if train.trusted is None else int(train.trusted.sum())
    apart = parts["teacher_dev"].essay_count if "teacher_dev" in parts else 0
    if isinstance(config.teacher, TeachingConfig) and not (apart or number):
        raise DataError(
            "A teacher learns on essays that others are judged by, and there are none. Name adjudicated ones in "
            "data.trusted, set data.split.teacher_dev_fraction, such as 0.25 of train, or add teacher_dev_ids.txt to "
            "data.split.folds_dir."
        )
    if isinstance(config.teacher, DlfConfig) and number and not apart and AUGMENTED in parts:
        raise ConfigError(
            "A teacher of kind dlf measures trusted training essays in episodes that do not train on them, and changed "
            "copies of them would be trained on. Leave data.augmentation out, or set essays apart for the teacher "
            "(data.split.teacher_dev_fraction)."
        )
    if isinstance(config.teacher, DlfConfig) and (apart or number) == 1:
        raise DataError("A teacher of kind dlf halves the essays that it learns on, and there is one. Name more.")
    if isinstance(config.teacher, GlcConfig) and (apart or number in {0, len(train)}):
        raise DataError(
            f"teacher.kind glc compares trusted training essays with others, and of {len(train)} training "
            f"essays {number} are trusted, beside {apart} of teacher_dev. Name some of train in data.trusted, and none "
            "as teacher_dev."
        )
