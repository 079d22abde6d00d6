"""Columns that say whose an essay is, a writer's, class's or school's, and stand in more than one part of a split."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

import numpy as np

from aes_dynloss.essays.data.essay_table import EssayTable
from aes_dynloss.tables.cells import CellError, group_value, number_cell

# Words of which such a column's name has one.
_NAMES = {
    *("author", "candidate", "class", "classroom", "learner", "participant", "pupil", "school", "student", "teacher"),
    *("user", "writer"),
}
_WORDS = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])")
LONGEST_NAME = 64  # characters: longer cells are texts
# Of a column with another name: so many values or more, each on few essays, most essays beside another of the same.
_FEWEST_VALUES, _MOST_ESSAYS, _LEAST_SHARED = 10, 0.1, 0.5
_MOST_CORRELATED = 0.5  # of numbers with the essays' length: more is no name


@dataclass(frozen=True)
class GroupLeak:
    """A likely group column whose values stand in more than one part.

    Args:
        column: Its name.
        values: How many of its values do.
        of: How many values it has.
        essays: How many essays have such a value.
    """

    column: str
    values: int
    of: int
    essays: int

    def __str__(self) -> str:
        """The leak in words, with what to do."""
        return (
            f"column {self.column!r} looks like one of writers, classes or schools, and {self.values} of its {self.of} "
            f"values stand in more than one part of the split ({self.essays} essays), which flatters the figures. To "
            f"keep each in one part: data.split.group={self.column}, or --group-column {self.column}"
        )


@dataclass
class UnusedColumns:
    """Cells of a table's columns that have no role, for rows that can be used; columns of texts are dropped.

    Args:
        cells: By column, a cell of each essay so far; None for a blank.
        texts: Columns that are dropped.
    """

    cells: dict[str, list[str | None]] = field(default_factory=dict)
    texts: set[str] = field(default_factory=set)
    essays: int = 0

    def add(self, row: Mapping[str, object], used: frozenset[str]) -> None:
        """Take one row's cells, but those of the columns that are used."""
        for column in row:
            if column in used or column in self.texts:
                continue
            cell: str | None = None
            with suppress(CellError):
                cell = group_value(row, column)
            if cell is not None and len(cell) > LONGEST_NAME:
                self.texts.add(column)
                self.cells.pop(column, None)
            else:
                self.cells.setdefault(column, [None] * self.essays).append(cell)
        self.essays += 1
        for cells in self.cells.values():  # rows of JSON may lack a column
            cells.extend([None] * (self.essays - len(cells)))

    def likely_groups(self, essay_ids: Sequence[str], lengths: Sequence[int]) -> dict[str, dict[str, str]]:
        """The likely group columns, each with its value by essay.

        Args:
            essay_ids: Ids of the rows that were taken.
            lengths: The essays' lengths in words.
        """
        return {
            column: {essay: cell for essay, cell in zip(essay_ids, cells, strict=True) if cell is not None}
            for column, cells in self.cells.items()
            if is_likely_group(column, cells, lengths)
        }


def is_likely_group(column: str, cells: Sequence[str | None], lengths: Sequence[int]) -> bool:
    """Whether a column says whose an essay is, by its name or its values.

    Args:
        column: Its name.
        cells: Its values, N; None for a blank.
        lengths: The essays' lengths in words, N.

    Example:
        >>> lengths = [100 + number % 7 for number in range(60)]
        >>> is_likely_group("student_id", [f"s{number // 3}" for number in range(60)], lengths)
        True
        >>> is_likely_group("sid", [f"s{number // 3}" for number in range(60)], lengths)
        True
        >>> is_likely_group("cohesion", [str(number % 5) for number in range(60)], lengths)
        False
    """
    counts = Counter(cell for cell in cells if cell is not None)
    if len(counts) < 2 or max(counts.values()) < 2:
        return False
    if {word.lower() for word in _WORDS.findall(column)} & _NAMES:
        return True
    known = counts.total()
    shared = sum(count for count in counts.values() if count > 1)
    few = max(counts.values()) <= max(2, _MOST_ESSAYS * known)
    return len(counts) >= _FEWEST_VALUES and few and shared >= _LEAST_SHARED * known and not _is_measure(cells, lengths)


def _is_measure(cells: Sequence[str | None], lengths: Sequence[int]) -> bool:
    """Whether a column holds numbers that are no names: with a fraction, or that go with the essays' length."""
    try:
        numbers = [number_cell(cell, "") for cell in cells]
    except CellError:
        return False
    known = [(number, length) for number, length in zip(numbers, lengths, strict=True) if number is not None]
    values, words = np.array(known, dtype=np.float64).T
    if (values != np.round(values)).any():
        return True
    if values.std() == 0 or words.std() == 0:
        return False
    return bool(abs(np.corrcoef(values, words)[0, 1]) > _MOST_CORRELATED)


def group_leaks(table: EssayTable, parts: Mapping[str, EssayTable]) -> list[GroupLeak]:
    """Likely group columns of which values stand in more than one part.

    Args:
        table: All essays.
        parts: Parts of them, by name.
    """
    part_of = {essay: name for name, part in parts.items() for essay in part.essay_ids}
    leaks = []
    for column, by_essay in table.likely_groups.items():
        places: dict[str, set[str]] = {}
        for essay, value in by_essay.items():
            if essay in part_of:
                places.setdefault(value, set()).add(part_of[essay])
        torn = {value for value, names in places.items() if len(names) > 1}
        if torn:
            essays = sum(value in torn for essay, value in by_essay.items() if essay in part_of)
            leaks.append(GroupLeak(column, len(torn), len(places), essays))
    return leaks
