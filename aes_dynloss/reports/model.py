"""The report on predictions, typed: what report.json holds, by the same names and in the same order.

Every part is a frozen dataclass, which can also be read by report.json's keys, as ``report["mean"]["qwk"]``.
"""

from __future__ import annotations

from dataclasses import field
from typing import TYPE_CHECKING, Literal

from aes_dynloss.measures.breakdowns import level_gap
from aes_dynloss.reports.criteria import RULES, Direction, Rules
from aes_dynloss.reports.drivers import Drivers
from aes_dynloss.reports.entry import Entry, Figure, Interval, WrittenRange
from aes_dynloss.reports.human_entries import (
    Adjudication,
    HumanAgreement,
    HumanRatings,
    MeanHumanAgreement,
    RaterReport,
)
from aes_dynloss.reports.measure_list import MEASURES, Missing
from aes_dynloss.reports.ratings import Ratings
from aes_dynloss.reports.report_frame import SHORT, measures_frame
from aes_dynloss.reports.robustness_entry import Robustness
from aes_dynloss.reports.row_words import RowWords
from aes_dynloss.tables.scale_ids import scale_id

if TYPE_CHECKING:
    import pandas as pd

Verdict = Literal["pass", "flag", "unknown"]


class ScorePoint(Entry):
    """Essays to which humans and machine gave a score point; ``gap`` is the machine's share less the humans'."""

    point: float
    human: int
    machine: int
    gap: float


class ScoreLevel(Entry):
    """Essays whose human score is from ``low`` to ``high``: the machine's score is of the same level, or adjacent."""

    low: float
    high: float
    n: int
    agreement: float
    adjacent: float


class VersionAgreement(Entry):
    """Agreement of one version of the machine's scores; kappas are those of rounded ones."""

    mean: float
    sd: Figure
    qwk: Figure
    exact_agreement: Figure
    pearson: Figure
    rmse: Figure
    smd: Figure
    sd_ratio: Figure


class ScoreResiduals(Entry):
    """Residuals raw - reference of the essays of one human score."""

    reference: float
    n: int
    mean: float
    sd: Figure


class LengthResiduals(Entry):
    """Residuals raw - reference of a bin of essays by length."""

    words_from: float
    words_to: float
    n: int
    mean: float
    sd: Figure


class ReliabilityBin(Entry):
    """Human scores of a bin of essays by prediction."""

    raw_from: float
    raw_to: float
    n: int
    mean_raw: float
    mean_reference: float
    sd_reference: Figure


class Coverage(Entry):
    """How often the human score lay in the machine's prediction interval, and how wide that is in score points."""

    stated: Figure
    measured: Figure
    mean_width: Figure


class GroupAgreement(Entry):
    """A group's scores, held against those of all essays; ``small`` marks few essays."""

    n: int
    small: bool
    mean_reference: float
    mean_raw: float
    dsm: Figure
    dsm_interval: Interval
    smd: Figure
    smd_interval: Interval
    qwk: Figure
    qwk_interval: Interval
    pearson: Figure
    pearson_interval: Interval


class FairnessTest(Entry):
    """What the groups of a column explain of the errors."""

    r_squared_adjusted: Figure
    p: Figure
    p_holm: Figure


class ColumnFairness(Entry):
    """The groups of one column, and the tests on them."""

    groups: dict[str, GroupAgreement]
    osa: FairnessTest
    osd: FairnessTest
    csd: FairnessTest


class Fairness(Entry):
    """A prompt's subgroups by column; ``comparisons`` is the number of p values that Holm's procedure corrects for."""

    columns: dict[str, ColumnFairness]
    comparisons: int
    small_group: int
    notes: list[str]


