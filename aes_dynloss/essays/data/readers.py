"""Essays from any source: a checked table of scored ones, or a stream of ones to score."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import BinaryIO, NamedTuple

from aes_dynloss.errors import DataError
from aes_dynloss.essays.data.data_config import Columns, DataConfig
from aes_dynloss.essays.data.essay_table import EssayTable
from aes_dynloss.essays.data.gathering import build_table, gather_essays
from aes_dynloss.essays.data.sources import open_rows
from aes_dynloss.tables.cells import CellError, id_value, text_value
from aes_dynloss.tables.columns import missing_columns
from aes_dynloss.tables.formats import source_name
from aes_dynloss.tables.rows import FaultHandler, FaultLog, RowFault, refuse
from aes_dynloss.tables.text_rows import Quoting

logger = logging.getLogger(__name__)

DEFAULT_COLUMNS = Columns()


class UnscoredEssay(NamedTuple):
    """An essay to score."""

    essay_id: str
    prompt_id: str | None
    text: str


def read_essays(config: DataConfig) -> EssayTable:
    """Read and check scored essays.

    Args:
        config: Source and layout.

    Returns:
        The essays in the order of the source, with their prompts.

    Raises:
        DataError: The source cannot be read or a row cannot be used; up to 20 such rows are reported together.
        ConfigError: A hub split is named for a local source.
    """
    faults = FaultLog()
    gathering = gather_essays(config, faults)
    faults.raise_if_any()
    return build_table(config, gathering)


def iterate_unscored(
    source: str,
    *,
    columns: Columns = DEFAULT_COLUMNS,
    prompt: str | None = None,
    encoding: str = "utf-8",
    quoting: Quoting = "minimal",
    hub_split: str | None = None,
    on_fault: FaultHandler = refuse,
    stdin: BinaryIO | None = None,
) -> Iterator[UnscoredEssay]:
    """Essays to score, one at a time, in the order of the source.

    A table without the default id column is numbered by its rows; one without the default prompt column, and with no
    ``prompt`` given, yields None as prompts. A blank text is an essay without words.
    A column that ``columns`` names otherwise must be there. Ids may repeat:
    every row in gives one essay out, so that the places of the output are those of the input.

    Args:
        source: As `read_essays` takes it.
        columns: Names of the columns; those of scores are not looked at.
        prompt: The one prompt of a table without a column of prompts.
        encoding: Of text files.
        quoting: Of csv and tsv.
        hub_split: Split of a hub data set.
        on_fault: Is given each row that cannot be used; the default raises.
        stdin: Stands in for standard input.

    Raises:
        DataError: The source cannot be read, a column is missing, or a row cannot be used.
        ConfigError: A hub split is named for a local source.
    """
    name = source_name(source)
    wanted = [columns.essay_id, columns.prompt_id, columns.text]
    first: dict[str, object] | None = None
    rows = open_rows(
        source,
        encoding=encoding,
        quoting=quoting,
        wanted=wanted,
        hub_split=hub_split,
        on_fault=on_fault,
        stdin=stdin,
    )
    for number, row in rows:
        if first is None:
            first = row
            _check_unscored(row, columns, prompt, name)
        try:
            for column in (columns.essay_id, columns.prompt_id):
                if (column in row) != (column in first):
                    raise CellError(f"{column!r} stands in some rows only; give it in all or none.")
            essay_id = id_value(row, columns.essay_id) if columns.essay_id in row else str(number)
            prompt_id = id_value(row, columns.prompt_id) if columns.prompt_id in row else prompt
            yield UnscoredEssay(essay_id, prompt_id, text_value(row, columns.text, blank=""))
        except CellError as error:
            on_fault(RowFault(name, number, str(error)))


def _check_unscored(row: dict[str, object], columns: Columns, prompt: str | None, name: str) -> None:
    # The ids and prompts of a table without the columns of the default names are known otherwise.
    needed = {columns.text: "--text-column"}
    needed |= {columns.essay_id: "--id-column"} if columns.essay_id != "essay_id" else {}
    needed |= {columns.prompt_id: "--prompt-column"} if columns.prompt_id != "prompt_id" else {}
    missing = {column: f"Name the right one with {option}." for column, option in needed.items() if column not in row}
    if missing:
        raise DataError(missing_columns(name, missing, row))
    if prompt is not None and columns.prompt_id in row:
        both = f"{name} has a column {columns.prompt_id!r}, and the prompt {prompt!r} is given for all rows"
        raise DataError(f"{both}. Give one of the two.")
    if columns.essay_id not in row:
        logger.warning("%s has no column %r; essays are numbered by their rows.", name, columns.essay_id)
