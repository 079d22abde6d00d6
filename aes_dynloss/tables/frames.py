"""Whole tables in memory: read from the strict rows of :mod:`aes_dynloss.tables.formats`, and written atomically."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd

from aes_dynloss.errors import DataError
from aes_dynloss.tables.atomic import atomic_file
from aes_dynloss.tables.cells import ROW_NUMBERS, is_blank
from aes_dynloss.tables.formats import SUFFIXES, iterate_rows

WRITTEN_SUFFIXES = (".csv", ".jsonl", ".parquet")
# A table with more columns is none: some writers make a column of each essay.
MOST_COLUMNS = 2000


def read_cells(path: str | Path) -> pd.DataFrame:
    """The cells of a table as they are: text stays text ("007", "NA"), and None is a blank.

    Args:
        path: File of a kind that :func:`aes_dynloss.tables.formats.iterate_rows` reads, in UTF-8.

    Returns:
        Table of dtype object, at least one row; its index holds the rows' numbers, as the file counts them.

    Raises:
        DataError: The file is missing, of another type, empty, damaged, names a column twice, or has more than
            MOST_COLUMNS columns.
    """
    path = Path(path)
    checked_suffix(path, SUFFIXES)
    if path.is_dir():
        raise DataError(f"Cannot read {path}: it is a folder. Name a file.")
    numbers: list[int] = []
    rows: list[dict[str, object]] = []
    columns: dict[str, None] = {}
    for number, row in iterate_rows(path):
        numbers.append(number)
        rows.append(row)
        columns.update(dict.fromkeys(row))
        if len(columns) > MOST_COLUMNS:
            raise DataError(
                f"{path.name} has more than {MOST_COLUMNS} columns up to row {number}. Write one column for each kind "
                "of value, and one row for each essay."
            )
    cells = [[_none_for_blank(row.get(column)) for column in columns] for row in rows]
    index = pd.Index(numbers, name=ROW_NUMBERS)
    return pd.DataFrame(cells, index=index, columns=pd.Index(list(columns)), dtype=object)


def write_table(table: pd.DataFrame, path: str | Path) -> None:
    """Write a table as its suffix says; floats keep every digit and a blank stays blank.

    Args:
        table: Columns of strings and numbers; NaN and None are blanks.
        path: File that ends in .csv, .jsonl or .parquet; missing folders are made.

    Raises:
        DataError: Another suffix, or the file cannot be written.
    """
    path = Path(path)
    suffix = checked_suffix(path, WRITTEN_SUFFIXES)
    with atomic_file(path) as temporary:
        if suffix == ".csv":
            table.to_csv(temporary, index=False, lineterminator="\n", encoding="utf-8")
        elif suffix == ".parquet":
            table.to_parquet(temporary, index=False)
        else:
            blanks = table.astype(object).where(table.notna(), None)
            lines = [json.dumps(row, ensure_ascii=False, allow_nan=False) for row in blanks.to_dict("records")]
            temporary.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")


def checked_suffix(path: Path, suffixes: tuple[str, ...]) -> str:
    """The suffix of a table file, in lower case.

    Args:
        path: The file.
        suffixes: Those that are known.

    Raises:
        DataError: It has another suffix.
    """
    suffix = path.suffix.lower()
    if suffix not in suffixes:
        raise DataError(
            f"{path.name or path} must end in one of {', '.join(suffixes)}, which says how to read or write it."
        )
    return suffix


def _none_for_blank(cell: object) -> object:
    return None if is_blank(cell) else cell
