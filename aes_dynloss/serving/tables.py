"""A table of essays in a request's body, and the same table with scores.

It is read and written as ``aes-dynloss score`` reads and writes files, but in memory: nothing reaches a disk.
"""

from __future__ import annotations

import io
import re
import time
import zipfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field
from starlette.requests import Request

from aes_dynloss.configfile import validate
from aes_dynloss.errors import ConfigError, DataError
from aes_dynloss.essays.data import data_config
from aes_dynloss.essays.data.readers import UnscoredEssay, iterate_unscored
from aes_dynloss.essays.data.table_layout import unscored_columns
from aes_dynloss.essays.scoring.output import Columns, kept_columns, names_and_kinds, with_kept, write_rows
from aes_dynloss.essays.scoring.run import score_kinds
from aes_dynloss.serving.limits import Limits
from aes_dynloss.serving.requests import RefusalError, media_type
from aes_dynloss.serving.service import EssayService, Row
from aes_dynloss.tables.formats import iterate_rows

T = TypeVar("T")

# What a body is said to be, and the suffix of such a file.
READ_TYPES = {
    "text/csv": ".csv",
    "text/tab-separated-values": ".tsv",
    "application/x-ndjson": ".jsonl",
    "application/vnd.apache.parquet": ".parquet",
    "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet": ".xlsx",
}
WRITTEN_TYPES = {
    "csv": "text/csv; charset=utf-8",
    "jsonl": "application/x-ndjson",
    "parquet": "application/vnd.apache.parquet",
}
# A table may unpack to so many times the bytes that are taken.
_UNPACKED = 16
# Bytes that a value takes in memory beside its characters, about; and characters of a cell, at most.
_VALUE_BYTES = 32
_LONGEST_CELL = 2**20
_LONGEST_MESSAGE = 300
# An option of the command, which is called otherwise here.
_OPTION = re.compile("--(text|id|prompt)-column")
_LONGEST_NAME = 200


def _name_field(description: str, example: str) -> Any:  # noqa: ANN401 - a pydantic field
    return Field(default=None, max_length=_LONGEST_NAME, description=description, examples=[example])


