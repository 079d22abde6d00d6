"""Tables of predictions: one essay a row, checked whole before anything is measured on it.

Human scores may be in a file of their own, joined by essay id.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from aes_dynloss.errors import DataError
from aes_dynloss.tables.cells import parse_ids, parse_numbers, parse_truth, row_words
from aes_dynloss.tables.columns import (
    ID_COLUMNS,
    NUMBER_COLUMNS,
    PREDICTION_COLUMNS,
    RATER_COLUMNS,
    REFERENCE_COLUMNS,
    TEXT_COLUMN,
    ColumnNames,
    take_columns,
    take_kept,
)
from aes_dynloss.tables.formats import read_cells, write_table
from aes_dynloss.tables.score_range import ScoreRange, infer_range


def join_references(
    table: pd.DataFrame, names: ColumnNames, source: str, path: Path, kept: Collection[str] = ()
) -> pd.DataFrame:
    """The predictions with the human scores of another file, essay by essay.

    Essays meet by essay id, and by prompt too where both files know it. A prompt that only the references know is taken
    from there.

    Args:
        table: Predictions under their roles' names.
        names: Names of the references' columns.
        source: The predictions' name for messages.
        path: File with essay_id, reference and, if they are known, prompt_id and second_reference.
        kept: Further columns to take from it, unless the predictions have them.

    Returns:
        The predictions, in their order, with the human scores.

    Raises:
        DataError: The files do not hold the same essays once each, or the predictions hold human scores themselves.
    """
    for column in REFERENCE_COLUMNS:
        if column in table and table[column].notna().any():
            raise DataError(f"{source} holds {column} itself. Leave out {path.name}, or drop that column.")
    roles = (*ID_COLUMNS, *REFERENCE_COLUMNS)
    cells = read_cells(path)
    human = take_columns(cells, names, roles, path.name, optional={"prompt_id"})
    if "reference" not in human:
        have = ", ".join(repr(column) for column in cells.columns)
        raise DataError(
            f"{path.name} has no column 'reference' (columns: {have}). Name the column of the human scores with "
            "--reference-column."
        )
    order = _matching_rows(table, human, source, path.name)
    joined = table.drop(columns=list(REFERENCE_COLUMNS), errors="ignore")
    ids = parse_ids(human["essay_id"], "essay_id", path.name)
    for column in REFERENCE_COLUMNS:
        if column in human:
            # Parsed before the join, so that a fault is named with its row in the references.
            joined[column] = parse_numbers(human[column], column, ids, path.name)[order]
    if "prompt_id" not in joined and "prompt_id" in human:
        joined["prompt_id"] = human["prompt_id"].to_numpy()[order]
    return take_kept(joined, cells, kept, names, order)


def refuse_repeats(ids: pd.MultiIndex, source: str) -> None:
    """Refuse two rows for one essay.

    Args:
        ids: Essay ids, or essay ids and prompts.
        source: The table's name for the message.

    Raises:
        DataError: An essay comes twice.
    """
    repeated = ids[ids.duplicated()].unique()
    if len(repeated):
        raise DataError(f"{source} has more than one row for {_named(repeated)}. Keep one row an essay.")


def _matching_rows(table: pd.DataFrame, human: pd.DataFrame, source: str, human_source: str) -> list[int]:
    """The references' row of each prediction."""
    keys = [key for key in ID_COLUMNS if key in table and key in human]
    left = pd.MultiIndex.from_arrays([parse_ids(table[key], key, source) for key in keys])
    right = pd.MultiIndex.from_arrays([parse_ids(human[key], key, human_source) for key in keys])
    refuse_repeats(left, source)
    refuse_repeats(right, human_source)
    for have, lack, alone in (
        (source, human_source, left[~left.isin(right)]),
        (human_source, source, right[~right.isin(left)]),
    ):
        if len(alone):
            raise DataError(
                f"{source} and {human_source} must hold the same essays. In {have} and not in {lack}: "
                f"{_named(alone)} ({len(alone)} in all)."
            )
    return [int(row) for row in right.get_indexer(left)]


