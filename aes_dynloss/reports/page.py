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
    Part,
    Section,
    Words,
    closing_sections,
    render_page,
    write_page,
)
from aes_dynloss.reports.drawing import Picture, picture_from_svg
from aes_dynloss.reports.figures import report_figures
from aes_dynloss.reports.flags import CRITERIA, value_words
from aes_dynloss.reports.measure_list import MEASURES
from aes_dynloss.reports.model import Flag, Report
from aes_dynloss.reports.report_tables import (
    agreement_tables,
    coverage_table,
    fairness_parts,
    floor_table,
    human_tables,
    multiplicity_words,
    point_table,
    version_table,
    worst_table,
)
from aes_dynloss.reports.robustness import robustness_section
from aes_dynloss.reports.table import (
    NOTHING,
    Cell,
    Column,
    Table,
    count,
    figure,
    interval,
    minus,
    words,
    words_column,
)

Flags = Sequence[Flag]

SYMBOLS = {"pass": "✓", "flag": "▲", "unknown": "?"}
# Longer lists are counted instead.
MOST_NAMED = 8
# More prompts than a screen is wide are told one below the other.
MOST_ACROSS = 16


def summary_sentences(report: Report) -> list[str]:
    """How well the machine agrees with humans, how humans agree, and what to watch.

    Args:
        report: What ``build_report`` returned.

    Returns:
        Three sentences.
    """
    return [_agreement_sentence(report), _humans(report), _watch(report.flags)]


def light_table(report: Report) -> Table:
    """Criteria down, the mean and the prompts across; a cell is the worst of the groups where several are judged.

    Beyond MOST_ACROSS prompts it counts them, and ``prompt_light_table`` has their lights.

    Args:
        report: What ``build_report`` returned.
    """
    prompts: list[str] = list(report.prompts)
    many = len(prompts) > MOST_ACROSS
    places: list[str | None] = [None] if len(prompts) > 1 else []
    places += [] if many else prompts
    rows = []
    for (criterion, column), found in _judged(report).items():
        name = words(_criterion_title(criterion, column), note=_threshold_words(criterion))
        counts = _light_counts(found, prompts) if many else []
        rows.append([name, *(_light(found.get(place, [])) for place in places), *counts])
    titles = ["Mean" if place is None else f"Prompt {place}" for place in places]
    columns = [words_column(title, title) for title in ("Criterion", *titles)]
    columns += [Column(verdict, f"Prompts: {verdict}") for verdict in SYMBOLS] if many else []
    where = ", on the mean, and how many prompts meet it" if many else ", on the mean and on each prompt"
    return Table("lights", f"Each criterion{where}", columns, rows, sortable=False)


def prompt_light_table(report: Report) -> Table | None:
    """Prompts down, criteria across, where there are too many prompts for the columns of ``light_table``; else None.

    Args:
        report: What ``build_report`` returned.
    """
    prompts: list[str] = list(report.prompts)
    if len(prompts) <= MOST_ACROSS:
        return None
    judged = _judged(report)
    titles = [_criterion_title(*name) for name in judged]
    rows = [[words(prompt), *(_light(found.get(prompt, [])) for found in judged.values())] for prompt in prompts]
    columns = [words_column(title, title) for title in ("Prompt", *titles)]
    return Table("prompt-lights", "Each criterion on each prompt", columns, rows)


def _judged(report: Report) -> dict[tuple[str, str | None], dict[str | None, list[Flag]]]:
    """Flags by criterion and column of groups, and by prompt, or None for the mean."""
    judged: dict[tuple[str, str | None], dict[str | None, list[Flag]]] = {}
    for flag in report.flags:
        row = judged.setdefault((flag.criterion, flag.group[0] if flag.group else None), {})
        row.setdefault(flag.prompt, []).append(flag)
    return judged


def _light_counts(found: Mapping[str | None, Flags], prompts: Sequence[str]) -> list[Cell]:
    """On how many prompts the verdict on a criterion is pass, flag and unknown."""
    verdicts = [worst_verdict(flag.verdict for flag in found[prompt]) for prompt in prompts if prompt in found]
    return [count(verdicts.count(verdict), mark=verdict if verdict in verdicts else "") for verdict in SYMBOLS]


def light_words(report: Report) -> str:
    """How to read the lights, and whose criteria they are."""
    sources: dict[str, dict[str, None]] = {}
    for flag in report.flags:
        sources.setdefault(flag.source, {})[CRITERIA[flag.criterion].title] = None
    whose = "; ".join(f"{', '.join(titles)}: {source}" for source, titles in sources.items())
    grouped = any(flag.group for flag in report.flags)
    groups = " Of subgroups, the farthest from 0 is named." if grouped else ""
    return (
        "A criterion is flagged where the value lies on the wrong side of its threshold, and unknown where there is no "
        f"value; unknown is not passed.{groups} Sources of the criteria: {whose}."
    )


