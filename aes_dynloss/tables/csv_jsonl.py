"""Rows of text tables: csv and tsv with strict quoting, where every value is text, and jsonl, an object a line.

Bytes are decoded to lines a piece at a time. A byte that cannot be decoded is reported with its exact place. Lines of
csv are written so that every text comes back.
"""

from __future__ import annotations

import codecs
import csv
import io
import itertools
import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain
from typing import Any, BinaryIO, Literal, NoReturn, cast

from aes_dynloss.errors import DataError
from aes_dynloss.tables.rows import FaultHandler, NoRowsError, Row, RowFault

_NEWLINE = re.compile(r"\r\n|\r|\n")


class OtherEncodingError(DataError):
    """A byte is not in the encoding that was expected.

    Args:
        found: What is there, and where.
        advice: What to do for who can name an encoding.
    """

    def __init__(self, found: str, advice: str) -> None:
        super().__init__(f"{found}. {advice}")
        self.found = found


class CsvLines:
    """Takes lines of a csv writer that end by ``END``, and ends them by a line feed alone, in UTF-8.

    Python's writer quotes a carriage return in a text only where lines end by one.

    Args:
        stream: Where they go.
    """

    END = "\r\n"

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream

    def write(self, line: str) -> int:
        """Write one line."""
        return self._stream.write(line.removesuffix(self.END).encode() + b"\n")


class _CountedBytes(io.BufferedIOBase):
    """A binary stream that knows how many bytes were taken from it, and which stood before the last piece.

    Standard input can tell neither.
    """

    def __init__(self, stream: BinaryIO) -> None:
        self.count = 0
        self.before = b""
        self._last = b""
        self._stream = stream

    def readable(self) -> bool:
        return True

    def read1(self, size: int = -1, /) -> bytes:
        # read() where there is no read1(): raw streams.
        data: bytes = getattr(self._stream, "read1", self._stream.read)(size)
        self.count += len(data)
        self.before, self._last = self._last, data[-1:]
        return data


def read_lines(stream: BinaryIO, encoding: str, source: str) -> Iterator[str]:
    r"""Decode a stream line by line; memory holds one line.

    Line ends (``\n``, ``\r\n``, ``\r``) stay on the lines, so that line breaks inside quoted fields stay what they
    are. A byte order mark at the start is taken off.

    Args:
        stream: Bytes.
        encoding: Such as ``utf-8`` or ``cp1252``.
        source: The stream's name in messages.

    Raises:
        OtherEncodingError: A byte is not ``encoding``.
        DataError: A NUL character was found, or the stream cannot be read.
    """
    counted = _CountedBytes(stream)
    # newline="": split at line ends, but do not translate them.
    text = io.TextIOWrapper(cast(BinaryIO, counted), encoding=codec_name(encoding), errors="strict", newline="")
    line = 0
    while True:
        try:
            decoded = text.readline()
        except UnicodeDecodeError as error:
            # The decoder holds the last bytes taken, so offsets count back from their end.
            offset = counted.count - len(error.object) + error.start
            # A carriage return before them is held back, to see whether a line feed follows.
            held = "\r" if counted.before == b"\r" else ""
            before = held + error.object[: error.start].decode(encoding, errors="replace")
            position = f"Line {line + 1 + len(_NEWLINE.findall(before))} of {source} (byte {offset})"
            found, advice = describe_byte(error, encoding, at_start=offset == 0)
            raise OtherEncodingError(f"{position}: {found}", advice) from None
        except (OSError, UnicodeError) as error:
            raise DataError(f"{source} cannot be read: {error}.") from None
        if not decoded:
            return
        line += 1
        if "\0" in decoded:
            raise DataError(
                f"Line {line} of {source} holds a NUL character: the file is damaged, or no {encoding} text."
            )
        yield decoded


def codec_name(encoding: str) -> str:
    """The codec of an encoding; for UTF-8 the one that takes off a byte order mark."""
    name = codecs.lookup(encoding).name
    return "utf-8-sig" if name == "utf-8" else name


