"""Results of a grid's cells, gathered and written beside them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd

from aes_dynloss.configfile import read_mapping, validate
from aes_dynloss.errors import DataError
from aes_dynloss.essays.benchmark.cells import COST, CellCost, EssayCell
from aes_dynloss.essays.benchmark.config import SEED, BenchmarkConfig
from aes_dynloss.essays.benchmark.essays import GridEssays
from aes_dynloss.essays.benchmark.floors import floor_kappas, grid_floors
from aes_dynloss.essays.benchmark.published_arms import FOLDER, publish_arms
from aes_dynloss.essays.data.essay_table import EssayTable
from aes_dynloss.essays.finetune.held_out import OUT_OF_FOLD, check_held_out
from aes_dynloss.essays.finetune.suspects import SUSPECTS
from aes_dynloss.measures.bootstrap import IntervalSettings
from aes_dynloss.reports.arms import dev_halves
from aes_dynloss.reports.benchmark import (
    RunCost,
    ScoredRun,
    build_benchmark_report,
    make_ensembles,
)
from aes_dynloss.reports.comparison import Benchmark
from aes_dynloss.reports.comparison_page import comparison_page
from aes_dynloss.reports.comparison_tables import benchmark_markdown, benchmark_rows
from aes_dynloss.reports.page import write_page
from aes_dynloss.reports.predictions import PredictionTable, predictions_file, read_predictions
from aes_dynloss.reports.prompts import read_report
from aes_dynloss.reports.published_systems import SYSTEMS
from aes_dynloss.reports.ratings import Ratings, WeightOverRuns, weights_over_runs
from aes_dynloss.reports.read_runs import read_run
from aes_dynloss.reports.report_files import REPORT as RUN_REPORT
from aes_dynloss.tables.atomic import write_text
from aes_dynloss.tables.formats import write_table
from aes_dynloss.training.run_folder import MANIFEST, write_json

REPORT, MARKDOWN, TABLE = "benchmark.json", "benchmark.md", "benchmark.csv"
PAGE = "report.html"
PRODUCTS = (REPORT, MARKDOWN, TABLE, PAGE, FOLDER)


def write_results(
    config: BenchmarkConfig,
    cells: Sequence[EssayCell],
    essays: GridEssays,
    root: Path,
    against: Mapping[str, Sequence[ScoredRun]] | None = None,
    *,
    about: Mapping[str, str] | None = None,
) -> Benchmark:
    """Measure all arms on the same essays, and write benchmark.json, .md and .csv, report.html, and predictions.

    Args:
        config: The grid.
        cells: Its cells, all done.
        essays: The essays that they were made of.
        root: The grid's folder.
        against: Published arms to stand beside the grid's, by name.
        about: Words for the page's foot.

    Returns:
        The report, whose content is that of benchmark.json.

    Raises:
        DataError: A cell's predictions are damaged, or the arms have not scored the same essays.
    """
    arms: dict[str, list[ScoredRun]] = {arm: [] for arm in config.arms}
    costs: dict[str, list[RunCost]] = {arm: [] for arm in config.arms}
    runs: list[dict[str, Any]] = []
    manifests: dict[str, dict[str, Any]] = {}
    made_of: dict[tuple[str, str], Any] = {}
    splits: dict[tuple[object, ...], Any] = {}
    stacked = {arm for members in (config.stacks | config.trait_stacks).values() for arm in members}
    for cell in cells:
        run = read_run(cell.part, str(cell.seed), cell.folder)
        if cell.arm in stacked and cell.config.leaves_out_of_fold:
            run = replace(run, out_of_fold=_out_of_fold(cell, essays.table))
        arms[cell.arm] += dev_halves(run) if config.measured_on == "dev" else [run]
        cost = validate(CellCost, read_mapping(cell.folder / COST), str(cell.folder / COST))
        manifest = read_mapping(cell.folder / MANIFEST)
        try:
            processes, data = int(manifest["machine"]["processes"]), manifest["data"]
            held_out = {name: manifest["split"]["sha256"][name] for name in ("dev", "test")}
        except (KeyError, TypeError, ValueError) as error:
            raise DataError(
                f"{cell.folder / MANIFEST} is no whole manifest of a run ({error!r}). Remove {cell.folder}, and it is "
                "done again."
            ) from None
        if not cost.resumed:
            costs[cell.arm].append(RunCost(cost.seconds, cost.device, processes))
        runs.append({"run": cell.name.as_posix(), **cost.model_dump()})
        manifests.setdefault(cell.part, manifest)
        whole = essays.made_of[cell.part, cell.seed]
        own = whole if cell.prompt is None else made_of.setdefault((whole["sha256"], cell.prompt), data)
        _check_same_essays(cell, data, own)
        place = cell.part, cell.seed if SEED in config.varies else None, cell.prompt
        _check_same_essays(cell, held_out, splits.setdefault(place, held_out))
    floors = grid_floors(config, list(manifests), essays.table, root)
    postprocessed = {cell.arm for cell in cells if cell.config.model.postprocessing != "none"}
    report = build_benchmark_report(
        arms,
        config.control or next(iter(config.arms)),
        costs=costs,
        floors=floor_kappas(floors),
        published=SYSTEMS.get((config.published or "", config.protocol), ()),
        settings=IntervalSettings(config.resamples, config.confidence, 0),
        ensembles=config.ensembles,
        mixtures=config.mixtures,
        stacks=config.stacks,
        trait_stacks=config.trait_stacks,
        chosen=config.chosen,
        postprocessed=postprocessed,
        against=against,
        protocol=_protocol(config),
        measured_on=config.measured_on,
    )
    notes = [*_figure_notes(report), *_run_notes(config, cells, sum(run["resumed"] for run in runs))]
    values = config.model_dump(mode="json", by_alias=True)
    report = replace(
        report,
        notes=[*report.notes, *notes],
        config=values,
        manifests=manifests,
        runs=runs,
        raters=_raters(cells, config.confidence),
    )
    write_json(root / REPORT, report.to_dict())
    write_text(root / MARKDOWN, benchmark_markdown(report))
    write_table(pd.DataFrame(benchmark_rows(report), dtype=object), root / TABLE)
    title = f"Benchmark {root.absolute().name}"
    write_page(comparison_page(report, title=title, about=about), root / PAGE)
    if config.protocol == "folds" and config.measured_on == "test":
        made, _ = make_ensembles(
            arms,
            seeds=config.ensembles,
            mixtures=config.mixtures,
            stacks=config.stacks,
            trait_stacks=config.trait_stacks,
            chosen=config.chosen,
            postprocessed=postprocessed,
        )
        exact = {cell.arm for cell in cells if SEED not in config.varies and _is_same_by_every_seed(cell)}
        once = {arm: [run for run in arms[arm] if run.seed == arms[arm][0].seed] for arm in exact}
        once |= {name: ensemble.runs for name, ensemble in made.items() if ensemble.chosen is None}
        once |= {f"floor: {name}": runs for name, runs in floors.items()}
        seeded = {arm: runs for arm, runs in arms.items() if arm not in exact}
        publish_arms(root, seeded | {name: one.runs for name, one in made.items() if one.chosen is not None}, once)
    return report


def _is_same_by_every_seed(cell: EssayCell) -> bool:
    """Whether seeds of a cell on the same data are the same run, which the first stands for.

    An exact solver draws nothing, but it may start from another arm's model, or lack train essays drawn by the seed.
    """
    draws = cell.config.model.solver == "sgd" or cell.config.data.split.teacher_dev_fraction > 0
    return not draws and not cell.needs


def _raters(cells: Sequence[EssayCell], confidence: float) -> dict[str, dict[str, WeightOverRuns]] | None:
    """Weights of raters in learned losses, by arm; None where no run has such."""
    found: dict[str, list[Ratings]] = {}
    for cell in cells:
        path = cell.folder / RUN_REPORT
        if (cell.folder / SUSPECTS).exists() and (ratings := read_report(path).ratings) is not None:
            found.setdefault(cell.arm, []).append(ratings)
    return {arm: weights_over_runs(own, confidence) for arm, own in found.items()} or None


def _protocol(config: BenchmarkConfig) -> str:
    if config.protocol == "leave_one_prompt_out":
        if config.measured_on == "dev":
            return "leave one prompt out, measured on dev essays of the prompts that are seen in training"
        return "leave one prompt out: no essay of the tested prompt is seen in training"
    folds = ", ".join(str(fold) for fold in config.folds)
    models = {config.models_of(arm) for arm in config.arms}
    names = {"all_prompts": "one model for all prompts", "one_per_prompt": "one model for each prompt"}
    return f"folds {folds}; {' or '.join(names[name] for name in sorted(models))}"


def _check_same_essays(cell: EssayCell, data: Mapping[str, Any], first: Mapping[str, Any]) -> None:
    """Refuse runs on other essays than their neighbours': the data may have changed while the grid was stopped."""
    if data != first:
        raise DataError(
            f"{cell.name} was run on other essays ({data}) than are there now, or than runs before it ({first}). "
            "Remove what was run on the wrong ones, and it is done again."
        )


