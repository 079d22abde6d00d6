"""Floors of a grid, fitted once for a part of the data and kept in its folder: figures, and predictions by essay."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd

from aes_dynloss.errors import DataError
from aes_dynloss.essays.benchmark.cells import grid_seeds, part_split_config
from aes_dynloss.essays.benchmark.config import BenchmarkConfig
from aes_dynloss.essays.data.essay_table import EssayTable
from aes_dynloss.essays.data.splits import data_hash, split_essays, split_hash
from aes_dynloss.essays.floors import essay_floors, floor_figures
from aes_dynloss.reports.arms import ScoredRun
from aes_dynloss.reports.predictions import read_predictions, write_predictions
from aes_dynloss.tables.score_range import ScoreRange
from aes_dynloss.training.run_folder import write_json

logger = logging.getLogger(__name__)

FOLDER = "floors"


def grid_floors(
    config: BenchmarkConfig, parts: Sequence[str], table: EssayTable, root: Path
) -> dict[str, list[ScoredRun]]:
    """Floors of a grid as runs of arms, one a part; none where a prompt has no essays to be fitted on.

    Args:
        config: The grid.
        parts: Its parts, such as ``fold_0``.
        table: Its essays.
        root: Its folder: PART.json there says what the predictions in PART/FLOOR.csv were made of.

    Returns:
        Runs by floor, of test predictions alone, with human scores.

    Raises:
        DataError: A prompt has too few essays.
    """
    if not config.floors or config.measured_on == "dev" or config.protocol == "leave_one_prompt_out":
        return {}
    ranges = {prompt.id: prompt.range for prompt in table.prompts.values()}
    floors: dict[str, list[ScoredRun]] = {name: [] for name in config.floor_names}
    for part in parts:
        splits = split_essays(table, part_split_config(config, part, grid_seeds(config)[0]))
        made_of = {"data": data_hash(table), "split": split_hash(splits)}
        folder = root / FOLDER / part
        if not _is_made_of(folder, made_of, ranges, config.floor_names):
            logger.info("Floors of %s.", part)
            try:
                predictions = essay_floors(splits.tables(), ranges, config.floor_names)
            except DataError as error:
                raise DataError(f"{error} Or leave floors out by floors=false.") from None
            for name, essays in predictions.items():
                write_predictions(essays, folder / f"{name}.csv")
            # Only now: without it, predictions that are not complete are made anew.
            write_json(folder.with_suffix(".json"), {**made_of, "floors": floor_figures(predictions)})
        for name, runs in floors.items():
            runs.append(_floor_run(folder, name, ranges))
    return floors


def floor_kappas(floors: Mapping[str, Sequence[ScoredRun]]) -> dict[str, dict[str, dict[str, float]]]:
    """QWK by part, floor and prompt.

    Args:
        floors: What :func:`grid_floors` returned.
    """
    tables: dict[str, dict[str, pd.DataFrame]] = {}
    for name, runs in floors.items():
        for run in runs:
            tables.setdefault(run.stratum, {})[name] = run.test.table
    return {
        part: {name: figures["prompts"] for name, figures in floor_figures(by_name).items()}
        for part, by_name in tables.items()
    }


def _floor_run(folder: Path, name: str, ranges: Mapping[str, ScoreRange]) -> ScoredRun:
    return ScoredRun(folder.name, "", read_predictions(folder / f"{name}.csv", ranges=ranges), None)


def _is_made_of(
    folder: Path, made_of: Mapping[str, object], ranges: Mapping[str, ScoreRange], names: Sequence[str]
) -> bool:
    """Whether an earlier call left whole predictions of the same essays and splits."""
    try:
        kept = json.loads(folder.with_suffix(".json").read_text(encoding="utf-8"))
        tables = {name: _floor_run(folder, name, ranges).test.table for name in names}
    except (OSError, ValueError, DataError):
        return False
    return bool(kept == {**made_of, "floors": floor_figures(tables)})  # csv and JSON lose no digit
