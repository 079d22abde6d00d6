"""The report on predictions, typed: what report.json holds, by the same names and in the same order.

Every part is a frozen dataclass. Code reads attributes; whoever knows report.json may read the same by its keys, as
``report["mean"]["qwk"]``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, fields
from functools import cache
from types import UnionType
from typing import Any, ClassVar, Literal, Self, Union, get_args, get_origin, get_type_hints

from aes_dynloss.reports.measure_list import MEASURES, Missing
from aes_dynloss.tables.score_range import ScoreRange

Direction = Literal["at least", "at most", "within"]
Verdict = Literal["pass", "flag", "unknown"]
Figure = float | None
Interval = list[float] | None


@dataclass(frozen=True, slots=True, eq=False)
class Entry(Mapping[str, Any]):
    """A part of a report; two are equal where report.json would hold the same."""

    LEFT_OUT: ClassVar[tuple[str, ...]] = ()  # fields that report.json has only where they are not None

    def __getitem__(self, key: str) -> Any:  # noqa: ANN401 - of the field's type
        """A field as report.json has it."""
        if key not in set(self):
            raise KeyError(key)
        value = getattr(self, key)
        return asdict(value) if isinstance(value, ScoreRange) else value

    def __iter__(self) -> Iterator[str]:
        """Names of the fields that report.json has."""
        names = (one.name for one in fields(self))
        return (name for name in names if name not in self.LEFT_OUT or getattr(self, name) is not None)

    def __len__(self) -> int:
        """Number of these fields."""
        return sum(1 for _ in self)

    def to_dict(self) -> dict[str, Any]:
        """The entry of report.json."""
        return {key: _plain(value) for key, value in self.items()}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """An entry of report.json; unknown keys are left out.

        Args:
            values: What ``to_dict`` returned, or part of it that is typed already.

        Raises:
            TypeError: A key without a default is missing, or a value is of another kind.
        """
        kinds = _kinds(cls)
        return cls(**{key: _typed(kinds[key], value) for key, value in values.items() if key in kinds})


@cache
def _kinds(entry: type[Entry]) -> dict[str, Any]:
    return get_type_hints(entry)


def _plain(value: Any) -> Any:  # noqa: ANN401 - any JSON
    if isinstance(value, Entry):
        return value.to_dict()
    if isinstance(value, Mapping):
        return {key: _plain(one) for key, one in value.items()}
    return [_plain(one) for one in value] if isinstance(value, list | tuple) else value


def _typed(kind: Any, value: Any) -> Any:  # noqa: ANN401 - any JSON
    """A JSON value as the type of a field has it."""
    origin, parts = get_origin(kind), get_args(kind)
    if value is None:
        return None
    if origin in {Union, UnionType}:
        return _typed(next(part for part in parts if part is not type(None)), value)
    if origin is list:
        return [_typed(parts[0], one) for one in value]
    if origin is dict:
        return {key: _typed(parts[1], one) for key, one in value.items()}
    if kind is ScoreRange and isinstance(value, Mapping):
        return ScoreRange(**value)
    entry = isinstance(kind, type) and issubclass(kind, Entry) and not isinstance(value, kind)
    return kind.from_dict(value) if entry else value


@dataclass(frozen=True, slots=True, eq=False)
class MeanHumanAgreement(Entry):
    """Agreement of two humans, and what the machine loses against it, in the mean over prompts."""

    qwk: Figure
    degradation: Figure
    pearson: Figure
    pearson_degradation: Figure


@dataclass(frozen=True, slots=True, eq=False)
class HumanAgreement(Entry):
    """Agreement of two humans with each other, and the machine's on the same ``n`` essays of a prompt."""

    n: int
    qwk: Figure
    human_machine_qwk: Figure
    degradation: Figure
    pearson: Figure
    human_machine_pearson: Figure
    pearson_degradation: Figure


@dataclass(frozen=True, slots=True, eq=False)
class ScorePoint(Entry):
    """Essays to which humans and machine gave a score point; ``gap`` is the machine's share less the humans'."""

    point: float
    human: int
    machine: int
    gap: float


@dataclass(frozen=True, slots=True, eq=False)
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


@dataclass(frozen=True, slots=True, eq=False)
class ScoreResiduals(Entry):
    """Residuals raw - reference of the essays of one human score."""

    reference: float
    n: int
    mean: float
    sd: Figure


@dataclass(frozen=True, slots=True, eq=False)
class LengthResiduals(Entry):
    """Residuals raw - reference of a bin of essays by length."""

    words_from: float
    words_to: float
    n: int
    mean: float
    sd: Figure


@dataclass(frozen=True, slots=True, eq=False)
class ReliabilityBin(Entry):
    """Human scores of a bin of essays by prediction."""

    raw_from: float
    raw_to: float
    n: int
    mean_raw: float
    mean_reference: float
    sd_reference: Figure


@dataclass(frozen=True, slots=True, eq=False)
class Coverage(Entry):
    """How often the human score lay in the machine's prediction interval, and how wide that is in score points."""

    stated: Figure
    measured: Figure
    mean_width: Figure


@dataclass(frozen=True, slots=True, eq=False)
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


