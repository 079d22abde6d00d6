"""Tables with a row for each rating of an essay, brought into the form with a row for each essay."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from aes_dynloss.errors import DataError
from aes_dynloss.reports.trait_forms import with_prompt_ids
from aes_dynloss.tables.cells import is_blank, parse_ids, parse_numbers, row_number
from aes_dynloss.tables.columns import (
    ID_COLUMNS,
    LENGTH_COLUMN,
    PREDICTION_COLUMNS,
    RATER_COLUMNS,
    RATINGS_COLUMN,
    TRAIT_COLUMN,
    ColumnNames,
    missing_columns,
)

# What is told of an essay, not of a rating: the same in all its rows.
_OF_ESSAYS = (*PREDICTION_COLUMNS, *RATER_COLUMNS, LENGTH_COLUMN, "withheld")


class Rating(NamedTuple):
    """One rater's score of an essay.

    Args:
        rater: Who gave it.
        score: The score.
        day: When, in days since 1970; NaN where unknown.
        row: Its row, as the file counts it.
    """

    rater: str
    score: float
    day: float
    row: int


def one_row_an_essay(cells: pd.DataFrame, names: ColumnNames, source: str, kept: Collection[str] = ()) -> pd.DataFrame:
    """A file's cells with one row for each essay, of rows that hold one rater's score each.

    The essay's first rating stays its human score, the second one becomes ``second_reference``, and RATINGS_COLUMN
    holds all of them as :class:`Rating`, in the file's order. Rows without a score count as no rating, and need no
    rater.

    Args:
        cells: As read, with a row a rating.
        names: Names of its columns; without a column of raters the cells are returned as they are.
        source: The file's name for messages.
        kept: Further columns that are read, such as groups of writers.

    Raises:
        DataError: A column is missing, a rater is blank or rated an essay twice, the rows of an essay differ in what is
            read of the essay, such as its prediction, or there is a column of second scores too.

    Examples:
        >>> rows = {"essay_id": ["a", "a", "b"], "rater": ["Ann", "Bo", "Bo"], "reference": [2, 3, 4]}
        >>> essays = one_row_an_essay(pd.DataFrame(rows), ColumnNames(rater="rater"), "human.csv")
        >>> essays[["essay_id", "reference", "second_reference"]].values.tolist()
        [['a', 2, 3.0], ['b', 4, nan]]
        >>> [(one.rater, one.score) for one in essays["ratings_by_rater"][0]]
        [('Ann', 2.0), ('Bo', 3.0)]
    """
    if names.rater is None:
        return cells
    columns = {role: names.named().get(role, role) for role in (*ID_COLUMNS, "reference", "rater")}
    second = names.second_reference or "second_reference"
    _check_columns(cells, columns, second, source)
    keys = [one for one in (*(columns[role] for role in ID_COLUMNS), TRAIT_COLUMN) if one in cells]
    ids = pd.DataFrame({key: parse_ids(cells[key], key, source) for key in keys}, index=cells.index)
    scores = parse_numbers(cells[columns["reference"]], "reference", ids[columns["essay_id"]], source)
    is_rating = np.isfinite(scores)
    essay = ids.groupby(keys, sort=False).ngroup().to_numpy()
    shared = [*(names.named().get(role, role) for role in _OF_ESSAYS), *([names.text] if names.text else []), *kept]
    _refuse_unlike(cells, [one for one in shared if one not in columns.values()], essay, ids[keys[0]], source)
    ids["rater"] = ""
    ids.loc[is_rating, "rater"] = parse_ids(cells.loc[is_rating, columns["rater"]], "rater", source)
    _refuse_repeats(ids[is_rating], keys[0], source)
    ratings: list[list[Rating]] = [[] for _ in range(essay.max() + 1)] if len(essay) else []
    first: dict[int, int] = {}
    rows = [row_number(cells, position) for position in range(len(cells))]
    given = zip(essay.tolist(), ids["rater"], scores.tolist(), _days(cells, names, source), rows, strict=True)
    for position, (number, *rating) in enumerate(given):
        if np.isfinite(rating[1]):
            first[number] = position if not ratings[number] else first[number]
            ratings[number].append(Rating(*rating))
        first.setdefault(number, position)
    table = cells.iloc[[first[number] for number in range(len(ratings))]].copy()
    table[second] = [own[1][1] if len(own) > 1 else float("nan") for own in ratings]
    return table.assign(**{RATINGS_COLUMN: pd.Series(map(tuple, ratings), index=table.index)})


def _check_columns(cells: pd.DataFrame, columns: Mapping[str, str], second: str, source: str) -> None:
    """Refuse cells without the columns of a rating, or with one of second ratings."""
    options = {"essay_id": "--id-column", "reference": "--reference-column", "rater": "--rater-column"}
    missing = {
        columns[role]: f"Name it with {option}." for role, option in options.items() if columns[role] not in cells
    }
    if missing:
        raise DataError(missing_columns(source, missing, list(map(str, cells.columns))))
    if second in cells:
        raise DataError(
            f"{source} has a row for each rating, by --rater-column {columns['rater']}, and second scores in the "
            f"column {second!r} as well. Give each of them a row with its rater, and leave that column out."
        )


def _refuse_repeats(ids: pd.DataFrame, essay_column: str, source: str) -> None:
    """Refuse two scores of an essay by one rater."""
    repeated = ids.duplicated().to_numpy()
    if repeated.any():
        essay, rater = ids.iloc[int(repeated.argmax())][[essay_column, "rater"]]
        raise DataError(
            f"{source} has more than one row of rater {rater!r} for essay {essay!r}. Keep one; if essays of several "
            "prompts share ids, name the column of prompts (--prompt-column)."
        )


def _days(cells: pd.DataFrame, names: ColumnNames, source: str) -> list[float]:
    """Days since 1970 of each row's date; NaN where there is none."""
    if names.date is None:
        return [np.nan] * len(cells)
    if names.date not in cells:
        advice = {names.date: "Name the column of dates with --date-column."}
        raise DataError(missing_columns(source, advice, list(map(str, cells.columns))))
    column = cells[names.date]
    blank = np.array([is_blank(cell) for cell in column])
    days = [np.nan if empty else _day(str(cell)) for cell, empty in zip(column, blank, strict=True)]
    faults = np.flatnonzero(np.isnan(days) & ~blank)
    if len(faults):
        row = row_number(column, int(faults[0]))
        raise DataError(
            f"Row {row} of {source}: {column.iloc[faults[0]]!r} is no date. Write dates as 2026-11-30 or "
            "2026-11-30 14:05."
        )
    return days


