"""Cells of a table as ids and numbers, each fault named with its row."""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Iterable, Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from aes_dynloss.errors import DataError


def row_words(row: int, source: str, essay_ids: Sequence[str] | pd.Series[str]) -> str:
    """Words for a row in a message: ``Row 17 of scores.csv (essay '0042')``, counted from 1 without the header."""
    return f"Row {row + 1} of {source} (essay {list(essay_ids)[row]!r})"


def parse_ids(cells: Iterable[object], column: str, source: str) -> list[str]:
    """Ids as text, letter for letter: "007" stays "007" and "NA" stays "NA".

    Args:
        cells: Text or whole numbers.
        column: The column's name for messages.
        source: Words for the table in messages.

    Returns:
        The ids.

    Raises:
        DataError: An id is blank, no text and no whole number, or holds a line break or control character.
    """
    ids = []
    for row, cell in enumerate(cells):
        if isinstance(cell, str):
            text = cell
            if cell.isprintable() and cell.strip():  # what follows is for the few that may be none
                ids.append(cell)
                continue
        elif isinstance(cell, int | np.integer) and not isinstance(cell, bool):
            text = str(cell)
        elif cell is None or cell is pd.NA or (isinstance(cell, float) and math.isnan(cell)):
            text = ""
        else:
            raise DataError(
                f"Row {row + 1} of {source}: {column} {cell!r} is neither text nor a whole number. Store ids as text."
            )
        if not text.strip() or "\n" in text or "\r" in text:
            fault = "holds a line break" if text.strip() else "is blank"
            raise DataError(f"Row {row + 1} of {source}: {column} {fault}. Give every essay an id on one line.")
        if any(unicodedata.category(sign) == "Cc" and sign != "\t" for sign in text):
            raise DataError(f"Row {row + 1} of {source}: {column} {text!r} holds a control character. Take it out.")
        ids.append(text)
    return ids


def parse_numbers(
    cells: Iterable[object], column: str, essay_ids: Sequence[str] | pd.Series[str], source: str
) -> NDArray[np.float64]:
    """Numbers as float64, NaN for a blank.

    Args:
        cells: Numbers, text that is a number, or blanks (None, pandas' missing values, text without a character).
        column: The column's name for messages.
        essay_ids: Essay of each row, for messages.
        source: Words for the table in messages.

    Returns:
        The numbers, in the cells' order.

    Raises:
        DataError: A cell is no number, or it is infinite or the word nan.
    """
    if isinstance(cells, pd.Series) and cells.dtype.kind in "fi":
        known = cells.to_numpy(dtype=np.float64)
        if not np.isinf(known).any():
            return known
    numbers = []
    for row, cell in enumerate(cells):
        number = _number(cell)
        if number is None:
            where = row_words(row, source, essay_ids)
            raise DataError(f"{where}: {column} {cell!r} is not a finite number. Fix the row or drop it.")
        numbers.append(number)
    return np.array(numbers, dtype=np.float64)


def parse_truth(cells: Iterable[object], column: str, source: str) -> NDArray[np.bool_]:
    """Yes or no: true or false in any case of letters, as text or not; a blank is no.

    Raises:
        DataError: A cell is something else.
    """
    words = {"true": True, "false": False, "": False, "none": False, "nan": False, "<na>": False}
    found = []
    for row, cell in enumerate(cells):
        truth = words.get(str(cell).strip().lower())
        if truth is None:
            raise DataError(f"Row {row + 1} of {source}: {column} is {cell!r}; expected true or false. Fix the row.")
        found.append(truth)
    return np.array(found, dtype=bool)


def _number(cell: object) -> float | None:
    """A number, NaN for a blank, None for anything else."""
    if cell is None or cell is pd.NA or (isinstance(cell, str) and not cell.strip()):
        return math.nan
    if isinstance(cell, float | np.floating) and math.isnan(cell):
        return math.nan
    # bool is an int to Python, and float() reads "1_000" as 1000.
    if isinstance(cell, bool) or (isinstance(cell, str) and "_" in cell):
        return None
    if not isinstance(cell, str | int | float | np.integer | np.floating):
        return None
    try:
        number = float(cell)
    except (ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None
