"""The page of a report on predictions: a summary, tables and pictures.

The summary is three sentences, and a light for each criterion and prompt.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from aes_dynloss.reports.adjudication import adjudication_section
from aes_dynloss.reports.blocks import (
    Block,
    Folded,
    Gallery,
    Pairs,
    Section,
    Words,
    closing_sections,
    render_page,
    write_page,
)
from aes_dynloss.reports.criteria import CRITERIA, Criterion
from aes_dynloss.reports.drawing import Picture, picture_from_svg
from aes_dynloss.reports.drivers import drivers_section
from aes_dynloss.reports.fairness_tables import fairness_blocks
from aes_dynloss.reports.features import features_section
from aes_dynloss.reports.figures import report_figures
from aes_dynloss.reports.measure_list import MEASURES
from aes_dynloss.reports.model import Report
from aes_dynloss.reports.prompt_means import is_few
from aes_dynloss.reports.raters import raters_section
from aes_dynloss.reports.ratings import ratings_section
from aes_dynloss.reports.report_tables import (
    Flags,
    agreement_tables,
    coverage_table,
    flag_title,
    floor_table,
    human_tables,
    level_blocks,
    light_table,
    light_words,
    point_table,
    prompt_light_table,
    version_table,
    worst_table,
)
from aes_dynloss.reports.robustness import robustness_section
from aes_dynloss.reports.row_words import RowWords
from aes_dynloss.reports.table import (
    figure,
    interval,
)
from aes_dynloss.reports.trait_tables import trait_section
from aes_dynloss.reports.traits import by_scale, essay_count, what_is_scored
from aes_dynloss.reports.verdict import QWK_IN_WORDS, next_step, verdict_sentence

# Longer lists are counted instead.
MOST_NAMED = 8


def summary_sentences(report: Report) -> list[str]:
    """How well the machine agrees with humans, how humans agree, and what to watch.

    Args:
        report: What ``build_report`` returned.

    Returns:
        Three sentences.
    """
    return [_agreement_sentence(report), _humans(report), _watch(report.flags, report.rows, report.judged_by.criteria)]


def _agreement_sentence(report: Report) -> str:
    mean, prompts = report.mean, report.prompts
    where, average = ("", "") if len(prompts) == 1 else (f" on {len(prompts)} prompts", "in the mean over prompts, ")
    if report.traits is not None:
        where, average = f" on {len(report.traits)} traits", "in the mean over traits, "
    level = f" ({report.level} interval {interval(mean.qwk_interval)})" if mean.qwk_interval else ""
    exact, adjacent = (
        "an unknown share" if share is None else f"{100 * share:.0f} %"
        for share in (mean.exact_agreement, mean.adjacent_agreement)
    )
    return (
        f"The machine's scores of {_essays(report)}{where} were held against human scores: {average}QWK "
        f"is {figure(mean.qwk)}{level} and the correlation r {figure(mean.pearson)}; {exact} of the essays got the "
        f"humans' score, {adjacent} that or a neighbouring one."
    )


def _essays(report: Report) -> str:
    """The number of essays, and how many they stand for where they were drawn."""
    drawn = "" if report.stands_for is None else f" that stand for {report.stands_for:,.0f}"
    return f"{essay_count(report):,} essays{drawn}"


def _humans(report: Report) -> str:
    least = report.judged_by.min_group
    counts = {row: entry.scored_twice for row, entry in report.prompts.items() if entry.scored_twice}
    counts = {row: number for row, number in counts.items() if not is_few(number, least)} or counts
    entries = [report.prompts[row] for row in counts]
    humans = [entry.human_human for entry in entries if entry.human_human]
    if not humans:
        return (
            "How well human raters agree with each other is unknown, for no essay has two human scores: nothing here "
            "tells how high a machine's agreement could be."
        )
    twice = sum(report.rows.of_prompts(counts).values())
    lost = _average(human.degradation for human in humans)
    known = report.rows.kind if len(entries) == 1 else report.rows.counted(len(entries))
    some = f" on the {known} where that is known" if len(entries) < len(report.prompts) else ""
    relation = "at the same level"
    if abs(lost) >= 0.0005:
        relation = f"{figure(abs(lost))} {'lower' if lost > 0 else 'higher'}"
    ceilings, ceiling = [entry.qwk_ceiling for entry in entries], ""
    if None not in ceilings:
        ceiling = f"; given the raters' own errors, no machine is expected to exceed {figure(_average(ceilings))}"
    return (
        f"Two human raters agree with each other at a QWK of {figure(_average(human.qwk for human in humans))}{some} "
        f"({twice:,} essays scored twice), and the machine's QWK on these essays is {relation}{ceiling}."
    )


def _average(values: Iterable[float | None]) -> float:
    return float(np.mean([value for value in values if value is not None]))


def _watch(flags: Flags, called: RowWords, criteria: Mapping[str, Criterion] = CRITERIA) -> str:
    """Which criteria are missed and where, and which are unknown."""
    missed, unknown = (_named(flags, verdict, called, criteria) for verdict in ("flag", "unknown"))
    if not flags:
        return "No criterion was judged."
    first = f"Watch what misses its criterion: {missed}" if missed else "No criterion that could be judged is missed"
    return f"{first}; {'still unknown' if missed else 'unknown'}: {unknown}." if unknown else f"{first}."


def _named(flags: Flags, verdict: str, called: RowWords, criteria: Mapping[str, Criterion]) -> str:
    """Criteria with that verdict, and the rows, or the mean, that have it."""
    order = list(criteria)
    flags = sorted(flags, key=lambda flag: order.index(flag.criterion))
    named = []
    for title in dict.fromkeys(flag_title(flag, criteria) for flag in flags if flag.verdict == verdict):
        judged = [flag for flag in flags if flag_title(flag, criteria) == title]
        matches = dict.fromkeys(flag.prompt for flag in judged if flag.verdict == verdict)
        prompts = [prompt for prompt in matches if prompt is not None]
        listed = called.listed(prompts) if len(prompts) <= MOST_NAMED else called.counted(len(prompts))
        where = " and ".join([*(["the mean"] if None in matches else []), *([listed] if prompts else [])])
        if len(prompts) > 1 and matches.keys() == {flag.prompt for flag in judged}:
            where = "everywhere"
        named.append(f"{title} ({where})")
    return "; ".join(named)


__all__ = ["Picture", "picture_from_svg", "report_page", "write_page"]


def report_page(
    report: Report, *, title: str, pictures: Sequence[Picture] = (), about: Mapping[str, Any] | None = None
) -> str:
    """A report as one html page that opens from disk, asks for nothing and prints well.

    Args:
        report: What ``build_report`` returned.
        title: The page's title, such as the model's name.
        pictures: Further pictures, such as those that a training has left.
        about: Words for the foot by name: model, date, versions.

    Returns:
        Html.

    Raises:
        DataError: A picture is no svg.
    """
    facts = [_essays(report), what_is_scored(report)]
    first = [f"{verdict_sentence(report)} {QWK_IN_WORDS}", f"Next: {next_step(report)}"]
    report = by_scale(report, short=True)
    prompts = list(report.prompts)
    fisher = (
        Words(f"Fisher mean of the {report.rows.kind}s' QWK: {figure(report.mean.qwk_fisher)}.")
        if len(prompts) > 1
        else None
    )
    gap, points = _largest_gap(report), Folded("Essays at each score point", [point_table(report)])
    levels = level_blocks(report)
    texts = [
        (f"Essay {row.essay_id} of {report.rows.within(row.prompt_id)}", row.text) for row in report.worst if row.text
    ]
    folded = Folded("Texts of these essays", [Pairs(texts, essays=True) if texts else None])
    floors = Words("What any machine should beat: scorers that read nothing of an essay, or little.")
    sections = [
        _summary(report, first),
        trait_section(report),
        Section("agreement", "Agreement", [*agreement_tables(report), fisher, coverage_table(report)]),
        Section("versions", "Score versions", [version_table(report)]),
        Section("humans", "Human agreement and ceilings", human_tables(report)),
        Section("points", "Score points", [gap, points, *levels]),
        raters_section(report.raters, report.rows) if report.raters else None,
        adjudication_section(report.adjudicated, report.rows) if report.adjudicated else None,
        Section("fairness", "Fairness by subgroups", fairness_blocks(report)),
        robustness_section(report.robustness) if report.robustness else None,
        features_section(report.features, report.rows) if report.features else None,
        drivers_section(report.drivers, report.rows) if report.drivers else None,
        ratings_section(report.ratings) if report.ratings else None,
        Section(
            "pictures", "Pictures", [Section(f"{one.name}-part", one.title, [one]) for one in report_figures(report)]
        ),
        training_section(pictures),
        Section("worst", "Worst disagreements", [worst_table(report), folded]),
        Section("floors", "Simple scorers", [floors, floor_table(report)] if report.floors else []),
        *closing_sections(report.notes, report.settings, [measure_pairs()]),
    ]
    return render_page(title, facts, sections, about)


def training_section(pictures: Sequence[Picture]) -> Section | None:
    """A section of pictures that training has left; none without them."""
    words = "How the loss, and what it is made of, changed while the model was trained."
    gallery = Gallery("training-pictures", "", words, pictures)
    return Section("training", "Training", [gallery]) if pictures else None


def measure_pairs(names: Iterable[str] = MEASURES) -> Pairs:
    """What measures are and where they come from."""
    chosen = [MEASURES[name] for name in names]
    return Pairs([(one.title, f"{one.definition} {one.reference.rstrip('.')}.") for one in chosen])


def _summary(report: Report, first: Sequence[str]) -> Section:
    lights: list[Block] = [light_table(report), Words(light_words(report))] if report.flags else []
    sentences = [Words(sentence, lead=True) for sentence in (*first, *summary_sentences(report))]
    return Section(
        "summary", "Summary", [*sentences, *lights, Folded(f"Every {report.rows.noun}", [prompt_light_table(report)])]
    )


def _largest_gap(report: Report) -> Words | None:
    """The largest gap of shares, and where; None where shares are not known."""
    rows = [(row, prompt) for prompt, entry in report.prompts.items() for row in entry.score_points]
    if not rows:
        return None
    row, prompt = max(rows, key=lambda one: abs(one[0].gap))
    more = "more" if row.gap > 0 else "less"
    return Words(
        f"The largest gap between the machine's share of a score point and the humans' is at score {row.point:g} of "
        f"{report.rows.within(prompt)}, which the machine gives {abs(100 * row.gap):.1f} percentage points {more} "
        "often."
    )
