"""What changes of essays did to their scores, as a section of a report and as a page of its own.

A measured robustness as a file: what it holds, and reading it back.

A measured robustness as a plain-text table and as rows of a csv file.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field

from aes_dynloss.configfile import ConfigModel, validate
from aes_dynloss.errors import ConfigError, DataError
from aes_dynloss.reports.blocks import Block, Bullets, Folded, Gallery, Pairs, Section, Words, render_page
from aes_dynloss.reports.drawing import MACHINE, Picture, draw_intervals, drawing, drawn_name, rows_panel, saved
from aes_dynloss.reports.table import NOTHING, UNDEFINED, Cell, Entry, Heading, Table, count, minus, number, words
from aes_dynloss.reports.text import EXPECTATIONS, aligned, headline_words, percent

Part = Annotated[float, Field(ge=0, le=1)]
Count = Annotated[int, Field(ge=0)]
Group = Literal["must_not_rise", "fall", "not_rise", "stay"]


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
    expected: Literal["fall", "not_rise", "stay"]
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


def robustness_table(robustness: Entry) -> str:
    """The main figures as text.

    Args:
        robustness: What ``measure_robustness`` returned.

    Returns:
        A line for each kind of change, under a heading for what the score should do, and the headline; ends without a
        line break. The interval is that of the share of scores that rise; "-" is an undefined value.
    """
    confidence = f"{100 * robustness['settings']['confidence']:g} %"
    titles = ("change", "n", "rises", confidence, "falls", "stays", "raw rises", "change in sd")
    rows: list[list[str]] = []
    for expected, heading in EXPECTATIONS.items():
        kinds = {name: kind for name, kind in robustness["kinds"].items() if kind["expected"] == expected}
        if kinds:
            rows.append([heading, *[""] * (len(titles) - 1)])
            rows += [[f"  {name}: {kind['title']}", *_text_cells(kind["total"])] for name, kind in kinds.items()]
            rows.append(["  together", *_text_cells(robustness["expected"][expected])])
    lines = aligned([list(column) for column in zip(titles, *rows, strict=True)])
    essays = robustness["essays"]
    drawn = ", ".join(f"{count} to prompt {prompt}" for prompt, count in essays.items())
    lines += ["", f"{sum(essays.values())} essays ({drawn}), each beside its changed forms."]
    headline = headline_words(robustness)
    lines += [headline] if headline else []
    lines += [f"Note: {note}" for note in robustness["notes"]]
    return "\n".join(lines)


def robustness_rows(robustness: Entry) -> list[dict[str, Any]]:
    """A row for each kind and prompt, and for each kind in total, where the prompt is blank."""
    rows = []
    for name, kind in robustness["kinds"].items():
        for prompt, entry in {None: kind["total"], **kind["prompts"]}.items():
            row = {"kind": name, "expected": kind["expected"], "prompt_id": prompt}
            row |= {key: value for key, value in entry.items() if key not in _SHARES}
            for share in _SHARES:
                own = entry[share] or {"share": None, "low": None, "high": None}
                row |= {share: own["share"], f"{share}_low": own["low"], f"{share}_high": own["high"]}
            rows.append(row)
    return rows


def _text_cells(entry: Entry) -> list[str]:
    rises = entry["rises"]
    interval = "-" if rises is None else f"{percent(rises['low'])} to {percent(rises['high'])}"
    shares = [percent(entry[name]["share"]) if entry[name] else "-" for name in ("falls", "stays", "raw_rises")]
    change = entry["raw_change_sd"]
    words = "-" if change is None else f"{change:+.2f}".replace("-0.00", "+0.00")
    return [str(entry["n"]), "-" if rises is None else percent(rises["share"]), interval, *shares, words]


RobustnessFigures = Mapping[str, Any]

_TOGETHER = {"must_not_rise": "Together, where a score must not rise", "stay": "Together, where it should stay"}
_SHARE_HEADINGS = {
    "rises": Heading("Rises", hint="Share of changed essays that get a higher score point than before."),
    "falls": Heading("Falls", hint="Share that get a lower one."),
    "stays": Heading("Stays", hint="Share that get the same one."),
    "to_lowest": Heading("Lowest score", hint="Share that get the prompt's lowest score after the change."),
    "raw_rises": Heading("Unrounded rises", hint="Share whose unrounded prediction is higher than before."),
}
# An interval for each share would make the table wider than a page; csv and json have them all.
_WITH_ENDS = ("rises", "raw_rises")
_CHANGE = Heading(
    "Change in sd", hint="Mean change of the unrounded prediction, in sd of the prompt's predictions before."
)
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


def robustness_section(robustness: RobustnessFigures) -> Section:
    """The section of a report's page.

    Args:
        robustness: What ``measure_robustness`` returned.
    """
    notes: list[Block] = [Bullets(robustness["notes"])] if robustness["notes"] else []
    return Section("robustness", "Robustness", [*_lead(robustness, lead=False), *_figures(robustness), *notes])


def robustness_page(robustness: RobustnessFigures, *, title: str, about: Mapping[str, Any] | None = None) -> str:
    """A measured robustness as one html page of the same kind as a report's.

    Args:
        robustness: What ``measure_robustness`` returned.
        title: The page's title.
        about: Words for the foot by name.

    Returns:
        Html.
    """
    essays, prompts = sum(robustness["essays"].values()), len(robustness["essays"])
    facts = [
        f"{essays:,} essays",
        f"{prompts} prompt{'s' if prompts > 1 else ''}",
        f"{len(robustness['kinds'])} kinds of change",
    ]
    settings = [(name.replace("_", " "), _setting(value)) for name, value in robustness["settings"].items()]
    notes = [Section("notes", "Notes", [Bullets(robustness["notes"])])] if robustness["notes"] else []
    sections = [
        Section("summary", "Summary", _lead(robustness, lead=True)),
        Section("changes", "Changes", _figures(robustness)),
        *notes,
        Section("settings", "Settings", [Pairs(settings)]),
        Section("measures", "Measures", [Pairs(_DEFINITIONS), Words(_REFERENCES)]),
    ]
    return render_page(title, facts, sections, about)


def change_table(robustness: RobustnessFigures) -> Table:
    """A row for each kind of change, sums at the foot.

    Args:
        robustness: What ``measure_robustness`` returned.
    """
    rows = [
        [
            words(kind["title"]),
            words(EXPECTATIONS[kind["expected"]]),
            *_table_cells(kind["total"]),
            count(kind["total"]["unchanged"]),
        ]
        for expected in EXPECTATIONS
        for kind in robustness["kinds"].values()
        if kind["expected"] == expected
    ]
    foot = [
        [words(title), NOTHING, *_table_cells(robustness["expected"][group]), NOTHING]
        for group, title in _TOGETHER.items()
        if group in robustness["expected"]
    ]
    columns = [
        Heading("Change", numeric=False),
        Heading("The score", numeric=False),
        Heading("n", hint="Essays that the change altered."),
        *_SHARE_HEADINGS.values(),
        _CHANGE,
        Heading("Unaltered", hint="Essays in which there was nothing to change; they are in no share."),
    ]
    level = f"{100 * robustness['settings']['confidence']:g} %"
    return Table("robustness-table", f"Scores after changes, {level} intervals below", columns, rows, foot)


def prompt_table(robustness: RobustnessFigures) -> Table:
    """The share of scores that rise, by kind of change and prompt.

    Args:
        robustness: What ``measure_robustness`` returned.
    """
    prompts = list(robustness["essays"])
    rows = [
        [
            words(kind["title"]),
            *(_share(kind["prompts"].get(prompt, {}).get("rises")) for prompt in prompts),
        ]
        for kind in robustness["kinds"].values()
    ]
    columns = [Heading("Change", numeric=False), *(Heading(f"Prompt {prompt}") for prompt in prompts)]
    return Table("robustness-prompts", "Share of scores that rise, by prompt", columns, rows)


def rises_picture(robustness: RobustnessFigures) -> Picture | None:
    """How often the score rises after each kind of change that must not raise it; None without any."""
    kinds = [kind for kind in robustness["kinds"].values() if kind["expected"] != "stay" and kind["total"]["rises"]]
    if not kinds:
        return None
    with drawing():
        panels = rows_panel([kind["title"] for kind in kinds], ["Scores that rise, %", "Unrounded, %"], width=8.6)
        for axes, measure in zip(panels, ("rises", "raw_rises"), strict=True):
            values = [_in_percent(kind["total"][measure]) for kind in kinds]
            draw_intervals(axes, values, colour=MACHINE, label="Rises")
            axes.set_xlim(-3, 103)
        told = "; ".join(f"{drawn_name(kind['title'])} {percent(kind['total']['rises']['share'])}" for kind in kinds)
        return saved(panels[0], "Scores that rise when they must not", f"Dots with intervals. {told}.")


def _lead(robustness: RobustnessFigures, *, lead: bool) -> list[Block]:
    """What was done, what came out, and which kinds fool the scorer most."""
    essays, prompts = sum(robustness["essays"].values()), len(robustness["essays"])
    where = f"{prompts} prompts" if prompts > 1 else "one prompt"
    sentences = [
        f"{essays:,} essays to {where} were scored as they are and after changes of {len(robustness['kinds'])} kinds, "
        "of which it is known what they should do to a score.",
        headline_words(robustness),
        _worst(robustness),
    ]
    # No line may begin with the sign of per cent.
    return [Words(sentence.replace(" %", "\u00a0%"), lead=lead) for sentence in sentences if sentence]


def _worst(robustness: RobustnessFigures) -> str:
    """The kinds that fool the scorer most often."""
    found = {
        kind["title"]: kind["total"]["rises"]["share"]
        for kind in robustness["kinds"].values()
        if kind["expected"] != "stay" and kind["total"]["rises"] and kind["total"]["rises"]["share"] > 0
    }
    most = sorted(found, key=lambda title: -found[title])[:3]
    told = "; ".join(f"{title} ({percent(found[title])})" for title in most)
    return f"It does so most often after: {told}." if told else ""


def _figures(robustness: RobustnessFigures) -> list[Block]:
    picture = rises_picture(robustness)
    explained = "How often a score rises that should fall or at most stay, with intervals."
    gallery: list[Block] = [Gallery("robustness-figure", "", explained, [picture], size="large")] if picture else []
    by_prompt: list[Block] = []
    if len(robustness["essays"]) > 1:
        by_prompt = [Folded("Scores that rise, by prompt", [prompt_table(robustness)])]
    return [*gallery, change_table(robustness), *by_prompt]


def _table_cells(entry: Entry) -> list[Cell]:
    change = entry["raw_change_sd"]
    shares = (_share(entry[name], ends=name in _WITH_ENDS) for name in _SHARE_HEADINGS)
    return [count(entry["n"]), *shares, number(change, why="No change, or no spread of predictions.")]


def _share(found: Entry | None, *, ends: bool = True) -> Cell:
    if found is None:
        return Cell(UNDEFINED, None, why="There was no essay that the change altered.")
    reach = f"{percent(found['low'])} to {percent(found['high'])}"
    return Cell(percent(found["share"]), found["share"], small=reach if ends else "")


def _in_percent(found: Entry | None) -> tuple[float | None, list[float] | None]:
    if found is None:
        return None, None
    return 100 * found["share"], [100 * found["low"], 100 * found["high"]]


def _setting(value: object) -> str:
    return "all" if value is None else minus(f"{value:g}") if isinstance(value, float) else str(value)