class PromptEntry(Entry):
    """All that is measured on one prompt: measures, and the scores broken down for tables and pictures."""

    LEFT_OUT = (
        *("human_human", "human_ratings", "fairness"),
        *("stands_for", "effective_n", "exact_agreement_interval", "smd_interval"),
    )

    n: int
    range: WrittenRange
    qwk: Figure
    stands_for: Figure = None  # essays of which those read are a sample; None: the essays are all there are
    effective_n: Figure = None
    qwk_interval: Interval = None
    qwk_rescaled: Figure = None
    qwk_rescaled_interval: Interval = None
    qwk_cut_points: Figure = None
    qwk_cut_points_interval: Interval = None
    exact_agreement: Figure = None
    exact_agreement_interval: Interval = None
    adjacent_agreement: Figure = None
    pearson: Figure = None
    pearson_interval: Interval = None
    spearman: Figure = None
    rmse: Figure = None
    smd: Figure = None
    smd_interval: Interval = None
    sd_ratio: Figure = None
    mean_reference: Figure = None
    mean_raw: Figure = None
    kappa: Figure = None
    gwet_ac1: Figure = None
    gwet_ac2: Figure = None
    qwk_variance_matched: Figure = None
    pearson_without_length: Figure = None
    pearson_disattenuated: Figure = None
    prmse: Figure = None
    qwk_ceiling: Figure = None
    qwk_of_true_score: Figure = None
    human_human: HumanAgreement | None = None
    human_ratings: HumanRatings | None = None
    score_points: list[ScorePoint] = field(default_factory=list)
    confusion: list[list[int | float]] = field(default_factory=list)
    score_levels: list[ScoreLevel] = field(default_factory=list)
    score_versions: dict[str, VersionAgreement] = field(default_factory=dict)
    residuals_by_score: list[ScoreResiduals] = field(default_factory=list)
    residuals_by_length: list[LengthResiduals] | None = None
    reliability: list[ReliabilityBin] = field(default_factory=list)
    prediction_interval: Coverage | None = None
    fairness: Fairness | None = None

    @property
    def scored_twice(self) -> int:
        """Essays with two humans' scores."""
        return self.human_human.n if self.human_human else 0

    @property
    def score_level_gap(self) -> float | None:
        """Agreement at the lowest and the highest score level less that at those between; None without such."""
        return level_gap(self.score_levels)

    @property
    def human_confusion(self) -> list[list[int | float]]:
        """First human's score, second's, and essays; empty where none was scored twice."""
        return self.human_human.confusion if self.human_human else []

    def why_missing(self, measure: str) -> Missing | None:
        """The reason why a measure has no value; None where it has one.

        Args:
            measure: Its name in MEASURES.
        """
        if getattr(self, measure) is not None:
            return None
        if self.stands_for is not None:
            return Missing.UNWEIGHTED
        needs = MEASURES[measure].needs
        if needs is Missing.NO_SECOND_SCORE and self.scored_twice:
            return Missing.RATERS
        if needs is not None and not (needs is Missing.NO_LENGTHS and self.residuals_by_length):
            return needs
        if len(self.residuals_by_score) == 1:
            return Missing.EQUAL_HUMAN_SCORES
        bins = self.reliability
        return Missing.EQUAL_PREDICTIONS if bins and bins[0].raw_from == bins[-1].raw_to else Missing.UNDEFINED


class MeanEntry(Entry):
    """Means over prompts of the measures whose mean means something."""

    LEFT_OUT = ("human_human",)

    n_prompts: int
    qwk: Figure
    qwk_interval: Interval = None
    qwk_fisher: Figure = None
    qwk_rescaled: Figure = None
    qwk_rescaled_interval: Interval = None
    qwk_cut_points: Figure = None
    qwk_cut_points_interval: Interval = None
    exact_agreement: Figure = None
    adjacent_agreement: Figure = None
    pearson: Figure = None
    pearson_interval: Interval = None
    spearman: Figure = None
    kappa: Figure = None
    gwet_ac1: Figure = None
    gwet_ac2: Figure = None
    qwk_variance_matched: Figure = None
    pearson_without_length: Figure = None
    pearson_disattenuated: Figure = None
    prmse: Figure = None
    qwk_ceiling: Figure = None
    qwk_of_true_score: Figure = None
    human_human: MeanHumanAgreement | None = None


class Floor(Entry):
    """QWK of a scorer that any machine should beat."""

    prompts: dict[str, float]
    mean: float


class Flag(Entry):
    """One criterion, judged.

    Args:
        criterion: Its name in ``CRITERIA``.
        where: What was judged, such as a prompt or a subgroup; empty for all essays.
        value: The value, or None where it is unknown.
        threshold: The criterion's threshold.
        direction: On which side of the threshold the value should lie.
        verdict: pass, flag or unknown.
        words: The verdict in a sentence.
        source: Whose criterion it is.
        prompt: The prompt; None for the mean.
        group: Column and group of a subgroup; None for all essays.
    """

    criterion: str
    where: str
    value: Figure
    threshold: float
    direction: Direction
    verdict: Verdict
    words: str
    source: str
    prompt: str | None = None
    group: list[str] | None = None


class Disagreement(Entry):
    """An essay whose human score and prediction are far apart; length and text where they are known."""

    LEFT_OUT = ("trait", "reported", "words", "text")

    essay_id: str
    prompt_id: str
    reference: float
    raw: float
    score: float
    trait: str | None = None
    reported: Figure = None
    words: Figure = None
    text: str | None = None


class Settings(Entry, kw_only=True):
    """How intervals were drawn; for a comparison, what they cover, and how p values are corrected."""

    LEFT_OUT = ("covers", "correction")

    interval: str
    covers: str | None = None
    correction: str | None = None
    resamples: int
    confidence: float
    seed: int
    qwk_of_identical_constants: float = 1.0


class FeatureFigures(Entry):
    """A feature on a prompt's ``n`` essays; ``partial_r`` is its correlation with the human score given length."""

    n: int
    mean: float
    sd: Figure
    clamped: Figure
    r: Figure
    partial_r: Figure


class Feature(Entry):
    """A feature's group and unit, and its figures by prompt."""

    group: str
    unit: str
    prompts: dict[str, FeatureFigures]


class FeatureReport(Entry):
    """Features by name; ``clamped`` is the share beyond ``most_sd`` sd from the mean of ``compared_with``."""

    most_sd: float
    compared_with: str
    by_name: dict[str, Feature]


