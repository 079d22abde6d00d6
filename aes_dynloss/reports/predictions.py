"""Tables of predictions: one essay a row, checked whole before anything is measured on it.

Human scores may be in a file of their own, joined by essay id.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from aes_dynloss.configfile import read_mapping
from aes_dynloss.errors import ConfigError, DataError
from aes_dynloss.reports.human_scores import (
    REFERENCE_ROW,
    HumanScores,
    join_references,
    refuse_repeats,
    refuse_rows,
    with_references,
)
from aes_dynloss.reports.rating_rows import one_row_an_essay, rating_note
from aes_dynloss.reports.trait_forms import long_predictions, with_prompt_ids, with_scale_ids
from aes_dynloss.tables.cells import ROW_NUMBERS, parse_ids, parse_numbers, parse_truth
from aes_dynloss.tables.columns import (
    ID_COLUMNS,
    NUMBER_COLUMNS,
    PREDICTION_COLUMNS,
    RATER_COLUMNS,
    RATINGS_COLUMN,
    REFERENCE_COLUMNS,
    REPORTED_COLUMN,
    TEXT_COLUMN,
    TRAIT_COLUMN,
    ColumnNames,
    missing_columns,
    take_columns,
    take_kept,
)
from aes_dynloss.tables.formats import read_cells, write_table
from aes_dynloss.tables.scale_ids import prompt_and_trait
from aes_dynloss.tables.score_range import ONE_PROMPT, STEPS, ScoreRange, infer_range


def predictions_file(part: str) -> str:
    """Name of the file that holds the predictions of a part: dev, test, or oof for train, out of fold."""
    return f"predictions_{part}.csv"


PREDICTIONS_DEV, PREDICTIONS_TEST = predictions_file("dev"), predictions_file("test")
MANIFEST = "manifest.json"  # of a run


def is_cross_fitted(run: Path) -> bool:
    """Whether every essay of a run is test, scored without itself; a folder without a manifest that reads is none."""
    try:
        split = read_mapping(run / MANIFEST).get("split")
    except ConfigError:
        return False
    return isinstance(split, Mapping) and bool(split.get("parts"))


WITHHELD = "withheld"
MAY_BE_BLANK = {"second_reference", REPORTED_COLUMN, *RATER_COLUMNS}
LARGEST_NUMBER = 1e50


@dataclass(frozen=True)
class PredictionTable:
    """A checked table of predictions.

    Args:
        table: Columns essay_id, prompt_id (text; of prompt and trait, where there is a column trait), reference (NaN
            throughout where unknown), second_reference (only if there; NaN where blank), raw, score, reported, rater1,
            rater2 and words (only if there), float64; text and the columns that were to be kept, as they were;
            ratings_by_rater (only where a file had a row a rating); in the file's order.
        ranges: Score range of every prompt of the table, given or inferred.
        inferred: Prompts whose range was inferred from the scores seen.
        notes: What was assumed while reading.
        withheld: Essays that the machine gave no score, with the same columns, raw and score NaN; None if there are
            none.
        without_reference: Ids of essays that were left out for want of a human score: essay_id and, where the
            predictions themselves know it, prompt_id; None if there are none.
    """

    table: pd.DataFrame
    ranges: Mapping[str, ScoreRange]
    inferred: frozenset[str]
    notes: tuple[str, ...]
    withheld: pd.DataFrame | None = None
    without_reference: pd.DataFrame | None = None


def read_predictions(
    path: str | Path,
    *,
    columns: ColumnNames | None = None,
    references: str | Path | None = None,
    ranges: Mapping[str, ScoreRange] | None = None,
    kept: Collection[str] = (),
    sampled: bool = False,
    human: HumanScores | None = None,
) -> PredictionTable:
    """Read and check predictions from a csv, jsonl or parquet file.

    At least one of ``raw`` and ``score`` must be there, and be filled in but in rows whose column ``withheld`` says
    true: such essays are set aside. A missing score is raw, trimmed to the range and rounded half
    up; a missing raw is the score. rater1 and rater2 are single raters' scores, from which the reference was resolved.
    Columns without a role are left aside, but for those to be kept. Where a column of raters is named, the file with
    the human scores has a row for each rating: see ``one_row_an_essay``.

    Args:
        path: File of predictions, or a folder of scores, see :func:`aes_dynloss.tables.formats.scored_tables`.
        columns: Names of its columns; with ``references``, those for ids hold for both files, those for human scores
            for ``references`` and those for predictions for ``path``. Mapped ones hold for the files that have them.
        references: File with essay_id, reference and, if they are known, prompt_id and second_reference, for exactly
            the essays of ``path``; for predictions that hold no human scores themselves.
        ranges: Score range by prompt id. Where none is given, it is inferred from the scores seen.
        kept: Names of further columns, such as groups of writers, of ``path`` or of ``references``.
        sampled: Whether ``references`` are of a sample of the essays; the others are then left out without a note.
        human: As `check_predictions` takes them, in place of ``references``.

    Returns:
        The checked table; its references are NaN throughout if all are blank.

    Raises:
        DataError: The file or a row cannot be used; the message names the row as a spreadsheet counts it.

    Examples:
        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as folder:
        ...     path = Path(folder, "predictions.csv")
        ...     essays = pd.DataFrame({"essay_id": ["a", "b"], "prompt_id": 1, "reference": [2, 4], "raw": [1.6, 4.3]})
        ...     essays.to_csv(path, index=False)
        ...     predictions = read_predictions(path, ranges={"1": ScoreRange(1, 6)})
        >>> predictions.table[["essay_id", "raw", "score"]].values.tolist()
        [['a', 1.6, 2.0], ['b', 4.3, 4.0]]
    """
    path = Path(path)
    source = path.name
    cells = read_cells(path)
    given = columns or ColumnNames()
    names = given.in_file(cells.columns)
    if names.raw is None and names.score is None:
        cells = long_predictions(cells, names.prompt_id or "prompt_id")
    by_trait = [TRAIT_COLUMN] if TRAIT_COLUMN in cells else []
    roles = (*ID_COLUMNS, *by_trait, *NUMBER_COLUMNS, *([TEXT_COLUMN] if names.text is not None else []))
    known_ids: list[str] = []
    if references is None:
        cells = one_row_an_essay(cells, names, source, kept)
        own = kept if names.rater is None else [*kept, RATINGS_COLUMN]
        table = take_kept(take_columns(cells, names, roles, source), cells, own, names, None)
    else:
        predicted = replace(names, reference=None, second_reference=None, rater=None)
        table = take_columns(cells, predicted, roles, source, optional={"prompt_id"})
        known_ids = [role for role in (*ID_COLUMNS, *by_trait) if role in table]
        table = take_kept(table, cells, kept, names, None)
        table = join_references(table, given, source, Path(references), kept, sampled=sampled)
    if WITHHELD in cells:
        table[WITHHELD] = parse_truth(cells[WITHHELD], WITHHELD, source)
    notes: list[str] = []
    without_reference = None
    if references is not None:
        table, others, notes = with_references(table, source, Path(references).name, sampled=sampled)
        without_reference = _ids(others[known_ids], source) if len(others) else None
    if "prompt_id" not in table:
        if names.prompt_id is not None:
            raise DataError(f"Neither {source} nor its references have a column {names.prompt_id!r} for prompt_id.")
        table["prompt_id"] = ONE_PROMPT
        notes.append(f"No prompt column in {source}: all essays count as one prompt, {ONE_PROMPT!r}.")
    table = with_scale_ids(table, source)
    if RATINGS_COLUMN in table:
        notes.append(rating_note(table))
    checked = check_predictions(
        table,
        ranges=ranges,
        source=source,
        kept=kept,
        references=None if references is None else Path(references).name,
        human=human,
    )
    return replace(checked, notes=(*notes, *checked.notes), without_reference=without_reference)


def _ids(table: pd.DataFrame, source: str) -> pd.DataFrame:
    """Ids as text, those of prompts, where the table has them, with the trait as elsewhere."""
    if "prompt_id" in table:
        table = with_scale_ids(table, source)
    return pd.DataFrame({role: parse_ids(table[role], role, source) for role in ID_COLUMNS if role in table})


def check_predictions(
    table: pd.DataFrame,
    *,
    ranges: Mapping[str, ScoreRange] | None = None,
    source: str = "the predictions",
    kept: Collection[str] = (),
    references: str | None = None,
    human: HumanScores | None = None,
) -> PredictionTable:
    """Check a table of predictions, such as a scorer has just made.

    Args:
        table: Columns essay_id, prompt_id, and of reference, second_reference, raw, score those that are known;
            ``withheld`` (bool) says which rows may lack raw and score; ``ratings_by_rater``, all ratings of an essay.
        ranges: Score range by prompt id. Where none is given, it is inferred from the scores seen.
        source: Words for the table in messages.
        kept: Further columns that must be there, such as groups of writers.
        references: Words for the table of human scores in messages, where it is another one.
        human: Human scores of essays whose table holds none; those without a prediction need none.

    Returns:
        A checked copy; other columns without a role are left aside.

    Raises:
        DataError: A column or a row cannot be used.
    """
    checked = _parsed(table, source)
    for column in {TRAIT_COLUMN, RATINGS_COLUMN} & set(table.columns):
        checked[column] = table[column].to_numpy(dtype=object)
    checked["reference"] = _references(checked, human, source)
    rated = checked, source if references is None else references
    if references is not None and REFERENCE_ROW in table:
        rated = checked.set_axis(pd.Index(table[REFERENCE_ROW], name=ROW_NUMBERS)), rated[1]
    for column in (column for column in NUMBER_COLUMNS if column in checked):
        limit = f"beyond {LARGEST_NUMBER:g}, which is no prediction or score to measure. Fix the row or drop it."
        huge = (checked[column].abs() > LARGEST_NUMBER).to_numpy()
        place = rated if column in REFERENCE_COLUMNS else (checked, source)
        refuse_rows(huge, *place, f"{column} {{{column}:g}} is {limit}")
    spans, inferred = resolve_ranges(checked, ranges or {}, source)
    notes = inferred_notes(spans, inferred, source)
    notes += _unused_notes(checked, ranges or {}, spans, source)
    if "score" not in checked:
        notes.append(f"No score column in {source}: score is raw, trimmed to the range and rounded half up.")
        checked["score"] = apply_ranges(checked, "raw", spans, ScoreRange.to_point)
    elif "raw" not in checked:
        notes.append(f"No raw column in {source}: measures on raw predictions use the score.")
        checked["raw"] = checked["score"]
    refuse_outside(_rating_rows(checked), ["rating"], spans, rated[1])
    refuse_outside(rated[0], REFERENCE_COLUMNS, spans, rated[1])
    refuse_outside(checked, ["score"], spans, source)
    known = (*ID_COLUMNS, TRAIT_COLUMN, *NUMBER_COLUMNS, RATINGS_COLUMN)
    ordered = [column for column in known if column in checked]
    for column in dict.fromkeys((*{TEXT_COLUMN} & set(table.columns), *kept)):
        if column not in table:
            where = source if references is None else f"{source} with {references}"
            advice = {column: "Name the column of groups."}
            raise DataError(missing_columns(where, advice, list(map(str, table.columns))))
        checked[column] = table[column].to_numpy(dtype=object)
        ordered.append(column)
    given = checked["score"].notna().to_numpy()
    if given.all():
        return PredictionTable(checked[ordered].reset_index(drop=True), spans, frozenset(inferred), tuple(notes))
    ids = with_prompt_ids(checked)[[*ID_COLUMNS]]
    withheld_essays, essays = (len(rows.drop_duplicates()) for rows in (ids[~given], ids))
    notes.append(
        f"{withheld_essays} of {essays} essays in {source} have no score, for the machine withheld it: the figures are "
        "those of the others."
    )
    scored, withheld = (checked.loc[rows, ordered].reset_index(drop=True) for rows in (given, ~given))
    return PredictionTable(scored, spans, frozenset(inferred), tuple(notes), withheld)


def _references(table: pd.DataFrame, human: HumanScores | None, source: str) -> NDArray[np.float64]:
    """Human scores of a parsed table, (n,), NaN where unknown; if it has none, those of elsewhere of what is scored."""
    known = np.full(len(table), np.nan)
    if "reference" in table:
        known = table["reference"].to_numpy(dtype=np.float64, copy=True)
    if human is not None and np.isnan(known).all():
        scored = table.filter(PREDICTION_COLUMNS).notna().any(axis="columns").to_numpy()
        known[scored] = human.join(table[scored], source)["reference"]
    return known


def write_predictions(table: pd.DataFrame, path: str | Path) -> None:
    """Write predictions to a csv, jsonl or parquet file, which appears whole or not at all.

    ``read_predictions`` gives the same ids and, digit for digit, the same numbers back. Where there is a column
    ``trait``, ``prompt_id`` in the file is the prompt alone.

    Args:
        table: Columns essay_id, prompt_id, raw, score, and of reference and second_reference those that are known;
            further columns are written after them.
        path: Where to; missing folders are made, an existing file is replaced.

    Raises:
        DataError: A column is missing, a value is not finite, or the file cannot be written.
    """
    missing = [column for column in (*ID_COLUMNS, *PREDICTION_COLUMNS) if column not in table]
    if missing:
        raise DataError(f"Predictions to write need essay_id, prompt_id, raw and score; {missing[0]} is missing.")
    written = _parsed(table, f"the table for {Path(path).name}")
    if TRAIT_COLUMN in table:
        written.insert(len(ID_COLUMNS), TRAIT_COLUMN, table[TRAIT_COLUMN].to_numpy())
    for column in table.columns:
        if column not in written:
            written[column] = table[column].to_numpy()
    write_table(with_prompt_ids(written), path)


def write_inner(table: pd.DataFrame, path: str | Path) -> None:
    """Write predictions of essays that may be there several times, each by another scorer, without scores.

    Args:
        table: Columns essay_id, prompt_id, and any others.
        path: Where to.
    """
    write_table(with_prompt_ids(table), path)


def _parsed(table: pd.DataFrame, source: str) -> pd.DataFrame:
    """Ids as text and numbers as float64, of distinct essays."""
    for role in ID_COLUMNS:
        if role not in table:
            raise DataError(f"No column {role} in {source}; found {', '.join(map(str, table.columns))}.")
    if not any(column in table for column in PREDICTION_COLUMNS):
        raise DataError(
            f"Neither a column raw nor a column score in {source}. Name the column that holds predictions, such as by "
            "--map raw=COLUMN."
        )
    if table.empty:
        raise DataError(f"No rows in {source}.")
    parsed = pd.DataFrame({role: parse_ids(table[role], role, source) for role in ID_COLUMNS}, index=table.index)
    refuse_repeats(pd.MultiIndex.from_frame(parsed), source)
    withheld = table[WITHHELD].to_numpy(dtype=bool) if WITHHELD in table else np.zeros(len(table), dtype=bool)
    for column in (column for column in NUMBER_COLUMNS if column in table):
        parsed[column] = parse_numbers(table[column], column, parsed["essay_id"], source)
        blank = parsed[column].isna().to_numpy()
        expected = withheld & (column in PREDICTION_COLUMNS)
        fault = f"withheld, yet {column} is filled in. Give what humans decided as --adjudicated."
        refuse_rows(expected & ~blank, parsed, source, fault)
        if column not in MAY_BE_BLANK and not (column == "reference" and blank.all()):
            fault = f"{column} is blank (so in {int((blank & ~expected).sum())} rows). Fill it in or drop the rows."
            refuse_rows(blank & ~expected, parsed, source, fault)
    if withheld.all():
        raise DataError(f"No essay in {source} has a score: the machine withheld them all.")
    return parsed


def apply_ranges(
    table: pd.DataFrame,
    column: str,
    ranges: Mapping[str, ScoreRange],
    method: Callable[[ScoreRange, NDArray[np.float64]], NDArray[Any]],
) -> NDArray[np.float64]:
    """What the range of each row's prompt makes of its value, shape (n,); NaN for a blank, or without a range.

    Args:
        table: Rows with prompt_id and the column.
        column: A column of numbers.
        ranges: Score range by prompt.
        method: Of the ranges, such as ``ScoreRange.to_point``.
    """
    values, prompts = table[column].to_numpy(dtype=np.float64), table["prompt_id"].to_numpy()
    result = np.full(len(table), np.nan)
    for prompt, score_range in ranges.items():
        rows = (prompts == prompt) & np.isfinite(values)
        result[rows] = method(score_range, values[rows])
    return result


def refuse_outside(
    table: pd.DataFrame, columns: Collection[str], ranges: Mapping[str, ScoreRange], source: str
) -> None:
    """Refuse the first score that is no score point of its prompt.

    Args:
        table: Rows with essay_id, prompt_id and some of the columns.
        columns: Columns of scores.
        ranges: Score range by prompt.
        source: The table's name for the message.

    Raises:
        DataError: There is such a score.
    """
    named = table.assign(range=table["prompt_id"].map(ranges))
    for column in (column for column in columns if column in table):
        outside = apply_ranges(table, column, ranges, ScoreRange.is_score_point) == 0
        fault = f"{column} {{{column}:g}} is no score point of prompt {{prompt_id}}'s range {{range}}."
        refuse_rows(outside, named, source, f"{fault} Fix the row or the range (--range).")


def _unused_notes(
    table: pd.DataFrame, given: Mapping[str, ScoreRange], ranges: Mapping[str, ScoreRange], source: str
) -> list[str]:
    """A note on prompts that ranges are given for and of which there is no essay."""
    of_prompts = {prompt_and_trait(scale)[0] for scale in ranges} if TRAIT_COLUMN in table else set()
    unused = [prompt for prompt in given if prompt not in {*ranges, *of_prompts, ONE_PROMPT}]
    return [f"Ranges are given for prompts without essays in {source}: {', '.join(unused)}."] if unused else []


def inferred_notes(ranges: Mapping[str, ScoreRange], inferred: Collection[str], source: str) -> list[str]:
    """What a reader must know of ranges that nobody gave.

    Args:
        ranges: Score range by prompt.
        inferred: Prompts whose range was inferred.
        source: The table's name.
    """
    if not inferred:
        return []
    spans = ", ".join(f"{prompt}: {ranges[prompt]}" for prompt in inferred)
    return [
        f"No score range was given for {source}: the grid spans the scores seen ({spans}). QWK is the "
        "same over a wider one; --range names it."
    ]


def _seen_range(essays: pd.DataFrame, where: str) -> ScoreRange:
    """The grid of one prompt's scores: its step is that of human scores, of which machine scores are multiples too."""
    human, machine = (
        [essays[column].to_numpy(dtype=np.float64) for column in columns if column in essays]
        for columns in (REFERENCE_COLUMNS, ["score"])
    )
    human.append(_rating_rows(essays)["rating"].to_numpy(dtype=np.float64))
    known = any(np.isfinite(column).any() for column in human)
    steps = (infer_range(human, where, STEPS).step,) if known else STEPS[:1]
    return infer_range([*human, *machine], where, steps)