def _named(ids: pd.MultiIndex) -> str:
    """Some ids in words."""
    words = ["essay " + " of prompt ".join(repr(part) for part in entry) for entry in list(ids)[:5]]
    return ", ".join(words) + (", ..." if len(ids) > 5 else "")


ONE_PROMPT = "all"
WITHHELD = "withheld"
LARGEST_NUMBER = 1e50


@dataclass(frozen=True)
class PredictionTable:
    """A checked table of predictions.

    Args:
        table: Columns essay_id, prompt_id (text), reference (NaN throughout where unknown), second_reference (only if
            there; NaN where blank), raw, score, rater1, rater2 and words (only if there), float64; text and the columns
            that were to be kept, as they were; in the file's order.
        ranges: Score range of every prompt of the table, given or inferred.
        inferred: Prompts whose range was inferred from the scores seen.
        notes: What was assumed while reading.
        withheld: Essays that the machine gave no score, with the same columns, raw and score NaN; None if there are
            none.
    """

    table: pd.DataFrame
    ranges: Mapping[str, ScoreRange]
    inferred: frozenset[str]
    notes: tuple[str, ...]
    withheld: pd.DataFrame | None = None


def read_predictions(
    path: str | Path,
    *,
    columns: ColumnNames | None = None,
    references: str | Path | None = None,
    ranges: Mapping[str, ScoreRange] | None = None,
    kept: Collection[str] = (),
) -> PredictionTable:
    """Read and check predictions from a csv, jsonl or parquet file.

    At least one of ``raw`` and ``score`` must be there, and be filled in but in rows whose column ``withheld`` says
    true: such essays are set aside. A missing score is raw, trimmed to the range and rounded half
    up; a missing raw is the score. rater1 and rater2 are single raters' scores, from which the reference was resolved.
    Columns without a role are left aside, but for those to be kept.

    Args:
        path: File of predictions.
        columns: Names of its columns; with ``references``, those for ids hold for both files, those for human scores
            for ``references`` and those for predictions for ``path``.
        references: File with essay_id, reference and, if they are known, prompt_id and second_reference, for exactly
            the essays of ``path``; for predictions that hold no human scores themselves.
        ranges: Score range by prompt id. Where none is given, it is inferred from the whole scores seen.
        kept: Names of further columns, such as groups of writers, of ``path`` or of ``references``.

    Returns:
        The checked table; its references are NaN throughout if all are blank.

    Raises:
        DataError: The file or a row cannot be used; the message names the row, counted from 1 without the header.
    """
    names = columns or ColumnNames()
    path = Path(path)
    source = path.name
    roles = (*ID_COLUMNS, *NUMBER_COLUMNS, *([TEXT_COLUMN] if names.text is not None else []))
    cells = read_cells(path)
    if references is None:
        table = take_kept(take_columns(cells, names, roles, source), cells, kept, names, None)
    else:
        own_names = replace(names, reference=None, second_reference=None)
        table = take_columns(cells, own_names, roles, source, optional={"prompt_id"})
        table = take_kept(table, cells, kept, names, None)
        table = join_references(table, names, source, Path(references), kept)
    if WITHHELD in cells:
        table[WITHHELD] = parse_truth(cells[WITHHELD], WITHHELD, source)
    notes: list[str] = []
    if "prompt_id" not in table:
        if names.prompt_id is not None:
            raise DataError(f"Neither {source} nor its references have a column {names.prompt_id!r} for prompt_id.")
        table["prompt_id"] = ONE_PROMPT
        notes.append(f"No prompt column in {source}: all essays count as one prompt, {ONE_PROMPT!r}.")
    checked = check_predictions(table, ranges=ranges, source=source, kept=kept)
    return replace(checked, notes=(*notes, *checked.notes))


