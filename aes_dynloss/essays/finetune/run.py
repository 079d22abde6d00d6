"""Fine-tuning of an essay scorer, from a configuration to a model folder, predictions and a report."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from accelerate import Accelerator

from aes_dynloss.configfile import user_path
from aes_dynloss.errors import ConfigError, DataError
from aes_dynloss.essays.data.augmentation import augment
from aes_dynloss.essays.data.essay_table import EssayTable, Prompt
from aes_dynloss.essays.data.ratings import treated
from aes_dynloss.essays.data.readers import read_essays
from aes_dynloss.essays.data.splits import data_hash, split_essays, split_hash
from aes_dynloss.essays.finetune.classical_run import ClassicalRun
from aes_dynloss.essays.finetune.config import FinetuneConfig
from aes_dynloss.essays.finetune.encoder_run import EncoderRun
from aes_dynloss.essays.finetune.held_out import OUT_OF_FOLD
from aes_dynloss.essays.finetune.predicted import AUGMENTED, learn_from_dev
from aes_dynloss.essays.finetune.products import (
    PRODUCTS,
    check_kept,
    prediction_table,
    record_manifest,
    write_products,
)
from aes_dynloss.essays.finetune.warm_start import MODEL, WarmStart, contamination_notes, read_warm_start
from aes_dynloss.essays.floors import essay_floors, floor_figures, kept_floors
from aes_dynloss.essays.model.prompt_scales import fit_postprocessing
from aes_dynloss.essays.screening.screen import Screen
from aes_dynloss.reports.model import Report
from aes_dynloss.reports.prompts import read_report
from aes_dynloss.reports.report_files import REPORT
from aes_dynloss.tables.formats import STANDARD_INPUT
from aes_dynloss.tables.score_range import ScoreRange
from aes_dynloss.teaching.teachers.config import DlfConfig, GlcConfig, TeachingConfig
from aes_dynloss.training.accelerator import build_accelerator
from aes_dynloss.training.hardware import resolve_precision
from aes_dynloss.training.run_folder import MANIFEST, recorded_precision, run_folder

logger = logging.getLogger(__name__)


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
    force_precision: bool = False,
    accelerator: Accelerator | None = None,
) -> FinetuneResult:
    """Fine-tune a scorer, predict dev and test, and report.

    Args:
        config: The run's configuration.
        output_dir: Folder for everything the run leaves behind, see the README.
        resume: Go on with a run that was stopped.
        force: Replace an earlier run.
        force_precision: Allow bf16 on a processor that has it in software alone.
        accelerator: Devices, processes and precision; by default as ``config.training`` says, and as the run began.

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
    if accelerator is None:
        began_in = recorded_precision(output_dir / MANIFEST) if resume else None
        precision = resolve_precision(config.training, began_in, force=force_precision)
        accelerator = build_accelerator(config.training, output_dir, precision)
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
    parts["train"] = treated(parts["train"], config.data)
    augmentation = None if config.data.augmentation is None else augment(parts["train"], config.data.augmentation)
    if augmentation is not None:
        parts[AUGMENTED] = augmentation.table
    _check_essays_of_teacher(config, parts)
    logger.info("Essays: %s.", ", ".join(f"{len(part)} {name}" for name, part in parts.items()))
    notes = contamination_notes(start, parts)
    if config.data.split.target_prompt is not None and config.evaluation.floors:
        notes.append("There are no floors: they are fitted prompt by prompt, and the test prompt has no train essays.")
    notes += augmentation.notes if augmentation is not None else ()
    # What can fail without training comes before the first file: a refused run must not block the corrected one.
    prompts = list(table.prompts.values())
    fitting = _fitting(accelerator, config, prompts, parts, start)
    floors = None
    if accelerator.is_main_process:
        made_of = {"data": data_hash(table), "split": split_hash(splits), "train": data_hash(parts["train"])}
        floors = _floors(config, parts, {prompt.id: prompt.range for prompt in prompts}, made_of)
        for path in folder.glob(f".{MODEL}.*"):
            shutil.rmtree(path, ignore_errors=True)  # a run that was killed could not
        record_manifest(accelerator, config, table, splits, start, augmentation, folder, resume=resume)

    predicted = fitting.fit(folder, resume=resume)
    scorer = fitting.scorer
    fitted_on = "train" if "train" in predicted else "dev"  # essays that the head did not learn from
    ranges = {prompt.id: prompt.range for prompt in prompts}
    basis = np.array(parts[fitted_on].values("prompt_id"), dtype=object), predicted[fitted_on].raw
    scorer.postprocessing = fit_postprocessing(
        config.model.postprocessing, ranges, *basis, reference=parts[fitted_on].scores
    )
    learn_from_dev(scorer, parts["dev"].values("prompt_id"), parts["dev"].scores, predicted["dev"])
    if accelerator.is_main_process:
        learned = set(parts["train"].essay_ids)
        rows = [row for row, essay_id in enumerate(splits.train.essay_ids) if essay_id in learned]
        as_read = {"train": splits.train.select(rows)}  # with the scores that humans gave
        ratings = fitting.ratings
        if ratings is not None:
            ratings = ratings.assign(score=as_read["train"].scores)
        if config.evaluation.screen:
            texts = {prompt.id: prompt.text for prompt in prompts}
            fitting.add_screen(Screen.fit(parts["train"].values("text"), parts["train"].values("prompt_id"), texts))
        predictions = {
            OUT_OF_FOLD if name == "train" else name: prediction_table(
                scorer, as_read.get(name, parts[name]), values, config.data.subgroups
            )
            for name, values in predicted.items()
        }
        features = fitting.features("test" if "test" in parts else "dev")
        write_products(config, scorer, floors, predictions, folder, notes, features, ratings)
    accelerator.wait_for_everyone()


