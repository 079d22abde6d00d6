"""Tables of typed cells, and their four renderers: html (by the page's templates), markdown, plain text, records.

One function builds the table of a thing; what a terminal, a README or a page shows of it is a choice of its columns.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Literal

from aes_dynloss.reports.measure_list import MEASURES, Missing

Form = Literal["words", "figure", "signed", "count", "point", "percent", "p"]
Record = dict[str, float | str | None]
Ends = Sequence[float] | None

UNDEFINED = "\u2013"
INTERVAL = "_interval"
_UNKNOWN = ("", "-")


def figure_words(value: float | None) -> str:
    """Three decimals, no minus before a zero, and "-" for what is undefined."""
    return "-" if value is None else f"{value:z.3f}"


def signed_words(value: float) -> str:
    """Three decimals with a sign, but for a zero."""
    text = f"{value:+.3f}"
    return "0.000" if float(text) == 0 else text


def p_words(p: float) -> str:
    """Four decimals, and never a zero, which no bootstrap can show."""
    return "<0.0001" if p < 0.0001 else f"{p:.4f}"


def percent(share: float) -> str:
    """A share with one decimal."""
    return f"{100 * share:.1f} %"


def minus(text: str) -> str:
    """A number's text with the sign of subtraction instead of the hyphen, which screen readers leave out."""
    return text.replace("-", "\u2212")


def figure(value: float | None) -> str:
    """A figure for a page's sentence: three decimals, or a dash for what is undefined."""
    return UNDEFINED if value is None else minus(figure_words(value))


def interval(ends: Ends) -> str:
    """Both ends of an interval for a page's sentence; nothing without one."""
    return "" if ends is None else f"{figure(ends[0])} to {figure(ends[1])}"


_FORMS: Mapping[Form, Callable[[float], str]] = {
    "figure": figure_words,
    "signed": signed_words,
    "count": lambda value: f"{value:,.0f}",
    "point": lambda value: f"{value:g}",
    "percent": percent,
    "p": p_words,
}


@dataclass(frozen=True, slots=True)
class Cell:
    """A cell of a table; without value and reason it has nothing to say.

    Args:
        value: A number or words, which it also sorts by.
        form: How the value and its interval are written.
        interval: Both ends of the value's interval.
        missing: Why the value is missing.
        short: Words for plain text and markdown, where they differ from a page's.
        long: Words for a page, where they differ from the value's.
        note: A second, smaller line on a page.
        hint: What the value means, shown on a page when asked for.
        mark: How a page sets it off: pass, flag, unknown, or nothing.
        link: File that a page leads to from here.
    """

    value: float | str | None = None
    form: Form = "words"
    interval: Ends = None
    missing: Missing | None = None
    short: str | None = None
    long: str | None = None
    note: str = ""
    hint: str = ""
    mark: str = ""
    link: str = ""

    @property
    def text(self) -> str:
        """The value in words: "-" where it is missing, nothing where there is none."""
        if isinstance(self.value, str) or self.value is None:
            return self.value or ("-" if self.missing else "")
        return _FORMS[self.form](self.value)

    @property
    def plain(self) -> str:
        """What plain text and markdown show."""
        return self.text if self.short is None else self.short

    @property
    def shown(self) -> str:
        """What a page shows: a dash for what is missing, and a minus that is read aloud."""
        if self.long is not None or isinstance(self.value, str):
            return self.long or self.text
        return UNDEFINED if self.missing else minus(self.text)

    @property
    def decimals(self) -> str:
        """What a page shows from the decimal point on, up to the last digit; nothing of a whole number or of words."""
        digits = "" if isinstance(self.value, str) else self.shown.partition(".")[2].partition(" ")[0]
        return f".{digits}" if digits else ""

    def pad(self, longest: str) -> str:
        """What keeps the decimal point where it is above and below, in a column whose longest decimals are these."""
        return longest[len(self.decimals) :] if isinstance(self.value, (int, float)) else ""

    @property
    def below(self) -> str:
        """A page's smaller line: the interval, or the note."""
        return self.note if self.interval is None else minus(self.ends)

    @property
    def ends(self) -> str:
        """The interval in words; nothing without one."""
        return "" if self.interval is None else " to ".join(map(_FORMS[self.form], self.interval))

    @property
    def why(self) -> str:
        """Why the value is missing, or what it means."""
        return self.missing.value if self.missing else self.hint