def describe_byte(error: UnicodeDecodeError, encoding: str, *, at_start: bool) -> tuple[str, str]:
    """Words for a byte that is not in the expected encoding, and an encoding to try instead."""
    bad = error.object[error.start : error.end][:4]
    if at_start and bad[:1] in {b"\xff", b"\xfe"}:
        advice = "utf-16"
    elif codec_name(encoding) == "utf-8-sig":
        advice = "cp1252"
    else:
        advice = "utf-8"
    shown = " ".join(f"0x{byte:02x}" for byte in bad)
    found = f"expected {encoding} text, found {shown} ({error.reason})"
    return found, f"If it was saved in another encoding, name it, such as encoding: {advice}."


Quoting = Literal["minimal", "none"]


class DelimitedRow(dict[str, object]):
    """A row of a csv or tsv file, which knows what separates its columns.

    Args:
        cells: Values by column, in the file's order.
        delimiter: A comma, a semicolon or a tab.
    """

    __slots__ = ("delimiter",)

    def __init__(self, cells: Iterable[tuple[str, object]], delimiter: str) -> None:
        super().__init__(cells)
        self.delimiter = delimiter


def delimited_rows(
    lines: Iterable[str], name: str, *, delimiter: str, quoting: Quoting, on_fault: FaultHandler
) -> Iterator[Row]:
    """Rows of a table whose first line that is not blank is the header, which is row 1.

    Args:
        lines: Lines with their line ends.
        name: The table's name in messages.
        delimiter: A comma or a tab. A comma gives way to a semicolon or a tab where the header is one name by commas
            and several by that, as spreadsheets in many languages write csv.
        quoting: Whether double quotes are quotes (``minimal``) or plain characters (``none``).
        on_fault: Is given each row that has another number of values than the header.

    Raises:
        DataError: A column stands twice, quotes do not fit, or there is no header.
        NoRowsError: There is nothing below the header.
    """
    # The limit guards nothing here (memory holds the row anyway) and would refuse long essays at 128 KiB.
    csv.field_size_limit(max(csv.field_size_limit(), 2**31 - 1))
    lines, delimiter = _sniffed(lines, delimiter)
    if quoting == "none":
        reader = csv.reader(lines, delimiter=delimiter, quoting=csv.QUOTE_NONE)
    else:
        reader = csv.reader(lines, delimiter=delimiter, quoting=csv.QUOTE_MINIMAL, strict=True)
    header: list[str] = []
    empty = True
    for number in itertools.count(1):
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
            yield number, DelimitedRow(zip(header, fields, strict=True), delimiter)
        elif fields or len(header) == 1:  # In a table of one column, a blank line is a row without its value.
            empty = False
            on_fault(RowFault(name, number, _describe_width(len(header), len(fields), delimiter)))
    if empty:
        raise no_rows(name, header)


def _sniffed(lines: Iterable[str], delimiter: str) -> tuple[Iterator[str], str]:
    """The lines, and what separates their columns by the first one that is not blank."""
    first, lines = peeked(lines)
    if first and delimiter == ",":
        widths = {sign: len(next(csv.reader([first], delimiter=sign), [])) for sign in ",;\t"}
        if widths[","] == 1:
            delimiter = max(widths, key=lambda sign: widths[sign])
    return lines, delimiter


def peeked(lines: Iterable[str]) -> tuple[str, Iterator[str]]:
    """The first line that is not blank, "" if there is none, and all lines."""
    rest = iter(lines)
    begun: list[str] = []
    for line in rest:
        begun.append(line)
        if line.strip():
            break
    return begun[-1] if begun else "", chain(begun, rest)


def no_rows(name: str, header: Sequence[str]) -> DataError:
    """The error on a table without a header, or without rows below it."""
    if not header:
        return DataError(f"{name} is empty. Give a table with a header and rows.")
    return NoRowsError(f"{name} holds a header ({', '.join(header)}) but no rows.", header)


