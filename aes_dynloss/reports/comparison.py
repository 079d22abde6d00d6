"""Comparison of arms, such as losses, on the same essays: a paired bootstrap, corrected for many comparisons."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

from aes_dynloss.measures.bootstrap import IntervalSettings, percentile_interval
from aes_dynloss.measures.differences import DIFFERENCES, difference_entries, smallest_p
from aes_dynloss.measures.paired_bootstrap import Cell, Side, fisher_figure, mean_figure, prompt_figures
from aes_dynloss.measures.paired_bootstrap import Figure as DrawnFigure
from aes_dynloss.reports.arms import ScoredRun, build_cells
from aes_dynloss.reports.entry import Entry, Figure, Interval
from aes_dynloss.reports.model import Floor, Settings
from aes_dynloss.reports.ratings import WeightOverRuns
from aes_dynloss.reports.row_words import RowWords
from aes_dynloss.tables.columns import TRAIT_COLUMN
from aes_dynloss.tables.scale_ids import prompt_and_trait

__all__ = ["VERSIONS", "ScoredRun", "compare_arms"]

# Kappa of the scores as they are, given the human scores' mean and sd on dev, and after cut points tuned on dev.
VERSIONS = ("qwk", "qwk_rescaled", "qwk_cut_points")
COVERS = (
    "Intervals and p values cover the choice of test essays, drawn anew within strata and prompts, the same for all "
    "arms; they do not cover seeds, training or the choice of dev essays."
)


class ArmFigures(Entry):
    """An arm's kappas, and their values by seed where all strata and prompts have the same seeds."""

    qwk: float
    qwk_interval: Interval
    qwk_by_seed: dict[str, float] | None
    qwk_rescaled: Figure
    qwk_rescaled_interval: Interval
    qwk_rescaled_by_seed: dict[str, float] | None
    qwk_cut_points: Figure
    qwk_cut_points_interval: Interval
    qwk_cut_points_by_seed: dict[str, float] | None


class FisherMean(Entry):
    """Fisher's mean of an arm's QWK over prompts, as the ASAP competitions of 2012 took it."""

    qwk: float
    qwk_interval: Interval


class Arm(Entry):
    """An arm's own figures; ``fisher`` is None with a single prompt."""

    LEFT_OUT = ("fisher",)

    runs: int
    seeds: list[str]
    mean: ArmFigures
    prompts: dict[str, ArmFigures]
    fisher: FisherMean | None = None


class Difference(Entry):
    """A difference from the control, with its p value and the one that Holm's procedure adjusts."""

    difference: float
    interval: Interval
    p: float
    p_holm: float
    by_seed: dict[str, float] | None


class ArmDifferences(Entry):
    """An arm's differences of one kind; None where a version of its scores or of the control's is missing."""

    mean: Difference | None
    prompts: dict[str, Difference | None]


class DifferenceKind(Entry):
    """Differences of one kind, in words, by arm; ``comparisons`` are the families' sizes, ``mean`` and ``prompts``."""

    difference: str
    comparisons: dict[str, int]
    arms: dict[str, ArmDifferences]


class Comparison(Entry):
    """Arms held against a control on the same essays.

    Args:
        control: The arm that the others are held against.
        arms: The arms' own figures.
        differences: Differences from the control, by the kinds of DIFFERENCES.
        strata: Such as folds.
        essays: Essays by prompt, summed over strata.
        notes: What a reader must know.
        settings: How intervals and p values were made.
        traits: The traits that essays are scored on, where they are several; ``prompts`` and ``essays`` are then by
            prompt and trait.
        distinct_essays: Then the number of essays, whatever they are scored on.
    """

    LEFT_OUT = ("traits", "distinct_essays")

    control: str
    arms: dict[str, Arm]
    differences: dict[str, DifferenceKind]
    strata: list[str]
    essays: dict[str, int]
    notes: list[str]
    settings: Settings
    traits: list[str] | None = None
    distinct_essays: int | None = None

    @property
    def rows(self) -> RowWords:
        """What the prompts, or traits, are called."""
        return RowWords.of(self.essays, traits=self.traits is not None)

    @property
    def essay_count(self) -> int:
        """Number of essays, whatever they are scored on."""
        return sum(self.essays.values()) if self.distinct_essays is None else self.distinct_essays


class PublishedFigure(Entry):
    """A published system's figure.

    Args:
        system: Its name.
        qwk: Its QWK on test, the mean over prompts (and over folds, where it has several).
        source: Where the figure stands.
        protocol: Whether it was measured on the report's essays; before it is in a report, whether on the five folds of
            Taghipour and Ng (2016), one model a prompt, or on each prompt in turn, of which no score was seen.
    """

    system: str
    qwk: float
    source: str
    protocol: str


class Cost(Entry):
    """What an arm's runs cost; seconds and unit are None where cards and processors took part."""

    runs: int
    seconds_per_run: Figure
    total_seconds: Figure
    unit: str | None
    devices: list[str]


class OverSeeds(Entry):
    """Mean and sd (divisor n - 1) over seeds."""

    n: int
    mean: float
    sd: Figure
    by_seed: dict[str, float]


