"""Human scores of essays in a table of their own, and how they join predictions, essay by essay."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from aes_dynloss.errors import DataError
from aes_dynloss.reports.rating_rows import one_row_an_essay
from aes_dynloss.reports.trait_forms import long_references, with_scale_ids
from aes_dynloss.tables.cells import parse_ids, parse_numbers, row_number, row_words
from aes_dynloss.tables.columns import (
    ID_COLUMNS,
    RATINGS_COLUMN,
    REFERENCE_COLUMNS,
    TRAIT_COLUMN,
    ColumnNames,
    missing_columns,
    take_columns,
    take_kept,
)
from aes_dynloss.tables.formats import read_cells
from aes_dynloss.tables.score_range import ScoreRange

# Column of joined tables: in which row of their own file an essay's human scores are.
REFERENCE_ROW = "reference_row"


def join_references(
    table: pd.DataFrame,
    names: ColumnNames,
    source: str,
    path: Path,
    kept: Collection[str] = (),
    *,
    sampled: bool = False,
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
        sampled: Whether it holds a sample of the essays, so that most may have no human score.

    Returns:
        The predictions, in their order, with the human scores, NaN where there is none, and their rows in the file.

    Raises:
        DataError: An essay is there twice or has a human score alone, the predictions hold human scores themselves, or
            more than half have none, unless it is a sample or has raters.
    """
    for column in REFERENCE_COLUMNS:
        if column in table and table[column].notna().any():
            raise DataError(f"{source} holds {column} itself. Leave out {path.name}, or drop that column.")
    cells = read_cells(path)
    names = names.in_file(cells.columns)
    if TRAIT_COLUMN in table:
        traits = list(dict.fromkeys(map(str, table[TRAIT_COLUMN])))
        cells = _row_a_trait(cells, names, traits, names.reference or "reference", path.name)
    if names.rater is not None:
        cells, kept = one_row_an_essay(cells, names, path.name, kept), [*kept, RATINGS_COLUMN]
    human = _take_references(cells, names, path.name)
    keys = [key for key in (*ID_COLUMNS, TRAIT_COLUMN) if key in table and key in human]
    left = pd.MultiIndex.from_arrays([parse_ids(table[key], key, source) for key in keys], names=keys)
    right = pd.MultiIndex.from_arrays([parse_ids(human[key], key, path.name) for key in keys], names=keys)
    for index, name, other, other_name in ((left, source, right, path.name), (right, path.name, left, source)):
        refuse_repeats(index, name)
        alone = index[~index.isin(other)]
        if len(alone) and (index is right or (len(alone) > len(left) / 2 and not (sampled or names.rater))):
            raise DataError(
                f"{source} and {path.name} must hold the same essays. In {name} and not in {other_name}: "
                f"{_named(alone)} ({len(alone)} in all). If ids differ, name their columns by --map essay_id=COLUMN; "
                "if they are numbers of rows, score again with --id-column."
            )
    order = right.get_indexer(left)
    joined = table.drop(columns=list(REFERENCE_COLUMNS), errors="ignore")
    ids = parse_ids(human["essay_id"], "essay_id", path.name)
    numbers = np.array([row_number(human, position) for position in range(len(human))])
    joined[REFERENCE_ROW] = np.where(order < 0, 0, numbers[order])
    for column in REFERENCE_COLUMNS:
        if column in human:
            # Parsed before the join, so that a fault is named with its row in the references.
            scores = parse_numbers(human[column], column, ids, path.name)
            joined[column] = np.where(order < 0, np.nan, np.asarray(scores)[order])
    if "prompt_id" not in joined and "prompt_id" in human:
        joined["prompt_id"] = human["prompt_id"].to_numpy()[order]
    return take_kept(joined, cells, kept, names, order)


def _row_a_trait(
    cells: pd.DataFrame, names: ColumnNames, traits: Sequence[str], column: str, source: str
) -> pd.DataFrame:
    """Human scores with a row for each trait, all in one ``column``."""
    # First, so that a message on missing ids names the columns of the file, not those of its longer form.
    take_columns(cells, names, ["essay_id"], source)
    return long_references(cells, traits, dict(names.traits), column, source)


def _take_references(cells: pd.DataFrame, names: ColumnNames, source: str) -> pd.DataFrame:
    """Ids and human scores of a file, unparsed, under their roles' names."""
    roles = (*ID_COLUMNS, *([TRAIT_COLUMN] if TRAIT_COLUMN in cells else []), *REFERENCE_COLUMNS)
    human = take_columns(cells, names, roles, source, optional={"prompt_id"})
    if "reference" not in human:
        advice = {"reference": "Name the column of the human scores with --reference-column or --map reference=COLUMN."}
        raise DataError(missing_columns(source, advice, list(cells.columns)))
    return human


