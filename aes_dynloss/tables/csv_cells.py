"""A csv file whose cells are filled in one by one: whatever is not filled in stays as it is, byte for byte."""

from __future__ import annotations

import codecs
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from aes_dynloss.errors import DataError
from aes_dynloss.tables.csv_jsonl import codec_name, describe_byte

_BOM = codecs.BOM_UTF8


@dataclass(frozen=True)
class CsvCells:
    r"""The cells of a csv text, with their places in it.

    Args:
        text: The text.
        separator: Between cells.
        places: Begin and end of each cell, quotes included, row by row; the header is row 0.
        encoding: In which it is written.
        bom: Whether a byte order mark stands before it.

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
    bom: bool = False

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
        bom = content.startswith(_BOM) and codec_name(encoding) == "utf-8-sig"
        try:
            text = content.removeprefix(_BOM if bom else b"").decode(encoding)
        except UnicodeDecodeError as error:
            raise DataError(f"{path.name}: {describe_byte(error, encoding, at_start=error.start == 0)}") from None
        return cls.parse(text, path.name, encoding, bom=bom)

    @classmethod
    def parse(cls, text: str, name: str, encoding: str = "utf-8", *, bom: bool = False) -> CsvCells:
        """From a text.

        Args:
            text: The text; a comma, a semicolon or a tab separates cells, whichever its first line has most.
            name: The text's name in messages.
            encoding: In which it is written.
            bom: Whether a byte order mark stands before it.

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
        return cls(text, separator, places, encoding, bom)

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
        return (_BOM if self.bom else b"") + content

    def _quoted(self, value: str) -> str:
        is_plain = not set(value) & {self.separator, '"', "\r", "\n"} and value == value.strip()
        return value if is_plain else '"' + value.replace('"', '""') + '"'