@dataclass(frozen=True, slots=True, eq=False)
class FairnessTest(Entry):
    """What the groups of a column explain of the errors."""

    r_squared_adjusted: Figure
    p: Figure
    p_holm: Figure


@dataclass(frozen=True, slots=True, eq=False)
class ColumnFairness(Entry):
    """The groups of one column, and the tests on them."""

    groups: dict[str, GroupAgreement]
    osa: FairnessTest
    osd: FairnessTest
    csd: FairnessTest


@dataclass(frozen=True, slots=True, eq=False)
class Fairness(Entry):
    """A prompt's subgroups by column; ``comparisons`` is the number of p values that Holm's procedure corrects for."""

    columns: dict[str, ColumnFairness]
    comparisons: int
    small_group: int
    notes: list[str]


@dataclass(frozen=True, slots=True, eq=False)
class PromptEntry(Entry):
    """All that is measured on one prompt: measures, and the scores broken down for tables and pictures."""

    LEFT_OUT = ("human_human", "fairness")

    n: int
    range: ScoreRange
    qwk: Figure
    qwk_interval: Interval = None
    qwk_rescaled: Figure = None
    qwk_rescaled_interval: Interval = None
    qwk_cut_points: Figure = None
    qwk_cut_points_interval: Interval = None
    exact_agreement: Figure = None
    adjacent_agreement: Figure = None
    pearson: Figure = None
    pearson_interval: Interval = None
    spearman: Figure = None
    rmse: Figure = None
    smd: Figure = None
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
    score_points: list[ScorePoint] = field(default_factory=list)
    confusion: list[list[float]] = field(default_factory=list)
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

    def why_missing(self, measure: str) -> Missing | None:
        """The reason why a measure has no value; None where it has one.

        Args:
            measure: Its name in MEASURES.
        """
        if getattr(self, measure) is not None:
            return None
        needs = MEASURES[measure].needs
        if needs is Missing.NO_SECOND_SCORE and self.scored_twice:
            return Missing.RATERS
        if needs is not None and not (needs is Missing.NO_LENGTHS and self.residuals_by_length):
            return needs
        if len(self.residuals_by_score) == 1:
            return Missing.EQUAL_HUMAN_SCORES
        bins = self.reliability
        return Missing.EQUAL_PREDICTIONS if bins and bins[0].raw_from == bins[-1].raw_to else Missing.UNDEFINED


@dataclass(frozen=True, slots=True, eq=False)
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


@dataclass(frozen=True, slots=True, eq=False)
class Floor(Entry):
    """QWK of a scorer that any machine should beat."""

    prompts: dict[str, float]
    mean: float


@dataclass(frozen=True, slots=True, eq=False)
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


@dataclass(frozen=True, slots=True, eq=False)
class Disagreement(Entry):
    """An essay whose human score and prediction are far apart; length and text where they are known."""

    LEFT_OUT = ("words", "text")

    essay_id: str
    prompt_id: str
    reference: float
    raw: float
    score: float
    words: Figure = None
    text: str | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Settings(Entry):
    """How intervals were drawn."""

    interval: str
    resamples: int
    confidence: float
    seed: int
    qwk_of_identical_constants: float = 1.0


@dataclass(frozen=True, slots=True, eq=False)
class ReviewFigures(Entry):
    """Agreement of scores before or after human review; the mean over prompts has no ``n``."""

    LEFT_OUT = ("n",)

    n: int | None = None
    qwk: Figure = None
    exact_agreement: Figure = None
    adjacent_agreement: Figure = None


@dataclass(frozen=True, slots=True, eq=False)
class ReviewedMean(Entry):
    """The machine's figures, and those of the scores that count in the end, over prompts that the machine scored."""

    machine: ReviewFigures
    final: ReviewFigures


@dataclass(frozen=True, slots=True, eq=False)
class ReviewedPrompt(Entry):
    """One prompt before and after human review; ``machine`` is None where it scored none of the essays."""

    decided: int
    machine: ReviewFigures | None
    final: ReviewFigures


@dataclass(frozen=True, slots=True, eq=False)
class Adjudication(Entry):
    """What humans decided on essays for review: essays, and figures before and after."""

    decided: int
    undecided: int
    without_score: int
    prompts: dict[str, ReviewedPrompt]
    mean: ReviewedMean


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Report(Entry):
    """The report on predictions, prompt by prompt and in the mean over prompts.

    Args:
        prompts: What was measured, by prompt.
        mean: Means over prompts.
        floors: QWK of floors by name.
        flags: Criteria, judged.
        worst: The largest disagreements.
        notes: What a reader must know.
        settings: How intervals were drawn.
        adjudicated: What human review made of the scores, if there was any.
        robustness: What ``measure_robustness`` found on the same model, if it was given.
    """

    LEFT_OUT = ("adjudicated", "robustness")

    prompts: dict[str, PromptEntry]
    mean: MeanEntry
    floors: dict[str, Floor]
    flags: list[Flag] = field(default_factory=list)
    worst: list[Disagreement] = field(default_factory=list)
    notes: list[str]
    settings: Settings
    adjudicated: Adjudication | None = None
    robustness: dict[str, Any] | None = None

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
