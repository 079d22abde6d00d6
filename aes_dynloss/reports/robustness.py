"""What changes of essays did to their scores, as a section of a report and as a page of its own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from aes_dynloss.evaluation.robustness_words import EXPECTATIONS, headline_words, percent
from aes_dynloss.reporting.blocks import Block, Bullets, Folded, Gallery, Pairs, Section, Words
from aes_dynloss.reporting.drawing import MACHINE, draw_intervals, drawing, drawn_name, rows_panel, saved
from aes_dynloss.reporting.pictures import Picture
from aes_dynloss.reporting.rendering import render_page
from aes_dynloss.reporting.tables import NOTHING, UNDEFINED, Cell, Entry, Heading, Table, count, minus, number, words

Robustness = Mapping[str, Any]

_TOGETHER = {"must_not_rise": "Together, where a score must not rise", "stay": "Together, where it should stay"}
_SHARES = {
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


def robustness_section(robustness: Robustness) -> Section:
    """The section of a report's page.

    Args:
        robustness: What ``measure_robustness`` returned.
    """
    notes: list[Block] = [Bullets(robustness["notes"])] if robustness["notes"] else []
    return Section("robustness", "Robustness", [*_lead(robustness, lead=False), *_figures(robustness), *notes])


def robustness_page(robustness: Robustness, *, title: str, about: Mapping[str, Any] | None = None) -> str:
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


def change_table(robustness: Robustness) -> Table:
    """A row for each kind of change, sums at the foot.

    Args:
        robustness: What ``measure_robustness`` returned.
    """
    rows = [
        [
            words(kind["title"]),
            words(EXPECTATIONS[kind["expected"]]),
            *_cells(kind["total"]),
            count(kind["total"]["unchanged"]),
        ]
        for expected in EXPECTATIONS
        for kind in robustness["kinds"].values()
        if kind["expected"] == expected
    ]
    foot = [
        [words(title), NOTHING, *_cells(robustness["expected"][group]), NOTHING]
        for group, title in _TOGETHER.items()
        if group in robustness["expected"]
    ]
    columns = [
        Heading("Change", numeric=False),
        Heading("The score", numeric=False),
        Heading("n", hint="Essays that the change altered."),
        *_SHARES.values(),
        _CHANGE,
        Heading("Unaltered", hint="Essays in which there was nothing to change; they are in no share."),
    ]
    level = f"{100 * robustness['settings']['confidence']:g} %"
    return Table("robustness-table", f"Scores after changes, {level} intervals below", columns, rows, foot)


def prompt_table(robustness: Robustness) -> Table:
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


def rises_picture(robustness: Robustness) -> Picture | None:
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


def _lead(robustness: Robustness, *, lead: bool) -> list[Block]:
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


def _worst(robustness: Robustness) -> str:
    """The kinds that fool the scorer most often."""
    found = {
        kind["title"]: kind["total"]["rises"]["share"]
        for kind in robustness["kinds"].values()
        if kind["expected"] != "stay" and kind["total"]["rises"] and kind["total"]["rises"]["share"] > 0
    }
    most = sorted(found, key=lambda title: -found[title])[:3]
    told = "; ".join(f"{title} ({percent(found[title])})" for title in most)
    return f"It does so most often after: {told}." if told else ""


def _figures(robustness: Robustness) -> list[Block]:
    picture = rises_picture(robustness)
    explained = "How often a score rises that should fall or at most stay, with intervals."
    gallery: list[Block] = [Gallery("robustness-figure", "", explained, [picture], size="large")] if picture else []
    by_prompt: list[Block] = []
    if len(robustness["essays"]) > 1:
        by_prompt = [Folded("Scores that rise, by prompt", [prompt_table(robustness)])]
    return [*gallery, change_table(robustness), *by_prompt]


def _cells(entry: Entry) -> list[Cell]:
    change = entry["raw_change_sd"]
    shares = (_share(entry[name], ends=name in _WITH_ENDS) for name in _SHARES)
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
