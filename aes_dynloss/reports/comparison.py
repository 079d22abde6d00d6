"""Comparison of arms, such as losses, on the same essays: a paired bootstrap, corrected for many comparisons.

Runs to be compared: folders of fine-tuning runs, folders of such folders, and files of predictions.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from tqdm import tqdm

from aes_dynloss.errors import ConfigError, DataError
from aes_dynloss.measures.bootstrap import (
    Cell,
    Figure,
    IntervalSettings,
    Side,
    mean_figure,
    percentile_interval,
    prompt_figures,
)
from aes_dynloss.measures.differences import DIFFERENCES, difference_entries, smallest_p
from aes_dynloss.reports.arms import ScoredRun, build_cells
from aes_dynloss.reports.predictions import read_predictions
from aes_dynloss.reports.prompts import read_report
from aes_dynloss.tables.score_range import ScoreRange

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


__all__ = ["VERSIONS", "ScoredRun", "compare_arms"]

# Kappa of the scores as they are, given the human scores' mean and sd on dev, and after cut points tuned on dev.
VERSIONS = ("qwk", "qwk_rescaled", "qwk_cut_points")
COVERS = (
    "Intervals and p values cover the choice of test essays, drawn anew within strata and prompts, the same for all "
    "arms; they do not cover seeds, training or the choice of dev essays."
)


def compare_arms(
    arms: Mapping[str, Sequence[ScoredRun]],
    control: str,
    *,
    resamples: int = 1000,
    confidence: float = 0.95,
    seed: int = 0,
    fewest: int = 2,
    ensembles: Collection[str] = (),
) -> dict[str, Any]:
    """Hold arms against a control on the same essays, prompt by prompt and in the mean over prompts.

    An arm's QWK on a prompt is the mean over strata of the mean over seeds; its mean is that over prompts. Differences
    come with percentile bootstrap intervals, two-sided p values, and p values adjusted by Holm's procedure, in families
    that are said under ``comparisons``.

    Args:
        arms: Runs by the arm's name, two arms or more. All arms have scored the same essays of the same prompts in the
            same strata; their seeds may differ.
        control: The arm that the others are held against.
        resamples: Bootstrap resamples, >= 1.
        confidence: Share of resamples inside an interval, between 0 and 1.
        seed: Seed of the resamples, >= 0.
        fewest: Fewest arms that may be given: 1 where an arm's own figures are wanted, with or without others.
        ensembles: Arms that are made of other arms' seeds; that they have no such seeds themselves is not noted.

    Returns:
        Strict JSON: ``control``; ``arms`` by name (``runs``, ``seeds``, ``prompts`` by id and ``mean``, each with the
        versions of VERSIONS, their intervals and their values by seed, or None where dev is missing, and by seed also
        where seeds differ between the strata or prompts); ``differences`` by the kinds
        of DIFFERENCES, as ``difference_entries`` gives them; ``strata``; ``essays`` by prompt; ``notes``; ``settings``.

    Raises:
        ConfigError: A setting is out of its bounds, there are too few arms, or the control is none of them.
        DataError: The arms have not scored the same essays, or a run cannot be measured.

    References:
        Efron and Tibshirani (1993), An Introduction to the Bootstrap, chapter 13. Holm (1979), Scandinavian Journal of
        Statistics 6(2), 65-70.
    """
    settings = IntervalSettings(resamples, confidence, seed)
    if resamples < 1:
        raise ConfigError(f"A comparison needs at least 1 resample, found {resamples}.")
    cells, notes = build_cells(arms, control, fewest=fewest)
    prompts = {prompt: prompt_figures(strata, resamples, seed) for prompt, strata in cells.items()}
    common = [side for side in next(iter(prompts.values())) if all(side in figures for figures in prompts.values())]
    mean = {side: mean_figure([figures[side] for figures in prompts.values()]) for side in common}
    differences = {
        name: difference_entries(kind, control, prompts, mean, confidence) for name, kind in DIFFERENCES.items()
    }
    return {
        "control": control,
        "arms": {arm: _arm_entry(arm, runs, prompts, mean, confidence) for arm, runs in arms.items()},
        "differences": differences,
        "strata": sorted({cell.stratum for strata in cells.values() for cell in strata}),
        "essays": {prompt: sum(len(cell.human) for cell in strata) for prompt, strata in cells.items()},
        "notes": [
            *notes,
            *_seed_notes({arm: runs for arm, runs in arms.items() if arm not in ensembles}, cells),
            *_missing_notes(arms, mean),
            *_coarse_notes(differences, settings),
        ],
        "settings": {
            "interval": "paired percentile bootstrap over essays within strata and prompts",
            "covers": COVERS,
            "correction": "Holm, within the means of all arms and within the prompts of all arms",
            "resamples": resamples,
            "confidence": confidence,
            "seed": seed,
            "qwk_of_identical_constants": 1.0,
        },
    }


def _arm_entry(
    arm: str,
    runs: Sequence[ScoredRun],
    prompts: Mapping[str, Mapping[Side, Figure]],
    mean: Mapping[Side, Figure],
    confidence: float,
) -> dict[str, Any]:
    """An arm's own kappas."""

    def entry(figures: Mapping[Side, Figure]) -> dict[str, Any]:
        values: dict[str, Any] = {}
        for version in VERSIONS:
            figure = figures.get((arm, version))
            values[version] = None if figure is None else figure.value
            values[f"{version}_interval"] = None if figure is None else percentile_interval(figure.draws, confidence)
            by_seed = None if figure is None else figure.by_seed
            values[f"{version}_by_seed"] = None if by_seed is None else dict(by_seed)
        return values

    return {
        "runs": len(runs),
        "seeds": sorted({run.seed for run in runs}),
        "mean": entry(mean),
        "prompts": {prompt: entry(figures) for prompt, figures in prompts.items()},
    }


