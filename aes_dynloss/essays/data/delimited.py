"""Rows of csv and tsv: strict quoting, every value text."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import Literal

from aes_dynloss.errors import DataError
from aes_dynloss.essays.data.rows import FaultHandler, Row, RowFault
from aes_dynloss.evaluation.table_files import refuse_other_separators

Quoting = Literal["minimal", "none"]


def delimited_rows(
    lines: Iterable[str], name: str, *, delimiter: str, quoting: Quoting, on_fault: FaultHandler
) -> Iterator[Row]:
    """Rows of a table whose first line that is not blank is the header, which is row 1.

    Args:
        lines: Lines with their line ends.
        name: The table's name in messages.
        delimiter: A comma or a tab.
        quoting: Whether double quotes are quotes (``minimal``) or plain characters (``none``).
        on_fault: Is given each row that has another number of values than the header.

    Raises:
        DataError: A column stands twice, quotes do not fit, columns are not parted by commas, or there are no rows.
    """
    # The limit guards nothing here (memory holds the row anyway) and would refuse long essays at 128 KiB.
    csv.field_size_limit(max(csv.field_size_limit(), 2**31 - 1))
    if quoting == "none":
        reader = csv.reader(lines, delimiter=delimiter, quoting=csv.QUOTE_NONE)
    else:
        reader = csv.reader(lines, delimiter=delimiter, quoting=csv.QUOTE_MINIMAL, strict=True)
    header: list[str] = []
    empty = True
    number = 0
    while True:
        number += 1
        begin = reader.line_num + 1
        try:
            fields = next(reader)
        except StopIteration:
            break
        except csv.Error as error:
            raise DataError(_describe_quotes(name, number, begin, str(error))) from None
        if not header:
            check_header(fields, name)
            header = fields
        elif len(fields) == len(header):
            empty = False
            yield number, dict(zip(header, fields, strict=True))
        elif fields or len(header) == 1:  # In a table of one column, a blank line is a row without its value.
            empty = False
            refuse_other_separators(header, name, delimiter)
            on_fault(RowFault(name, number, _describe_width(len(header), len(fields), delimiter)))
    if not header:
        raise DataError(f"{name} is empty. Give a table with a header and rows.")
    if empty:
        raise DataError(f"{name} holds a header ({', '.join(header)}) but no rows.")


def check_header(names: Sequence[str], source: str) -> None:
    """Refuse a header in which a name stands twice.

    Raises:
        DataError: Naming the column.
    """
    for name, count in Counter(names).items():
        if count > 1:
            raise DataError(f"The header of {source} names the column {name!r} {count} times. Rename the others.")


def _describe_width(expected: int, found: int, delimiter: str) -> str:
    what = "tab" if delimiter == "\t" else "comma"
    values = "1 value" if expected == 1 else f"{expected} values"
    return f"expected {values} as in the header, found {found}. Is there a {what}, a quote or a line break in a value?"


def _describe_quotes(name: str, number: int, begin: int, problem: str) -> str:
    if "unexpected end of data" in problem:
        fault = "a quote is opened in it and never closed."
    elif "expected after" in problem:
        fault = "a quoted value ends and text follows it; a quote inside a quoted value must be doubled."
    else:
        fault = f"{problem}."
    advice = "Mend the quotes there or, if quotes are plain characters in this file, set quoting: none."
    return f"Row {number} of {name} (from line {begin}): {fault} {advice}"