def _light(flags: Flags) -> Cell:
    """The verdict on one criterion at one place: a group that misses it is not outweighed by others that do not."""
    if not flags:
        return NOTHING
    verdict = worst_verdict(flag.verdict for flag in flags)
    told = [flag for flag in flags if flag.verdict == verdict]
    shown = max(told, key=lambda flag: abs(flag.value or 0.0))
    value = _value_words(shown)
    if len(flags) > 1:
        farthest = f"; {shown.group[1]} {value}" if value and shown.group else ""
        value = f"{len(told)} of {len(flags)} groups{farthest}"
    return words(f"{SYMBOLS[verdict]} {verdict}", note=value, hint=shown.words, mark=verdict)


def worst_verdict(verdicts: Iterable[str]) -> str:
    """Flag before unknown before pass: what is unknown is not met."""
    found = set(verdicts)
    return next((verdict for verdict in ("flag", "unknown") if verdict in found), "pass")


def _value_words(flag: Flag) -> str:
    """A value, short, with more decimals where few would put it on the other side of its threshold."""
    if flag.value is None:
        return ""
    return minus(value_words(flag.value, CRITERIA[flag.criterion])).replace("percentage points", "pp")


def _criterion_title(criterion: str, column: str | None) -> str:
    title = CRITERIA[criterion].title
    return title if column is None else f"{title}: {column}"


def _threshold_words(criterion: str) -> str:
    return minus(str(CRITERIA[criterion]))


def _agreement_sentence(report: Report) -> str:
    mean, prompts = report.mean, report.prompts
    essays = sum(entry.n for entry in prompts.values())
    many = len(prompts) > 1
    ends = mean.qwk_interval
    level = f" ({report.level} interval {interval(ends)})" if ends else ""
    where = f" on {len(prompts)} prompts" if many else ""
    average = "in the mean over prompts, " if many else ""
    return (
        f"The machine's scores of {essays:,} essays{where} were held against human scores: {average}QWK is "
        f"{figure(mean.qwk)}{level} and r is {figure(mean.pearson)}; {_share(mean.exact_agreement)} of the "
        f"essays got the humans' score, {_share(mean.adjacent_agreement)} that or a neighbouring one."
    )


def _share(value: float | None) -> str:
    return "an unknown share" if value is None else f"{100 * value:.0f} %"


def _humans(report: Report) -> str:
    entries = [entry for entry in report.prompts.values() if entry.scored_twice]
    humans = [entry.human_human for entry in entries if entry.human_human]
    if not humans:
        return (
            "How well human raters agree with each other is unknown, for no essay has two human scores: nothing here "
            "tells how high a machine's agreement could be."
        )
    twice = sum(human.n for human in humans)
    lost = _average(human.degradation for human in humans)
    known = "prompt" if len(entries) == 1 else f"{len(entries)} prompts"
    some = f" on the {known} where that is known" if len(entries) < len(report.prompts) else ""
    level = _average(human.qwk for human in humans)
    relation = (
        f"{figure(abs(lost))} {'lower' if lost > 0 else 'higher'}" if abs(lost) >= 0.0005 else "at the same level"
    )
    ceilings = [entry.qwk_ceiling for entry in entries]
    ceiling = ""
    if None not in ceilings:
        ceiling = f"; given the raters' own errors, no machine is expected to exceed {figure(_average(ceilings))}"
    return (
        f"Two human raters agree with each other at a QWK of {figure(level)}{some} ({twice:,} essays scored twice), "
        f"and the machine's QWK on these essays is {relation}{ceiling}."
    )


def _average(values: Iterable[float | None]) -> float:
    return float(np.mean([value for value in values if value is not None]))


def _watch(flags: Flags) -> str:
    """Which criteria are missed and where, and which are unknown."""
    missed, unknown = (_named(flags, verdict) for verdict in ("flag", "unknown"))
    if not flags:
        return "No criterion was judged."
    first = f"Watch what misses its criterion: {missed}" if missed else "No criterion that could be judged is missed"
    return f"{first}; {'still unknown' if missed else 'unknown'}: {unknown}." if unknown else f"{first}."


def _named(flags: Flags, verdict: str) -> str:
    """Criteria with that verdict, and where they have it."""
    everywhere: dict[str, set[str | None]] = {}
    found: dict[str, dict[str | None, None]] = {}
    order = list(CRITERIA)
    for flag in sorted(flags, key=lambda flag: order.index(flag.criterion)):
        title = _criterion_title(flag.criterion, flag.group[0] if flag.group else None)
        everywhere.setdefault(title, set()).add(flag.prompt)
        if flag.verdict == verdict:
            found.setdefault(title, {})[flag.prompt] = None
    return "; ".join(
        f"{title} ({_places(list(places), all_of_them=places.keys() == everywhere[title])})"
        for title, places in found.items()
    )