def _check_essays_of_teacher(config: FinetuneConfig, parts: Mapping[str, EssayTable]) -> None:
    """Refuse a teacher that has nothing to learn on."""
    trusted = parts["train"].trusted
    number = 0 if trusted is None else int(trusted.sum())
    apart = len(parts["teacher_dev"]) if "teacher_dev" in parts else 0
    if isinstance(config.teacher, TeachingConfig) and not (apart or number):
        raise DataError(
            "A teacher learns on essays that others are judged by, and there are none. Name adjudicated ones in "
            "data.trusted, set data.split.teacher_dev_fraction, such as 0.25 of train, or add teacher_dev_ids.txt to "
            "data.split.folds_dir."
        )
    if isinstance(config.teacher, DlfConfig) and (apart or number) == 1:
        raise DataError("A teacher of kind dlf halves the essays that it learns on, and there is one. Name more.")
    if isinstance(config.teacher, GlcConfig) and (apart or number in {0, len(parts["train"])}):
        raise DataError(
            f"teacher.kind glc compares trusted training essays with others, and of {len(parts['train'])} training "
            f"essays {number} are trusted, beside {apart} of teacher_dev. Name some of train in data.trusted, and none "
            "as teacher_dev."
        )


def _fitting(
    accelerator: Accelerator,
    config: FinetuneConfig,
    prompts: list[Prompt],
    parts: Mapping[str, EssayTable],
    start: WarmStart | None,
) -> EncoderRun | ClassicalRun:
    """The scorer's own part of the run."""
    if config.model.kind == "encoder":
        return EncoderRun(accelerator, config, prompts, parts, start)
    return ClassicalRun(config.model, prompts, parts)


def _floors(
    config: FinetuneConfig,
    parts: Mapping[str, EssayTable],
    ranges: Mapping[str, ScoreRange],
    made_of: Mapping[str, Any],
) -> dict[str, dict[str, Any]] | None:
    unseen = config.data.split.target_prompt is not None  # no floor can be fitted on its own essays
    if not config.evaluation.floors or "test" not in parts or unseen:
        return None
    cache = config.evaluation.floors_cache
    try:
        if cache is None:
            return floor_figures(essay_floors(parts, ranges))
        folder = user_path(cache, "evaluation.floors_cache")
        return kept_floors(folder, made_of, lambda: floor_figures(essay_floors(parts, ranges)))
    except DataError as error:
        raise DataError(f"{error} Change data.split, or leave floors out by evaluation.floors: false.") from None