def _seed_notes(arms: Mapping[str, Sequence[ScoredRun]], cells: Mapping[str, Sequence[Cell]]) -> list[str]:
    """Where seeds differ between arms, or between the strata and prompts of one arm."""
    seeds = {arm: sorted({run.seed for run in runs}) for arm, runs in arms.items()}
    notes = []
    if len({tuple(own) for own in seeds.values()}) > 1:
        words = "; ".join(f"{arm}: {', '.join(map(repr, own))}" for arm, own in seeds.items())
        notes.append(f"Arms differ in their seeds ({words}), so that their differences are not given seed by seed.")
    for arm, own in seeds.items():
        everywhere = all(cell.machines[arm, "qwk"].keys() == set(own) for strata in cells.values() for cell in strata)
        if not everywhere:
            notes.append(
                f"{arm}: not every stratum and prompt has every seed; each has the mean over the seeds it has."
            )
    return notes


def _missing_notes(arms: Mapping[str, Sequence[ScoredRun]], mean: Mapping[Side, Figure]) -> list[str]:
    """Arms without calibrated kappas."""
    lacking = [arm for arm in arms if not all((arm, version) in mean for version in VERSIONS)]
    if not lacking:
        return []
    return [
        f"{', '.join(lacking)}: qwk_rescaled and qwk_cut_points, and what is held against them, are null where a run "
        "has no predictions of dev essays."
    ]


def _coarse_notes(differences: Mapping[str, Mapping[str, Any]], settings: IntervalSettings) -> list[str]:
    """A warning where no difference, however clear, could pass the correction with so few resamples."""
    most = max(max(kind["comparisons"].values()) for kind in differences.values())
    adjusted = most * smallest_p(settings.resamples)
    level = 1 - settings.confidence
    if adjusted <= level:
        return []
    needed = -(-2 * most // level)
    return [
        f"With {settings.resamples} resamples the smallest p is {smallest_p(settings.resamples):.2g}, and the smallest "
        f"Holm p among {most} comparisons {min(1.0, adjusted):.2g}: whatever the essays say, it cannot come below "
        f"{level:.2g}. Take {needed:.0f} resamples or more."
    ]