def _rating_rows(essays: pd.DataFrame) -> pd.DataFrame:
    """Essays' ratings, one a row: essay_id, prompt_id and rating; no row where they are not told by rater."""
    if RATINGS_COLUMN not in essays:
        return pd.DataFrame(columns=[*ID_COLUMNS, "rating"])
    rows = [
        (rating.row, essay, prompt, rating.score)
        for essay, prompt, ratings in zip(*(essays[one] for one in (*ID_COLUMNS, RATINGS_COLUMN)), strict=True)
        for rating in ratings
    ]
    return pd.DataFrame(rows, columns=[ROW_NUMBERS, *ID_COLUMNS, "rating"]).set_index(ROW_NUMBERS)


def resolve_ranges(
    table: pd.DataFrame, given: Mapping[str, ScoreRange], source: str
) -> tuple[dict[str, ScoreRange], list[str]]:
    """The range of every prompt, in the order of their first essays, and the prompts whose range was inferred.

    Args:
        table: Rows with prompt_id and columns of scores.
        given: Score range by prompt and trait, or by prompt, where it is known; that of ONE_PROMPT holds for those
            without.
        source: The table's name for messages.

    Raises:
        DataError: No range can be inferred.
    """
    ranges: dict[str, ScoreRange] = {}
    inferred = []
    for prompt, group in table.groupby("prompt_id", sort=False):
        name = str(prompt)
        names = (name, prompt_and_trait(name)[0] if TRAIT_COLUMN in table else name, ONE_PROMPT)
        known = next((given[one] for one in names if one in given), None)
        if known is None:
            known = _seen_range(group, f"prompt {name} in {source}")
            inferred.append(name)
        ranges[name] = known
    return ranges, inferred
