"""Tables as a page shows them: cells that say how they sort, and why a value is missing."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from aes_dynloss.reports.measure_list import MEASURES
from aes_dynloss.reports.text import figure_words

Entry = Mapping[str, Any]

UNDEFINED = "\u2013"
_CORRELATIONS = ("pearson", "spearman", "pearson_without_length")


@dataclass(frozen=True)
class Cell:
    """A cell of a table.

    Args:
        text: What is shown; empty for a cell that has nothing to say.
        order: What it sorts by; None sorts last.
        small: A second, smaller line, such as an interval.
        why: Why the value is missing, or what it means.
        mark: How it is set off: pass, flag, unknown, or nothing.
    """

    text: str
    order: float | str | None = None
    small: str = ""
    why: str = ""
    mark: str = ""

    @property
    def undefined(self) -> bool:
        """Whether a value is missing here."""
        return self.text == UNDEFINED


@dataclass(frozen=True)
class Heading:
    """The heading of a column.

    Args:
        title: Its words.
        numeric: Whether it holds numbers, which stand flush right and sort by value.
        hint: What the column is, in a line.
    """

    title: str
    numeric: bool = True
    hint: str = ""


@dataclass(frozen=True)
class Table:
    """A table whose first column names its rows.

    Args:
        name: Its name in the page's address.
        caption: What it holds.
        headings: One a column.
        rows: Cells, as many a row as headings.
        foot: Rows that stay below when the others are sorted.
        sortable: Whether its headings sort.
    """

    kind: ClassVar[str] = "table"

    name: str
    caption: str
    headings: Sequence[Heading]
    rows: Sequence[Sequence[Cell]]
    foot: Sequence[Sequence[Cell]] = ()
    sortable: bool = True


class Reasons:
    """Why values are missing: a note of the report, or what the measure needs.

    Args:
        notes: The report's notes.
    """

    def __init__(self, notes: Sequence[str]) -> None:
        self._notes = notes
        self._own: dict[str | None, list[str]] = {}

    def of(self, measure: str, prompt: str | None = None) -> str:
        """The reason that a measure is missing; empty if none is known.

        Args:
            measure: Its name in MEASURES.
            prompt: The prompt, or None for the mean.
        """
        if prompt not in self._own:
            self._own[prompt] = [note for note in self._notes if _concerns(note, prompt)]
        for note in self._own[prompt]:
            if re.search(rf"\b{measure}\b", note) or (
                measure in _CORRELATIONS and "correlations are undefined" in note
            ):
                return note
        needs = MEASURES[measure].needs if measure in MEASURES else ""
        return f"Unknown: it needs {needs}." if needs else ""


def _concerns(note: str, prompt: str | None) -> bool:
    """Whether a note is about a prompt, or about the mean (None), or about all."""
    if not note.startswith(("Prompt ", "The mean ")):
        return True
    own = "The mean" if prompt is None else f"Prompt {prompt}"
    return note.startswith(own) and not re.match(r"\w", note[len(own) :])


def figure(value: float | None) -> str:
    """Three decimals with a minus that is read aloud, or a dash for what is undefined."""
    return UNDEFINED if value is None else minus(figure_words(value))


def minus(text: str) -> str:
    """A number's text with the sign of subtraction instead of the hyphen, which screen readers leave out."""
    return text.replace("-", "\u2212")


def interval(ends: Sequence[float] | None) -> str:
    """Both ends of an interval; nothing without one."""
    return "" if ends is None else f"{figure(ends[0])} to {figure(ends[1])}"


def number(value: float | None, ends: Sequence[float] | None = None, why: str = "", mark: str = "") -> Cell:
    """A measure's cell, with its interval below."""
    return Cell(figure(value), value, interval(ends), why if value is None else "", mark)


def count(value: float | None, why: str = "") -> Cell:
    """A whole number, by thousands."""
    return Cell(UNDEFINED, None, why=why) if value is None else Cell(f"{value:,.0f}", float(value))


def point(value: float) -> Cell:
    """A score point, with as many decimals as it has."""
    return Cell(minus(f"{value:g}"), float(value))


def words(text: str, *, mark: str = "", small: str = "") -> Cell:
    """A name, or other words."""
    return Cell(text, text, small=small, mark=mark)


def heading(measure: str) -> Heading:
    """The heading of a measure's column."""
    return Heading(MEASURES[measure].title, hint=MEASURES[measure].definition)


NOTHING = Cell("")