class GridFigures(Entry):
    """An arm's kappas, and r and sd ratio of its raw predictions; ``over_seeds`` is by version of VERSIONS."""

    qwk: float
    qwk_interval: Interval
    qwk_rescaled: Figure
    qwk_rescaled_interval: Interval
    qwk_cut_points: Figure
    qwk_cut_points_interval: Interval
    pearson: Figure
    sd_ratio: Figure
    over_seeds: dict[str, OverSeeds | None]


class TraitFigures(Entry):
    """An arm's means over prompts by trait and version, and over traits, in either order; no interval."""

    by_trait: dict[str, dict[str, Figure]]
    over_prompts_first: dict[str, Figure]
    over_traits_first: dict[str, Figure]
    mcrmse: Figure


class GridArm(Entry):
    """An arm, or an ensemble of the arms ``ensemble_of``; ``members`` are the models behind a score.

    Of a published arm, ``members`` is None: its file does not say it. A stack has its weights by stratum, prompt and
    member; the best of several arms by dev has how often it is each of them.
    """

    LEFT_OUT = ("weights", "chosen", "traits", "fisher")

    ensemble_of: list[str] | None
    members: int | None
    seeds: list[str]
    prompts: dict[str, GridFigures]
    mean: GridFigures
    cost: Cost | None
    weights: dict[str, dict[str, dict[str, float]]] | None = None
    chosen: dict[str, int] | None = None
    traits: TraitFigures | None = None
    fisher: FisherMean | None = None


class Raters(Entry):
    """QWK of two humans with each other on ``n`` essays of a prompt."""

    n: int
    qwk: Figure


class HumanRaters(Entry):
    """QWK of two humans with each other; the mean is None where it is unknown for a prompt."""

    prompts: dict[str, Raters]
    mean: Figure


class Benchmark(Entry):
    """A grid's report, without texts and ids: a comparison of its arms with what they are to be read with.

    Args:
        measured_on: ``test`` or ``dev``.
        protocol: What was trained on what, in words.
        control: The arm that the others are held against.
        strata: Such as folds.
        essays: Essays by prompt, summed over strata.
        distinct_essays: Essays that are not counted twice.
        arms: Arms and their ensembles.
        differences: As a comparison has them.
        human_human: Two humans' agreement with each other.
        floors: QWK of floors by name.
        published: Published systems.
        notes: What a reader must know.
        settings: How intervals and p values were made.
        config: The grid's configuration, where a grid was run.
        manifests: What made its runs.
        runs: Its runs and their costs.
        raters: By arm and rater, weights in learned losses, where a teacher learned some.
    """

    LEFT_OUT = ("config", "manifests", "runs", "raters")

    measured_on: str
    protocol: str
    control: str
    strata: list[str]
    essays: dict[str, int]
    distinct_essays: int
    arms: dict[str, GridArm]
    differences: dict[str, DifferenceKind]
    human_human: HumanRaters
    floors: dict[str, Floor]
    published: list[PublishedFigure]
    notes: list[str]
    settings: Settings
    config: dict[str, Any] | None = None
    manifests: dict[str, Any] | None = None
    runs: list[Any] | None = None
    raters: dict[str, dict[str, WeightOverRuns]] | None = None

    @property
    def rows(self) -> RowWords:
        """What the prompts, or traits, are called."""
        return RowWords.of(self.essays, traits=any(arm.traits is not None for arm in self.arms.values()))

    @property
    def scored_twice(self) -> int:
        """How many essays two humans scored, whatever they are scored on."""
        return sum(self.rows.of_prompts({row: one.n for row, one in self.human_human.prompts.items()}).values())

    @property
    def essay_count(self) -> int:
        """Number of essays, once where seeds and halves share them, and whatever they are scored on."""
        return self.distinct_essays


