"""Cells of a table as ids, texts, numbers, groups and truth values: one verdict, wherever the table is read.

Nothing is guessed or rounded. A blank is None, NaN, pandas' missing value, or text without a visible character. A
number is an int, a float, a decimal, or text in the digits 0 to 9, such as ``3``, ``3.5`` or ``1e-2``; blanks around
it, non-breaking ones too, do not count. An id is text as it is written ("007" and "NA" stay what they are), or a whole
number.

Three layers: functions of one value (``id_cell``), of one row (``id_value``, which also refuses a missing column), and
of one column (``parse_ids``, which names the row of a fault).
"""

from __future__ import annotations

import json
import math
import numbers
import re
import unicodedata
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from decimal import Decimal
from typing import TypeVar

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from aes_dynloss.configfile import clipped_repr
from aes_dynloss.errors import DataError
from aes_dynloss.tables.columns import nearest
from aes_dynloss.tables.score_range import ScoreRange

_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", re.ASCII)
_DECIMAL_COMMA = re.compile(r"[+-]?\d+,\d+", re.ASCII)
_TRUTH = {"true": True, "false": False, "none": False, "nan": False, "<na>": False}
# Ordinary and non-breaking spaces, and line ends: what may stand around a number.
_SPACES = " \t\r\n\u00a0\u2007\u202f"
T = TypeVar("T")


class CellError(ValueError):
    """A cell that cannot be used, without its row, which the reader knows."""


def is_blank(value: object) -> bool:
    """Whether a cell holds nothing.

    Example:
        >>> [is_blank(value) for value in (None, float("nan"), "\u00a0", "0", 0)]
        [True, True, True, False, False]
    """
    if isinstance(value, str):
        return not value.strip()
    return value is None or value is pd.NA or (isinstance(value, float | np.floating | Decimal) and math.isnan(value))


def id_cell(value: object, column: str) -> str:
    """An id: text as it is written, or a whole number as text.

    Raises:
        CellError: It is blank, of another type, on several lines, or holds a control character or half a character.
    """
    if isinstance(value, str):
        if value.isprintable() and value.strip():  # what follows is for the few that may not be usable
            return value
    elif isinstance(value, numbers.Integral) and not isinstance(value, bool):
        return str(value)
    if is_blank(value):
        raise CellError(f"{column} is empty. Give each row one.")
    if not isinstance(value, str):
        raise CellError(f"{column} is {clipped_repr(value)}; expected text or a whole number.")
    if "\n" in value or "\r" in value:
        raise CellError(f"{column} {clipped_repr(value)} holds a line break. Write it on one line.")
    controls = [sign for sign in value if unicodedata.category(sign) == "Cc" and sign != "\t"]
    if controls:
        raise CellError(
            f"{column} {clipped_repr(value)} holds the control character U+{ord(controls[0]):04X}. Take it out."
        )
    return _unicode(value, column)


def number_cell(value: object, column: str) -> float | None:
    """A number; None for a blank.

    Raises:
        CellError: It is no finite number, or text in other digits or with a decimal comma.

    Example:
        >>> number_cell(" 3.5\u00a0", "score"), number_cell("", "score")
        (3.5, None)
    """
    if is_blank(value):
        return None
    number = math.nan
    if isinstance(value, str):
        written = value.strip(_SPACES)
        if _NUMBER.fullmatch(written):
            number = float(written)
        elif _DECIMAL_COMMA.fullmatch(written):
            raise CellError(f"{column} {clipped_repr(value)} has a decimal comma. Write {written.replace(',', '.')}.")
    elif isinstance(value, numbers.Real | Decimal | np.number) and not isinstance(value, bool | np.bool_):
        try:
            number = float(value)
        except (OverflowError, TypeError):
            number = math.inf
    if not math.isfinite(number):
        raise CellError(
            f"{column} {clipped_repr(value)} is not a finite number. Write it as 3 or 3.5, in digits 0 to 9."
        )
    return number


