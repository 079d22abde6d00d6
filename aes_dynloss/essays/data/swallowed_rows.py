"""Rows that hide in the text of another one, because a quote before them is not closed.

Such a table can be read without a fault: the text goes on to the next quote, maybe many rows further, and what follows
there, another essay's score, is taken for its own. The ASAP file does so to a reader that takes its quotes for quotes.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

_DIGITS = re.compile(r"\d+")
_LETTERS = re.compile(r"[^\W\d_]+")


def swallowed_line(row: Mapping[str, object], text_column: str, delimiter: str) -> str | None:
    """A line inside a row's text that begins as the row itself does.

    Cells before the text are compared by their kind: digits are alike, and so are letters. It is a guess, good for a
    warning: numbered paragraphs can look like rows with numbers for ids.

    Args:
        row: A row of a csv or tsv file, its columns in the file's order.
        text_column: The column that may span lines.
        delimiter: Of the file.
    """
    text = row[text_column]
    if not isinstance(text, str) or "\n" not in text:
        return None
    names = list(row)
    own = [_kind(str(row[name])) for name in names[: names.index(text_column)]]
    # A lone word is how many a paragraph begins.
    if own in ([], ["a"]):
        return None
    for line in text.split("\n")[1:]:
        cells = line.split(delimiter)
        if len(cells) > len(own) and [_kind(cell) for cell in cells[: len(own)]] == own:
            return line
    return None


def _kind(cell: str) -> str:
    return _LETTERS.sub("a", _DIGITS.sub("0", cell))
