"""Runs to be compared: folders of fine-tuning runs, folders of such folders, and files of predictions."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from tqdm import tqdm

from aes_dynloss.errors import ConfigError, DataError
from aes_dynloss.evaluation.arm_cells import ScoredRun
from aes_dynloss.evaluation.predictions import read_predictions
from aes_dynloss.evaluation.report import read_report
from aes_dynloss.evaluation.score_range import ScoreRange

REPORT, PREDICTIONS_TEST, PREDICTIONS_DEV = "report.json", "predictions_test.csv", "predictions_dev.csv"
# A run has written a manifest before it trains, and its predictions only afterwards.
MARKS = ("manifest.json", PREDICTIONS_TEST)
SEED_PART, PROMPT_PART = "seed_", "prompt_"


def read_arms(paths: Sequence[str | Path]) -> dict[str, list[ScoredRun]]:
    """Read the runs of several arms.

    Args:
        paths: One an arm: a run's folder, a file of predictions (.csv, .jsonl or .parquet), or a folder with runs
            anywhere beneath it, as :func:`read_runs` takes them.

    Returns:
        Runs by the arm's name, which is its path's last part, with as many parts before it as set it apart from others.

    Raises:
        ConfigError: A path is there twice.
        DataError: A path holds no complete run.
    """
    names = arm_names(paths)
    places = [(name, place) for name, path in names.items() for place in _run_places(path)]
    arms: dict[str, list[ScoredRun]] = {name: [] for name in names}
    for name, (stratum, seed, path) in tqdm(
        places, desc="Reading runs", unit="run", delay=3, disable=None, leave=False
    ):
        arms[name].append(read_run(stratum, seed, path))
    return arms


def read_runs(path: str | Path) -> list[ScoredRun]:
    """Read the runs of one arm.

    A folder with runs beneath it, such as ARM/fold_0/seed_1/ or ARM/fold_0/prompt_3/seed_1/, tells what they are by
    their paths: the part ``seed_*`` is the seed, and the others but ``prompt_*`` are the stratum. Which prompts a run
    scored is in its predictions; so an arm with a run for each prompt compares with one that has a run for all.

    Args:
        path: A run's folder, a file of predictions, or a folder with runs anywhere beneath it.

    Returns:
        The runs, in the order of their paths.

    Raises:
        DataError: There is no run, or one that is incomplete or cannot be read.
    """
    return [read_run(*place) for place in _run_places(Path(path))]


def arm_names(paths: Sequence[str | Path]) -> dict[str, Path]:
    """A name for each path: its last part, with as many parts before it as set it apart from the others.

    Args:
        paths: Paths, made absolute before they are named.

    Returns:
        Path by name, in the paths' order.

    Raises:
        ConfigError: A path is there twice.
    """
    whole = [Path(path).absolute() for path in paths]
    whole = [Path(os.path.normpath(path)) for path in whole]
    for path in whole:
        if whole.count(path) > 1:
            raise ConfigError(f"{path} is given twice. A run compared with itself says nothing: leave one out.")
    names = {}
    for path, given in zip(whole, paths, strict=True):
        others = [other for other in whole if other != path]
        lengths = range(1, len(path.parts) + 1)
        length = next(n for n in lengths if all(other.parts[-n:] != path.parts[-n:] for other in others))
        names[Path(*path.parts[-length:]).as_posix()] = Path(given)
    return names


def _run_places(path: Path) -> list[tuple[str, str, Path]]:
    """Stratum, seed and path of each run."""
    if path.is_file():
        return [("", "", path)]
    if not path.is_dir():
        raise DataError(f"{path} is not there. Name a run's folder, a folder with runs, or a file of predictions.")
    if _is_run(path):
        return [("", "", path)]
    places = []
    for folder in _beneath(path):
        parts = folder.relative_to(path).parts
        seeds = [part.removeprefix(SEED_PART) for part in parts if part.startswith(SEED_PART)]
        strata = [part for part in parts if not part.startswith((SEED_PART, PROMPT_PART))]
        places.append(("/".join(strata), "/".join(seeds), folder))
    if not places:
        raise DataError(
            f"There is no run in {path} or beneath it: no folder holds {PREDICTIONS_TEST}. Name a folder that "
            "`aes-dynloss finetune` wrote, a folder with such folders, or a file of predictions."
        )
    return places


def _is_run(folder: Path) -> bool:
    return any((folder / mark).is_file() for mark in MARKS)


def _beneath(folder: Path) -> Iterator[Path]:
    """Folders of runs beneath a folder, in the order of their paths; within a run's folder there are no others."""
    for inner in sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith(".")):
        found = [inner] if _is_run(inner) else list(_beneath(inner))
        # A folder named for a seed without a run is one that was stopped early; it must not pass unnoticed.
        yield from found or ([inner] if inner.name.startswith(SEED_PART) else [])


def read_run(stratum: str, seed: str, path: Path) -> ScoredRun:
    """One run from its folder, or from a file that holds its test predictions alone.

    Args:
        stratum: Such as its fold.
        seed: Its seed, in words.
        path: Its folder or file.

    Raises:
        DataError: It is incomplete, has no test predictions, or is damaged.
    """
    if path.is_file():
        return ScoredRun(stratum, seed, read_predictions(path), None)
    if not (path / REPORT).is_file():
        raise DataError(
            f"The run in {path} has no {REPORT}: it is incomplete. Go on with it by `aes-dynloss finetune --resume`, "
            "or remove it."
        )
    if not (path / PREDICTIONS_TEST).is_file():
        raise DataError(f"The run in {path} has no {PREDICTIONS_TEST}: without a test split it cannot be compared.")
    ranges = _ranges(read_report(path / REPORT), path / REPORT)
    dev = path / PREDICTIONS_DEV
    try:
        test_table = read_predictions(path / PREDICTIONS_TEST, ranges=ranges)
        dev_table = read_predictions(dev, ranges=ranges) if dev.is_file() else None
        if dev_table is not None and not ranges.keys() & {*dev_table.table["prompt_id"]}:
            dev_table = None  # of other prompts alone, as where a prompt was left out
    except DataError as error:
        raise DataError(f"The run in {path} cannot be read: {error}") from error
    return ScoredRun(stratum, seed, test_table, dev_table)


def _ranges(report: Mapping[str, Any], path: Path) -> dict[str, ScoreRange]:
    """Each prompt's range, as the run's report has it."""
    try:
        return {prompt: ScoreRange(**entry["range"]) for prompt, entry in report["prompts"].items()}
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise DataError(f"{path} has no score range for every prompt ({error!r}). Make it again.") from error
