"""Measures of a report as a DataFrame, for Python."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from aes_dynloss.reports.entry import Entry
from aes_dynloss.reports.measure_list import MEASURES

if TYPE_CHECKING:
    import pandas as pd

_INTERVAL = "_interval"
# Those of a short table.
SHORT = ("n", "qwk", "qwk_low", "qwk_high", "exact_agreement", "adjacent_agreement", "pearson", "smd", "sd_ratio")


def measures_frame(entries: Sequence[tuple[str, Entry]]) -> pd.DataFrame:
    """A row an entry, a column for ``n`` and for each measure that one of them has, with the ends of its interval.

    Args:
        entries: Of prompts and means, each with its name.
    """
    import pandas as pd

    rows = [_row(entry) for _, entry in entries]
    known = [name for measure in ("n", *MEASURES) for name in (measure, *_ends(measure))]
    found = {name for row in rows for name, value in row.items() if value is not None}
    columns = {name: [row.get(name) for row in rows] for name in known if name in found}
    return pd.DataFrame(columns, index=[name for name, _ in entries], dtype="float64").astype({"n": "Int64"})


def _ends(measure: str) -> tuple[str, str]:
    return f"{measure}_low", f"{measure}_high"


def _row(entry: Entry) -> dict[str, float | None]:
    """An entry's plain figures."""
    row: dict[str, float | None] = {}
    for name, value in entry.items():
        if isinstance(value, int | float):
            row[name] = value
        elif name.endswith(_INTERVAL) and isinstance(value, list):
            row |= dict(zip(_ends(name.removesuffix(_INTERVAL)), value, strict=True))
    return row
