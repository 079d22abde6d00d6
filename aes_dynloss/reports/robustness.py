"""A measured robustness: what its file holds, read back; as plain text, csv rows, a section of a report and a page."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

from aes_dynloss.errors import DataError
from aes_dynloss.reports.blocks import (
    Block,
    Bullets,
    Folded,
    Gallery,
    Pairs,
    Section,
    Words,
    closing_sections,
    render_page,
)
from aes_dynloss.reports.drawing import HUMAN, MACHINE, Picture, draw_intervals, drawing, drawn_name, rows_panel, saved
from aes_dynloss.reports.measure_list import Missing
from aes_dynloss.reports.robustness_entry import (
    ChangeFigures,
    ChangeGroup,
    Expected,
    KindFigures,
    PromptFigures,
    Robustness,
    Share,
)
from aes_dynloss.reports.table import (
    NOTHING,
    Cell,
    Column,
    Record,
    Table,
    count,
    percent,
    share,
    signed,
    table_records,
    text_table,
    words,
    words_column,
)

EXPECTATIONS: dict[Expected, str] = {"fall": "should fall", "not_rise": "should not rise", "stay": "should stay"}


def read_robustness(path: str | Path) -> Robustness:
    """Read robustness.json, as ``aes-dynloss robustness`` wrote it.

    Args:
        path: The file.

    Raises:
        DataError: It cannot be read, or is something else.
    """
    advice = "Give a robustness.json that `aes-dynloss robustness --output-dir` wrote, or make it again."
    robustness = Robustness.read(path, "robustness", advice)
    groups = {kind.expected for kind in robustness.kinds.values()}
    if not robustness.kinds or not groups <= robustness.expected.keys():
        raise DataError(f"{path} is no whole robustness: kinds of change lack their sums in expected. {advice}")
    return robustness


def of_same_prompts(robustness: Robustness, prompts: Collection[str], source: object) -> Robustness:
    """A robustness, if it is about a report's prompts; otherwise it is another model's.

    Args:
        robustness: What was measured.
        prompts: The report's prompts.
        source: Its name in the message.

    Raises:
        DataError: It was measured on a prompt that the report does not know.
    """
    other = [prompt for prompt in robustness.essays if prompt not in prompts]
    if other:
        raise DataError(
            f"{source} was measured on essays to prompt {', '.join(other)}, and the predictions answer "
            f"{', '.join(prompts)}. Give the robustness of the same model on the same prompts."
        )
    return robustness


_SHARES = ("rises", "falls", "stays", "raw_rises", "raw_falls", "to_lowest")


def headline_words(content: Mapping[str, Any]) -> str:
    """How often the score rises when it must not, in a sentence; nothing where no such change was made.

    Args:
        content: What ``measure_robustness`` returned.
    """
    figures = Robustness.from_dict(content).expected.get("must_not_rise")
    if figures is None or figures.rises is None or figures.raw_rises is None:
        return ""
    rises, raw = figures.rises, figures.raw_rises
    return (
        f"The score rises, though it should fall or at most stay, in {percent(rises.share)} of {figures.n:,} "
        f"changes ({percent(rises.low)} to {percent(rises.high)}); the unrounded score in "
        f"{percent(raw.share)}."
    )


def robustness_text(content: Mapping[str, Any]) -> str:
    """The main figures as text.

    Args:
        content: What ``measure_robustness`` returned.

    Returns:
        A line for each kind of change, under a heading for what the score should do, and the headline; ends without a
        line break. The interval is that of the share of scores that rise; "-" is an undefined value.
    """
    robustness = Robustness.from_dict(content)
    lines = text_table(change_table(robustness, grouped=True).chosen(*_IN_TERMINAL))
    essays = robustness.rows.of_prompts(robustness.essays)
    drawn = ", ".join(f"{count} to prompt {prompt}" for prompt, count in essays.items())
    lines += ["", f"{sum(essays.values())} essays ({drawn}), each beside its changed forms."]
    lines += filter(None, [headline_words(robustness)])
    lines += [f"Note: {note}" for note in robustness.notes]
    return "\n".join(lines)


def robustness_rows(content: Mapping[str, Any]) -> list[Record]:
    """A row for each kind and prompt, and for each kind in total, where the prompt is blank."""
    robustness = Robustness.from_dict(content)
    names = [one.name for one in fields(PromptFigures)]
    # Those that a total has first, shares after the others.
    names.sort(key=lambda name: (name.startswith("mean_"), name in _SHARES))
    columns = [words_column(key, key) for key in ("kind", "expected", "prompt_id")]
    columns += [Column(name, name, ends=(f"{name}_low", f"{name}_high") if name in _SHARES else None) for name in names]
    rows = [
        [
            *map(Cell, (name, kind.expected, prompt)),
            *(_share(entry[figure]) if figure in _SHARES else Cell(entry.get(figure)) for figure in names),
        ]
        for name, kind in robustness.kinds.items()
        for prompt, entry in [(None, kind.total), *kind.prompts.items()]
    ]
    return table_records(Table("robustness", "Robustness", columns, rows))


_TOGETHER: dict[ChangeGroup, str] = {
    "must_not_rise": "Together, where a score must not rise",
    "stay": "Together, where it should stay",
}
# An interval for each share would make a page's table wider than it is; csv and json have them all.
_WITH_ENDS = ("rises", "raw_rises")
_COLUMNS = (
    words_column("change", "Change", "change"),
    words_column("expected", "The score"),
    Column("n", "n", explanation="Essays that the change altered."),
    Column("rises", "Rises", "rises", explanation="Share of changed essays that get a higher score point than before."),
    Column("falls", "Falls", "falls", explanation="Share that get a lower one."),
    Column("stays", "Stays", "stays", explanation="Share that get the same one."),
    Column("to_lowest", "Lowest score", explanation="Share that get the prompt's lowest score after the change."),
    Column(
        "raw_rises",
        "Unrounded rises",
        "raw rises",
        explanation="Share whose unrounded prediction is higher than before.",
    ),
    Column(
        "raw_change_sd",
        "Change in sd",
        "change in sd",
        explanation="Mean change of the unrounded prediction, in sd of the prompt's predictions before.",
    ),
    Column("unchanged", "Unaltered", explanation="Essays in which there was nothing to change; they are in no share."),
)
_IN_TERMINAL = ("change", "n", "rises", "rises_interval", "falls", "stays", "raw_rises", "raw_change_sd")
_DEFINITIONS: dict[Expected, str] = {
    "fall": "Less is there to score than before, or nothing. A score that rises is a fault.",
    "not_rise": "Nothing was added that deserves a point. A score that rises is a fault; one that stays is not.",
    "stay": "A reader finds the same essay. A score that moves is a fault, but a smaller one.",
}
_REFERENCES = (
    "After Kabra, Bhatia, Singla, Li and Shah (2022), Evaluation toolkit for robustness testing of automatic essay "
    "scoring systems; Ding, Riordan, Horbach, Cahill and Zesch (2020), Don't take nswvtnvakgxpm for an answer; and "
    "Powers et al. (2002), Stumping e-rater. Intervals: Wilson (1927), with the effective number of changes where an "
    "essay has several."
)


def robustness_section(content: Mapping[str, Any]) -> Section:
    """The section of a report's page.

    Args:
        content: What ``measure_robustness`` returned.
    """
    robustness = Robustness.from_dict(content)
    notes: list[Block] = [Bullets(robustness.notes)] if robustness.notes else []
    return Section("robustness", "Robustness", [*_lead(robustness, lead=False), *_figures(robustness), *notes])


def robustness_page(content: Mapping[str, Any], *, title: str, about: Mapping[str, Any] | None = None) -> str:
    """A measured robustness as one html page of the same kind as a report's.

    Args:
        content: What ``measure_robustness`` returned.
        title: The page's title.
        about: Words for the foot by name.

    Returns:
        Html.
    """
    robustness = Robustness.from_dict(content)
    counts = robustness.rows.of_prompts(robustness.essays)
    essays, prompts = sum(counts.values()), len(counts)
    facts = [
        f"{essays:,} essays",
        f"{prompts} prompt{'s' if prompts > 1 else ''}",
        f"{len(robustness.kinds)} kinds of change",
    ]
    definitions = Pairs([(EXPECTATIONS[expected], text) for expected, text in _DEFINITIONS.items()])
    sections = [
        Section("summary", "Summary", _lead(robustness, lead=True)),
        Section("changes", "Changes", _figures(robustness)),
        *closing_sections(robustness.notes, robustness.settings, [definitions, Words(_REFERENCES)]),
    ]
    return render_page(title, facts, sections, about)


def change_table(robustness: Robustness, *, grouped: bool = False) -> Table:
    """A row for each kind of change, with sums.

    Args:
        robustness: What ``measure_robustness`` returned.
        grouped: Whether kinds stand under headings of what the score should do, each group with its sum; otherwise
            sums are at the foot.
    """
    rows: list[list[Cell]] = []
    foot = []
    for expected, title in EXPECTATIONS.items():
        kinds = {name: kind for name, kind in robustness.kinds.items() if kind.expected == expected}
        if grouped and kinds:
            rows.append([words(title), *[NOTHING] * (len(_COLUMNS) - 1)])
        for name, kind in kinds.items():
            rows.append(_change_row(words(kind.title, short=f"  {name}: {kind.title}"), title, kind.total))
        if grouped and kinds:
            rows.append(_change_row(words("  together"), "", robustness.expected[expected]))
    if not grouped:
        sums = {title: robustness.expected.get(group) for group, title in _TOGETHER.items()}
        foot = [_change_row(words(title), "", figures) for title, figures in sums.items() if figures]
    level = f"{100 * robustness.settings.confidence:g} %"
    return Table("robustness-table", f"Scores after changes, {level} intervals below", _COLUMNS, rows, foot, level)


def _change_row(name: Cell, expected: str, entry: ChangeFigures) -> list[Cell]:
    shares = ("rises", "falls", "stays", "to_lowest", "raw_rises")
    return [
        name,
        words(expected) if expected else NOTHING,
        count(entry.n),
        *(_share(entry[key], ends=key in _WITH_ENDS) for key in shares),
        signed(entry.raw_change_sd, why=Missing.NO_SPREAD),
        count(entry.unchanged) if isinstance(entry, KindFigures) else NOTHING,
    ]


def prompt_table(robustness: Robustness) -> Table:
    """The share of scores that rise, by kind of change and prompt.

    Args:
        robustness: What ``measure_robustness`` returned.
    """
    prompts = list(robustness.essays)
    rows = [
        [
            words(kind.title),
            *(_share(kind.prompts[prompt].rises if prompt in kind.prompts else None) for prompt in prompts),
        ]
        for kind in robustness.kinds.values()
    ]
    columns = [_COLUMNS[0], *map(robustness.rows.across, prompts)]
    return Table("robustness-prompts", f"Share of scores that rise, by {robustness.rows.noun}", columns, rows)


def rises_picture(content: Mapping[str, Any]) -> Picture | None:
    """How often the score rises after each kind of change that must not raise it; None without any."""
    kinds = _rising(Robustness.from_dict(content))
    if not kinds:
        return None
    with drawing():
        (axes,) = rows_panel(list(kinds), ["Essays whose score rises (%)"])
        for measure, label, colour, lower in (
            ("rises", "Score", MACHINE, 0.08),
            ("raw_rises", "Unrounded", HUMAN, 0.3),
        ):
            shares = [figures[measure] for figures in kinds.values()]
            values = [(100 * one.share, [100 * one.low, 100 * one.high]) for one in shares]
            draw_intervals(axes, values, colour=colour, label=label, lower=lower)
        axes.set_xlim(-3, 103)
        listed = "; ".join(f"{drawn_name(title)} {percent(one['rises'].share)}" for title, one in kinds.items())
        return saved(axes, "Scores that rise when they must not", f"Dots with intervals. {listed}.", legend_columns=2)


def _lead(robustness: Robustness, *, lead: bool) -> list[Block]:
    """What was done, what came out, and which kinds fool the scorer most."""
    counts = robustness.rows.of_prompts(robustness.essays)
    essays, prompts = sum(counts.values()), len(counts)
    where = f"{prompts} prompts" if prompts > 1 else "one prompt"
    rises = {title: figures["rises"].share for title, figures in _rising(robustness).items()}
    most = [title for title in sorted(rises, key=lambda title: -rises[title])[:3] if rises[title] > 0]
    listed = "; ".join(f"{title} ({percent(rises[title])})" for title in most)
    sentences = [
        f"{essays:,} essays to {where} were scored as they are and after changes of {len(robustness.kinds)} kinds, "
        "of which it is known what they should do to a score.",
        headline_words(robustness),
        f"It does so most often after: {listed}." if listed else "",
    ]
    return [Words(sentence, lead=lead) for sentence in sentences if sentence]


def _rising(robustness: Robustness) -> dict[str, KindFigures]:
    """Figures by the title of each kind of change that must not raise a score, where it altered an essay."""
    kinds = robustness.kinds.values()
    return {kind.title: kind.total for kind in kinds if kind.expected != "stay" and kind.total.rises}


def _figures(robustness: Robustness) -> list[Block]:
    blocks: list[Block] = [change_table(robustness)]
    picture = rises_picture(robustness)
    if picture:
        explained = "How often a score rises that should fall or at most stay, with intervals."
        blocks.insert(0, Gallery("robustness-figure", "", explained, [picture]))
    if len(robustness.essays) > 1:
        blocks.append(Folded(f"Scores that rise, by {robustness.rows.noun}", [prompt_table(robustness)]))
    return blocks


def _share(measured: Share | None, *, ends: bool = True) -> Cell:
    if measured is None:
        return share(None, why=Missing.UNALTERED)
    return share(measured.share, (measured.low, measured.high) if ends else None)
