"""Fine-tuning of an essay scorer, from a configuration to a model folder, predictions and a report."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from accelerate import Accelerator
from accelerate.utils import set_seed

from aes_dynloss.configfile import user_path
from aes_dynloss.errors import ConfigError, DataError
from aes_dynloss.essays.data.essay_table import EssayTable, Prompt
from aes_dynloss.essays.data.group_columns import group_leaks
from aes_dynloss.essays.data.readers import read_essays
from aes_dynloss.essays.data.splits import Splits, cross_fit_splits, data_hash, fold_parts, split_essays, split_hash
from aes_dynloss.essays.finetune.config import FinetuneConfig, default_values
from aes_dynloss.essays.finetune.cross_fit import cross_fitted, encoding_once
from aes_dynloss.essays.finetune.fitting import (
    Parts,
    build_fitting,
    fit_scorer,
    fit_scores,
    learn_errors,
    learned_screen,
    post_processed_on,
)
from aes_dynloss.essays.finetune.held_out import FITTED_ON, INNER, OUT_OF_FOLD
from aes_dynloss.essays.finetune.predicted import TrainedScorer, learn_from_dev
from aes_dynloss.essays.finetune.products import (
    PRODUCTS,
    check_kept,
    cross_fit_note,
    prediction_table,
    record_manifest,
    remove_what_resumes,
    transfer_notes,
    write_products,
)
from aes_dynloss.essays.finetune.warm_start import contamination_notes, read_warm_start
from aes_dynloss.essays.floors import essay_floors, floor_figures, kept_floors
from aes_dynloss.essays.model.model_folder import MODEL
from aes_dynloss.reports.drivers import Drivers
from aes_dynloss.reports.model import Report
from aes_dynloss.reports.prompts import read_report
from aes_dynloss.reports.report_files import REPORT
from aes_dynloss.tables.formats import STANDARD_INPUT
from aes_dynloss.tables.provenance import PROVENANCE, Provenance, seal
from aes_dynloss.tables.score_range import ScoreRange
from aes_dynloss.training.accelerator import build_accelerator
from aes_dynloss.training.hardware import resolve_precision
from aes_dynloss.training.run_folder import CONFIG, MANIFEST, METRICS, recorded_precision, run_folder

logger = logging.getLogger(__name__)


# Finds what the scores of a table's essays come from.
Explainer = Callable[[TrainedScorer, EssayTable, FinetuneConfig], Drivers | None]


def run_finetuning(
    config: FinetuneConfig,
    output_dir: Path,
    *,
    resume: bool = False,
    force: bool = False,
    force_precision: bool = False,
    accelerator: Accelerator | None = None,
    explainer: Explainer | None = None,
) -> Report:
    """Fine-tune a scorer, predict dev and test, and report.

    Args:
        config: The run's configuration.
        output_dir: Folder for everything the run leaves behind, see the README.
        resume: Go on with a run that was stopped.
        force: Replace an earlier run.
        force_precision: Allow bf16 on a processor that has it in software alone.
        accelerator: Devices, processes, precision and trackers; by default as ``config.training`` says, and as the run
            began.
        explainer: Tells the report what the scores of the judged essays come from, such as
            :func:`aes_dynloss.essays.explaining.drivers.judged_drivers`; by default nobody does.

    Returns:
        The content of report.json.

    Raises:
        AesDynlossError: One of its kinds; the message says what to mend.
    """
    if accelerator is None:
        began_in = recorded_precision(output_dir / MANIFEST) if resume else None
        precision = resolve_precision(config.training, began_in, force=force_precision)
        accelerator = build_accelerator(config.training, output_dir, precision)
    else:
        _check_trackers(accelerator, config.training.trackers)
        set_seed(config.training.seed)
    if config.data.source == STANDARD_INPUT and accelerator.num_processes > 1:
        raise ConfigError("data.source: standard input reaches one process only. Name a file, or start one process.")
    values = config.model_dump(mode="json")
    hold: dict[str, Any] = {"defaults": default_values(), "resume": resume, "force": force}
    with run_folder(accelerator, output_dir, values, PRODUCTS, **hold) as complete:
        if complete:
            check_kept(config, output_dir)
            if accelerator.is_main_process:  # it may have been killed in the midst of that
                remove_what_resumes(output_dir)
            logger.info("The run in %s is complete; nothing is left to do.", output_dir)
        else:
            _run(accelerator, config, output_dir, explainer, resume=resume)
        if accelerator.is_main_process and not (complete and (output_dir / PROVENANCE).exists()):
            seal(output_dir, Provenance.now([Path(config.data.source).expanduser()]), (CONFIG, METRICS, *PRODUCTS))
    for tracker in accelerator.trackers:
        tracker.finish()
    accelerator.wait_for_everyone()
    return read_report(output_dir / REPORT)


def _check_trackers(accelerator: Accelerator, wanted: Sequence[str]) -> None:
    """Refuse trackers that an accelerator which was given does not have."""
    here = [tracker.name for tracker in accelerator.trackers]
    missing = [name for name in wanted if name not in here]
    if missing:
        raise ConfigError(
            f"training.trackers: {missing[0]} is not among those of the accelerator that was given: "
            f"{', '.join(here) or 'none'}. Start it there (log_with, init_trackers), or leave it out."
        )


def _run(
    accelerator: Accelerator, config: FinetuneConfig, folder: Path, explainer: Explainer | None, *, resume: bool
) -> None:
    config = encoding_once(config, folder)
    start = read_warm_start(config.model)
    table = read_essays(config.data)
    folds, splits = _splits(table, config)
    parts = Parts.of(splits, config)
    logger.info("Essays: %s.", ", ".join(f"{part.essay_count} {name}" for name, part in parts.tables.items()))
    notes = contamination_notes(start, _judged(table, folds) if folds else parts.tables)
    notes += _group_notes(table, folds, splits) + _data_notes(config, parts)
    # What can fail without training comes before the first file: a refused run must not block the corrected one.
    prompts = _scored_prompts(table, splits, folds)
    fitting = build_fitting(accelerator, config, prompts, parts, start)
    floors = None
    if accelerator.is_main_process:
        made_of = {"data": data_hash(table), "split": split_hash(splits), "train": data_hash(parts.tables["train"])}
        floors = _floors(config, parts.tables, {prompt.id: prompt.range for prompt in prompts}, made_of)
        _remove_unfinished(folder)
        tests = [fold.test for fold in folds]
        record_manifest(accelerator, config, table, splits, tests, start, parts, folder, resume=resume)

    held_out = None
    if folds:
        held_out = cross_fitted(accelerator, config, prompts, folds, start, folder, resume=resume)
        floors = held_out.floors
        notes.append(cross_fit_note(len(folds)))
        set_seed(config.training.seed)  # whatever was drawn for the parts, of which a resumed run does not fit all anew
    predicted = fit_scorer(fitting, config, parts, folder, resume=resume)
    scorer = fitting.scorer
    fitted_on = OUT_OF_FOLD if post_processed_on(predicted) == "train" else "dev"
    if held_out is None:
        learn_errors(fitting, config, parts, predicted)
    else:
        judged = held_out.table["prompt_id"].tolist(), held_out.table["reference"].to_numpy()
        fit_scores(fitting, config, *judged, held_out.predicted)
        learn_from_dev(scorer, *judged, held_out.predicted)
    if accelerator.is_main_process:
        ratings = None if fitting.ratings is None else fitting.ratings.assign(score=parts.as_read.scores)
        if config.evaluation.screen:
            fitting.add_screen(learned_screen(parts.tables["train"], prompts, config.data.kind))
        fitting.add_training(parts.as_read.scores, keep_ids=config.evaluation.keep_ids)
        as_read = parts.tables | {"train": parts.as_read}
        groups = config.data.subgroups
        predictions = {
            OUT_OF_FOLD if name == "train" else name: prediction_table(scorer, as_read[name], values, groups)
            for name, values in predicted.items()
        }
        if held_out is not None:
            predictions |= {"test": held_out.table, INNER: held_out.inner}
            fitted_on = "test"
        part = next(name for name in ("test", "dev", "train") if name in parts.tables)
        # One process asks the model alone here, which it cannot where several work together.
        asked = explainer if config.evaluation.explained and accelerator.num_processes == 1 else None
        drivers = None if asked is None else asked(scorer, as_read[part], config)
        drivers = None if drivers is None else replace(drivers, learned=part == "train")
        made = fitting.features(part), ratings, drivers
        write_products(config, scorer, floors, predictions, FITTED_ON[fitted_on], folder, notes, *made)
    accelerator.wait_for_everyone()


def _data_notes(config: FinetuneConfig, parts: Parts) -> list[str]:
    """Notes on floors that there cannot be, on prompts not seen, and on changed copies of essays."""
    notes = []
    if _scores_unseen_prompts(config) and config.evaluation.floors:
        notes.append(
            "There are no floors: they are fitted to train essays on the prompt that they score, and none is used."
        )
    notes += transfer_notes(config, list(dict.fromkeys(parts.tables["train"].answered)))
    return [*notes, *(parts.augmentation.notes if parts.augmentation is not None else ())]


def _judged(table: EssayTable, folds: Sequence[Splits]) -> dict[str, EssayTable]:
    """The essays that a cross-fitted run's figures are of: those of all its parts."""
    tested = {essay for fold in folds for essay in fold.test.essay_ids}
    return {"test": table.select([row for row, essay in enumerate(table.essay_ids) if essay in tested])}


