"""Tables on disk: csv, jsonl and parquet, read without guessing types and written whole or not at all."""

from __future__ import annotations

import csv
import json
import math
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from aes_dynloss.errors import DataError

SUFFIXES = (".csv", ".jsonl", ".parquet")


def read_cells(path: str | Path) -> pd.DataFrame:
    """The cells of a table as they stand: text stays text ("007", "NA"), and None is a blank.

    Args:
        path: File that ends in .csv (UTF-8, comma, one header line), .jsonl (an object a line) or .parquet.

    Returns:
        Table of dtype object, at least one row, index 0, 1, ...

    Raises:
        DataError: The file is missing, of another type, empty, damaged, or names a column twice.
    """
    path = Path(path)
    readers: dict[str, Callable[[Path], pd.DataFrame]] = {
        ".csv": _read_csv,
        ".jsonl": _read_jsonl,
        ".parquet": _read_parquet,
    }
    reader = readers[checked_suffix(path)]
    try:
        table = reader(path)
    except UnicodeDecodeError as error:
        raise DataError(f"{path.name} is not UTF-8 (byte {error.start}). Save it as UTF-8.") from error
    except OSError as error:
        raise DataError(f"Cannot read {path}: {error.strerror or error}.") from error
    twice = table.columns[table.columns.duplicated()]
    if len(twice):
        raise DataError(f"{path.name} has more than one column {twice[0]!r}. Rename or drop one of them.")
    if table.empty:
        raise DataError(f"{path.name} has no rows. Give a table with a header and rows.")
    return table


def write_table(table: pd.DataFrame, path: str | Path) -> None:
    """Write a table as its suffix says; floats keep every digit and a blank stays blank.

    The file appears whole or not at all: it is written beside its place under another name and then renamed.

    Args:
        table: Columns of strings and numbers; NaN and None are blanks.
        path: File that ends in .csv, .jsonl or .parquet; missing folders are made.

    Raises:
        DataError: Another suffix, or the file cannot be written.
    """
    path = Path(path)
    suffix = checked_suffix(path)
    with replacing(path) as temporary:
        if suffix == ".csv":
            table.to_csv(temporary, index=False, lineterminator="\n", encoding="utf-8")
        elif suffix == ".parquet":
            table.to_parquet(temporary, index=False)
        else:
            blanks = table.astype(object).where(table.notna(), None)
            lines = [json.dumps(row, ensure_ascii=False, allow_nan=False) for row in blanks.to_dict("records")]
            temporary.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary path beside ``path`` that takes its place when the block ends without an error.

    Args:
        path: Where the file is to be; missing folders are made.

    Yields:
        Path to write to.

    Raises:
        DataError: The folder or the file cannot be written.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        temporary.replace(path)
    except OSError as error:
        raise DataError(f"Cannot write {path}: {error.strerror or error}.") from error
    finally:
        with suppress(OSError):  # It may not be there, or have a name too long to be.
            temporary.unlink()


def checked_suffix(path: Path) -> str:
    """The suffix of a table file, in lower case; DataError if it is none that can be read and written."""
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        raise DataError(
            f"{path.name or path} must end in one of {', '.join(SUFFIXES)}, which says how to read or write it."
        )
    return suffix


def distinct_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A JSON object, as ``object_pairs_hook``; ValueError where a key comes twice, of which JSON keeps the last."""
    keys = [key for key, _ in pairs]
    for key in keys:
        if keys.count(key) > 1:
            raise ValueError(f"key {key!r} comes twice")
    return dict(pairs)


def _read_csv(path: Path) -> pd.DataFrame:
    """Every cell as text; rows shorter or longer than the header are refused, where pandas would pad or shift them."""
    with path.open(encoding="utf-8-sig", newline="") as file:
        reader = csv.reader(file, strict=True)
        try:
            header = next((row for row in reader if row), None)
            if header is None:
                raise DataError(f"{path.name} is empty. Give a table with a header and rows.")
            refuse_other_separators(header, path.name)
            rows: list[list[str | None]] = []
            for row in reader:
                if len(row) not in {0, len(header)}:
                    raise DataError(
                        f"Row {len(rows) + 1} of {path.name} (line {reader.line_num}) has {len(row)} fields, "
                        f"the header {len(header)}. Quote fields that hold a comma, or mend the row."
                    )
                if row:  # A blank line holds no field.
                    rows.append([cell if cell.strip() else None for cell in row])
        except csv.Error as error:
            raise DataError(f"Line {reader.line_num} of {path.name} is not csv: {error}.") from error
    return pd.DataFrame(rows, columns=pd.Index(header), dtype=object)


def refuse_other_separators(header: Sequence[str], name: str, delimiter: str = ",") -> None:
    """Refuse a csv's header of one name that holds the separators of a spreadsheet in another language.

    Args:
        header: Names of the columns.
        name: The file's name.
        delimiter: What separates them; a comma in a csv.

    Raises:
        DataError: It is such a header.
    """
    for sign, words in ((";", "';'"), ("\t", "tabs")):
        if delimiter == "," and len(header) == 1 and sign in header[0]:
            raise DataError(
                f"{name} is separated by {words}; commas are expected. Save it with commas between columns."
            )


def _read_jsonl(path: Path) -> pd.DataFrame:
    """One object a line; a key that a line lacks is a blank."""
    rows: list[dict[str, Any]] = []
    with path.open(encoding="utf-8-sig") as file:
        for number, line in enumerate(file, start=1):
            if not line.strip():
                continue
            try:
                row = json.loads(line, object_pairs_hook=distinct_keys)
            except (ValueError, RecursionError) as error:
                raise DataError(f"Line {number} of {path.name} is not JSON: {error}.") from error
            if not isinstance(row, dict):
                raise DataError(f"Line {number} of {path.name} is not a JSON object.")
            rows.append(row)
    columns = list(dict.fromkeys(key for row in rows for key in row))
    cells = [[_blank_to_none(row.get(column)) for column in columns] for row in rows]
    return pd.DataFrame(cells, columns=pd.Index(columns), dtype=object)


def _read_parquet(path: Path) -> pd.DataFrame:
    """Cells as Python values, so that nothing goes through a float on the way."""
    with path.open("rb") as file:
        try:
            table = pq.read_table(file)
            columns = [[_blank_to_none(cell) for cell in column.to_pylist()] for column in table.columns]
        # The last two: text that is none, times and dates that Python does not have.
        except (pa.ArrowException, OSError, ValueError, OverflowError) as error:
            raise DataError(f"{path.name} is not parquet: {error}. Save it again.") from error
    cells = [list(row) for row in zip(*columns, strict=True)]
    return pd.DataFrame(cells, columns=pd.Index(table.column_names), dtype=object)


def _blank_to_none(cell: object) -> object:
    """None for text without a character and for parquet's NaN, which writers of tables use for a blank."""
    if isinstance(cell, str) and not cell.strip():
        return None
    if isinstance(cell, float) and math.isnan(cell):
        return None
    return cell
