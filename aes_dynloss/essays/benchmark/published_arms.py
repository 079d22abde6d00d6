"""Published predictions of a grid: a file for each of its arms, and files of others to stand beside them."""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

from aes_dynloss.errors import ConfigError, DataError
from aes_dynloss.essays.benchmark.config import BenchmarkConfig
from aes_dynloss.essays.benchmark.essays import GridEssays
from aes_dynloss.reports.arms import ScoredRun, arm_names
from aes_dynloss.reports.published import PublishedTooLargeError, published_name, read_published, write_published

logger = logging.getLogger(__name__)

FOLDER = "predictions"


def publish_arms(
    root: Path, arms: Mapping[str, Sequence[ScoredRun]], unseeded: Mapping[str, Sequence[ScoredRun]]
) -> None:
    """Write predictions/GRID.ARM.parquet for each arm of a grid; a file that would be too large is said and left out.

    Files GRID.ARM.parquet of arms that are none any more are removed.

    Args:
        root: The grid's folder, whose name is the grid's.
        arms: Runs of arms whose runs differ in their seeds, by the arm's name.
        unseeded: Runs of arms with one run a fold (and prompt): exact solvers, ensembles and floors.

    Raises:
        ConfigError: Two arms would be one file.
        DataError: A file cannot be written.
    """
    folder, grid = root / FOLDER, root.absolute().name
    files: dict[str, str] = {}
    for arm in (*arms, *unseeded):
        other = files.setdefault(published_name(grid, arm), arm)
        if other != arm:
            raise ConfigError(f"Arms {other!r} and {arm!r} would both be {published_name(grid, arm)}. Rename one.")
    own = published_name(grid, "").removesuffix(".parquet")  # GRID and a dot: files of others stay
    for path in folder.glob("*.parquet"):
        if path.name.startswith(own) and path.name not in files:  # of an arm that is none any more
            path.unlink()
    for name, arm in files.items():
        try:
            write_published(folder / name, arm, {**arms, **unseeded}[arm], seeded=arm in arms)
        except PublishedTooLargeError as error:
            (folder / name).unlink(missing_ok=True)
            logger.warning("%s", error)


def read_against(config: BenchmarkConfig, paths: Sequence[Path], essays: GridEssays) -> dict[str, list[ScoredRun]]:
    """Runs of published arms on a grid's essays, by the name of their file.

    Args:
        config: The grid.
        paths: Files of published predictions.
        essays: The grid's essays.

    Raises:
        ConfigError: A file is given twice, has an arm's name, or the grid is not measured on the test essays of folds.
        DataError: A file is damaged, or has other folds or essays than the grid.
    """
    if paths and (config.protocol != "folds" or config.measured_on == "dev"):
        raise ConfigError(
            "--against: published predictions are of the test essays of folds; expected protocol: folds and "
            f"measured_on: test, found {config.protocol} and {config.measured_on}."
        )
    arms = {}
    for name, path in arm_names(paths).items():
        runs = read_published(path, essays.human)
        for seed in dict.fromkeys(run.seed for run in runs):
            _refuse_others(name, [run for run in runs if run.seed == seed], essays.tests)
        arms[name] = runs
    return arms


def _refuse_others(name: str, runs: Sequence[ScoredRun], tests: Mapping[str, Collection[str]]) -> None:
    """Refuse a seed's runs of other folds, or with other essays, than the grid's test essays."""
    found: dict[str, set[str]] = {run.stratum: set(run.test.table["essay_id"]) for run in runs}
    for fold in sorted({*found, *tests}):
        expected, own = set(tests.get(fold, ())), found.get(fold, set())
        if expected != own:
            raise DataError(
                f"--against {name} has other folds or essays than this grid: {len(expected)} test essays of {fold} are "
                f"expected, and {len(own)} are found, {len(expected & own)} of them the same. Give the grid the folds "
                "and prompts of the file, or leave the file out."
            )
