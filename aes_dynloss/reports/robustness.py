"""A measured robustness: what its file holds, read back; as plain text, csv rows, a section of a report and a page."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field

from aes_dynloss.configfile import ConfigModel, validate
from aes_dynloss.errors import ConfigError, DataError
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
from aes_dynloss.reports.drawing import MACHINE, Picture, draw_intervals, drawing, drawn_name, rows_panel, saved
from aes_dynloss.reports.measure_list import Missing
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

Part = Annotated[float, Field(ge=0, le=1)]
Count = Annotated[int, Field(ge=0)]
Group = Literal["must_not_rise", "fall", "not_rise", "stay"]
Expected = Literal["fall", "not_rise", "stay"]
EXPECTATIONS: dict[Expected, str] = {"fall": "should fall", "not_rise": "should not rise", "stay": "should stay"}


class Share(ConfigModel):
    """A share of changes, with its interval."""

    share: Part
    low: Part
    high: Part


class Figures(ConfigModel):
    """What ``change_figures`` answers."""

    n: Count
    essays: Count
    already_lowest: Count
    rises: Share | None
    falls: Share | None
    stays: Share | None
    raw_rises: Share | None
    raw_falls: Share | None
    to_lowest: Share | None
    score_change_sd: float | None
    raw_change_sd: float | None


class GroupFigures(Figures):
    """Figures over all kinds of one expectation."""

    kinds: list[str]


class KindFigures(Figures):
    """One kind's figures over all prompts."""

    unchanged: Count


class PromptFigures(KindFigures):
    """One kind's figures on one prompt, with means on its scale."""

    mean_score: float | None
    mean_changed_score: float | None
    mean_score_change: float | None
    mean_raw_change: float | None


class KindEntry(ConfigModel):
    """One kind of change."""

    title: str
    expected: Expected
    worthless: bool
    total: KindFigures
    prompts: dict[str, PromptFigures]


class Settings(ConfigModel):
    """How it was measured."""

    seed: Count
    most: Count | None
    confidence: Part
    interval: str
    raw_tolerance: float


class Robustness(ConfigModel):
    """What ``measure_robustness`` answers."""

    settings: Settings
    essays: dict[str, Count]
    expected: dict[Group, GroupFigures]
    kinds: dict[str, KindEntry]
    notes: list[str]


Content = Robustness | Mapping[str, Any]


def typed_robustness(content: Content) -> Robustness:
    """What was measured, typed; ``content`` is what ``measure_robustness`` returned, or robustness.json holds."""
    return content if isinstance(content, Robustness) else Robustness.model_validate(content)


def read_robustness(path: str | Path) -> dict[str, Any]:
    """Read robustness.json, as ``aes-dynloss robustness`` wrote it.

    Args:
        path: The file.

    Raises:
        DataError: It cannot be read, or is something else.
    """
    advice = "Give a robustness.json that `aes-dynloss robustness --output-dir` wrote, or make it again."
    try:
        values = json.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(f"{path} cannot be read as a robustness: {error}. {advice}") from None
    if not isinstance(values, dict) or not values.keys() >= set(Robustness.model_fields):
        named = ", ".join(Robustness.model_fields)
        raise DataError(f"{path} is no robustness: expected {named} in it. {advice}")
    try:
        found = validate(Robustness, values, str(path))
    except ConfigError as error:
        raise DataError(f"{error}\n{advice}") from None
    groups = {entry.expected for entry in found.kinds.values()}
    if not found.kinds or not groups <= found.expected.keys():
        raise DataError(f"{path} is no whole robustness: kinds of change lack their sums in expected. {advice}")
    return found.model_dump(mode="json")


def of_same_prompts(robustness: dict[str, Any], prompts: Collection[str], source: object) -> dict[str, Any]:
    """A robustness, if it is about a report's prompts; otherwise it is another model's.

    Args:
        robustness: What was measured.
        prompts: The report's prompts.
        source: Its name in the message.

    Raises:
        DataError: It was measured on a prompt that the report does not know.
    """
    other = [prompt for prompt in robustness["essays"] if prompt not in prompts]
    if other:
        raise DataError(
            f"{source} was measured on essays to prompt {', '.join(other)}, and the predictions answer "
            f"{', '.join(prompts)}. Give the robustness of the same model on the same prompts."
        )
    return robustness


_SHARES = ("rises", "falls", "stays", "raw_rises", "raw_falls", "to_lowest")


