"""Values of one row, each checked: ids, texts, scores. Nothing is guessed or rounded."""

from __future__ import annotations

import difflib
import math
import re
import unicodedata
from collections.abc import Collection, Mapping
from decimal import Decimal

from aes_dynloss.tables.score_range import ScoreRange

_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", re.ASCII)


class RowError(ValueError):
    """A row that cannot be used, without its place, which the reader knows."""


def id_value(row: Mapping[str, object], column: str) -> str:
    """An id: text as it stands, or a whole number as text.

    Raises:
        RowError: It is missing, empty, of another type, on several lines or with control characters, as tables of
            predictions and terminals cannot hold it.
    """
    value = _present(row, column)
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    if not isinstance(value, str):
        raise RowError(f"{column} is {_shown(value)}; expected text or a whole number.")
    if not value.strip():
        raise RowError(f"{column} is empty. Give each row one.")
    if "\n" in value or "\r" in value:
        raise RowError(f"{column} {_shown(value)} holds a line break. Write it on one line.")
    controls = [sign for sign in value if unicodedata.category(sign) == "Cc" and sign != "\t"]
    if controls:
        raise RowError(f"{column} {_shown(value)} holds the control character U+{ord(controls[0]):04X}. Take it out.")
    return _unicode(value, column)


def text_value(row: Mapping[str, object], column: str, *, blank: str | None = None) -> str:
    """An essay, exactly as it stands.

    Args:
        row: The row.
        column: The essay's column.
        blank: What stands for a blank or null one; None refuses it.

    Raises:
        RowError: It is missing, no text, or blank where that is refused.
    """
    if blank is not None and column in row and (row[column] is None or not str(row[column]).strip()):
        return blank
    value = _present(row, column)
    if not isinstance(value, str):
        raise RowError(f"{column} is {_shown(value)}; expected text.")
    if not value.strip():
        raise RowError(f"{column} is empty. An essay needs words; take the row out.")
    return _unicode(value, column)


def number_value(row: Mapping[str, object], column: str) -> float:
    """A score.

    Raises:
        RowError: It is missing, empty or no finite number.
    """
    value = _present(row, column)
    number = math.nan
    if isinstance(value, str):
        words = value.strip(" \t\r\n")
        if not words:
            raise RowError(f"{column} is empty; expected a number.")
        if _NUMBER.fullmatch(words):
            number = float(words)
    elif isinstance(value, int | float | Decimal) and not isinstance(value, bool):
        try:
            number = float(value)
        except OverflowError:
            number = math.inf
    if not math.isfinite(number):
        raise RowError(f"{column} {_shown(value)} is no number. Write it such as 3 or 3.5.")
    return number


def optional_number(row: Mapping[str, object], column: str) -> float | None:
    """A score that may be missing: an empty value, null or NaN is None.

    Raises:
        RowError: There is no such column, or its value is no number.
    """
    value = row.get(column, "")
    blank = value is None or (isinstance(value, str) and not value.strip())
    if column in row and (blank or (isinstance(value, float) and math.isnan(value))):
        return None
    return number_value(row, column)


def group_value(row: Mapping[str, object], column: str) -> str | None:
    """A group of writers as text; an empty value, null or NaN is None.

    Raises:
        RowError: There is no such column, or its value is neither text nor a number.
    """
    if column not in row:
        raise RowError(f"there is no {column!r}; {nearest(column, row)}")
    value = row[column]
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return None
    if isinstance(value, float | Decimal) and value == int(value):
        value = int(value)  # where a column of whole numbers has gaps, readers make floats of them
    if not isinstance(value, str | int | float | Decimal):
        raise RowError(f"{column} is {_shown(value)}; expected the name of a group.")
    return _unicode(str(value).strip(), column) or None


def check_score(score: float, column: str, prompt_id: str, score_range: ScoreRange) -> None:
    """Refuse a score that is none of its prompt's score points.

    Raises:
        RowError: Naming the score, the prompt and the range.
    """
    # Before holds(), whose arithmetic overflows at the ends of float64.
    if not score_range.low - 1e-6 <= score <= score_range.high + 1e-6:
        outside = f"{column} {score:.10g} is outside prompt {prompt_id}'s range {score_range}"
        raise RowError(f"{outside}. Fix the row or the range in data.prompts.")
    if not score_range.holds(score):
        between = (
            f"{column} {score:.10g} is no score point of prompt {prompt_id} ({score_range}, step {score_range.step:g})"
        )
        raise RowError(f"{between}. Fix the row or the step in data.prompts.")


def nearest(name: str, known: Collection[str]) -> str:
    """Words that help with a name that is not known: the nearest one, or all."""
    by_folded = {other.casefold(): other for other in known}
    near = difflib.get_close_matches(name.casefold(), by_folded, n=1, cutoff=0.5)
    if near:
        return f"did you mean {by_folded[near[0]]!r}?"
    listed = sorted(known)
    more = f" and {len(listed) - 20} more" if len(listed) > 20 else ""
    return f"found {', '.join(repr(other) for other in listed[:20]) or 'none'}{more}."


def separator_advice(columns: Collection[str]) -> str:
    """What to do about a header that was written with other separators than its file's name says, and so is one name.

    Args:
        columns: The columns found.

    Returns:
        A sentence after a blank, or nothing.
    """
    if len(columns) != 1 or not {";", "\t", ","} & set(next(iter(columns))):
        return ""
    return " The header is one name: save the table with commas between columns as .csv, or with tabs as .tsv."


def _present(row: Mapping[str, object], column: str) -> object:
    if column not in row:
        raise RowError(f"there is no {column!r}; {nearest(column, row)}")
    if row[column] is None:
        raise RowError(f"{column} is missing (null).")
    return row[column]


def _unicode(value: str, column: str) -> str:
    try:
        value.encode()
    except UnicodeEncodeError as error:
        half = f"character {error.start} of {column} is half of a surrogate pair"
        raise RowError(f"{half}, which no text can hold. Write the character whole.") from None
    return value


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
