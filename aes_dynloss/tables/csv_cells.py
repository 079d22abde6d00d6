"""A csv file whose cells are filled in one by one: whatever is not filled in stays as it is, byte for byte."""

from __future__ import annotations

import codecs
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from aes_dynloss.errors import DataError
from aes_dynloss.tables.csv_jsonl import codec_name, describe_byte

# Byte order marks, and how text behind them is written.
_MARKS = {
    codecs.BOM_UTF8: "utf-8",
    codecs.BOM_UTF32_LE: "utf-32-le",  # before UTF-16's, with which it begins
    codecs.BOM_UTF32_BE: "utf-32-be",
    codecs.BOM_UTF16_LE: "utf-16-le",
    codecs.BOM_UTF16_BE: "utf-16-be",
}


@dataclass(frozen=True)
class CsvCells:
    r"""The cells of a csv text, with their places in it.

    Args:
        text: The text.
        separator: Between cells.
        places: Begin and end of each cell, quotes included, row by row; the header is row 0.
        encoding: In which it is written.
        mark: The byte order mark before it.

    Example:
        >>> cells = CsvCells.parse('id,"grade"\r\n"7, b",\r\n', "grades.csv")
        >>> cells.row(1)
        ['7, b', '']
        >>> cells.filled({(1, 1): "4"})
        b'id,"grade"\r\n"7, b",4\r\n'
    """

    text: str
    separator: str
    places: list[list[tuple[int, int]]]
    encoding: str = "utf-8"
    mark: bytes = b""

    @classmethod
    def read(cls, path: Path, encoding: str = "utf-8") -> CsvCells:
        """From a file.

        Args:
            path: The file.
            encoding: Of the file.

        Raises:
            DataError: It cannot be read, or its quotes do not fit.
        """
        try:
            content = path.read_bytes()
        except OSError as error:
            raise DataError(f"{path} cannot be read: {error.strerror}.") from None
        mark, encoding = _written_in(content, encoding)
        try:
            text = content.removeprefix(mark).decode(encoding)
        except UnicodeDecodeError as error:
            found, advice = describe_byte(error, encoding, at_start=error.start == 0)
            raise DataError(f"{path.name}: {found}. {advice}") from None
        return cls.parse(text, path.name, encoding, mark)

    @classmethod
    def parse(cls, text: str, name: str, encoding: str = "utf-8", mark: bytes = b"") -> CsvCells:
        """From a text.

        Args:
            text: The text; a comma, a semicolon or a tab separates cells, whichever its first line has most.
            name: The text's name in messages.
            encoding: In which it is written.
            mark: The byte order mark before it.

        Raises:
            DataError: Quotes do not fit.
        """
        first = text.splitlines()[0] if text.strip() else ""
        separator = max(",;\t", key=first.count)
        cell = re.compile(rf'("(?:[^"]|"")*"|[^"{separator}\r\n][^{separator}\r\n]*|)({separator}|\r\n|\r|\n|\Z)')
        places: list[list[tuple[int, int]]] = []
        place, begins = 0, True
        while place < len(text) or not begins:
            found = cell.match(text, place)
            if found is None:
                raise DataError(f"Row {len(places) + begins} of {name}: quotes do not fit. Export the file again.")
            if begins:
                places.append([])
            places[-1].append(found.span(1))
            place, begins = found.end(), found[2] != separator
        return cls(text, separator, places, encoding, mark)

    def row(self, number: int) -> list[str]:
        """The values of a row, without their quotes."""
        values = [self.text[begin:end] for begin, end in self.places[number]]
        return [value[1:-1].replace('""', '"') if value.startswith('"') else value for value in values]

    def filled(self, values: Mapping[tuple[int, int], str], errors: str = "strict") -> bytes:
        """The file with other values.

        Args:
            values: By row and column.
            errors: What becomes of their characters that the encoding lacks, as str.encode has it.
        """
        pieces, place = [], 0
        for row, column in sorted(values):
            begin, end = self.places[row][column]
            value = values[row, column].encode(self.encoding, errors).decode(self.encoding)
            pieces += [self.text[place:begin], self._quoted(value)]
            place = end
        content = "".join([*pieces, self.text[place:]]).encode(self.encoding)
        return self.mark + content

    def _quoted(self, value: str) -> str:
        is_plain = not set(value) & {self.separator, '"', "\r", "\n"} and value == value.strip()
        return value if is_plain else '"' + value.replace('"', '""') + '"'


def _written_in(content: bytes, encoding: str) -> tuple[bytes, str]:
    """The byte order mark of a file, and its encoding with the order of bytes: written anew, it has the same."""
    named = codec_name(encoding).removesuffix("-sig")
    for mark, exact in _MARKS.items():
        if content.startswith(mark) and exact.startswith(named):
            return mark, exact
    # Without a mark, "utf-16" means this machine's order to a reader, and a mark as well to a writer.
    order = "le" if sys.byteorder == "little" else "be"
    return b"", f"{named}-{order}" if named in {"utf-16", "utf-32"} else named
