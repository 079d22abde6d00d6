"""What a monitor has found: administrations held against what was before, each difference judged; as tables and rows.

An alarm needs both a difference of a relevant size, by a criterion, and evidence of it, by its p value corrected over
all differences of the page (Holm): so without any drift at most 5 % of pages have an alarm.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import field, replace
from typing import Literal

from aes_dynloss.errors import ConfigError
from aes_dynloss.measures.differences import holm_adjusted
from aes_dynloss.reports.criteria import Criterion
from aes_dynloss.reports.entry import Entry, Figure, Interval
from aes_dynloss.reports.flags import value_words
from aes_dynloss.reports.measure_list import MEASURES
from aes_dynloss.reports.model import Verdict
from aes_dynloss.reports.table import (
    NOTHING,
    Cell,
    Column,
    Form,
    Record,
    Table,
    count,
    figure_words,
    measure_column,
    number,
    p_value,
    text_table,
    words,
    words_column,
)
from aes_dynloss.tables.scale_ids import scale_id

Kind = Literal["score", "length", "feature", "advisory", "groups", "agreement"]
KINDS: Mapping[Kind, str] = {
    "score": "score",
    "length": "length in words",
    "feature": "feature",
    "advisory": "advisory",
    "groups": "groups of",
    "agreement": "agreement with humans",
}
LEVEL = 0.05
DRIFT_CRITERIA: dict[str, Criterion] = {
    "shift": Criterion(MEASURES["shift"].title, "within", 0.15, "as the SMD's, Williamson, Xi and Breyer (2012)"),
    "psi": Criterion(MEASURES["psi"].title, "at most", 0.20, "convention, after Siddiqi (2006)"),
    "ks": Criterion(MEASURES["ks"].title, "at most", 0.15, "this toolkit"),
    "rise": Criterion(MEASURES["rise"].title, "at most", 0.02, "this toolkit", percent=True),
    "qwk": Criterion(MEASURES["qwk"].title, "at least", 0.70),
    "qwk_fall": Criterion(MEASURES["qwk_fall"].title, "at most", 0.10, "as QWK lost, Williamson, Xi and Breyer (2012)"),
}
DRIFT_JUDGED = {name: criterion.title for name, criterion in DRIFT_CRITERIA.items()}


class DriftFigure(Entry, kw_only=True):
    """A measure of how far now and then are apart.

    Args:
        value: The measure; None where undefined.
        interval: Its interval, of the QWK at the level of its look.
        p: p value of no drift; of ``qwk`` that it meets its criterion.
        p_holm: The same corrected over the page; of the last administration alone.
        verdict: ``flag``: an alarm. ``unknown``: it misses its criterion, but chance may explain that; or undefined.
            None: not judged.
    """

    value: Figure
    interval: Interval = None
    p: Figure = None
    p_holm: Figure = None
    verdict: Verdict | None = None


class Drifted(Entry, kw_only=True):
    """What is compared on a prompt, of all its essays or of a group's.

    Args:
        prompt: The prompt.
        trait: The trait whose scores are compared; None for what is the essay's, or where it has one score.
        kind: A key of KINDS.
        name: The feature or the advisory.
        column: Column of groups of writers.
        group: The group; with ``column`` alone, its groups are compared.
        n_then: Essays then; None where a share was known.
        n_now: Essays now.
        then: Mean, share or QWK then.
        now: The same now.
        measures: Measures of how far they are apart, by name.
    """

    LEFT_OUT = ("trait",)

    prompt: str
    trait: str | None = None
    kind: Kind
    name: str = ""
    column: str | None = None
    group: str | None = None
    n_then: int | None
    n_now: int
    then: Figure = None
    now: Figure = None
    measures: dict[str, DriftFigure]

    @property
    def scale(self) -> str:
        """The prompt, or the prompt and the trait, in words."""
        return scale_id(self.prompt, self.trait)

    @property
    def of(self) -> str:
        """The group in words; nothing for all essays."""
        return f"{self.column} {self.group}" if self.group is not None else ""

    @property
    def what(self) -> str:
        """What is compared, in words."""
        name = self.name if self.kind != "groups" else str(self.column)
        return f"{KINDS[self.kind]} {name}".rstrip()

    @property
    def alarms(self) -> list[str]:
        """Measures with an alarm."""
        return [name for name, one in self.measures.items() if one.verdict == "flag"]

    @property
    def undecided(self) -> bool:
        """Whether it misses a criterion, but without an alarm: chance may explain that."""
        beyond = any(one.verdict == "unknown" and one.value is not None for one in self.measures.values())
        return beyond and not self.alarms


class Administration(Entry):
    """One administration beside what was before.

    Args:
        name: Name of its file.
        essays: Its essays.
        compared: What is compared.
    """

    name: str
    essays: int
    compared: list[Drifted]


class Monitor(Entry, kw_only=True):
    """What monitor.json holds.

    Args:
        baseline: What the administrations are held against, in words.
        baseline_essays: Its essays.
        administrations: In their order; the last one is judged.
        criteria: Criteria by measure.
        tests: Differences that were tested on the last one.
        settings: How it was measured.
        notes: What a reader must know.
    """

    baseline: str
    baseline_essays: int
    administrations: list[Administration]
    criteria: dict[str, Criterion]
    tests: int
    settings: dict[str, float | int | str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    @property
    def last(self) -> Administration:
        """The administration that is judged."""
        return self.administrations[-1]

    @property
    def prompts(self) -> list[str]:
        """The prompts of what is compared on it."""
        return list(dict.fromkeys(one.prompt for one in self.last.compared))

    @property
    def traits(self) -> list[str]:
        """The traits whose scores are compared on it; none where essays have one score."""
        return list(dict.fromkeys(one.trait for one in self.last.compared if one.trait is not None))

    @property
    def alarms(self) -> list[Drifted]:
        """What of it gives an alarm."""
        return [one for one in self.last.compared if one.alarms]


def refuse_other_directions(criteria: Mapping[str, Criterion]) -> None:
    """Refuse criteria of drift whose values should lie on another side of the threshold than the one that is tested.

    Args:
        criteria: Criteria by measure.

    Raises:
        ConfigError: There is one.
    """
    for name, usual in DRIFT_CRITERIA.items():
        one = criteria.get(name, usual)
        if one.direction != usual.direction:
            key = usual.direction.replace(" ", "_")
            raise ConfigError(
                f"The criterion {name} of drift is {one} ({one.source}); expected {key} with a threshold, for that is "
                f"what is tested. Write {name}: {{{key}: {usual.threshold:g}}}, with a threshold of your own."
            )


def judged(
    compared: Sequence[Drifted], criteria: Mapping[str, Criterion], level: float = LEVEL
) -> tuple[list[Drifted], int]:
    """Hold differences against their criteria, and their p values, corrected for their number, against a level.

    Args:
        compared: All differences of a page.
        criteria: Criteria by measure; a measure without one is not judged.
        level: Chance of any alarm without drift, at most.

    Returns:
        The same with ``p_holm`` and ``verdict``, and the number of tests.

    Examples:
        >>> shift = {"shift": DriftFigure(value=0.3, p=0.001), "psi": DriftFigure(value=0.1, p=0.001)}
        >>> one = Drifted(prompt="1", kind="score", n_then=500, n_now=500, measures=shift)
        >>> (found,), tests = judged([one], DRIFT_CRITERIA)
        >>> found.alarms, found.measures["psi"].verdict, tests
        (['shift'], 'pass', 2)
    """
    tested = {
        (place, name): figure.p
        for place, one in enumerate(compared)
        for name, figure in one.measures.items()
        if name in criteria and figure.p is not None
    }
    adjusted = dict(zip(tested, holm_adjusted(list(tested.values())) if tested else (), strict=True))
    found = []
    for place, one in enumerate(compared):
        measures = {
            name: replace(
                figure,
                p_holm=float(adjusted[place, name]) if (place, name) in adjusted else None,
                verdict=_verdict(figure.value, adjusted.get((place, name)), criteria.get(name), level),
            )
            for name, figure in one.measures.items()
        }
        found.append(replace(one, measures=measures))
    return found, len(tested)


def _verdict(value: Figure, p: float | None, criterion: Criterion | None, level: float) -> Verdict | None:
    if criterion is None:
        return None
    if value is None or p is None:
        return "unknown"
    if criterion.met_by(value):
        return "pass"
    return "flag" if p < level else "unknown"


def drift_table(name: str, caption: str, compared: Iterable[Drifted]) -> Table:
    """What is compared, a row each; columns in which nothing is known are left out.

    Args:
        name: The table's name in a page's address.
        caption: What it holds.
        compared: Its rows.
    """
    rows = [_row(one) for one in compared]
    columns = [
        words_column("what", "What", "what"),
        words_column("prompt", "Prompt", "prompt"),
        words_column("trait", "Trait", "trait"),
        words_column("group", "Group", "group"),
        words_column("alarm", "Verdict", "verdict"),
        Column("n_then", "n then"),
        Column("n_now", "n now"),
        Column("then", "Then", "then", explanation="Mean, share of essays, or QWK."),
        Column("now", "Now", "now", explanation="The same now."),
        *map(measure_column, DRIFT_CRITERIA),
        measure_column("p_holm"),
    ]
    table = Table(name, caption, columns, rows)
    return table.known_columns() if rows else table


def _row(one: Drifted) -> list[Cell]:
    form: Form = "percent" if one.kind == "advisory" else "figure"
    cells = [_measure(name, one.measures.get(name)) for name in DRIFT_CRITERIA]
    smallest = min((figure.p_holm for figure in one.measures.values() if figure.p_holm is not None), default=None)
    ends = [NOTHING if value is None else number(value, form=form) for value in (one.then, one.now)]
    size = NOTHING if one.n_then is None else count(one.n_then)
    p = NOTHING if smallest is None else p_value(smallest)
    place = words(one.what), words(one.prompt), words(one.trait or ""), words(one.of)
    return [*place, _result([one]), size, count(one.n_now), *ends, *cells, p]


def _measure(name: str, figure: DriftFigure | None) -> Cell:
    if figure is None:
        return NOTHING
    form: Form = {"rise": "percent", "shift": "signed"}.get(name, "figure")  # type: ignore[assignment]
    return number(figure.value, figure.interval, mark=figure.verdict or "", form=form)


def _result(compared: Sequence[Drifted]) -> Cell:
    """The verdict on some differences together."""
    alarms = dict.fromkeys(MEASURES[name].title for one in compared for name in one.alarms)
    if alarms:
        return words("alarm", mark="flag", note=", ".join(alarms))
    return words("may be chance", mark="unknown") if any(one.undecided for one in compared) else NOTHING


def monitored_traits(monitor: Monitor) -> Table:
    """What is found of each trait, a row each: its verdict, and where it is furthest from its criteria.

    Args:
        monitor: What ``build_monitor`` returned; of one score an essay the table is empty.
    """
    rows = []
    criteria = {**DRIFT_CRITERIA, **monitor.criteria}
    for trait in monitor.traits:
        compared = [one for one in monitor.last.compared if one.trait == trait]
        whole = [one for one in compared if one.group is None]
        cells = [_furthest(name, criteria[name], whole, many=len(monitor.prompts) > 1) for name in DRIFT_CRITERIA]
        rows.append([words(trait), _result(compared), *cells])
    columns = [words_column("trait", "Trait", "trait"), words_column("alarm", "Verdict", "verdict")]
    columns += map(measure_column, DRIFT_CRITERIA)
    table = Table("traits-table", "All essays, by trait", columns, rows)
    return table.known_columns() if rows else table


def _furthest(name: str, criterion: Criterion, compared: Sequence[Drifted], *, many: bool) -> Cell:
    """A measure where it is furthest from its criterion; of ``many`` prompts the prompt stands below."""
    known = [(one.prompt, one.measures[name]) for one in compared if name in one.measures]
    if not known:
        return NOTHING
    prompt, figure = max(known, key=lambda one: (one[1].verdict == "flag", criterion.excess(one[1].value)))
    cell = _measure(name, figure)
    return replace(cell, interval=None, note=f"prompt {prompt}") if many else cell


def monitor_text(monitor: Monitor) -> str:
    """The verdict, and what gives an alarm, as text; ends without a line break.

    Args:
        monitor: What ``build_monitor`` returned.
    """
    last, alarms = monitor.last, monitor.alarms
    held = f"{last.name} ({last.essays:,} essays) beside {monitor.baseline} ({monitor.baseline_essays:,})"
    if not alarms:
        return f"{held}: no alarm in {monitor.tests} tests."
    table = drift_table("alarms", "Alarms", alarms)
    return "\n".join([f"{held}: alarm, {len(alarms)} rows, in {monitor.tests} tests.", "", *text_table(table)])


def alarm_words(one: Drifted, criteria: Mapping[str, Criterion]) -> str:
    """An alarm as a sentence, with what was then and is now where that is known.

    Args:
        one: What gives it.
        criteria: Criteria by measure.
    """
    figures = []
    for name in one.alarms:
        value, criterion = one.measures[name].value, criteria[name]
        known = "-" if value is None else value_words(value, criterion)
        figures.append(f"{criterion.title} {known} (criterion: {criterion})")
    where = f"prompt {one.scale}{f', {one.of}' if one.of else ''}"
    if one.then is not None and one.now is not None:
        figures.insert(0, f"{_end_words(one.then, one.kind)} then, {_end_words(one.now, one.kind)} now")
    return f"{one.what[:1].upper()}{one.what[1:]}, {where}: {'; '.join(figures)}."


def _end_words(value: float, kind: Kind) -> str:
    """A share, a mean length, or another mean or QWK in words."""
    if kind == "advisory":
        return f"{100 * value:.1f} %"
    return f"{value:,.0f}" if kind == "length" else figure_words(value)


_PLACE = ("column", "group", "kind", "name", "n_then", "n_now", "then", "now")


def monitor_rows(monitor: Monitor) -> list[Record]:
    """Every measure of every administration, one a row of monitor.csv.

    Args:
        monitor: What ``build_monitor`` returned.

    Returns:
        Rows of administration, prompt, of several traits trait, column, group, kind, name, n_then, n_now, then, now,
        measure, value, low, high, p, p_holm and verdict; None where there is none.
    """
    compared = [one for administration in monitor.administrations for one in administration.compared]
    several = any(one.trait is not None for one in compared)
    return [
        {
            "administration": administration.name,
            "prompt": one.prompt,
            **({"trait": one.trait} if several else {}),
            **{key: one[key] for key in _PLACE},
            "measure": name,
            "value": figure.value,
            **dict(zip(("low", "high"), figure.interval or (None, None), strict=True)),
            **{key: figure[key] for key in ("p", "p_holm", "verdict")},
        }
        for administration in monitor.administrations
        for one in administration.compared
        for name, figure in one.measures.items()
    ]