def check_predictions(
    table: pd.DataFrame,
    *,
    ranges: Mapping[str, ScoreRange] | None = None,
    source: str = "the predictions",
    kept: Collection[str] = (),
) -> PredictionTable:
    """Check a table of predictions, such as a scorer has just made.

    Args:
        table: Columns essay_id, prompt_id, and of reference, second_reference, raw, score those that are known;
            ``withheld`` (bool) says which rows may lack raw and score.
        ranges: Score range by prompt id. Where none is given, it is inferred from the whole scores seen.
        source: Words for the table in messages.
        kept: Further columns that must be there, such as groups of writers.

    Returns:
        A checked copy; other columns without a role are left aside.

    Raises:
        DataError: A column or a row cannot be used.
    """
    checked = _parsed(table, source)
    if "reference" not in checked:
        checked["reference"] = np.nan
    _refuse_huge(checked, source)
    spans, inferred = _resolve_ranges(checked, ranges or {}, source)
    notes = [] if not inferred else [_inferred_note(spans, inferred, source)]
    unused = [prompt for prompt in ranges or {} if prompt not in spans]
    if unused:
        notes.append(f"Ranges are given for prompts without essays in {source}: {', '.join(unused)}.")
    if "score" not in checked:
        notes.append(f"No score column in {source}: score is raw, trimmed to the range and rounded half up.")
        checked["score"] = _per_prompt(checked, lambda prompt, raw: spans[prompt].to_point(raw))
    elif "raw" not in checked:
        notes.append(f"No raw column in {source}: measures on raw predictions use the score.")
        checked["raw"] = checked["score"]
    _refuse_outside(checked, spans, source)
    ordered = [*ID_COLUMNS, *(column for column in NUMBER_COLUMNS if column in checked)]
    for column in (*([TEXT_COLUMN] if TEXT_COLUMN in table else []), *dict.fromkeys(kept)):
        if column not in table:
            have = ", ".join(repr(str(name)) for name in table.columns)
            raise DataError(f"No column {column!r} in {source} (columns: {have}). Name the column of groups.")
        checked[column] = table[column].to_numpy(dtype=object)
        ordered.append(column)
    given = checked["score"].notna().to_numpy()
    if given.all():
        return PredictionTable(checked[ordered].reset_index(drop=True), spans, frozenset(inferred), tuple(notes))
    notes.append(
        f"{int((~given).sum())} of {len(given)} essays in {source} have no score, for the machine withheld it: the "
        "figures are those of the others."
    )
    scored, withheld = (checked.loc[rows, ordered].reset_index(drop=True) for rows in (given, ~given))
    return PredictionTable(scored, spans, frozenset(inferred), tuple(notes), withheld)


def write_predictions(table: pd.DataFrame, path: str | Path) -> None:
    """Write predictions to a csv, jsonl or parquet file, which appears whole or not at all.

    ``read_predictions`` gives the same ids and, digit for digit, the same numbers back.

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
    for column in table.columns:
        if column not in written:
            written[column] = table[column].to_numpy()
    write_table(written, path)


def _parsed(table: pd.DataFrame, source: str) -> pd.DataFrame:
    """Ids as text and numbers as float64, of distinct essays."""
    for role in ID_COLUMNS:
        if role not in table:
            raise DataError(f"No column {role} in {source}; found {', '.join(map(str, table.columns))}.")
    if not any(column in table for column in PREDICTION_COLUMNS):
        raise DataError(f"Neither a column raw nor a column score in {source}. Name the column that holds predictions.")
    if table.empty:
        raise DataError(f"No rows in {source}.")
    parsed = pd.DataFrame({role: parse_ids(table[role], role, source) for role in ID_COLUMNS}, index=table.index)
    refuse_repeats(pd.MultiIndex.from_frame(parsed), source)
    withheld = table[WITHHELD].to_numpy(dtype=bool) if WITHHELD in table else np.zeros(len(table), dtype=bool)
    for column in NUMBER_COLUMNS:
        if column in table:
            parsed[column] = parse_numbers(table[column], column, parsed["essay_id"], source)
            _refuse_blanks(parsed, column, source, withheld & (column in PREDICTION_COLUMNS))
            _refuse_withheld(parsed, column, source, withheld & (column in PREDICTION_COLUMNS))
    if withheld.all():
        raise DataError(f"No essay in {source} has a score: the machine withheld them all.")
    return parsed


def _refuse_blanks(table: pd.DataFrame, column: str, source: str, allowed: NDArray[np.bool_]) -> None:
    """Refuse blanks, but for references unknown throughout, essays not scored twice, and where they are ``allowed``."""
    blank = table[column].isna().to_numpy() & ~allowed
    if column in {"second_reference", *RATER_COLUMNS} or not blank.any() or (column == "reference" and blank.all()):
        return
    where = row_words(int(blank.argmax()), source, table["essay_id"])
    raise DataError(f"{where}: {column} is blank (so in {int(blank.sum())} rows). Fill it in or drop the rows.")


def _refuse_withheld(table: pd.DataFrame, column: str, source: str, withheld: NDArray[np.bool_]) -> None:
    """Refuse a score where the machine gave none, such as a human's."""
    filled = withheld & table[column].notna().to_numpy()
    if filled.any():
        where = row_words(int(filled.argmax()), source, table["essay_id"])
        raise DataError(f"{where}: withheld, yet {column} is filled in. Give what humans decided as --adjudicated.")


