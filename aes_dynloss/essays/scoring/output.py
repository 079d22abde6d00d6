"""Output of scores: csv, jsonl, parquet or xlsx, to a file written atomically or streamed to standard output."""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, BinaryIO, Literal

from aes_dynloss.errors import ConfigError
from aes_dynloss.tables.atomic import atomic_file
from aes_dynloss.tables.csv_jsonl import CsvLines
from aes_dynloss.tables.workbook import write_sheet

FORMATS = ("csv", "jsonl", "parquet", "xlsx")
_SUFFIXES = ", ".join(f".{name}" for name in FORMATS)
_STREAMED = ("csv", "jsonl")
Platform = Literal["moodle", "canvas"]
PLATFORMS: tuple[Platform, ...] = ("moodle", "canvas")  # learning platforms, whose own file is filled in

# Every column that a row of scores may have, in their order. reported is the score on a reported scale, low and high
# are the ends of the prediction interval, certainty the chance that a human gives the same score, set right on dev,
# probabilities those of all score points as the head gives them; withheld, advisories and reasons are there under a
# policy; dropped_tokens where the model has a cap; ood_distance where it is asked for and the model knows it.
COLUMN_KINDS: Mapping[str, type] = {
    "essay_id": str,
    "prompt_id": str,
    "raw": float,
    "score": float,
    "reported": float,
    "low": float,
    "high": float,
    "certainty": float,
    "probabilities": dict,
    "withheld": bool,
    "advisories": list,
    "reasons": list,
    "dropped_tokens": int,
    "ood_distance": float,
}

Columns = Mapping[str, list[Any]]


def output_format(name: str | None, path: Path | None, option: str = "--output") -> str:
    """The format that is asked for: by name, else by the file's suffix, else csv.

    Args:
        name: One of FORMATS, a learning platform, or None.
        path: The file; None for standard output.
        option: The option that named the file.

    Raises:
        ConfigError: The file's suffix is no known format, or what is no stream is asked for on standard output.
    """
    if name is None and path is not None:
        name = path.suffix.lower().removeprefix(".")
        if name not in FORMATS:
            raise ConfigError(f"{option} {path}: expected a suffix out of {_SUFFIXES}, or --format with it.")
    if path is None and name not in {None, *_STREAMED}:
        raise ConfigError(f"{name} cannot be written to standard output. Name a file with --output.")
    return name or "csv"


def write_scores(
    windows: Iterable[Columns], form: str, path: Path | None, kinds: Mapping[str, type] = COLUMN_KINDS
) -> int:
    """Write rows as they come.

    Args:
        windows: Columns of some rows each, of one length and the same names throughout; None is a blank.
        form: One of FORMATS.
        path: File, which appears only when all are written; None: standard output.
        kinds: Type of each column.

    Returns:
        Number of rows written.

    Raises:
        ConfigError: Standard output is closed.
        DataError: The file cannot be written.
    """
    if path is None:
        if sys.stdout is None:
            raise ConfigError("Standard output is closed. Name a file with --output.")
        return write_rows(windows, form, sys.stdout.buffer, kinds)
    with atomic_file(path) as temporary, temporary.open("wb") as file:
        return write_rows(windows, form, file, kinds)


def kept_columns(kept: Sequence[Mapping[str, object]]) -> dict[str, list[Any]]:
    """The cells that rows have with them, as columns; a blank where one has no such cell.

    Example:
        >>> kept_columns([{"class": "007"}, {"age": 14}])
        {'class': ['007', None], 'age': [None, 14]}
    """
    names = dict.fromkeys(name for cells in kept for name in cells)
    return {name: [cells.get(name) for cells in kept] for name in names}


def kept_kinds(windows: Iterable[Columns]) -> dict[str, type]:
    """Type of each of the input's columns, in the order in which they were seen.

    Args:
        windows: Columns of some rows each, which may have other names than those of other rows.

    Returns:
        str for a column of several types, of lists, or without values.

    Example:
        >>> kept_kinds([{"class": ["007"], "age": [14]}, {"age": [14.5], "tags": [["a"]]}])
        {'class': <class 'str'>, 'age': <class 'float'>, 'tags': <class 'str'>}
    """
    seen: dict[str, set[type]] = {}
    for columns in windows:
        for name, values in columns.items():
            seen.setdefault(name, set()).update(_kind(value) for value in values if value is not None)
    return {
        name: float if kinds == {int, float} else next(iter(kinds)) if len(kinds) == 1 else str
        for name, kinds in seen.items()
    }