def _places(places: Sequence[str | None], *, all_of_them: bool) -> str:
    """Prompts and the mean (None) in words."""
    prompts = [place for place in places if place is not None]
    if all_of_them and len(prompts) > 1:
        return "everywhere"
    mean = "the mean" if None in places else ""
    if not prompts:
        return mean
    if len(prompts) > MOST_NAMED:
        listed = f"{len(prompts)} prompts"
    else:
        listed = f"prompt{'s' if len(prompts) > 1 else ''} {', '.join(prompts)}"
    return f"{mean} and {listed}" if mean else listed


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
    essays = sum(entry.n for entry in report.prompts.values())
    prompts = list(report.prompts)
    named = f"Prompt {prompts[0]}" if len(prompts) == 1 else f"{len(prompts)} prompts"
    sections = [
        _summary(report),
        *_agreement_sections(report),
        *([adjudication_section(report.adjudicated)] if report.adjudicated else []),
        *_fairness(report),
        *([robustness_section(report.robustness)] if report.robustness else []),
        _pictures(report),
        *training_sections(pictures),
        *_worst(report),
        *_floors(report),
        *closing_sections(report.notes, report.settings, [measure_pairs()]),
    ]
    return render_page(title, [f"{essays:,} essays", named], sections, about)


def training_sections(pictures: Sequence[Picture]) -> list[Section]:
    """A section of pictures that training has left; none without them."""
    if not pictures:
        return []
    words = "How the loss, and what it is made of, changed while the model was trained."
    return [Section("training", "Training", [Gallery("training-pictures", "", words, pictures, size="large")])]


def measure_pairs(names: Iterable[str] = MEASURES) -> Pairs:
    """What measures are and where they come from."""
    chosen = [MEASURES[name] for name in names]
    return Pairs([(one.title, f"{one.definition} {one.reference.rstrip('.')}.") for one in chosen])


def _summary(report: Report) -> Section:
    sentences = [Words(sentence, lead=True) for sentence in summary_sentences(report)]
    lights: list[Block] = [light_table(report), Words(light_words(report))] if report.flags else []
    each = prompt_light_table(report) if report.flags else None
    folded = [] if each is None else [Folded("Every prompt", [each])]
    return Section("summary", "Summary", [*sentences, *lights, *folded])


def _agreement_sections(report: Report) -> list[Section]:
    fisher = report.mean.qwk_fisher
    extra = [Words(f"Fisher mean of the prompts' QWK: {figure(fisher)}.")] if len(report.prompts) > 1 else []
    coverage = coverage_table(report)
    covered = [] if coverage is None else [coverage]
    shares = Folded("Essays at each score point", [point_table(report)])
    return [
        Section("agreement", "Agreement", [*agreement_tables(report), *extra, *covered]),
        Section("versions", "Score versions", [version_table(report)]),
        Section("humans", "Human agreement and ceilings", human_tables(report)),
        Section("points", "Score points", [Words(_share_words(report)), shares]),
    ]


def _share_words(report: Report) -> str:
    """The largest gap of shares, and where."""
    rows = [(row, prompt) for prompt, entry in report.prompts.items() for row in entry.score_points]
    row, prompt = max(rows, key=lambda one: abs(one[0].gap))
    more = "more" if row.gap > 0 else "less"
    return (
        f"The largest gap between the machine's share of a score point and the humans' is at score {row.point:g} of "
        f"prompt {prompt}, which the machine gives {abs(100 * row.gap):.1f} percentage points {more} often."
    )


def _fairness(report: Report) -> list[Section]:
    parts = fairness_parts(report)
    words = Words(multiplicity_words(report))
    return [Section("fairness", "Fairness by subgroups", [words, *parts])] if parts else []


def _pictures(report: Report) -> Section:
    galleries = report_figures(report)
    return Section("pictures", "Pictures", [Part(f"{one.name}-part", one.title, [one]) for one in galleries])


def _worst(report: Report) -> list[Section]:
    table = worst_table(report)
    if table is None:
        return []
    texts = [(f"Essay {row.essay_id} of prompt {row.prompt_id}", row.text) for row in report.worst if row.text]
    folded = [Folded("Texts of these essays", [Pairs(texts, essays=True)])] if texts else []
    return [Section("worst", "Worst disagreements", [table, *folded])]


def _floors(report: Report) -> list[Section]:
    table = floor_table(report)
    words = Words("What any machine should beat: scorers that read nothing of an essay, or little.")
    return [] if table is None else [Section("floors", "Floors", [words, table])]
