"""Human scores of a file of their own, joined to predictions by essay id."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

import pandas as pd

from aes_dynloss.errors import DataError
from aes_dynloss.evaluation.cells import parse_ids, parse_numbers
from aes_dynloss.evaluation.columns import ID_COLUMNS, REFERENCE_COLUMNS, ColumnNames, take_columns, take_kept
from aes_dynloss.evaluation.table_files import read_cells


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
