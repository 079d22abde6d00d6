"""What a grid's cells found, brought together and written beside them."""

from __future__ import annotations

import csv
import io
import json
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from aes_dynloss.configfile import read_mapping
from aes_dynloss.errors import DataError
from aes_dynloss.essays.benchmark.cell_run import COST
from aes_dynloss.essays.benchmark.cells import CELLS, Cell, part_split
from aes_dynloss.essays.benchmark.config import BenchmarkConfig
from aes_dynloss.essays.data.data_config import SplitConfig
from aes_dynloss.essays.data.essay_table import EssayTable
from aes_dynloss.essays.data.splits import data_hash, split_essays
from aes_dynloss.essays.floor_scores import essay_floors
from aes_dynloss.essays.run_products import MANIFEST
from aes_dynloss.evaluation.benchmark_report import RunCost, ScoredRun, build_benchmark_report
from aes_dynloss.evaluation.benchmark_text import benchmark_markdown, benchmark_rows
from aes_dynloss.evaluation.dev_halves import dev_halves
from aes_dynloss.evaluation.prompt_report import IntervalSettings
from aes_dynloss.evaluation.published_systems import ASAP_SYSTEMS
from aes_dynloss.evaluation.run_folders import read_run
from aes_dynloss.training.run_folder import write_json, write_text

logger = logging.getLogger(__name__)

REPORT, MARKDOWN, TABLE = "benchmark.json", "benchmark.md", "benchmark.csv"
FLOORS = "floors"


def write_results(config: BenchmarkConfig, cells: Sequence[Cell], table: EssayTable, root: Path) -> dict[str, Any]:
    """Measure all arms on the same essays, and write benchmark.json, benchmark.md and benchmark.csv.

    Args:
        config: The grid.
        cells: Its cells, all done.
        table: The essays that they were made of.
        root: The grid's folder.

    Returns:
        The content of benchmark.json.

    Raises:
        DataError: A cell's predictions are damaged, or the arms have not scored the same essays.
    """
    arms: dict[str, list[ScoredRun]] = {arm: [] for arm in config.arms}
    costs: dict[str, list[RunCost]] = {arm: [] for arm in config.arms}
    runs: list[dict[str, Any]] = []
    manifests: dict[str, dict[str, Any]] = {}
    essays: dict[str | None, Any] = {}
    for cell in cells:
        folder = root / CELLS / cell.name
        run = read_run(cell.part, str(cell.seed), folder)
        arms[cell.arm] += dev_halves(run) if config.measured_on == "dev" else [run]
        cost = read_mapping(folder / COST)
        manifest = read_mapping(folder / MANIFEST)
        costs[cell.arm].append(RunCost(cost["seconds"], cost["device"], manifest["machine"]["processes"]))
        runs.append({"run": cell.name.as_posix(), **cost})
        manifests.setdefault(cell.part, manifest)
        _check_same_essays(cell, manifest["data"], essays.setdefault(cell.prompt, manifest["data"]))
    report = build_benchmark_report(
        arms,
        config.control_arm,
        costs=costs,
        floors=_floors(config, list(manifests), table, root),
        published=ASAP_SYSTEMS if config.published == "asap" else (),
        settings=IntervalSettings(config.resamples, config.confidence, 0),
        ensembles=config.ensembles,
        mixtures=config.mixtures,
        protocol=_protocol(config),
        measured_on=config.measured_on,
    )
    report |= {"config": config.model_dump(mode="json", by_alias=True), "manifests": manifests, "runs": runs}
    write_json(root / REPORT, report)
    write_text(root / MARKDOWN, benchmark_markdown(report))
    write_text(root / TABLE, _csv(benchmark_rows(report)))
    return report


def _protocol(config: BenchmarkConfig) -> str:
    if config.protocol == "leave_one_prompt_out":
        return "leave one prompt out: no essay of the tested prompt is seen in training"
    folds = ", ".join(str(fold) for fold in config.folds)
    models = {config.models_of(arm) for arm in config.arms}
    words = {"all_prompts": "one model for all prompts", "one_per_prompt": "one model for each prompt"}
    return f"folds {folds}; {' or '.join(words[name] for name in sorted(models))}"


def _check_same_essays(cell: Cell, data: Mapping[str, Any], first: Mapping[str, Any]) -> None:
    """Refuse runs on other essays than their neighbours': the data may have changed while the grid was stopped."""
    if data != first:
        raise DataError(
            f"{cell.name} was run on other essays ({data}) than runs before it ({first}). Remove what was run on the "
            "wrong ones, and it is done again."
        )


def _floors(
    config: BenchmarkConfig, parts: Sequence[str], table: EssayTable, root: Path
) -> dict[str, dict[str, dict[str, float]]]:
    """Kappa by part, floor and prompt, computed once for a part; none where a prompt has no essays to be fitted on."""
    if not config.floors or config.measured_on == "dev" or config.protocol == "leave_one_prompt_out":
        return {}
    ranges = {prompt.id: prompt.range for prompt in table.prompts.values()}
    found, data = {}, data_hash(table)
    for part in parts:
        path = root / FLOORS / f"{part}.json"
        kept = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
        if kept.get("data") != data:
            logger.info("Floors of %s.", part)
            splits = split_essays(table, SplitConfig.model_validate(part_split(config, part)))
            try:
                kept = {"data": data, "floors": essay_floors(splits.tables(), ranges)}
            except DataError as error:
                raise DataError(f"{error} Or leave floors out by floors=false.") from None
            path.parent.mkdir(exist_ok=True)
            write_json(path, kept)
        found[part] = {name: dict(entry["prompts"]) for name, entry in kept["floors"].items()}
    return found


def _csv(rows: Sequence[dict[str, Any]]) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()