NOTHING = Cell()


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a table.

    Args:
        key: Its name in records.
        title: Its heading on a page.
        short: Its heading in plain text and markdown; the title by default.
        kind: Numbers stand flush right and sort by value; words stand flush left.
        explanation: What the column is, in a line.
        ends: Names in records of the ends of its values' intervals, if there are any.
    """

    key: str
    title: str
    short: str | None = None
    kind: Literal["number", "words"] = "number"
    explanation: str = ""
    ends: tuple[str, str] | None = None

    @property
    def plain(self) -> str:
        """Its heading in plain text and markdown."""
        return self.title if self.short is None else self.short


@dataclass(frozen=True, slots=True)
class Table:
    """A table whose first column names its rows; without rows it is false, and a page leaves it out.

    Args:
        name: Its name in a page's address.
        caption: What it holds.
        columns: Its columns.
        rows: Cells, as many a row as columns.
        foot: Rows that stay below when the others are sorted.
        level: The intervals' level in words, which heads their columns in plain text.
        sortable: Whether a page sorts it by its headings.
        searchable: Whether a page looks its rows through for words.
    """

    name: str
    caption: str
    columns: Sequence[Column]
    rows: Sequence[Sequence[Cell]]
    foot: Sequence[Sequence[Cell]] = ()
    level: str = ""
    sortable: bool = True
    searchable: bool = False

    def __bool__(self) -> bool:
        return bool(self.rows)

    @property
    def decimals(self) -> list[str]:
        """The longest decimals of each column."""
        columns = zip(*self.rows, *self.foot, strict=True)
        return [max((cell.decimals for cell in column), key=len) for column in columns]

    def chosen(self, *keys: str) -> Table:
        """Some columns, in this order; ``KEY_interval`` is a column of the intervals of another."""
        positions = {column.key: position for position, column in enumerate(self.columns)}
        chosen = [(positions[key if key in positions else key.removesuffix(INTERVAL)], key) for key in keys]
        columns = [self.columns[index] if key in positions else Column(key, self.level) for index, key in chosen]
        rows, foot = (
            [[row[index] if key in positions else _interval_cell(row[index]) for index, key in chosen] for row in part]
            for part in (self.rows, self.foot)
        )
        return replace(self, columns=columns, rows=rows, foot=foot)

    def known_columns(self) -> Table:
        """The columns in which something is known."""
        known = [column.key for column, cells in self._columns() if any(cell.plain not in _UNKNOWN for cell in cells)]
        return self.chosen(*dict.fromkeys([self.columns[0].key, *known]))

    def unknown_columns(self) -> dict[Missing, list[str]]:
        """Titles of the columns in which nothing is known, by the reason that stands there first."""
        titles: dict[Missing, list[str]] = {}
        for column, cells in self._columns():
            reasons = [cell.missing for cell in cells if cell.missing]
            if reasons and all(cell.plain in _UNKNOWN for cell in cells):
                titles.setdefault(reasons[0], []).append(column.title)
        return titles

    def _columns(self) -> list[tuple[Column, list[Cell]]]:
        return [(column, list(cells)) for column, *cells in zip(self.columns, *self.rows, *self.foot, strict=True)]

    def known_rows(self) -> Table:
        """The rows in which something beside their name is known."""
        rows = [row for row in self.rows if any(cell.plain not in _UNKNOWN for cell in row[1:])]
        return replace(self, rows=rows)

    def turned(self, first: Column) -> Table:
        """The same table on its side, for more columns than a screen is wide: its rows become columns.

        Args:
            first: The column of the names of its columns, which become rows; the last of them stands at the foot.
        """
        across = [*self.rows, *self.foot]
        columns = [first, *(Column(row[0].plain, row[0].text, row[0].short) for row in across)]
        rows = [
            [words(column.plain), *(row[position] for row in across)]
            for position, column in enumerate(self.columns[1:], start=1)
        ]
        return replace(self, columns=columns, rows=rows[:-1], foot=rows[-1:])

    def retitled(self, **shorts: str) -> Table:
        """The same table with other headings in plain text, by key."""
        columns = [replace(column, short=shorts.get(column.key, column.short)) for column in self.columns]
        return replace(self, columns=columns)


def _interval_cell(cell: Cell) -> Cell:
    return Cell(cell.ends) if cell.interval else NOTHING if cell is NOTHING else Cell(missing=Missing.UNDEFINED)


def number(
    value: float | None, ends: Ends = None, why: Missing | None = None, mark: str = "", form: Form = "figure"
) -> Cell:
    """A number with its interval; where it is missing, why."""
    if value is None:
        return Cell(missing=why or Missing.UNDEFINED, mark=mark)
    return Cell(value, form, ends, mark=mark)


def measure_cell(entry: Mapping[str, Any], name: str, why: Missing | None = None, mark: str = "") -> Cell:
    """A measure of a report's entry, with its interval where the entry has one."""
    return number(entry[name], entry.get(f"{name}{INTERVAL}"), why, mark)


