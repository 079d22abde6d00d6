"""Workbooks: the first sheet of an .xlsx file row by row, and a sheet written row by row, in constant memory.

Text is text: nothing that is written becomes a formula, a number or an error when the file is opened.
"""

from __future__ import annotations

import logging
import math
import re
import warnings
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice, zip_longest
from pathlib import Path
from typing import Any, BinaryIO

from aes_dynloss.errors import DataError
from aes_dynloss.tables.csv_jsonl import check_header, no_rows
from aes_dynloss.tables.rows import Row, damaged_table

logger = logging.getLogger(__name__)

# What a sheet holds; a damaged one may have a row of any number, and all before it would be passed through.
_LAST_ROW, _LAST_COLUMN = 2**20, 2**14
# Of one cell, in units of UTF-16.
_LONGEST_TEXT = 32_767
# Characters that XML cannot hold or, as a carriage return, does not keep, and text that looks like one of them escaped:
# _xHHHH_ stands for a character (ECMA-376, ST_Xstring).
_ESCAPED = re.compile(r"[\x00-\x08\x0b-\x1f\ufffe\uffff]|_(?=x[0-9A-Fa-f]{4}_)")
_LONGEST_ESCAPE = len("_x0000_")
_ESCAPE = re.compile(r"_x(?!0000|[dD][89a-fA-F])([0-9A-Fa-f]{4})_")


def _openpyxl(need: str, other: str) -> Any:  # noqa: ANN401 - openpyxl is untyped
    try:
        import openpyxl
    except ImportError:
        raise DataError(
            f"{need} .xlsx needs openpyxl. Install the extra: pip install 'aes-dynloss[excel]', or {other}."
        ) from None
    return openpyxl


def sheet_rows(path: Path, opened: Path | BinaryIO) -> Iterator[Row]:
    """Rows of a workbook's first sheet; a row without a value is no row.

    Args:
        path: The workbook, as messages name it.
        opened: The same, or what it holds.

    Raises:
        DataError: It is damaged or no table, or openpyxl is not installed.
    """
    openpyxl = _openpyxl(f"{path.name}: reading", "save the sheet as csv")
    try:
        with warnings.catch_warnings(action="ignore"):  # of styles and print settings
            book = openpyxl.load_workbook(opened, read_only=True, data_only=True)
    except Exception as error:  # Damage reaches Python as any of a dozen classes.
        raise damaged_table(path, "xlsx", error) from None
    try:
        sheet = book.worksheets[0] if book.worksheets else None
        if len(book.worksheets) > 1:
            logger.warning("%s has %d sheets; the first is read.", path.name, len(book.worksheets))
        if sheet is not None:
            sheet.reset_dimensions()  # what it claims may be less than what it holds
        rows = _sheet_values(sheet, path)
        header = ["" if value is None else str(value) for _, values in islice(rows, 1) for value in values]
        if "" in header:
            raise DataError(f"Column {header.index('') + 1} of {path.name} has no name in the header. Give it one.")
        check_header(header, path.name)
        number = 0
        for number, values in rows:
            if len(values) > len(header):
                raise DataError(
                    f"Row {number} of {path.name} has {len(values)} values, the header {len(header)}. Mend the row."
                )
            yield number, dict(zip_longest(header, values))
        if not number:
            raise no_rows(path.name, header)
    finally:
        book.close()


def _sheet_values(sheet: Any, path: Path) -> Iterator[tuple[int, list[object]]]:  # noqa: ANN401 - openpyxl is untyped
    """Rows that hold a value, numbered as the spreadsheet numbers them."""
    blank: object = None  # what stands for every row that the file leaves out
    try:
        found = () if sheet is None else sheet.iter_rows(max_row=_LAST_ROW, values_only=True)
        for number, cells in enumerate(found, start=1):
            if cells is blank:
                continue
            values = [_unescaped(value) if isinstance(value, str) else value for value in cells]
            while values and values[-1] is None:
                values.pop()
            if values:
                yield number, values
            else:
                blank = cells
    except Exception as error:  # As above.
        raise damaged_table(path, "xlsx", error) from None


def _unescaped(text: str) -> str:
    return _ESCAPE.sub(lambda match: chr(int(match[1], 16)), text) if "_x" in text else text


def write_sheet(rows: Iterable[Sequence[object]], stream: BinaryIO) -> None:
    """Write a workbook with one sheet, which :func:`sheet_rows` gives back as it was.

    Args:
        rows: The header and the rows: text, numbers and truth values; None and numbers that are not finite are blanks.
        stream: Where to.

    Raises:
        DataError: A text, or the table, is larger than a sheet can hold, or openpyxl is not installed.

    Example:
        >>> import io
        >>> stream = io.BytesIO()
        >>> write_sheet([["essay_id", "text"], ["007", "=1+1 is 2"]], stream)
        >>> list(sheet_rows(Path("essays.xlsx"), stream))
        [(2, {'essay_id': '007', 'text': '=1+1 is 2'})]
    """
    openpyxl = _openpyxl("Writing", "write csv, jsonl or parquet")
    book = openpyxl.Workbook(write_only=True)
    sheet = book.create_sheet()
    try:
        for number, row in enumerate(rows, start=1):
            if number > _LAST_ROW or len(row) > _LAST_COLUMN:
                raise DataError(
                    f"A sheet of .xlsx holds {_LAST_ROW} rows of {_LAST_COLUMN} values, and the table is larger. Write "
                    "csv, jsonl or parquet."
                )
            sheet.append([_cell(openpyxl, sheet, value, number) for value in row])
    finally:
        sheet.close()
    book.save(stream)


def refuse_long_text(text: str, where: str) -> None:
    """Refuse a text that no cell of a workbook holds.

    Args:
        text: The text.
        where: It stands.

    Raises:
        DataError: It is too long.
    """
    if _LONGEST_ESCAPE * len(text) <= _LONGEST_TEXT:
        return
    length = len(_escaped(text).encode("utf-16-le", "surrogatepass")) // 2
    if length > _LONGEST_TEXT:
        raise DataError(
            f"{where}: a text of {length} characters, and a cell of .xlsx holds {_LONGEST_TEXT}. Write csv, jsonl or "
            "parquet."
        )


def _escaped(text: str) -> str:
    return _ESCAPED.sub(lambda match: f"_x{ord(match[0]):04X}_", text)


def _cell(openpyxl: Any, sheet: Any, value: object, row: int) -> object:  # noqa: ANN401 - openpyxl is untyped
    """A cell whose type is that of its value; openpyxl alone would guess it, and round numbers to 16 digits."""
    if isinstance(value, bool):
        return value
    if value is None or value == "" or (isinstance(value, float) and not math.isfinite(value)):
        return None
    text, kind = str(float(value) if isinstance(value, float) else value), "n"
    if not isinstance(value, float | int):
        refuse_long_text(text, f"Row {row}")
        text, kind = _escaped(text), "s"
    cell = openpyxl.cell.WriteOnlyCell(sheet, text)
    cell.data_type = kind
    return cell