def _out_of_fold(cell: EssayCell, table: EssayTable) -> PredictionTable:
    """A cell's out-of-fold predictions, of its own train essays and no others."""
    path = cell.folder / predictions_file(OUT_OF_FOLD)
    if not path.is_file():
        raise DataError(f"{cell.name} has no {path.name} for a stack. Remove {cell.folder}, and it is done again.")
    ranges = {prompt.id: prompt.range for prompt in table.prompts.values() if cell.prompt in {None, prompt.prompt_id}}
    predictions = read_predictions(path, ranges=ranges)
    check_held_out(cell.folder, OUT_OF_FOLD, predictions.table["essay_id"])
    return predictions


def _figure_notes(report: Mapping[str, Any]) -> list[str]:
    """What a reader must know of what is held against what."""
    notes = []
    if report["distinct_essays"] < sum(report["essays"].values()):
        notes.append(
            "Some essays are in several strata, whose draws take them for different ones: intervals are narrow."
        )
    if any(entry["ensemble_of"] is not None for entry in report["arms"].values()):
        notes.append(
            f"Ensembles are held against single runs of {report['control']}: their differences hold what averaging "
            "gains, whatever the loss. Hold them against the ensemble of its seeds."
        )
    return notes


def _run_notes(config: BenchmarkConfig, cells: Sequence[EssayCell], resumed: int) -> list[str]:
    """What a reader must know of how the runs came about."""
    notes = []
    for arm, settings in config.arms.items():
        if settings.starts_from:
            before = " and ".join(settings.starts_from.values())
            notes.append(f"{arm}: its seconds do not hold those of {before}, from which it starts.")
    if any(cell.config.model.features_cache is not None for cell in cells):
        notes.append("Runs share model.features_cache: who computes a feature first spends its seconds for all others.")
    if resumed:
        notes.append(
            f"{resumed} of {len(cells)} runs were stopped and gone on with. What they cost is left out, as only the "
            "seconds since are known."
        )
    given = {cell.config.model.start_from for cell in cells if config.arms[cell.arm].after is None} - {None}
    if given:
        notes.append(
            f"Runs start with the weights of {', '.join(sorted(map(str, given)))}. Whether essays here were held out "
            "of its training is said in each run's report.json."
        )
    return notes