def compare_arms(
    arms: Mapping[str, Sequence[ScoredRun]],
    control: str,
    *,
    resamples: int = 1000,
    confidence: float = 0.95,
    seed: int = 0,
    fewest: int = 2,
    ensembles: Collection[str] = (),
) -> Comparison:
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
        ensembles: Arms that are made of other arms' seeds, or published; that they have other seeds is not noted.

    Returns:
        The comparison; an arm's rescaled kappas and those after cut points are None where dev is missing.

    Raises:
        ConfigError: A setting is out of its bounds, there are too few arms, or the control is none of them.
        DataError: The arms have not scored the same essays, or a run cannot be measured.

    References:
        Efron and Tibshirani (1993), An Introduction to the Bootstrap, chapter 13. Holm (1979), Scandinavian Journal of
        Statistics 6(2), 65-70.
    """
    settings = IntervalSettings(resamples, confidence, seed)
    cells, notes = build_cells(arms, control, fewest=fewest)
    prompts = {prompt: prompt_figures(strata, resamples, seed) for prompt, strata in cells.items()}
    common = [side for side in next(iter(prompts.values())) if all(side in figures for figures in prompts.values())]
    mean = {side: mean_figure([figures[side] for figures in prompts.values()]) for side in common}
    differences = {
        name: DifferenceKind.from_dict(difference_entries(kind, control, prompts, mean, confidence))
        for name, kind in DIFFERENCES.items()
    }
    trained = {arm: runs for arm, runs in arms.items() if arm not in ensembles}
    return Comparison(
        control=control,
        arms={
            arm: Arm(
                runs=len(runs),
                seeds=sorted({run.seed for run in runs}),
                mean=_arm_figures(arm, mean, confidence),
                prompts={prompt: _arm_figures(arm, figures, confidence) for prompt, figures in prompts.items()},
                fisher=_fisher([figures[arm, "qwk"] for figures in prompts.values()], confidence),
            )
            for arm, runs in arms.items()
        },
        differences=differences,
        strata=sorted({cell.stratum for strata in cells.values() for cell in strata}),
        essays={prompt: sum(len(cell.human) for cell in strata) for prompt, strata in cells.items()},
        notes=[
            *notes,
            *_seed_notes(trained, cells),
            *_missing_notes(arms, mean),
            *_coarse_notes(differences, settings),
        ],
        settings=Settings(
            interval="paired percentile bootstrap over essays within strata and prompts",
            covers=COVERS,
            correction="Holm, within the means of all arms and within the prompts of all arms",
            resamples=resamples,
            confidence=confidence,
            seed=seed,
        ),
        **_of_traits(run for runs in arms.values() for run in runs),
    )


def _of_traits(runs: Iterable[ScoredRun]) -> dict[str, Any]:
    """The traits of runs on essays with several, and how many essays these are; nothing of other runs."""
    traits: dict[str, None] = {}
    essays: set[tuple[str, str, str]] = set()
    for run in runs:
        table = run.test.table
        if TRAIT_COLUMN in table:
            traits |= dict.fromkeys(table[TRAIT_COLUMN])
            prompts = [prompt_and_trait(scale)[0] for scale in table["prompt_id"]]
            essays.update((run.stratum, *one) for one in zip(prompts, table["essay_id"], strict=True))
    return {"traits": list(traits), "distinct_essays": len(essays)} if traits else {}


def _arm_figures(arm: str, figures: Mapping[Side, DrawnFigure], confidence: float) -> ArmFigures:
    """An arm's own kappas, on a prompt or in the mean; None of versions that it lacks."""
    values: dict[str, Any] = {}
    for version in VERSIONS:
        one = figures.get((arm, version))
        values[version] = one and one.value
        values[f"{version}_interval"] = one and percentile_interval(one.draws, confidence)
        values[f"{version}_by_seed"] = one and one.by_seed
    return ArmFigures.from_dict(values)


def _fisher(figures: Sequence[DrawnFigure], confidence: float) -> FisherMean | None:
    """Fisher's mean of an arm's kappas by prompt."""
    if len(figures) == 1:
        return None
    mean = fisher_figure(figures)
    return FisherMean(mean.value, percentile_interval(mean.draws, confidence))


def _seed_notes(arms: Mapping[str, Sequence[ScoredRun]], cells: Mapping[str, Sequence[Cell]]) -> list[str]:
    """Where seeds differ between arms, or between the strata and prompts of one arm."""
    seeds = {arm: sorted({run.seed for run in runs}) for arm, runs in arms.items()}
    notes = []
    if len(set(map(tuple, seeds.values()))) > 1:
        listed = "; ".join(f"{arm}: {', '.join(map(repr, names))}" for arm, names in seeds.items())
        notes.append(f"Arms differ in their seeds ({listed}), so that their differences are not given seed by seed.")
    all_cells = [cell for strata in cells.values() for cell in strata]
    return notes + [
        f"{arm}: not every stratum and prompt has every seed; each has the mean over the seeds it has."
        for arm, names in seeds.items()
        if any(cell.machines[arm, "qwk"].keys() != set(names) for cell in all_cells)
    ]


def _missing_notes(arms: Collection[str], mean: Mapping[Side, DrawnFigure]) -> list[str]:
    """Arms without calibrated kappas."""
    lacking = [arm for arm in arms if not all((arm, version) in mean for version in VERSIONS)]
    missing = (
        "qwk_rescaled and qwk_cut_points, and what is held against them, are null where a run has no predictions of"
    )
    return [f"{', '.join(lacking)}: {missing} dev essays."] if lacking else []


def _coarse_notes(differences: Mapping[str, DifferenceKind], settings: IntervalSettings) -> list[str]:
    """A warning where no difference, however clear, could pass the correction with so few resamples."""
    most = max(max(kind.comparisons.values()) for kind in differences.values())
    smallest, level = smallest_p(settings.resamples), 1 - settings.confidence
    if most * smallest <= level:
        return []
    return [
        f"With {settings.resamples} resamples the smallest p is {smallest:.2g}, and the smallest Holm p among {most} "
        f"comparisons {min(1.0, most * smallest):.2g}: whatever the essays say, it cannot come below {level:.2g}. Take "
        f"{-(-2 * most // level):.0f} resamples or more."
    ]
