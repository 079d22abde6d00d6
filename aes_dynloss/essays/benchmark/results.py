"""Results of a grid's cells, gathered and written beside them."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd

from aes_dynloss.configfile import read_mapping, validate
from aes_dynloss.errors import DataError
from aes_dynloss.essays.benchmark.cells import COST, CellCost, EssayCell, part_split_config
from aes_dynloss.essays.benchmark.config import BenchmarkConfig
from aes_dynloss.essays.data.essay_table import EssayTable
from aes_dynloss.essays.data.splits import data_hash, split_essays, split_hash
from aes_dynloss.essays.finetune.held_out import OUT_OF_FOLD, check_held_out, predictions_file
from aes_dynloss.essays.floors import essay_floors
from aes_dynloss.measures.bootstrap import IntervalSettings
from aes_dynloss.reports.arms import dev_halves
from aes_dynloss.reports.benchmark import ASAP_SYSTEMS, RunCost, ScoredRun, build_benchmark_report
from aes_dynloss.reports.comparison import Benchmark, read_run
from aes_dynloss.reports.comparison_page import comparison_page
from aes_dynloss.reports.comparison_tables import benchmark_markdown, benchmark_rows
from aes_dynloss.reports.model import Floor
from aes_dynloss.reports.page import write_page
from aes_dynloss.reports.predictions import PredictionTable, read_predictions
from aes_dynloss.tables.atomic import write_text
from aes_dynloss.tables.formats import write_table
from aes_dynloss.training.run_folder import MANIFEST, write_json

logger = logging.getLogger(__name__)

REPORT, MARKDOWN, TABLE = "benchmark.json", "benchmark.md", "benchmark.csv"
PAGE = "report.html"
FLOORS = "floors"


def write_results(config: BenchmarkConfig, cells: Sequence[EssayCell], table: EssayTable, root: Path) -> Benchmark:
    """Measure all arms on the same essays, and write benchmark.json, .md and .csv, and report.html.

    Args:
        config: The grid.
        cells: Its cells, all done.
        table: The essays that they were made of.
        root: The grid's folder.

    Returns:
        The report, whose content is that of benchmark.json.

    Raises:
        DataError: A cell's predictions are damaged, or the arms have not scored the same essays.
    """
    arms: dict[str, list[ScoredRun]] = {arm: [] for arm in config.arms}
    costs: dict[str, list[RunCost]] = {arm: [] for arm in config.arms}
    runs: list[dict[str, Any]] = []
    manifests: dict[str, dict[str, Any]] = {}
    essays: dict[str | None, Any] = {None: {"sha256": data_hash(table), "essays": len(table)}}
    splits: dict[tuple[str, str | None], Any] = {}
    stacked = {arm for members in config.stacks.values() for arm in members}
    for cell in cells:
        run = read_run(cell.part, str(cell.seed), cell.folder)
        if cell.arm in stacked:
            run = replace(run, out_of_fold=_out_of_fold(cell, table))
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
        _check_same_essays(cell, data, essays.setdefault(cell.prompt, data))
        _check_same_essays(cell, held_out, splits.setdefault((cell.part, cell.prompt), held_out))
    report = build_benchmark_report(
        arms,
        config.control or next(iter(config.arms)),
        costs=costs,
        floors=_floors(config, list(manifests), table, root),
        published=ASAP_SYSTEMS if config.published == "asap" else (),
        settings=IntervalSettings(config.resamples, config.confidence, 0),
        ensembles=config.ensembles,
        mixtures=config.mixtures,
        stacks=config.stacks,
        protocol=_protocol(config),
        measured_on=config.measured_on,
    )
    notes = [*_figure_notes(report), *_run_notes(config, cells, sum(run["resumed"] for run in runs))]
    values = config.model_dump(mode="json", by_alias=True)
    report = replace(report, notes=[*report.notes, *notes], config=values, manifests=manifests, runs=runs)
    write_json(root / REPORT, report.to_dict())
    write_text(root / MARKDOWN, benchmark_markdown(report))
    write_table(pd.DataFrame(benchmark_rows(report), dtype=object), root / TABLE)
    write_page(comparison_page(report, title=f"Benchmark {root.absolute().name}"), root / PAGE)
    return report


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
    ranges = {prompt.id: prompt.range for prompt in table.prompts.values() if cell.prompt in {None, prompt.id}}
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


def _floors(
    config: BenchmarkConfig, parts: Sequence[str], table: EssayTable, root: Path
) -> dict[str, dict[str, dict[str, float]]]:
    """Kappa by part, floor and prompt, computed once for a part; none where a prompt has no essays to be fitted on."""
    if not config.floors or config.measured_on == "dev" or config.protocol == "leave_one_prompt_out":
        return {}
    ranges = {prompt.id: prompt.range for prompt in table.prompts.values()}
    floors = {}
    for part in parts:
        path = root / FLOORS / f"{part}.json"
        splits = split_essays(table, part_split_config(config, part))
        made_of = {"data": data_hash(table), "split": split_hash(splits)}
        kept = _kept_floors(path, made_of)
        if kept is None:
            logger.info("Floors of %s.", part)
            try:
                measured = essay_floors(splits.tables(), ranges)
            except DataError as error:
                raise DataError(f"{error} Or leave floors out by floors=false.") from None
            path.parent.mkdir(exist_ok=True)
            write_json(path, {**made_of, "floors": measured})
            kept = {name: dict(entry["prompts"]) for name, entry in measured.items()}
        floors[part] = kept
    return floors


def _kept_floors(path: Path, made_of: Mapping[str, object]) -> dict[str, dict[str, float]] | None:
    """Floors of an earlier call on the same essays and splits; None if there are none, or the file is damaged."""
    try:
        kept = json.loads(path.read_text(encoding="utf-8"))
        if {name: kept[name] for name in made_of} == made_of:
            return {name: dict(Floor.from_dict(entry).prompts) for name, entry in kept["floors"].items()}
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        pass
    return None