def headline_words(content: Content) -> str:
    """How often the score rises when it must not, in a sentence; nothing where no such change was made.

    Args:
        content: What ``measure_robustness`` returned.
    """
    figures = typed_robustness(content).expected.get("must_not_rise")
    if figures is None or figures.rises is None or figures.raw_rises is None:
        return ""
    rises, raw = figures.rises, figures.raw_rises
    return (
        f"The score rises, though it should fall or at most stay, in {percent(rises.share)} of {figures.n:,} "
        f"changes ({percent(rises.low)} to {percent(rises.high)}); the unrounded score in "
        f"{percent(raw.share)}."
    )


def robustness_text(content: Content) -> str:
    """The main figures as text.

    Args:
        content: What ``measure_robustness`` returned.

    Returns:
        A line for each kind of change, under a heading for what the score should do, and the headline; ends without a
        line break. The interval is that of the share of scores that rise; "-" is an undefined value.
    """
    robustness = typed_robustness(content)
    lines = text_table(change_table(robustness, grouped=True).chosen(*_IN_TERMINAL))
    essays = robustness.essays
    drawn = ", ".join(f"{count} to prompt {prompt}" for prompt, count in essays.items())
    lines += ["", f"{sum(essays.values())} essays ({drawn}), each beside its changed forms."]
    lines += filter(None, [headline_words(robustness)])
    lines += [f"Note: {note}" for note in robustness.notes]
    return "\n".join(lines)


def robustness_rows(content: Content) -> list[Record]:
    """A row for each kind and prompt, and for each kind in total, where the prompt is blank."""
    robustness = typed_robustness(content)
    kinds = robustness.kinds
    plain = [name for name in KindFigures.model_fields if name not in _SHARES]
    of_prompts = [name for name in PromptFigures.model_fields if name not in KindFigures.model_fields]
    columns = [words_column(key, key) for key in ("kind", "expected", "prompt_id")]
    columns += [Column(name, name) for name in plain]
    columns += [Column(name, name, ends=(f"{name}_low", f"{name}_high")) for name in _SHARES]
    columns += [Column(name, name) for name in of_prompts]
    rows = [
        [
            *map(Cell, (name, kind.expected, prompt, *(getattr(entry, figure) for figure in plain))),
            *(_share(getattr(entry, figure)) for figure in _SHARES),
            *(Cell(getattr(entry, figure, None)) for figure in of_prompts),
        ]
        for name, kind in kinds.items()
        for prompt, entry in [(None, kind.total), *kind.prompts.items()]
    ]
    return table_records(Table("robustness", "Robustness", columns, rows))


