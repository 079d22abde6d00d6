"""Results as a table in GitHub markdown, as READMEs hold them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence


def result_table(titles: Sequence[str], rows: Iterable[Sequence[str]], words: int = 1) -> str:
    """A markdown table without a last line break.

    Args:
        titles: Of its columns.
        rows: Their cells, in which ``|`` is escaped; a row may have a note after its last column.
        words: How many first columns hold words and are flush left; the others are flush right.

    Examples:
        >>> print(result_table(["row", "seconds"], [["plain", "1.05"]]))
        | row | seconds |
        | --- | ---: |
        | plain | 1.05 |
    """
    lines = [[cell.replace("|", "\\|") for cell in line] for line in [titles, *rows]]
    rules = ["---"] * words + ["---:"] * (len(titles) - words)
    return "\n".join(f"| {' | '.join(line)} |" for line in [lines[0], rules, *lines[1:]])
