"""Tables with a column for each of several traits, brought into the form with a row for each trait of an essay."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pandas as pd

from aes_dynloss.errors import DataError
from aes_dynloss.tables.cells import is_blank, parse_ids
from aes_dynloss.tables.columns import ID_COLUMNS, TRAIT_COLUMN, TRAIT_COLUMNS, missing_columns
from aes_dynloss.tables.scale_ids import SEPARATOR, prompt_and_trait, scale_id

_RAW = TRAIT_COLUMNS["raw"]


def wide_traits(columns: Sequence[str]) -> list[str]:
    """The traits of a table of scores with columns ``NAME`` and ``NAME_raw``, in their order; none of another table.

    Example:
        >>> wide_traits(["essay_id", "content", "content_raw", "content_low", "style", "style_raw", "withheld"])
        ['content', 'style']
    """
    if TRAIT_COLUMN in columns or "raw" in columns or ("score" in columns and f"score{_RAW}" not in columns):
        return []
    return [name for name in columns if f"{name}{_RAW}" in columns]


def columns_of_traits(columns: Sequence[str]) -> list[str]:
    """What such a table knows of some trait, under the names of TRAIT_COLUMNS.

    Example:
        >>> columns_of_traits(["essay_id", "content", "content_raw", "content_low"])
        ['score', 'raw', 'low']
    """
    traits = wide_traits(columns)
    return [role for role, behind in TRAIT_COLUMNS.items() if any(trait + behind in columns for trait in traits)]


def long_predictions(cells: pd.DataFrame, prompt_column: str = "prompt_id") -> pd.DataFrame:
    """A file's cells with a row for each trait of an essay, in the column trait and those of TRAIT_COLUMNS.

    A prompt's traits are those of which an essay of it has a score, or all where none has one; a blank of another essay
    is a fault, unless the row is withheld.

    Args:
        cells: As read; without traits, they are returned as they are.
        prompt_column: Column of the prompts, where there is one.
    """
    traits = wide_traits(list(map(str, cells.columns)))
    if not traits:
        return cells
    of_traits = {trait + behind for trait in traits for behind in TRAIT_COLUMNS.values()}
    shared = cells[[name for name in cells.columns if name not in of_traits]]
    prompts = cells[prompt_column].astype(str) if prompt_column in cells else pd.Series("", index=cells.index)
    scored = {trait: set(prompts[[not is_blank(value) for value in cells[trait]]]) for trait in traits}
    unscored = set(prompts).difference(*scored.values())
    parts = []
    for trait in traits:
        rows = prompts.isin(scored[trait] | unscored).to_numpy()
        own = shared.assign(**{TRAIT_COLUMN: trait})
        for role, behind in TRAIT_COLUMNS.items():
            if trait + behind in cells:
                own[role] = cells[trait + behind]
        parts.append(own[rows])
    together: pd.DataFrame = pd.concat(parts)
    return together.sort_index(kind="stable")


def long_references(
    cells: pd.DataFrame, traits: Sequence[str], named: Mapping[str, str], column: str, source: str
) -> pd.DataFrame:
    """A file of human scores with a row for each trait of an essay; blanks are left out.

    Args:
        cells: As read, with a column for each trait; or with a column ``trait``: then they are returned as they are.
        traits: The traits that were predicted.
        named: Columns of traits that are called otherwise.
        column: Where the scores go.
        source: The file's name.

    Raises:
        DataError: A trait's column is missing.
    """
    if TRAIT_COLUMN in cells:
        return cells
    columns = {trait: named.get(trait, trait) for trait in traits}
    missing = {
        name: f"Name the column of the human scores of {trait} by --reference-column {trait}=COLUMN."
        for trait, name in columns.items()
        if name not in cells
    }
    if missing:
        raise DataError(missing_columns(source, missing, list(map(str, cells.columns))))
    shared = cells[[name for name in cells.columns if name not in {*columns.values(), column}]]
    parts = []
    for trait, name in columns.items():
        known = [not is_blank(value) for value in cells[name]]
        parts.append(shared.assign(**{TRAIT_COLUMN: trait}).assign(**{column: cells[name]})[known])
    together: pd.DataFrame = pd.concat(parts)
    return together.sort_index(kind="stable")


def with_scale_ids(table: pd.DataFrame, source: str) -> pd.DataFrame:
    """A table as its file holds it with the ids of prompt and trait as prompts, if it has a column of traits.

    Args:
        table: Columns prompt_id and, where essays are scored on several traits, trait.
        source: Its name for messages.

    Raises:
        DataError: A cell of these columns cannot be used.
    """
    if TRAIT_COLUMN not in table:
        return table
    traits = parse_ids(table[TRAIT_COLUMN], TRAIT_COLUMN, source)
    if any(SEPARATOR in trait for trait in traits):
        raise DataError(
            f"{source}: a name in the column {TRAIT_COLUMN} holds {SEPARATOR!r}. Call that trait otherwise."
        )
    prompts = parse_ids(table["prompt_id"], "prompt_id", source)
    scales = [scale_id(prompt, trait) for prompt, trait in zip(prompts, traits, strict=True)]
    return table.assign(prompt_id=scales, **{TRAIT_COLUMN: traits})


def with_prompt_ids(table: pd.DataFrame) -> pd.DataFrame:
    """A table whose column of prompts says the prompt alone, where another says the trait.

    Args:
        table: As :func:`with_scale_ids` returned it.
    """
    if TRAIT_COLUMN not in table:
        return table
    return table.assign(prompt_id=[prompt_and_trait(scale)[0] for scale in table["prompt_id"]])


def row_an_essay(table: pd.DataFrame, combined: Mapping[str, str]) -> pd.DataFrame:
    """The essays of a table with a row for each trait of an essay, each once.

    Args:
        table: Columns essay_id, prompt_id, trait and others, as :func:`with_scale_ids` returned them.
        combined: How the values of an essay's rows are put together, by column and in pandas' words; of any other
            column the first that is no blank counts.

    Returns:
        The same columns; prompt_id is the prompt alone.

    Examples:
        >>> ids = {"essay_id": "1", "prompt_id": ["3/content", "3/style"], "trait": ["content", "style"]}
        >>> scored = pd.DataFrame({**ids, "words": 80, "certainty": [0.9, 0.6]})
        >>> row_an_essay(scored, {"certainty": "min"}).drop(columns="trait").to_dict("records")
        [{'essay_id': '1', 'prompt_id': '3', 'words': 80, 'certainty': 0.6}]
    """
    how = {name: combined.get(name, "first") for name in map(str, table.columns) if name not in ID_COLUMNS}
    return with_prompt_ids(table).groupby([*ID_COLUMNS], sort=False, as_index=False).agg(how)