def truth_cell(value: object, column: str) -> bool:
    """Yes or no: true or false in any case of letters, as text or not; a blank is no.

    Raises:
        CellError: It is something else.
    """
    truth = False if is_blank(value) else _TRUTH.get(str(value).strip().lower())
    if truth is None:
        raise CellError(f"{column} is {clipped_repr(value)}; expected true or false. Fix the row.")
    return truth


def id_value(row: Mapping[str, object], column: str) -> str:
    """A row's id, see :func:`id_cell`."""
    return id_cell(_present(row, column), column)


def text_value(row: Mapping[str, object], column: str, *, blank: str | None = None) -> str:
    """A row's essay, exactly as it is written; a blank one is ``blank``, where that is given.

    Raises:
        CellError: It is blank or no text.
    """
    value = _present(row, column)
    if is_blank(value):
        if blank is None:
            raise CellError(f"{column} is empty. An essay needs words; take the row out.")
        return blank
    if not isinstance(value, str):
        raise CellError(f"{column} is {clipped_repr(value)}; expected text.")
    return _unicode(value, column)


def number_value(row: Mapping[str, object], column: str) -> float:
    """A row's score, which must be there, see :func:`number_cell`."""
    number = optional_number(row, column)
    if number is None:
        raise CellError(f"{column} is empty; expected a number.")
    return number


def optional_number(row: Mapping[str, object], column: str) -> float | None:
    """A row's score, None where it is blank, see :func:`number_cell`."""
    return number_cell(_present(row, column), column)


def group_value(row: Mapping[str, object], column: str) -> str | None:
    """A row's group of writers as text; None for a blank.

    Raises:
        CellError: It is neither text nor a finite number.
    """
    value = _present(row, column)
    if is_blank(value):
        return None
    infinite = isinstance(value, float | Decimal) and abs(value) == math.inf
    if isinstance(value, float | Decimal) and not infinite and value == int(value):
        value = int(value)  # where a column of whole numbers has gaps, readers make floats of them
    if infinite or not isinstance(value, str | numbers.Real | Decimal):
        raise CellError(f"{column} is {clipped_repr(value)}; expected the name of a group.")
    return _unicode(str(value).strip(), column)


def check_score(score: float, column: str, prompt_id: str, score_range: ScoreRange) -> None:
    """Refuse a score that is none of its prompt's score points.

    Raises:
        CellError: Naming the score, the prompt and the range.
    """
    # Before the check of score points, whose arithmetic overflows at the ends of float64.
    if not score_range.low - 1e-6 <= score <= score_range.high + 1e-6:
        outside = f"is outside prompt {prompt_id}'s range {score_range}"
        raise CellError(f"{column} {score:.10g} {outside}. Fix the row or the range in data.prompts.")
    if not score_range.is_score_point(score):
        between = f"is no score point of prompt {prompt_id} ({score_range}, step {score_range.step:g})"
        raise CellError(f"{column} {score:.10g} {between}. Fix the row or the step in data.prompts.")


def row_words(row: int, source: str, essay_ids: Sequence[str] | pd.Series[str]) -> str:
    """A row's name in a message: ``Row 17 of scores.csv (essay '0042')``.

    Args:
        row: Its position, from 0.
        source: The table's name.
        essay_ids: Essays of all rows; a Series of `formats.read_cells` knows the rows' numbers.
    """
    return f"Row {row_number(essay_ids, row)} of {source} (essay {list(essay_ids)[row]!r})"


def row_number(cells: object, position: int) -> int:
    """Number of a row as its file counts it, where the cells come from one; else counted from 1."""
    index = getattr(cells, "index", None)
    if isinstance(index, pd.Index) and index.name == ROW_NUMBERS:
        return int(index[position])
    return position + 1


# Name of the index of a table whose rows know their numbers in the file.
ROW_NUMBERS = "row"


