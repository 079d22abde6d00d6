"""The page of a monitor: its verdict, alarms, tables of what is compared, and charts over administrations."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from aes_dynloss.reports.blocks import Block, Bullets, Folded, Gallery, Section, Words, closing_sections, render_page
from aes_dynloss.reports.drawing import (
    FAINT,
    HUMAN,
    MACHINE,
    Picture,
    draw_intervals,
    drawing,
    drawn_name,
    rows_panel,
    saved,
)
from aes_dynloss.reports.measure_list import MEASURES
from aes_dynloss.reports.monitor import (
    DRIFT_CRITERIA,
    LEVEL,
    Drifted,
    DriftFigure,
    Kind,
    Monitor,
    alarm_words,
    drift_table,
)
from aes_dynloss.reports.page import measure_pairs
from aes_dynloss.reports.table import figure_words

_SECTIONS: Mapping[str, tuple[str, Sequence[Kind]]] = {
    "scores": ("Scores and lengths", ("score", "length")),
    "groups": ("Groups of writers", ("groups",)),
    "features": ("Features", ("feature",)),
    "advisories": ("Advisories", ("advisory",)),
    "humans": ("Agreement with humans", ("agreement",)),
}
_IN_WORDS = {
    "shift": "change of the mean, in standard deviations of essays",
    "psi": "stability index: how differently values are spread, 0 if alike",
    "ks": "largest difference of the shares of essays below any value",
    "rise": "more essays with an advisory, a warning that the score may not hold",
    "qwk": "agreement with humans, 0 as by chance, 1 where all scores are equal",
    "qwk_fall": "agreement lost",
}
_CHARTS: Sequence[tuple[Kind, str, str]] = (
    ("score", "shift", "Shift of scores, in SDs"),
    ("length", "shift", "Shift of lengths, in SDs"),
    ("agreement", "qwk", "QWK"),
)


def monitor_page(monitor: Monitor, *, title: str, about: Mapping[str, Any] | None = None) -> str:
    """A monitor as one html page of the same kind as a report's.

    Args:
        monitor: What ``build_monitor`` returned.
        title: The page's title.
        about: Words for the foot by name.

    Returns:
        Html.
    """
    last, alarms = monitor.last, monitor.alarms
    many = len(monitor.administrations)
    facts = [f"{last.essays:,} essays", f"{many} administration{'s' * (many != 1)}", f"{monitor.tests} tests"]
    listed = Bullets([alarm_words(one, monitor.criteria) for one in alarms]) if alarms else None
    explained = [Words(sentence) for sentence in (_meaning(monitor), _criteria(monitor))]
    sections = [
        Section("summary", "Summary", [Words(_verdict(monitor), lead=True), listed, *explained]),
        Section("charts", "Over administrations", _galleries(monitor)),
        *(_section(name, monitor.last.compared) for name in _SECTIONS),
        *closing_sections(monitor.notes, monitor.settings, [measure_pairs([*DRIFT_CRITERIA, "p_holm"])]),
    ]
    return render_page(title, facts, sections, about)


def _verdict(monitor: Monitor) -> str:
    """Whether there is an alarm."""
    last, alarms = monitor.last, monitor.alarms
    verdict = "There is no alarm."
    if alarms:
        many = "1 thing has" if len(alarms) == 1 else f"{len(alarms)} things have"
        verdict = f"Alarm: {many} changed by more than the criteria allow and than chance explains."
    undecided = sum(one.undecided for one in last.compared)
    if undecided:
        verdict += (
            f" {undecided} more change{'s' * (undecided != 1)} may be chance, and may be real: too few essays tell."
        )
    return (
        f"{last.name} ({last.essays:,} essays) was compared with {monitor.baseline} ({monitor.baseline_essays:,} "
        f"essays). {verdict}"
    )


def _meaning(monitor: Monitor) -> str:
    """What an alarm is."""
    return (
        f"An alarm is a change that is both large, beyond its criterion, and not explained by chance, although "
        f"{monitor.tests} were looked at: where nothing changed, at most {100 * LEVEL:g} % of pages like this have one "
        f"(Holm's correction, p below {LEVEL:g})."
    )


def _criteria(monitor: Monitor) -> str:
    """What changes are measured by, in words, and how large they may be."""
    listed = [f"{one.title} ({_IN_WORDS[name]}) {one}" for name, one in monitor.criteria.items()]
    return f"Criteria: {'; '.join(listed)}."


def _section(name: str, compared: Sequence[Drifted]) -> Section:
    """A section of what is compared; groups of writers are folded."""
    title, kinds = _SECTIONS[name]
    own = [one for one in compared if one.kind in kinds]
    whole, groups = ([one for one in own if (one.group is not None) == grouped] for grouped in (False, True))
    blocks: list[Block | None] = [drift_table(f"{name}-table", title, whole)]
    if groups:
        alarming = [one for one in groups if one.alarms]
        if alarming:
            blocks.append(drift_table(f"{name}-alarming", f"{title} of groups with an alarm", alarming))
        blocks.append(Folded("Every group", [drift_table(f"{name}-groups", f"{title} by group", groups)]))
    return Section(name, title, blocks)


def _galleries(monitor: Monitor) -> list[Block | None]:
    """A chart of each kind, by prompt and administration."""
    pictures = [_chart(monitor, *chart) for chart in _CHARTS]
    words = "Dots with intervals, a row an administration. The dotted lines are the criterion."
    known = [picture for picture in pictures if picture is not None]
    return [Gallery("charts-figure", "", words, known)] if known else []


def _chart(monitor: Monitor, kind: Kind, measure: str, title: str) -> Picture | None:
    """A measure over administrations, the first on top; None where it is not known."""
    rows: list[tuple[str, DriftFigure]] = []
    prompts = {one.prompt for one in monitor.last.compared}
    for administration in monitor.administrations:
        for one in administration.compared:
            if one.kind == kind and one.group is None and measure in one.measures:
                name = f"{one.prompt}: {administration.name}" if len(prompts) > 1 else administration.name
                rows.append((name, one.measures[measure]))
    rows.sort(key=lambda row: row[0].partition(": ")[0] if len(prompts) > 1 else "")
    if not rows:
        return None
    with drawing():
        (axes,) = rows_panel([name for name, _ in rows], [title])
        criterion = monitor.criteria.get(measure)
        if criterion is not None:
            for side in (-1, 1) if criterion.direction == "within" else (1,):
                axes.axvline(side * criterion.threshold, color=FAINT, linewidth=1.2, linestyle=":")
        values = [(figure.value, figure.interval) for _, figure in rows]
        draw_intervals(axes, values, colour=HUMAN if kind == "agreement" else MACHINE, label=MEASURES[measure].title)
        words = "; ".join(f"{drawn_name(name)} {figure_words(figure.value)}" for name, figure in rows)
        return saved(axes, title, f"Dots with intervals. {words}.")
