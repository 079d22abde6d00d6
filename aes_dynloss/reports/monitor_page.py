"""The page of a monitor: its verdict, alarms, tables of what is compared, and charts over administrations."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
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
    monitored_traits,
)
from aes_dynloss.reports.page import measure_pairs
from aes_dynloss.reports.table import Table, figure_words

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
_MOST_LISTED = 12  # alarms; the others are folded away
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
    many, traits = len(monitor.administrations), len(monitor.traits)
    facts = [f"{last.essays:,} essays", *([f"{traits} trait{'s' * (traits != 1)}"] if traits else [])]
    facts += [f"{many} administration{'s' * (many != 1)}", f"{monitor.tests} tests"]
    listed = [alarm_words(one, monitor.criteria) for one in alarms]
    more = Folded(f"{len(listed) - _MOST_LISTED} more", [Bullets(listed[_MOST_LISTED:])])
    told = [Bullets(listed[:_MOST_LISTED]), more if len(listed) > _MOST_LISTED else None] if listed else []
    explained = [Words(sentence) for sentence in (_meaning(monitor), _criteria(monitor))]
    sections = [
        Section("summary", "Summary", [Words(_verdict(monitor), lead=True), *told, *explained]),
        _traits(monitor),
        Section("charts", "Over administrations", _galleries(monitor)),
        *(_section(name, monitor) for name in _SECTIONS),
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


def _section(name: str, monitor: Monitor) -> Section:
    """A section of what is compared; groups of writers are folded."""
    title, kinds = _SECTIONS[name]
    own = [one for one in monitor.last.compared if one.kind in kinds]
    whole, groups = ([one for one in own if (one.group is not None) == grouped] for grouped in (False, True))
    blocks: list[Block | None] = [*_tables(f"{name}-table", title, whole, monitor.traits)]
    if groups:
        alarming = [one for one in groups if one.alarms]
        blocks += _tables(f"{name}-alarming", f"{title} of groups with an alarm", alarming, monitor.traits)
        blocks.append(Folded("Every group", _tables(f"{name}-groups", f"{title} by group", groups, monitor.traits)))
    return Section(name, title, blocks)


def _tables(name: str, title: str, compared: Sequence[Drifted], traits: Sequence[str]) -> list[Table]:
    """What is compared as a table; what is of traits in one of its own, trait by trait."""
    by_trait = [one for trait in traits for one in compared if one.trait == trait]
    if not by_trait:
        return [drift_table(name, title, compared)]
    first = drift_table(f"{name}-traits", f"{title}, by trait", by_trait)
    keys = [column.key for column in first.columns if column.key not in ("what", "trait")]
    others = [one for one in compared if one.trait is None]
    return [first.chosen("trait", *keys), drift_table(name, f"{title}, of whole essays", others)]


def _traits(monitor: Monitor) -> Section | None:
    """A row a trait; None where essays have one score."""
    table = monitored_traits(monitor)
    if not table:
        return None
    one_of = " A figure is that of the prompt on which it is furthest from its criterion."
    where = one_of if len(monitor.prompts) > 1 else ""
    explained = f"The verdict counts groups of writers too.{where} Every comparison is in the tables below."
    return Section("traits", "Traits", [Words(explained), table])


def _galleries(monitor: Monitor) -> list[Block | None]:
    """A chart of each kind, of scores one of each trait, by prompt and administration."""
    pictures = [picture for chart in _CHARTS for picture in _charts(monitor, *chart)]
    words = "Dots with intervals, a row an administration. The dotted lines are the criterion."
    return [Gallery("charts-figure", "", words, pictures)] if pictures else []


def _charts(monitor: Monitor, kind: Kind, measure: str, title: str) -> Iterator[Picture]:
    """A measure over administrations, the first on top; of each trait one, all of them on one scale."""
    rows: dict[str | None, list[tuple[str, str, DriftFigure]]] = {}
    for administration in monitor.administrations:
        for one in administration.compared:
            if one.kind == kind and one.group is None and measure in one.measures:
                rows.setdefault(one.trait, []).append((one.prompt, administration.name, one.measures[measure]))
    ends = [end for own in rows.values() for *_, figure in own for end in (figure.value, *(figure.interval or ()))]
    known = [end for end in ends if end is not None]
    for trait, own in ((trait, rows[trait]) for trait in [None, *monitor.traits] if trait in rows):
        span = (min(known), max(known)) if len(rows) > 1 and known else None
        yield _chart(monitor, sorted(own, key=lambda row: row[0]), measure, (title, trait), span)


def _chart(
    monitor: Monitor,
    rows: Sequence[tuple[str, str, DriftFigure]],
    measure: str,
    title: tuple[str, str | None],
    span: tuple[float, float] | None,
) -> Picture:
    """A measure by prompt and administration; its axis reaches over ``span``, where that is told."""
    several = len(monitor.prompts) > 1
    names = [f"{prompt}: {name}" if several else name for prompt, name, _ in rows]
    with drawing():
        (axes,) = rows_panel(names, [title[0]])
        criterion = monitor.criteria.get(measure)
        if criterion is not None:
            for side in (-1, 1) if criterion.direction == "within" else (1,):
                axes.axvline(side * criterion.threshold, color=FAINT, linewidth=1.2, linestyle=":")
        if span is not None:
            axes.update_datalim([(span[0], 0), (span[1], 0)])
        values = [(figure.value, figure.interval) for *_, figure in rows]
        colour = HUMAN if measure == "qwk" else MACHINE
        draw_intervals(axes, values, colour=colour, label=MEASURES[measure].title)
        words = "; ".join(
            f"{drawn_name(name)} {figure_words(figure.value)}" for name, (*_, figure) in zip(names, rows, strict=True)
        )
        return saved(axes, ": ".join(filter(None, title)), f"Dots with intervals. {words}.")
