"""What humans decided on essays for review, beside what the machine said, as a section of a report."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from aes_dynloss.evaluation.adjudication import MEASURED
from aes_dynloss.evaluation.adjudication_text import adjudication_words
from aes_dynloss.reporting.blocks import Section, Words
from aes_dynloss.reporting.tables import NOTHING, Cell, Entry, Heading, Table, count, heading, number, words


def adjudication_sections(report: Mapping[str, Any]) -> list[Section]:
    """The section; none where no decisions were given.

    Args:
        report: What ``build_report`` returned, perhaps with ``adjudicated``.
    """
    found = report.get("adjudicated")
    if found is None:
        return []
    rows = [
        [words(prompt), count(entry["decided"]), *_figures(entry["machine"]), *_figures(entry["final"])]
        for prompt, entry in found["prompts"].items()
    ]
    mean = found["mean"]
    foot = [[words("Mean over prompts"), NOTHING, *_figures(mean["machine"]), *_figures(mean["final"])]]
    own = [_titled("Machine", name) for name in MEASURED]
    final = [_titled("Final", name) for name in MEASURED]
    columns = [
        Heading("Prompt", numeric=False),
        Heading("Decided by humans"),
        *(Heading("Machine n", hint="Essays that the machine scored."), *own),
        *(Heading("Final n", hint="Essays that have a score in the end, a human's or the machine's."), *final),
    ]
    table = Table("adjudication-table", "The machine alone, and after human review", columns, rows, foot)
    return [Section("review", "Human review", [Words(adjudication_words(found)), table])]


def _titled(which: str, name: str) -> Heading:
    own = heading(name)
    return Heading(f"{which} {own.title}", hint=own.hint)


def _figures(entry: Entry | None) -> list[Cell]:
    if entry is None:
        return [count(0), *(number(None, why="The machine scored none of them.") for _ in MEASURED)]
    size = count(entry["n"]) if "n" in entry else NOTHING
    return [size, *(number(entry.get(name)) for name in MEASURED)]