@dataclass(frozen=True)
class HumanScores:
    """Human scores of essays, to be joined with predictions that hold none.

    Args:
        table: Columns essay_id, reference and, where prompts are known, prompt_id; each essay once. With several traits
            each score of an essay once: then ``trait``, and as prompts those of prompt and trait.
        ranges: Score range by prompt, where it is known.
        source: Their name for messages.
    """

    table: pd.DataFrame
    ranges: Mapping[str, ScoreRange]
    source: str

    @classmethod
    def read(
        cls, path: str | Path, columns: ColumnNames | None = None, ranges: Mapping[str, ScoreRange] | None = None
    ) -> HumanScores:
        """Read a table of human scores.

        Args:
            path: File of a kind that predictions may have.
            columns: Names of its columns.
            ranges: Score range by prompt.

        Raises:
            DataError: A column is missing, a cell cannot be used, or an essay is there twice.
        """
        source = Path(path).name
        cells = read_cells(path)
        names = (columns or ColumnNames()).in_file(cells.columns)
        if names.traits:
            cells = _row_a_trait(cells, names, list(dict(names.traits)), "reference", source)
        human = _take_references(cells, names, source)
        ids = [role for role in (*ID_COLUMNS, TRAIT_COLUMN) if role in human]
        table = pd.DataFrame({role: parse_ids(human[role], role, source) for role in ids}, index=human.index)
        if "prompt_id" in table:
            table = with_scale_ids(table, source)
        refuse_repeats(pd.MultiIndex.from_frame(table), source)
        table["reference"] = parse_numbers(human["reference"], "reference", table["essay_id"], source)
        refuse_rows(table["reference"].isna().to_numpy(), table, source, "reference is blank. Fill it in or drop it.")
        return cls(table, ranges or {}, source)

    def join(self, predictions: pd.DataFrame, source: str) -> pd.DataFrame:
        """Predictions with their ``reference``; essays that were not predicted are left aside.

        Args:
            predictions: Columns essay_id and prompt_id, text; an essay may be in several rows.
            source: Their name for messages.

        Returns:
            The predictions, in their order, with one more column.

        Raises:
            DataError: An essay has no human score here.

        Examples:
            >>> human = HumanScores(pd.DataFrame({"essay_id": ["a", "b"], "reference": [2.0, 4.0]}), {}, "human.csv")
            >>> predicted = pd.DataFrame({"essay_id": ["b"], "prompt_id": ["1"], "raw": [4.3]})
            >>> human.join(predicted, "predictions.parquet")["reference"].tolist()
            [4.0]
        """
        keys = [role for role in (*ID_COLUMNS, TRAIT_COLUMN) if role in self.table and role in predictions]
        known, wanted = (pd.MultiIndex.from_frame(table[keys]) for table in (self.table, predictions))
        refuse_repeats(known, self.source)
        rows = known.get_indexer(wanted)
        if (rows < 0).any():
            alone = wanted[rows < 0].unique()
            raise DataError(
                f"{self.source} has no human score for {_named(alone)} of {source} ({len(alone)} in all). Name a table "
                "with the human scores of all essays that were predicted."
            )
        return predictions.assign(reference=self.table["reference"].to_numpy()[rows])


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


def _named(ids: pd.MultiIndex) -> str:
    """Some ids in words."""
    before = ["" if name == "essay_id" else ", trait " if name == TRAIT_COLUMN else " of prompt " for name in ids.names]
    before[0] = ""
    names = ["essay " + "".join(f"{one}{key!r}" for one, key in zip(before, entry, strict=True)) for entry in ids[:5]]
    return ", ".join(names) + (", ..." if len(ids) > 5 else "")


def with_references(
    table: pd.DataFrame, source: str, references: str, *, sampled: bool = False
) -> tuple[pd.DataFrame, pd.DataFrame, list[str]]:
    """The essays that humans have scored, the others, and a note on these; all essays where none is scored.

    Args:
        table: Predictions with ``reference``, NaN where it is not known.
        source: Their name.
        references: Name of the table of human scores.
        sampled: Whether these are of a sample that stands for all, which is told elsewhere.
    """
    unknown = table["reference"].isna().to_numpy()
    if unknown.all() or not unknown.any():
        return table, table[:0], []
    others = table[unknown]
    if sampled:
        return table[~unknown], others, []
    ids = table[[role for role in ID_COLUMNS if role in table]]
    alone, essays = (rows.drop_duplicates() for rows in (ids[unknown], ids))
    lack = f"have no human score{' of some trait' if TRAIT_COLUMN in table else ''}"
    note = (
        f"{len(alone)} of {len(essays)} essays in {source} {lack} in {references}: "
        f"{_named(pd.MultiIndex.from_arrays([alone['essay_id'].astype(str)]))}. The figures are those of the others."
    )
    return table[~unknown], others, [note]


def refuse_rows(refused: NDArray[np.bool_], table: pd.DataFrame, source: str, fault: str) -> None:
    """Refuse a table for the first of some rows.

    Args:
        refused: Which rows are at fault, shape (n,).
        table: All rows, with their essay_id.
        source: The table's name for the message.
        fault: What is wrong; ``{COLUMN}`` is the row's value.

    Raises:
        DataError: There is such a row.
    """
    if refused.any():
        row = int(refused.argmax())
        raise DataError(f"{row_words(row, source, table['essay_id'])}: {fault.format_map(table.iloc[row])}")
