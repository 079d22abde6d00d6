"""Runs to compare: folders of fine-tuning runs, folders of such folders, files of predictions, published arms."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from aes_dynloss.errors import DataError
from aes_dynloss.progress import Progress
from aes_dynloss.reports.arms import ScoredRun, arm_names
from aes_dynloss.reports.human_scores import HumanScores
from aes_dynloss.reports.predictions import (
    MANIFEST,
    PREDICTIONS_DEV,
    PREDICTIONS_TEST,
    is_cross_fitted,
    read_predictions,
)
from aes_dynloss.reports.prompts import read_report
from aes_dynloss.reports.published import is_published, read_published
from aes_dynloss.reports.traits import by_scale
from aes_dynloss.tables.columns import ColumnNames
from aes_dynloss.tables.score_range import ScoreRange

REPORT = "report.json"
# A run has written a manifest before it trains, and its predictions only afterwards.
MARKS = (MANIFEST, PREDICTIONS_TEST)
SEED_PART, PROMPT_PART = "seed_", "prompt_"


def read_arms(
    paths: Sequence[str | Path],
    human: HumanScores | None = None,
    columns: ColumnNames | None = None,
    ranges: Mapping[str, ScoreRange] | None = None,
) -> dict[str, list[ScoredRun]]:
    """Read the runs of several arms.

    Args:
        paths: One an arm: a run's folder, a file of predictions (.csv, .jsonl or .parquet), or a folder with runs
            anywhere beneath it, told apart by their paths, such as ARM/fold_0/prompt_3/seed_1/: the part ``seed_*`` is
            the seed, and the others but ``prompt_*`` are the stratum. Which prompts a run scored is in its predictions.
            Or a file of published predictions, which says fold and seed of each row.
        human: Human scores for files without.
        columns: Names of the columns of files of predictions.
        ranges: Score range by prompt of files, where there is no ``human`` with its own.

    Returns:
        Runs by the arm's name, which is its path's last part, with as many parts before it as set it apart from others.

    Raises:
        ConfigError: A path is there twice.
        DataError: A path holds no complete run, or an essay without human score.
    """
    names = arm_names(paths)
    arms = {name: read_published(path, human) if is_published(path) else [] for name, path in names.items()}
    runs = [(name, run) for name, path in names.items() if not arms[name] for run in _named_runs(path)]
    for name, (stratum, seed, path) in Progress(runs, desc="Reading runs", unit="run", delay=3, leave=False):
        arms[name].append(read_run(stratum, seed, path, human, columns, ranges))
    return arms


def _named_runs(path: Path) -> list[tuple[str, str, Path]]:
    """Stratum, seed and path of each run."""
    if path.is_file():
        return [("", "", path)]
    if not path.is_dir():
        raise DataError(f"{path} is not there. Name a run's folder, a folder with runs, or a file of predictions.")
    runs = []
    for folder in _run_folders(path):
        parts = folder.relative_to(path).parts
        seeds = [part.removeprefix(SEED_PART) for part in parts if part.startswith(SEED_PART)]
        strata = [part for part in parts if not part.startswith((SEED_PART, PROMPT_PART))]
        runs.append(("/".join(strata), "/".join(seeds), folder))
    if not runs:
        raise DataError(
            f"There is no run in {path} or beneath it: no folder holds {PREDICTIONS_TEST}. Name a folder that "
            "`aes-dynloss finetune` wrote, a folder with such folders, or a file of predictions."
        )
    return runs


def _run_folders(folder: Path) -> list[Path]:
    """Folders of runs in the order of their paths: this one, or those beneath it."""
    if any((folder / mark).is_file() for mark in MARKS):
        return [folder]
    inner = sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))
    runs = [run for path in inner for run in _run_folders(path)]
    # A folder named for a seed without a run is one that was stopped early; it must not pass unnoticed.
    return runs or ([folder] if folder.name.startswith(SEED_PART) else [])


def read_run(
    stratum: str,
    seed: str,
    path: Path,
    human: HumanScores | None = None,
    columns: ColumnNames | None = None,
    ranges: Mapping[str, ScoreRange] | None = None,
) -> ScoredRun:
    """One run from its folder, or from a file that holds its test predictions alone.

    Args:
        stratum: Such as its fold.
        seed: Its seed, in words.
        path: Its folder or file.
        human: Human scores for a file without.
        columns: Names of a file's columns.
        ranges: Score range by prompt of a file, where there is no ``human`` with its own.

    Raises:
        DataError: It is incomplete, has no test predictions, or is damaged.
    """
    if path.is_file():
        test = read_predictions(path, columns=columns, ranges=human.ranges if human else ranges, human=human)
        return ScoredRun(stratum, seed, test, None)
    for name, advice in (
        (REPORT, "it is incomplete. Go on with it by `aes-dynloss finetune --resume`, or remove it."),
        (PREDICTIONS_TEST, "without a test split it cannot be compared."),
    ):
        if not (path / name).is_file():
            raise DataError(f"The run in {path} has no {name}: {advice}")
    told = {prompt: entry.range for prompt, entry in by_scale(read_report(path / REPORT)).prompts.items()}
    dev = path / PREDICTIONS_DEV
    try:
        test_table = read_predictions(path / PREDICTIONS_TEST, ranges=told)
        dev_table = read_predictions(dev, ranges=told) if dev.is_file() else None
        if dev_table is not None and not told.keys() & {*dev_table.table["prompt_id"]}:
            dev_table = None  # of other prompts alone, as where a prompt was left out
        if is_cross_fitted(path):
            dev_table = None  # its essays are among those of test
    except DataError as error:
        raise DataError(f"The run in {path} cannot be read: {error}") from error
    return ScoredRun(stratum, seed, test_table, dev_table)
