"""Comparison of arms, such as losses, on the same essays: a paired bootstrap, corrected for many comparisons."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from aes_dynloss.errors import ConfigError
from aes_dynloss.evaluation.arm_cells import ScoredRun, build_cells
from aes_dynloss.evaluation.intervals import IntervalSettings
from aes_dynloss.evaluation.paired_bootstrap import Cell, Figure, Side, mean_figure, prompt_figures
from aes_dynloss.evaluation.paired_differences import QUESTIONS, answer, smallest_p
from aes_dynloss.evaluation.resampling import percentile_interval

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
        where seeds differ between the strata or prompts); ``differences`` by the kinds of
        QUESTIONS, as ``answer`` gives them; ``strata``; ``essays`` by prompt; ``notes``; ``settings``.

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
    differences = {name: answer(question, control, prompts, mean, confidence) for name, question in QUESTIONS.items()}
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