def _refuse_huge(table: pd.DataFrame, source: str) -> None:
    """Refuse the first number whose square, or the sum of such, may be none."""
    for column in NUMBER_COLUMNS:
        if column in table:
            huge = (table[column].abs() > LARGEST_NUMBER).to_numpy()
            if huge.any():
                row = int(huge.argmax())
                raise DataError(
                    f"{row_words(row, source, table['essay_id'])}: {column} {table[column].iloc[row]:g} is beyond "
                    f"{LARGEST_NUMBER:g}, which is no prediction or score to measure. Fix the row or drop it."
                )


def _resolve_ranges(
    table: pd.DataFrame, given: Mapping[str, ScoreRange], source: str
) -> tuple[dict[str, ScoreRange], list[str]]:
    """The range of every prompt, in the order of their first essays, and the prompts whose range was inferred."""
    ranges, inferred = {}, []
    seen = [column for column in (*REFERENCE_COLUMNS, "score") if column in table]
    for prompt, group in table.groupby("prompt_id", sort=False):
        prompt_id = str(prompt)
        if prompt_id in given:
            ranges[prompt_id] = given[prompt_id]
        else:
            scores = [group[column].to_numpy(dtype=np.float64) for column in seen]
            ranges[prompt_id] = infer_range(scores, f"prompt {prompt_id} in {source}")
            inferred.append(prompt_id)
    return ranges, inferred


def _inferred_note(ranges: Mapping[str, ScoreRange], inferred: list[str], source: str) -> str:
    """Which ranges were taken from the scores seen."""
    spans = ", ".join(f"{prompt}: {ranges[prompt]}" for prompt in inferred)
    return (
        f"No score range was given for {source}: the grid spans the whole scores seen ({spans}). "
        "QWK does not depend on end points that nobody was given."
    )


def _per_prompt(
    table: pd.DataFrame, transform: Callable[[str, NDArray[np.float64]], NDArray[np.float64]]
) -> NDArray[np.float64]:
    """A column made of raw, prompt by prompt."""
    result = np.full(len(table), np.nan)
    prompts = table["prompt_id"].to_numpy()
    raw = table["raw"].to_numpy(dtype=np.float64)
    for prompt in dict.fromkeys(prompts):
        rows = (prompts == prompt) & np.isfinite(raw)
        result[rows] = transform(prompt, raw[rows])
    return result


def _refuse_outside(table: pd.DataFrame, ranges: Mapping[str, ScoreRange], source: str) -> None:
    """Refuse the first score that is no score point of its prompt."""
    for column in (*REFERENCE_COLUMNS, "score"):
        if column not in table:
            continue
        outside = np.zeros(len(table), dtype=bool)
        for prompt, score_range in ranges.items():
            own = (table["prompt_id"] == prompt).to_numpy()
            outside[own] = ~score_range.is_score_point(table.loc[own, column].to_numpy(dtype=np.float64))
        outside &= table[column].notna().to_numpy()
        if outside.any():
            row = int(outside.argmax())
            prompt, value = table["prompt_id"].iloc[row], table[column].iloc[row]
            raise DataError(
                f"{row_words(row, source, table['essay_id'])}: {column} {value:g} is no score point of prompt "
                f"{prompt}'s range {ranges[prompt]}. Fix the row or the range."
            )
