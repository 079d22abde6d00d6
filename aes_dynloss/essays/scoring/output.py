"""Output of scores: csv, jsonl or parquet, to a file written atomically or streamed to standard output."""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, BinaryIO

from aes_dynloss.errors import ConfigError
from aes_dynloss.essays.scoring.score import COLUMN_KINDS
from aes_dynloss.tables.atomic import atomic_file

FORMATS = ("csv", "jsonl", "parquet")

Columns = Mapping[str, list[Any]]


def output_format(name: str | None, path: Path | None, option: str = "--output") -> str:
    """The format that is asked for: by name, else by the file's suffix, else csv.

    Args:
        name: csv, jsonl or parquet, or None.
        path: The file; None for standard output.
        option: The option that named the file.

    Raises:
        ConfigError: The file's suffix is no known format, or parquet is asked for on standard output.
    """
    if name is None and path is not None:
        name = path.suffix.lower().removeprefix(".")
        if name not in FORMATS:
            raise ConfigError(f"{option} {path}: expected a suffix out of .csv, .jsonl, .parquet, or --format with it.")
    if name == "parquet" and path is None:
        raise ConfigError("parquet cannot be written to standard output. Name a file with --output.")
    return name or "csv"


def write_scores(
    windows: Iterable[Columns],
    form: str,
    path: Path | None,
    stream: BinaryIO | None = None,
    kinds: Mapping[str, type] = COLUMN_KINDS,
) -> int:
    """Write rows as they come.

    Args:
        windows: Columns of some rows each, of one length and the same names throughout; None is a blank.
        form: csv, jsonl or parquet.
        path: File, which appears only when all are written; None: ``stream``.
        stream: Where to without a file; by default standard output.
        kinds: Type of each column.

    Returns:
        Number of rows written.

    Raises:
        ConfigError: Standard output is closed.
        DataError: The file cannot be written.
    """
    if path is None:
        if stream is None and sys.stdout is None:
            raise ConfigError("Standard output is closed. Name a file with --output.")
        return _written(windows, form, stream or sys.stdout.buffer, kinds)
    with atomic_file(path) as temporary, temporary.open("wb") as file:
        return _written(windows, form, file, kinds)


def _written(windows: Iterable[Columns], form: str, stream: BinaryIO, kinds: Mapping[str, type]) -> int:
    writer: Callable[[Columns, BinaryIO, bool], None] = _write_csv if form == "csv" else _write_jsonl
    if form == "parquet":
        return _write_parquet(windows, stream, kinds)
    total, first = 0, True
    for window in windows:
        writer(window, stream, first)
        stream.flush()
        total, first = total + _count(window), False
    return total


def _count(window: Columns) -> int:
    return len(next(iter(window.values())))


def _write_csv(window: Columns, stream: BinaryIO, first: bool) -> None:
    rows = csv.writer(_Lines(stream), lineterminator="\r\n")
    if first:
        rows.writerow(window)
    rows.writerows([_cell(value) for value in row] for row in zip(*window.values(), strict=True))


class _Lines:
    """Takes lines of a csv writer, and ends them by a line feed alone.

    The writer itself quotes a carriage return in a text only where lines end by one.
    """

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream

    def write(self, line: str) -> int:
        return self._stream.write(line.removesuffix("\r\n").encode() + b"\n")


def _cell(value: object) -> object:
    """A value as a cell of csv: words one after the other, yes and no as JSON has them."""
    if isinstance(value, bool | dict):
        return json.dumps(value)
    if isinstance(value, list):
        return "; ".join(value)
    return value


def _write_jsonl(window: Columns, stream: BinaryIO, _: bool) -> None:
    for row in zip(*window.values(), strict=True):
        stream.write(json.dumps(dict(zip(window, row, strict=True)), ensure_ascii=False).encode() + b"\n")


def _write_parquet(windows: Iterable[Columns], stream: BinaryIO, kinds: Mapping[str, type]) -> int:
    import pyarrow as pa
    import pyarrow.parquet as pq

    types = {
        str: pa.string(),
        float: pa.float64(),
        int: pa.int64(),
        bool: pa.bool_(),
        list: pa.list_(pa.string()),
        dict: pa.map_(pa.string(), pa.float64()),
    }
    total, writer = 0, None
    try:
        for window in windows:
            schema = pa.schema([(name, types[kinds[name]]) for name in window])
            table = pa.table({name: [_arrow(value) for value in values] for name, values in window.items()}, schema)
            writer = writer or pq.ParquetWriter(stream, table.schema)
            writer.write_table(table)
            total += _count(window)
    finally:
        if writer is not None:  # after an error too, or it would complain once its file is closed
            writer.close()
    return total


def _arrow(value: object) -> object:
    return list(value.items()) if isinstance(value, dict) else value