def _scores_unseen_prompts(config: FinetuneConfig) -> bool:
    """Whether essays are scored without any train essay of their prompt."""
    return config.data.split.target_prompt is not None or config.model.kind == "transfer"


def _remove_unfinished(folder: Path) -> None:
    """Remove what a run that was killed could not: a model that it was writing."""
    for path in folder.glob(f".{MODEL}.*"):
        shutil.rmtree(path, ignore_errors=True)


def _group_notes(table: EssayTable, folds: Sequence[Splits], splits: Splits) -> list[str]:
    """Notes on likely columns of writers, classes or schools that leak between parts, which are logged."""
    leaks = group_leaks(table, fold_parts(folds) if folds else splits.tables())
    for leak in leaks:
        logger.warning("%s.", leak)
    return [f"{leak}." for leak in leaks]


def _scored_prompts(table: EssayTable, splits: Splits, folds: Sequence[Splits]) -> list[Prompt]:
    """The prompts, but for traits of one that is left out of training which no other prompt has."""
    if not table.traits or folds:
        return list(table.prompts.values())
    seen = {scale for part in splits.tables().values() for scale in part.values("prompt_id")}
    return [prompt for prompt in table.prompts.values() if prompt.id in seen]


def _splits(table: EssayTable, config: FinetuneConfig) -> tuple[list[Splits], Splits]:
    """The splits of cross-fitting, if that is wanted, and that of the model."""
    split = config.data.split
    if split.cross_fit is None:
        return [], split_essays(table, split)
    return cross_fit_splits(table, split, with_dev=config.model.solver == "sgd")


def _floors(
    config: FinetuneConfig,
    parts: Mapping[str, EssayTable],
    ranges: Mapping[str, ScoreRange],
    made_of: Mapping[str, Any],
) -> dict[str, dict[str, Any]] | None:
    if not config.evaluation.floors or "test" not in parts or _scores_unseen_prompts(config):
        return None
    cache = config.evaluation.floors_cache
    try:
        if cache is None:
            return floor_figures(essay_floors(parts, ranges))
        folder = user_path(cache, "evaluation.floors_cache")
        return kept_floors(folder, made_of, lambda: floor_figures(essay_floors(parts, ranges)))
    except DataError as error:
        raise DataError(f"{error} Change data.split, or leave floors out by evaluation.floors: false.") from None