def _day(text: str) -> float:
    """Days from 1970 to an ISO date, in UTC where it names no zone; NaN for another text."""
    try:
        moment = datetime.fromisoformat(text.strip())
    except ValueError:
        return np.nan
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp() / 86_400


def rating_note(table: pd.DataFrame) -> str:
    """What was made of rows with one rating each, for a report's notes.

    Args:
        table: What :func:`one_row_an_essay` returned, with ids of prompt and trait where there are several traits.
    """
    ratings = table[RATINGS_COLUMN].tolist()
    raters = {one.rater for own in ratings for one in own}
    essays = len(with_prompt_ids(table)[[*ID_COLUMNS]].drop_duplicates())
    return (
        f"{sum(map(len, ratings)):,} ratings of {essays:,} essays by {len(raters):,} raters: the human score is "
        "an essay's first rating, the second human score its second; PRMSE uses all."
    )


def _refuse_unlike(
    cells: pd.DataFrame, columns: Sequence[str], essay: NDArray[Any], ids: pd.Series[str], source: str
) -> None:
    """Refuse rows of one essay that differ in what is told of the essay."""
    unlike: dict[str, int] = {}
    for column in (column for column in columns if column in cells):
        values = cells[column].astype(str)
        differ = (values.groupby(essay).transform("nunique") > 1).to_numpy()
        if differ.any():
            unlike[column] = int(differ.argmax())
    if unlike:
        named = ", ".join(map(repr, unlike))
        raise DataError(
            f"{source}: the rows of essay {list(ids)[next(iter(unlike.values()))]!r} hold different values of {named}. "
            "An essay's rows repeat its prediction and what else is told of it, each with another rater's score."
        )
