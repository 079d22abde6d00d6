"""Names and labels as ETS RSMTool takes them: as file names, in csv files that it reads, in Markdown that it shows."""

from __future__ import annotations

import io
import re
from collections.abc import Collection, Iterable, Sequence
from typing import Any

import pandas as pd

from aes_dynloss.evaluation.fairness import group_labels

# The row that RSMTool adds to the groups of a column.
ALL_DATA = "All data"
LONGEST_NAME = 60


def plain_names(names: Iterable[str], taken: Collection[str] = ()) -> list[str]:
    """Names of ASCII letters, digits, - and _, distinct in any case of letters, as near as can be to the given ones.

    Args:
        names: Names of any kind, distinct.
        taken: Further names, in lower case, that the result must not have.

    Returns:
        A name for each.
    """
    used, plain = set(taken), []
    for name in names:
        stem = re.sub(r"[^0-9A-Za-z_-]", "_", name)[:LONGEST_NAME] or "_"
        found, number = stem, 2
        while found.lower() in used:
            found, number = f"{stem}_{number}", number + 1
        used.add(found.lower())
        plain.append(found)
    return plain


def plain_labels(labels: Sequence[str]) -> list[str]:
    """Labels of groups that survive RSMTool's report, which reads them from a csv file and guesses their type.

    It would take ``NA`` and ``None`` for blanks and ``01`` for ``1``. Where it would confuse a column's labels, all of
    them are put in brackets.

    Args:
        labels: Each essay's group, none blank.

    Returns:
        The labels, or the labels in brackets.
    """
    distinct = sorted(set(labels))
    file = io.StringIO("".join('"{}"\n'.format(label.replace('"', '""')) for label in distinct))
    guessed = pd.read_csv(file, header=None, skip_blank_lines=False)[0]
    numbers = pd.to_numeric(pd.Series(distinct), errors="coerce").notna()
    # Of numbers beside words it makes numbers in one stretch of a long file and words in another.
    told_apart = guessed.nunique() == len(distinct) and (numbers.all() or not numbers.any())
    return list(labels) if told_apart else [f"[{label}]" for label in labels]


def label_notes(column: str, name: str, cells: pd.Series[Any]) -> list[str]:
    """What of a column of groups has another name in the export.

    Args:
        column: The column's name.
        name: Its name in the export.
        cells: The essays' groups.
    """
    labels = list(group_labels(cells))
    renamed = [] if name == column else [f"The column {escaped(column)} is called {name} here."]
    if plain_labels(labels) != labels:
        renamed.append(f"The groups of {name} are in brackets, lest RSMTool take one for a blank or for another.")
    return renamed


def escaped(words: str) -> str:
    """Words that Markdown, HTML and RSMTool's search for comments leave alone; ``html.unescape`` gives them back."""
    return "".join(
        sign if sign.isalnum() or sign in " -_.," else f"&#{ord(sign)};"  # a space's neighbours mean nothing here
        for sign in words
    )
