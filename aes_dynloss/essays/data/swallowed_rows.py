"""Texts that have swallowed rows of their table.

A quote that is not closed swallows the rows up to the next quote: they become part of a text, and another essay's score
is taken for its own, without a fault. The ASAP file does so to a reader that takes its quotes for quotes. Texts whose
lines look like rows are reported.
"""

from __future__ import annotations

import re
from collections.abc import Mapping


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
    kinds = [_kind(str(row[name])) for name in names[: names.index(text_column)]]
    # A lone word is how many a paragraph begins.
    if kinds in ([], ["a"]):
        return None
    lines = text.split("\n")[1:]
    return next((line for line in lines if _kind(line).split(delimiter)[:-1][: len(kinds)] == kinds), None)


def _kind(cell: str) -> str:
    return re.sub(r"[^\W\d_]+", "a", re.sub(r"\d+", "0", cell))