def check_header(names: Sequence[str], source: str) -> None:
    """Refuse a header in which a name stands twice.

    Raises:
        DataError: Naming the column.
    """
    for name, count in Counter(names).items():
        if count > 1:
            raise DataError(f"The header of {source} names the column {name!r} {count} times. Rename the others.")


def _describe_width(expected: int, found: int, delimiter: str) -> str:
    what = {"\t": "tab", ";": "semicolon"}.get(delimiter, "comma")
    values = "1 value" if expected == 1 else f"{expected} values"
    return f"expected {values} as in the header, found {found}. Is there a {what}, a quote or a line break in a value?"


def _describe_quotes(name: str, number: int, begin: int, problem: str) -> str:
    if "unexpected end of data" in problem:
        fault = "a quote is opened in it and never closed."
    elif "expected after" in problem:
        fault = "a quoted value ends and text follows it; a quote inside a quoted value must be doubled."
    else:
        fault = f"{problem}."
    advice = (
        "Mend the quotes there. If quotes are plain characters in this file, set quoting: none or, where a command has "
        "no such option, save it with its values in quotes, or as jsonl."
    )
    return f"Row {number} of {name} (from line {begin}): {fault} {advice}"


def json_rows(lines: Iterable[str], name: str, on_fault: FaultHandler) -> Iterator[Row]:
    """Objects, numbered by their lines; blank lines are passed over.

    Args:
        lines: Lines with their line ends.
        name: The table's name in messages.
        on_fault: Is given each line that holds no JSON object.

    Raises:
        NoRowsError: There is no line but blank ones.
    """
    empty = True
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        empty = False
        try:
            row = _parse_object(line)
        except ValueError as error:
            on_fault(RowFault(name, number, f"{error}. Write one JSON object a line."))
        else:
            yield number, row
    if empty:
        raise NoRowsError(f"{name} is empty. Write one JSON object a line.")


def _parse_object(line: str) -> dict[str, object]:
    try:
        value = json.loads(line, parse_constant=_refuse_constant, object_pairs_hook=unique_keys)
    except json.JSONDecodeError as error:
        raise ValueError(f"column {error.colno} is not valid JSON: {error.msg}") from None
    except RecursionError:
        raise ValueError("nested too deeply") from None
    if not isinstance(value, dict):
        raise ValueError(f"expected a JSON object such as {{...}}, found {line.strip()[:40]}")
    return value


def _refuse_constant(word: str) -> NoReturn:
    raise ValueError(f"{word} is no JSON number; write null for a blank")


def unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A JSON object, as ``object_pairs_hook``.

    Raises:
        ValueError: A key comes twice, of which JSON's own reader would keep the last.
    """
    values = dict(pairs)
    if len(values) < len(pairs):
        twice = next(key for key, count in Counter(key for key, _ in pairs).items() if count > 1)
        raise ValueError(f"the key {twice!r} comes twice in one object")
    return values


def swallowed_line(row: Mapping[str, object], text_column: str) -> str | None:
    """A line inside a row's text that begins as the row itself does; None of a row that is none of csv or tsv.

    Cells before the text are compared by their kind: digits are alike, and so are letters. It is a guess, good for a
    warning: numbered paragraphs can look like rows with numbers for ids.

    Args:
        row: The row.
        text_column: The column that may span lines.
    """
    text = row[text_column]
    if not isinstance(row, DelimitedRow) or not isinstance(text, str) or "\n" not in text:
        return None
    names = list(row)
    kinds = [_kind(str(row[name])) for name in names[: names.index(text_column)]]
    # A lone word is how many a paragraph begins.
    if kinds in ([], ["a"]):
        return None
    lines = text.split("\n")[1:]
    return next((line for line in lines if _kind(line).split(row.delimiter)[:-1][: len(kinds)] == kinds), None)


def _kind(cell: str) -> str:
    return re.sub(r"[^\W\d_]+", "a", re.sub(r"\d+", "0", cell))