def parse_ids(cells: Iterable[object], column: str, source: str) -> list[str]:
    """A column of ids, see :func:`id_cell`.

    Args:
        cells: Text or whole numbers.
        column: The column's name for messages.
        source: The table's name for messages.

    Raises:
        DataError: An id cannot be used; with its row.
    """
    return _parsed(cells, id_cell, column, source)


def parse_numbers(
    cells: Iterable[object], column: str, essay_ids: Sequence[str] | pd.Series[str], source: str
) -> NDArray[np.float64]:
    """A column of numbers as float64, (N,), NaN for a blank, see :func:`number_cell`.

    Args:
        cells: N cells.
        column: The column's name for messages.
        essay_ids: Essay of each row, for messages.
        source: The table's name for messages.

    Raises:
        DataError: A cell is no finite number; with its row.
    """
    if isinstance(cells, pd.Series) and cells.dtype.kind in "fi":
        known = cells.to_numpy(dtype=np.float64)
        if not np.isinf(known).any():
            return known
    return np.array(_parsed(cells, number_cell, column, source, essay_ids), dtype=np.float64)


def parse_truth(cells: Iterable[object], column: str, source: str) -> NDArray[np.bool_]:
    """A column of yes and no, (N,), see :func:`truth_cell`.

    Raises:
        DataError: A cell is something else; with its row.
    """
    return np.array(_parsed(cells, truth_cell, column, source), dtype=bool)


def _parsed(
    cells: Iterable[object],
    parse: Callable[[object, str], T],
    column: str,
    source: str,
    essay_ids: Sequence[str] | pd.Series[str] | None = None,
) -> list[T]:
    values = []
    for position, cell in enumerate(cells):
        try:
            values.append(parse(cell, column))
        except CellError as error:
            essay = "" if essay_ids is None else f" (essay {list(essay_ids)[position]!r})"
            raise DataError(f"Row {row_number(cells, position)} of {source}{essay}: {error}") from None
    return values


def _present(row: Mapping[str, object], column: str) -> object:
    if column not in row:
        raise CellError(f"there is no {column!r}; {nearest(column, row)}")
    return row[column]


def kept_cells(row: Mapping[str, object], without: Collection[str] = ()) -> dict[str, object]:
    """The cells of a row that are only handed on: text, numbers and truth values as they are, dates as text.

    Args:
        row: The row.
        without: Columns that are left out.

    Returns:
        Values that JSON can hold, by column; None for a blank that is no text.

    Raises:
        CellError: A text holds half a character.

    Example:
        >>> import datetime
        >>> kept_cells({"class": "007", "born": datetime.date(2011, 5, 1), "siblings": float("nan")})
        {'class': '007', 'born': '2011-05-01', 'siblings': None}
    """
    return {_unicode(column, "a column's name"): _kept(row[column], column) for column in row if column not in without}


def _kept(value: object, column: str) -> object:
    if isinstance(value, str):
        return _unicode(value, column)
    if is_blank(value):
        return None
    if isinstance(value, list | dict):
        whole: object = json.loads(_unicode(json.dumps(value, ensure_ascii=False, default=str), column))
        return whole
    if isinstance(value, int) or (isinstance(value, float) and math.isfinite(value)):
        return value
    return str(value)


def _unicode(value: str, column: str) -> str:
    try:
        value.encode()
    except UnicodeEncodeError as error:
        half = f"character {error.start} of {column} is half of a surrogate pair"
        raise CellError(f"{half}, which no text can hold. Write the character whole.") from None
    return value


def listed_words(cell: object) -> list[str]:
    """The words of a cell that lists some: a list of them, or what csv has, with semicolons between.

    Examples:
        >>> listed_words("too_short; unseen_prompt"), listed_words(["too_short"]), listed_words(None)
        (['too_short', 'unseen_prompt'], ['too_short'], [])
    """
    listed = cell if isinstance(cell, list | np.ndarray) else [] if is_blank(cell) else str(cell).split(";")
    return [word for word in (str(one).strip() for one in listed) if word]
