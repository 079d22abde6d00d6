"""Where scores go: csv, jsonl or parquet, to a file that appears whole or to standard output as they come."""

from __future__ import annotations

import csv
import io
import json
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import BinaryIO

from aes_dynloss.errors import ConfigError
from aes_dynloss.essays.score import COLUMN_KINDS, ScoredWindow
from aes_dynloss.evaluation.table_files import replacing

FORMATS = ("csv", "jsonl", "parquet")


def output_format(name: str | None, path: Path | None) -> str:
    """The format that is asked for: by name, else by the file's suffix, else csv.

    Raises:
        ConfigError: The file's suffix is no known format, or parquet is asked for on standard output.
    """
    if name is None and path is not None:
        name = path.suffix.lower().removeprefix(".")
        if name not in FORMATS:
            raise ConfigError(f"--output {path}: expected a suffix out of .csv, .jsonl, .parquet, or --format with it.")
    if name == "parquet" and path is None:
        raise ConfigError("parquet cannot be written to standard output. Name a file with --output.")
    return name or "csv"


def write_scores(windows: Iterable[ScoredWindow], form: str, path: Path | None, stream: BinaryIO | None = None) -> int:
    """Write scores as they come.

    Args:
        windows: Scores.
        form: csv, jsonl or parquet.
        path: File, which appears only when all are written; None: ``stream``.
        stream: Where to without a file; by default standard output.

    Returns:
        Number of essays written.

    Raises:
        ConfigError: Standard output is closed.
        DataError: The file cannot be written.
    """
    if path is None:
        if stream is None and sys.stdout is None:
            raise ConfigError("Standard output is closed. Name a file with --output.")
        return _written(windows, form, stream or sys.stdout.buffer)
    with replacing(path) as temporary, temporary.open("wb") as file:
        return _written(windows, form, file)


def _written(windows: Iterable[ScoredWindow], form: str, stream: BinaryIO) -> int:
    writer: Callable[[ScoredWindow, BinaryIO, bool], None] = _write_csv if form == "csv" else _write_jsonl
    if form == "parquet":
        return _write_parquet(windows, stream)
    total = 0
    for window in windows:
        writer(window, stream, total == 0)
        stream.flush()
        total += len(window)
    return total


def _write_csv(window: ScoredWindow, stream: BinaryIO, first: bool) -> None:
    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    if first:
        rows.writerow(window.columns)
    rows.writerows(zip(*window.columns.values(), strict=True))
    stream.write(text.getvalue().encode())


def _write_jsonl(window: ScoredWindow, stream: BinaryIO, _: bool) -> None:
    for row in zip(*window.columns.values(), strict=True):
        stream.write(json.dumps(dict(zip(window.columns, row, strict=True)), ensure_ascii=False).encode() + b"\n")


def _write_parquet(windows: Iterable[ScoredWindow], stream: BinaryIO) -> int:
    import pyarrow as pa
    import pyarrow.parquet as pq

    total, writer = 0, None
    try:
        for window in windows:
            kinds = {str: pa.string(), float: pa.float64(), int: pa.int64()}
            fields = [(name, kinds[COLUMN_KINDS[name]]) for name in window.columns]
            table = pa.table(window.columns, schema=pa.schema(fields))
            writer = writer or pq.ParquetWriter(stream, table.schema)
            writer.write_table(table)
            total += len(window)
    finally:
        if writer is not None:  # after an error too, or it would complain once its file is closed
            writer.close()
    return total