class TraitEntry(Entry):
    """What was measured on one of several traits: by prompt, and in the mean over prompts."""

    prompts: dict[str, PromptEntry]
    mean: MeanEntry
    floors: dict[str, Floor]
    flags: list[Flag]


class TraitCorrelations(Entry):
    """How traits hang together within prompts: Pearson's r of each pair, of the human and of the machine's scores."""

    traits: list[str]
    human: list[list[Figure]]
    machine: list[list[Figure]]


class TraitMeans(Entry, kw_only=True):
    """Means over traits.

    Args:
        over_prompts_first: Over prompts for each trait, then over traits.
        over_traits_first: Over traits for each prompt, then over prompts; the same where all prompts have all traits.
        mcrmse: Mean over traits of the root mean squared error of raw predictions; None where scales differ.
        correlations: Of human and of machine scores; None where figures are estimates for other essays.
    """

    over_prompts_first: MeanEntry
    over_traits_first: MeanEntry
    mcrmse: Figure
    correlations: TraitCorrelations | None


class Report(Entry, kw_only=True):
    """The report on predictions, prompt by prompt and in the mean over prompts.

    Where essays are scored on several traits, ``prompts``, ``mean``, ``floors`` and ``flags`` are those of the trait
    ``score`` or ``overall`` if there is one, else means over traits.

    Args:
        prompts: What was measured, by prompt.
        mean: Means over prompts.
        floors: QWK of floors by name.
        flags: Criteria, judged.
        worst: The largest disagreements.
        notes: What a reader must know.
        settings: How intervals were drawn.
        adjudicated: What human review made of the scores.
        robustness: What ``measure_robustness`` found on the same model, if it was given.
        features: Features of the essays beside their human scores, if they were given.
        ratings: What a learned loss made of the scores that the model was trained on, if one did.
        drivers: What parts of essays, and what features, add to scores, if that was looked at.
        traits: The same by trait, where essays are scored on several.
        trait_means: Means over these traits.
        raters: Raters of the evaluated essays, where ratings are told by rater.
        rules: Criteria of one's own, and the smallest group; None: the usual ones.
    """

    LEFT_OUT = (
        *("adjudicated", "robustness", "features", "ratings", "drivers", "traits", "trait_means"),
        *("raters", "rules"),
    )

    prompts: dict[str, PromptEntry]
    mean: MeanEntry
    floors: dict[str, Floor]
    flags: list[Flag] = field(default_factory=list)
    worst: list[Disagreement] = field(default_factory=list)
    notes: list[str]
    settings: Settings
    adjudicated: Adjudication | None = None
    robustness: Robustness | None = None
    features: FeatureReport | None = None
    ratings: Ratings | None = None
    drivers: Drivers | None = None
    traits: dict[str, TraitEntry] | None = None
    trait_means: TraitMeans | None = None
    raters: RaterReport | None = None
    rules: Rules | None = None

    def __repr__(self) -> str:
        """Its size and its first figure."""
        essays = sum(entry.n for entry in self.prompts.values())
        qwk = "unknown" if self.mean.qwk is None else f"{self.mean.qwk:.3f}"
        return f"Report({essays} scores, {self.rows.counted(len(self.prompts))}, QWK {qwk})"

    def _repr_html_(self) -> str:
        """The main measures, for a notebook."""
        frame = self.to_frame()
        return frame[[name for name in SHORT if name in frame]].to_html(float_format="{:.3f}".format, na_rep="")

    def to_frame(self) -> pd.DataFrame:
        """Measures by prompt, and in the row ``mean`` their means; of several traits, a row for each of a prompt."""
        return measures_frame([*self.scale_entries.items(), ("mean", self.mean)])

    @property
    def scale_entries(self) -> dict[str, PromptEntry]:
        """What was measured, by prompt, or where essays are scored on several traits, by prompt and trait."""
        if self.traits is None:
            return dict(self.prompts)
        traits = self.traits.items()
        return {scale_id(prompt, name): one for name, trait in traits for prompt, one in trait.prompts.items()}

    @property
    def judged_by(self) -> Rules:
        """The criteria, and the smallest group."""
        return self.rules or RULES

    @property
    def stands_for(self) -> float | None:
        """Essays of which the evaluated ones are a sample, whatever they are scored on; None where they are all."""
        sizes = {row: entry.stands_for for row, entry in self.scale_entries.items() if entry.stands_for is not None}
        return sum(self.rows.of_prompts(sizes).values()) if sizes else None

    @property
    def rows(self) -> RowWords:
        """What the rows of its tables are called, where ``by_scale`` has made them of the traits."""
        return RowWords.of(self.scale_entries, traits=self.traits is not None)

    @property
    def level(self) -> str:
        """The level of the intervals in words."""
        return f"{100 * self.settings.confidence:g} %"

    def why_missing(self, measure: str) -> Missing | None:
        """The reason why a mean over prompts has no value; None where it has one.

        Args:
            measure: Its name in MEASURES.
        """
        reasons = {entry.why_missing(measure) for entry in self.prompts.values()}
        return reasons.pop() if len(reasons) == 1 else Missing.SOME_PROMPTS