signed = partial(number, form="signed")
share = partial(number, form="percent")
p_value = partial(number, form="p")
count = partial(number, form="count")
point = partial(number, form="point")


def words(
    text: str, *, short: str | None = None, mark: str = "", note: str = "", hint: str = "", link: str = ""
) -> Cell:
    """A name, or other words."""
    return Cell(text, short=short, mark=mark, note=note, hint=hint, link=link)


def measure_column(name: str, title: str | None = None, key: str | None = None) -> Column:
    """The column of a measure, with its definition."""
    measure = MEASURES[name]
    return Column(key or name, title or measure.title, title or measure.short, explanation=measure.definition)


def words_column(key: str, title: str, short: str | None = None) -> Column:
    """A column of words."""
    return Column(key, title, short, "words")


# More prompts than a screen is wide are not put side by side.
MOST_ACROSS = 16
PROMPT = words_column("prompt", "Prompt", "prompt")
MEAN = words("Mean over prompts", short="mean")


def aligned(columns: Sequence[Sequence[str]]) -> list[str]:
    """Lines of columns, the first flush left and the others flush right."""
    widths = [max(map(len, column)) for column in columns]
    lines = []
    for first, *others in zip(*columns, strict=True):
        cells = [first.ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(others, widths[1:], strict=True))]
        lines.append("  ".join(cells).rstrip())
    return lines


def text_table(table: Table) -> list[str]:
    """The lines of a table in plain text."""
    rows = [[column.plain for column in table.columns]]
    rows += [[cell.plain for cell in row] for row in (*table.rows, *table.foot)]
    return aligned(list(zip(*rows, strict=True)))


def markdown_table(table: Table) -> str:
    """A table in GitHub markdown, without a line break at its end."""
    lines = [[column.plain for column in table.columns]]
    lines += [["---:" if column.kind == "number" else "---" for column in table.columns]]
    lines += [[cell.plain for cell in row] for row in (*table.rows, *table.foot)]
    escaped = [[word.replace("|", "\\|") for word in line] for line in lines]
    return "\n".join(f"| {' | '.join(line)} |" for line in escaped)


def table_records(table: Table) -> list[Record]:
    """The rows of a table for a csv file, with all digits: value by key, and ends of intervals; None for blank."""
    records: list[Record] = []
    for row in (*table.rows, *table.foot):
        record: Record = {}
        for column, cell in zip(table.columns, row, strict=True):
            record[column.key] = cell.value
            if column.ends:
                record |= zip(column.ends, cell.interval or (None, None), strict=True)
        records.append(record)
    return records