class TableOptions(BaseModel):
    """How a table is read and what comes back: the options of ``aes-dynloss score`` of the same names."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    format: Literal["csv", "jsonl", "parquet"] = Field(
        default="csv", description="Format of the table that comes back.", examples=["csv"]
    )
    keep_columns: bool = Field(
        default=False,
        description="Add the columns of the table behind those of the scores, unchanged, the essays too; input_ goes "
        "before a name that a column of scores has.",
        examples=[True],
    )
    prompt: str | None = _name_field("The prompt of all essays, if there is no column of prompts.", "phones")
    text_column: str | None = _name_field("Column of the essays; by default text, or what looks like it.", "essay")
    id_column: str | None = _name_field(
        "Column of their ids; by default essay_id, or what looks like it; else rows are numbered.", "id"
    )
    prompt_column: str | None = _name_field("Column of their prompts; by default prompt_id, if there is one.", "task")
    encoding: str = Field(
        default="utf-8", max_length=_LONGEST_NAME, description="Encoding of csv, tsv and jsonl.", examples=["cp1252"]
    )
    quoting: Literal["minimal", "none"] = Field(
        default="minimal", description="none: double quotes are plain characters of csv and tsv.", examples=["minimal"]
    )

    @property
    def columns(self) -> dict[str, str]:
        """The columns that are named, by role."""
        named = {"text": self.text_column, "essay_id": self.id_column, "prompt_id": self.prompt_column}
        return {role: column for role, column in named.items() if column is not None}


def table_suffix(request: Request) -> str:
    """The suffix of a file such as the body is said to be.

    Raises:
        RefusalError: It is said to be no table that is read (415).
    """
    suffix = READ_TYPES.get(media_type(request))
    if suffix is None:
        raise RefusalError(
            415, f"Send a table, with the header Content-Type: one of {', '.join(READ_TYPES)}.", unread=True
        )
    return suffix


def read_table(service: EssayService, content: bytes, suffix: str, options: TableOptions) -> list[UnscoredEssay]:
    """The essays of a table as the scorer takes them.

    Args:
        service: The scorer and its limits.
        content: The table.
        suffix: Of a file of its kind.
        options: How it is read.

    Raises:
        RefusalError: It is too large or takes too long to read (413), or cannot be read or scored (422).
    """
    limits, path = service.limits, Path(f"table{suffix}")
    try:
        encoding = data_config.text_encoding(options.encoding)
    except ValueError as error:
        raise RefusalError(422, f"In the address, encoding: {_brief(error)}.") from None
    how: dict[str, Any] = {"encoding": encoding, "quoting": options.quoting, "content": content}
    deadline = time.monotonic() + limits.client_seconds
    checked: list[UnscoredEssay] = []
    try:
        _check_stated(content, suffix, _UNPACKED * limits.max_table_body)
        rows = iterate_rows(path, on_fault=lambda _: None, **how)
        _check_cells((row for _, row in _within(rows, limits, deadline)), limits)
        for essay in _within(_essays(service, path, options, how), limits, deadline):
            checked.append(service.checked_essay(essay, f"Essay {len(checked) + 1} of the table: "))
    except (DataError, ConfigError) as error:
        raise RefusalError(422, _brief(error)) from None
    return checked


def _within(items: Iterable[T], limits: Limits, deadline: float) -> Iterator[T]:
    """Rows or essays of a table, as long as neither they nor the time to read them are too many.

    Raises:
        RefusalError: They are (413).
    """
    for number, item in enumerate(items):
        if number == limits.max_table_rows:
            raise RefusalError(413, f"The table holds more than {number} essays, the most that is taken.")
        if time.monotonic() > deadline:
            raise RefusalError(413, f"The table takes longer than {limits.client_seconds:g} seconds to read.")
        yield item


def _essays(
    service: EssayService, path: Path, options: TableOptions, how: Mapping[str, Any]
) -> Iterator[UnscoredEssay]:
    found = unscored_columns(path, options.columns, **how).data
    return iterate_unscored(
        str(path),
        columns=validate(data_config.Columns, {**options.columns, **found}, path.name),
        prompt=options.prompt,
        features=service.scorer.own_features,
        keep=options.keep_columns,
        **how,
    )


def _check_stated(content: bytes, suffix: str, most: int) -> None:
    """Refuse a compressed table that says itself that it unpacks to more bytes than are taken.

    Raises:
        RefusalError: It does (413). Of a damaged one nothing is said: the reader tells.
    """
    size = {".xlsx": _unzipped_bytes, ".parquet": _parquet_bytes}.get(suffix)
    if size is not None and size(content) > most:
        raise _unpacks_to_more(most)


def _check_cells(rows: Iterable[Mapping[str, object]], limits: Limits) -> None:
    """Refuse a table that unpacks to more than is taken once every row has its own copy of what rows share.

    A dictionary of parquet, a shared string of xlsx and a column's name stand once in the file, however many rows have
    them; the rows that are kept and written have them each.

    Raises:
        RefusalError: All rows together, or one cell, are too large (413).
    """
    most, longest = _UNPACKED * limits.max_table_body, max(_LONGEST_CELL, limits.max_characters)
    total = 0
    for row in rows:
        for name, cell in row.items():
            length = len(cell if isinstance(cell, str | bytes) else str(cell))
            if length > longest:
                raise RefusalError(413, f"A cell holds more than {longest} characters, the most that is taken.")
            total += len(name) + length + _VALUE_BYTES
        if total > most:
            raise _unpacks_to_more(most)


def _unpacks_to_more(most: int) -> RefusalError:
    return RefusalError(413, f"The table unpacks to more than {most} bytes, the most that is taken.")


def _unzipped_bytes(content: bytes) -> int:
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as book:
            return sum(entry.file_size for entry in book.infolist())
    except (zipfile.BadZipFile, ValueError, NotImplementedError):
        return 0


def _parquet_bytes(content: bytes) -> int:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        metadata = pq.read_metadata(io.BytesIO(content))
        lists = [metadata.schema.column(index).max_repetition_level > 0 for index in range(metadata.num_columns)]
        return sum(
            _chunk_bytes(metadata.row_group(number).column(index), in_list)
            for number in range(metadata.num_row_groups)
            for index, in_list in enumerate(lists)
        )
    except (pa.ArrowException, OSError):
        return 0


def _chunk_bytes(chunk: Any, in_list: bool) -> int:  # noqa: ANN401 - pyarrow is untyped
    """Bytes that a column's chunk unpacks to, without what plain rows share.

    One row can have any number of values in a list, and each may be a text as long as all of the chunk's.
    """
    size: int = chunk.total_uncompressed_size
    if not in_list:
        return size
    values: int = chunk.num_values
    return max(size, values * (size if chunk.physical_type.endswith("BYTE_ARRAY") else _VALUE_BYTES))


def _brief(error: Exception) -> str:
    """An error's message on one line; it may quote the cell that is at fault, to whom it came from."""
    message = "".join(sign if sign.isprintable() else " " for sign in str(error))
    message = _OPTION.sub(r"\1_column", " ".join(message.split()))
    return message if len(message) <= _LONGEST_MESSAGE else f"{message[: _LONGEST_MESSAGE - 3]}..."


def scored_table(
    service: EssayService, essays: Sequence[UnscoredEssay], rows: Sequence[Row], options: TableOptions
) -> bytes:
    """The table that comes back.

    Args:
        service: The scorer.
        essays: The table's essays, one or more.
        rows: The row of scores of each.
        options: The format, and whether the columns that came are added.
    """
    columns = {name: [row[name] for row in rows] for name in rows[0]}
    windows: Iterable[Columns] = [columns]
    kinds = score_kinds(service.scorer)
    if options.keep_columns:
        kept = [kept_columns([essay.kept for essay in essays])]
        names, kinds = names_and_kinds(kept, columns, kinds)
        windows = with_kept(windows, kept, names)
    stream = io.BytesIO()
    write_rows(windows, options.format, stream, kinds)
    return stream.getvalue()