_TOGETHER: dict[Group, str] = {
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
_DEFINITIONS = (
    ("should fall", "Less is there to score than before, or nothing. A score that rises is a fault."),
    (
        "should not rise",
        "Nothing was added that deserves a point. A score that rises is a fault; one that stays is not.",
    ),
    ("should stay", "A reader finds the same essay. A score that moves is a fault, but a smaller one."),
)
_REFERENCES = (
    "After Kabra, Bhatia, Singla, Li and Shah (2022), Evaluation toolkit for robustness testing of automatic essay "
    "scoring systems; Ding, Riordan, Horbach, Cahill and Zesch (2020), Don't take nswvtnvakgxpm for an answer; and "
    "Powers et al. (2002), Stumping e-rater. Intervals: Wilson (1927), with the effective number of changes where an "
    "essay has several."
)


def robustness_section(content: Content) -> Section:
    """The section of a report's page.

    Args:
        content: What ``measure_robustness`` returned.
    """
    robustness = typed_robustness(content)
    notes: list[Block] = [Bullets(robustness.notes)] if robustness.notes else []
    return Section("robustness", "Robustness", [*_lead(robustness, lead=False), *_figures(robustness), *notes])


def robustness_page(content: Content, *, title: str, about: Mapping[str, Any] | None = None) -> str:
    """A measured robustness as one html page of the same kind as a report's.

    Args:
        content: What ``measure_robustness`` returned.
        title: The page's title.
        about: Words for the foot by name.

    Returns:
        Html.
    """
    robustness = typed_robustness(content)
    essays, prompts = sum(robustness.essays.values()), len(robustness.essays)
    facts = [
        f"{essays:,} essays",
        f"{prompts} prompt{'s' if prompts > 1 else ''}",
        f"{len(robustness.kinds)} kinds of change",
    ]
    measures: list[Block] = [Pairs(_DEFINITIONS), Words(_REFERENCES)]
    sections = [
        Section("summary", "Summary", _lead(robustness, lead=True)),
        Section("changes", "Changes", _figures(robustness)),
        *closing_sections(robustness.notes, robustness.settings.model_dump(), measures),
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
    for expected, title in EXPECTATIONS.items():
        kinds = {name: kind for name, kind in robustness.kinds.items() if kind.expected == expected}
        own = [
            _change_row(words(kind.title, short=f"  {name}: {kind.title}"), title, kind.total)
            for name, kind in kinds.items()
        ]
        if grouped and own:
            heading = [words(title), *[NOTHING] * (len(_COLUMNS) - 1)]
            own = [heading, *own, _change_row(words("  together"), "", robustness.expected[expected])]
        rows += own
    sums = {} if grouped else {group: _TOGETHER[group] for group in _TOGETHER if group in robustness.expected}
    foot = [_change_row(words(title), "", robustness.expected[group]) for group, title in sums.items()]
    level = f"{100 * robustness.settings.confidence:g} %"
    return Table("robustness-table", f"Scores after changes, {level} intervals below", _COLUMNS, rows, foot, level)


def _change_row(name: Cell, expected: str, entry: Figures) -> list[Cell]:
    keys = ("rises", "falls", "stays", "to_lowest", "raw_rises")
    return [
        name,
        words(expected) if expected else NOTHING,
        count(entry.n),
        *(_share(getattr(entry, key), ends=key in _WITH_ENDS) for key in keys),
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
    columns = [_COLUMNS[0], *(Column(f"prompt {prompt}", f"Prompt {prompt}") for prompt in prompts)]
    return Table("robustness-prompts", "Share of scores that rise, by prompt", columns, rows)


def rises_picture(content: Content) -> Picture | None:
    """How often the score rises after each kind of change that must not raise it; None without any."""
    robustness = typed_robustness(content)
    kinds = [kind for kind in robustness.kinds.values() if kind.expected != "stay" and kind.total.rises]
    if not kinds:
        return None
    with drawing():
        panels = rows_panel([kind.title for kind in kinds], ["Scores that rise, %", "Unrounded, %"], width=8.6)
        for axes, measure in zip(panels, ("rises", "raw_rises"), strict=True):
            values = [_in_percent(getattr(kind.total, measure)) for kind in kinds]
            draw_intervals(axes, values, colour=MACHINE, label="Rises")
            axes.set_xlim(-3, 103)
        told = "; ".join(f"{drawn_name(title)} {percent(one.share)}" for title, one in _rises(robustness).items())
        return saved(panels[0], "Scores that rise when they must not", f"Dots with intervals. {told}.")


def _lead(robustness: Robustness, *, lead: bool) -> list[Block]:
    """What was done, what came out, and which kinds fool the scorer most."""
    essays, prompts = sum(robustness.essays.values()), len(robustness.essays)
    where = f"{prompts} prompts" if prompts > 1 else "one prompt"
    sentences = [
        f"{essays:,} essays to {where} were scored as they are and after changes of {len(robustness.kinds)} kinds, "
        "of which it is known what they should do to a score.",
        headline_words(robustness),
        _worst(robustness),
    ]
    # No line may begin with the sign of per cent.
    return [Words(sentence.replace(" %", "\u00a0%"), lead=lead) for sentence in sentences if sentence]


def _rises(robustness: Robustness) -> dict[str, Share]:
    """How often the score rises, by the title of each kind of change that must not raise it."""
    kinds = [kind for kind in robustness.kinds.values() if kind.expected != "stay"]
    return {kind.title: kind.total.rises for kind in kinds if kind.total.rises}


def _worst(robustness: Robustness) -> str:
    """The kinds that fool the scorer most often."""
    found = {title: one.share for title, one in _rises(robustness).items() if one.share > 0}
    most = sorted(found, key=lambda title: -found[title])[:3]
    told = "; ".join(f"{title} ({percent(found[title])})" for title in most)
    return f"It does so most often after: {told}." if told else ""


def _figures(robustness: Robustness) -> list[Block]:
    picture = rises_picture(robustness)
    explained = "How often a score rises that should fall or at most stay, with intervals."
    gallery: list[Block] = [Gallery("robustness-figure", "", explained, [picture], size="large")] if picture else []
    by_prompt: list[Block] = []
    if len(robustness.essays) > 1:
        by_prompt = [Folded("Scores that rise, by prompt", [prompt_table(robustness)])]
    return [*gallery, change_table(robustness), *by_prompt]


def _share(found: Share | None, *, ends: bool = True) -> Cell:
    if found is None:
        return share(None, why=Missing.UNALTERED)
    return share(found.share, (found.low, found.high) if ends else None)


def _in_percent(found: Share | None) -> tuple[float | None, list[float] | None]:
    if found is None:
        return None, None
    return 100 * found.share, [100 * found.low, 100 * found.high]