def _kind(value: object) -> type:
    if isinstance(value, list | dict) or (isinstance(value, int) and not -(2**63) <= value < 2**63):
        return str
    return type(value)


def kept_names(kept: Collection[str], taken: Collection[str]) -> dict[str, str]:
    """Names of the input's columns in the output, with ``input_`` before one that the output has itself.

    Example:
        >>> kept_names(["text", "score"], ["essay_id", "raw", "score"])
        {'text': 'text', 'score': 'input_score'}
    """
    names, used = {}, {*taken, *kept}
    for name in kept:
        new = name
        while new in used and name in taken:
            new = f"input_{new}"
        used.add(new)
        names[name] = new
    return names


def names_and_kinds(
    kept: Iterable[Columns], taken: Collection[str], kinds: Mapping[str, type]
) -> tuple[dict[str, str], dict[str, type]]:
    """Names of the input's columns beside those of scores, and the types of all.

    Args:
        kept: The input's columns.
        taken: Names of the columns of scores.
        kinds: Their types.
    """
    own = kept_kinds(kept)
    names = kept_names(own, taken)
    return names, {**kinds, **{names[name]: kind for name, kind in own.items()}}


def with_kept(windows: Iterable[Columns], kept: Iterable[Columns], names: Mapping[str, str]) -> Iterator[Columns]:
    """Columns of scores with the input's columns behind them.

    Args:
        windows: Columns of scores.
        kept: The input's columns of the same rows.
        names: Of :func:`kept_names`; rows without such a column get blanks.
    """
    for columns, own in zip(windows, kept, strict=True):
        blanks = [None] * len(columns["essay_id"])
        yield {**columns, **{new: own.get(name, blanks) for name, new in names.items()}}


def write_rows(windows: Iterable[Columns], form: str, stream: BinaryIO, kinds: Mapping[str, type]) -> int:
    r"""Write rows to a stream as they come, as :func:`write_scores` does to a file.

    Example:
        >>> import io
        >>> stream = io.BytesIO()
        >>> write_rows([{"essay_id": ["7"], "score": [3.0]}], "csv", stream, COLUMN_KINDS), stream.getvalue()
        (1, b'essay_id,score\n7,3.0\n')
    """
    if form == "parquet":
        return _write_parquet(windows, stream, kinds)
    if form == "xlsx":
        return _write_sheet(windows, stream)
    total = 0
    for number, window in enumerate(windows):
        rows = list(zip(*window.values(), strict=True))
        if form == "csv":
            lines = csv.writer(CsvLines(stream), lineterminator=CsvLines.END)
            if number == 0:
                lines.writerow(window)
            lines.writerows([_cell(value) for value in row] for row in rows)
        else:
            for row in rows:
                stream.write(json.dumps(dict(zip(window, row, strict=True)), ensure_ascii=False).encode() + b"\n")
        stream.flush()
        total += len(rows)
    return total


def _write_sheet(windows: Iterable[Columns], stream: BinaryIO) -> int:
    total = 0

    def rows() -> Iterator[Sequence[object]]:
        nonlocal total
        for number, window in enumerate(windows):
            if number == 0:
                yield list(window)
            for row in zip(*window.values(), strict=True):
                total += 1
                yield [_cell(value) if isinstance(value, dict | list) else value for value in row]

    write_sheet(rows(), stream)
    return total


def _cell(value: object) -> object:
    """A value as a cell of csv: words one after the other, yes and no as JSON has them."""
    if isinstance(value, bool | dict):
        return json.dumps(value)
    if isinstance(value, list):
        return "; ".join(value) if all(isinstance(one, str) for one in value) else json.dumps(value)
    return value


def _typed(value: object, kind: type) -> object:
    """A value as parquet takes it in a column of a type."""
    if isinstance(value, dict) and kind is dict:
        return list(value.items())
    if kind is str and value is not None and not isinstance(value, str):
        return json.dumps(value, ensure_ascii=False)
    return float(value) if kind is float and isinstance(value, int) else value


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
    with ExitStack() as stack:  # after an error too the writer is closed, or it would complain once its file is
        for window in windows:
            schema = pa.schema([(name, types[kinds[name]]) for name in window])
            columns = {name: [_typed(value, kinds[name]) for value in values] for name, values in window.items()}
            writer = writer or stack.enter_context(pq.ParquetWriter(stream, schema))
            table = pa.table(columns, schema)
            writer.write_table(table)
            total += table.num_rows
    return total
