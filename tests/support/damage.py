"""Damage to files, drawn from a seed: of bytes, of rows and cells, of YAML and JSON values, and of the file as such."""

from __future__ import annotations

import copy
import csv
import io
import json
import math
import os
import random
import shutil
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

# Cases of each kind of input that tests/fuzz tries, and counts; AES_DYNLOSS_LONG=1 makes ten thousand of them.
_TIMES = 3 if os.environ.get("AES_DYNLOSS_LONG") == "1" else 1
CASES = {
    "data check": 560 * _TIMES,
    "evaluate": 560 * _TIMES,
    "score": 320 * _TIMES,
    "unscored": 600 * _TIMES,
    "configurations": 700 * _TIMES,
    "overrides": 200 * _TIMES,
    "prompts": 160 * _TIMES,
    "model folders": 400 * _TIMES,
    "signed model folders": 200 * _TIMES,
    "encoders": 80 * _TIMES,
}

_TOKENS = [
    *(b"\0", b'"', b'""', b"'", b"\n", b"\r", b"\r\n", b"\n\n", b",", b"\t", b";", b"{", b"}", b"[", b"]", b":", b"\\"),
    *(b"\xff", b"\xfe\xff", b"\xef\xbb\xbf", b"\xed\xa0\x80", b"\xc3", b"\xf4\x90\x80\x80", b"\xe2\x80\xa8", b"\x85"),
    *(b"NaN", b"-Infinity", b"null", b"true", b"1e999", b"-1e308", b"9" * 400, b"\\ud800", b"\\u0000", b"\x1a", b"#"),
    *(b"&a ", b"*a", b"!!x ", b"- ", b"? ", b"%", b"PAR1", b'{"a":' * 50, b"[" * 3000),
]

# Values that a cell, a key of a configuration or of a model folder may suddenly have.
VALUES: list[Any] = [
    *(None, "", " ", "word", "a\nb", 'a"b', "a,b", "a\tb", "\N{ZERO WIDTH SPACE}", "nan", "NaN", "inf", "-inf", "1e5"),
    *("1_000", "0x1f", "007", "no", "\u0661", "1e400", "9" * 5000, "x" * 200_000, "\x1b[2J", "\u2028", True, False),
    *(0, -1, 3, 7, 2**31, 2**63, 2**64, -(2**63) - 1, 10**30, 10**400, 0.5, -0.0, 1e-320, 1e300, -1e308, math.nan),
    *(math.inf, -math.inf, [], {}, [None], [[]], {"a": {}}, {"": ""}, [1, "a", None], {"low": 1, "high": 6}),
    {"schedule": "morris"},
]


def cases(name: str) -> Iterator[tuple[int, random.Random]]:
    """Numbers of the cases of one kind, each with its own seeded chance."""
    for number in range(CASES[name]):
        yield number, random.Random(f"{name} {number}")


def damaged_bytes(content: bytes, chance: random.Random) -> bytes:
    """Some bytes flipped, deleted, inserted, repeated, moved, or the end cut off."""
    found = bytearray(content)
    for _ in range(chance.choice([1, 1, 1, 2, 5])):
        place = chance.randrange(len(found) + 1)
        end = min(len(found), place + chance.choice([1, 1, 2, 8, 64]))
        what = chance.choice(
            ["flip", "flip", "delete", "insert", "insert", "insert", "truncate", "repeat", "move", "zero"]
        )
        if what == "flip" and place < len(found):
            found[place] ^= 1 << chance.randrange(8)
        elif what == "delete":
            del found[place:end]
        elif what == "insert":
            found[place:place] = chance.choice(_TOKENS)
        elif what == "truncate":
            del found[place:]
        elif what == "repeat":
            found[place:place] = found[place:end] * chance.choice([1, 2, 100])
        elif what == "move":
            part = found[place:end]
            del found[place:end]
            other = chance.randrange(len(found) + 1)
            found[other:other] = part
        elif what == "zero":
            found[place:end] = bytes(end - place)
    return bytes(found)


def damaged_table(rows: list[dict[str, Any]], suffix: str, chance: random.Random) -> bytes:
    """Rows in the format of a suffix, after damage to cells, columns and rows, or to bytes, or to both."""
    names = list(rows[0])
    cells = [[row[name] for name in names] for row in rows]
    in_bytes = chance.random() < 0.35
    for _ in range(0 if in_bytes else chance.choice([1, 1, 2, 3])):
        _damage_cells(names, cells, chance)
    if suffix == ".parquet":
        content = _parquet(names, cells, chance)
    elif suffix == ".jsonl":
        lines = (
            "{" + ", ".join(f"{json.dumps(n)}: {_json(v)}" for n, v in zip(names, row, strict=False)) + "}"
            for row in cells
        )
        content = "\n".join(lines).encode("utf-8", "surrogatepass")
    else:
        text = io.StringIO(newline="")
        csv.writer(text, delimiter="\t" if suffix == ".tsv" else ",").writerows([names, *cells])
        content = text.getvalue().encode("utf-8", "surrogatepass")
    return damaged_bytes(content, chance) if in_bytes or chance.random() < 0.1 else content


def _damage_cells(names: list[str], cells: list[list[Any]], chance: random.Random) -> None:
    column, row = chance.randrange(len(names)), chance.randrange(len(cells))
    match chance.choice(["value", "value", "value", "column", "names", "names", "drop", "width", "repeat", "fewer"]):
        case "value":
            cells[row][column : column + 1] = [chance.choice(VALUES)]
        case "column":
            value = chance.choice(VALUES)
            for line in cells:
                line[column : column + 1] = [value]
        case "names":
            _damage_names(names, column, chance)
        case "drop":
            for line in (names, *cells):
                del line[column : column + 1]
            names.extend([] if names else ["alone"])
        case "width":
            del cells[row][chance.randrange(len(cells[row]) + 1) :]
        case "repeat":
            cells.append(list(cells[row]))
        case "fewer":
            del cells[chance.choice([0, 1, 2]) :]
            cells.extend([] if cells else [["alone"] * len(names)])


def _damage_names(names: list[str], column: int, chance: random.Random) -> None:
    other = chance.randrange(len(names))
    match chance.choice(["swap", "double", "other"]):
        case "swap":
            names[column], names[other] = names[other], names[column]
        case "double":
            names[column] = names[other]
        case "other":
            odd = ["", " ", "Score", "score ", "x", "a\nb", "\ufeffessay_id", "text", "1", "x" * 5000]
            names[column] = chance.choice(odd)


def _json(value: Any) -> str:
    return "[" * 3000 + "]" * 3000 if value == [[]] else json.dumps(value)


def _parquet(names: list[str], cells: list[list[Any]], chance: random.Random) -> bytes:
    columns = []
    for place in range(len(names)):
        values = [line[place] if place < len(line) else None for line in cells]
        columns.append(chance.choice(_ODD_COLUMNS)(len(values)) if chance.random() < 0.1 else _plain_column(values))
    buffer = io.BytesIO()
    pq.write_table(pa.Table.from_arrays(columns, names=names), buffer, compression=chance.choice(["none", "snappy"]))
    return buffer.getvalue()


def _plain_column(values: list[Any]) -> pa.Array:
    try:
        column = pa.array(values)
        pq.write_table(pa.Table.from_arrays([column], ["a"]), io.BytesIO())  # not every type can be
        return column
    except (pa.ArrowException, TypeError, ValueError, OverflowError):
        return pa.array([None if value is None else str(value)[:5000] for value in values], pa.large_string())


# Columns of types that nobody expects, and of text that is none.
_ODD_COLUMNS: list[Callable[[int], pa.Array]] = [
    lambda n: pa.array([b"\xff\xfe"] * n, pa.binary()).view(pa.string()),
    lambda n: pa.array([b"\xff\xfe"] * n, pa.binary()),
    pa.nulls,
    lambda n: pa.array([2**63 - 1] * n, pa.int64()).cast(pa.timestamp("us"), safe=False),
    lambda n: pa.array([datetime(2020, 1, 1, tzinfo=UTC)] * n, pa.timestamp("ns", tz="UTC")),
    lambda n: pa.array([datetime(2020, 1, 1, tzinfo=UTC)] * n).cast(pa.timestamp("us", tz="Nowhere/Land")),
    lambda n: pa.array([2**63 - 1] * n, pa.int64()).cast(pa.duration("s"), safe=False),
    lambda n: pa.array([-(2**31)] * n, pa.int32()).cast(pa.date32(), safe=False),
    lambda n: pa.array([Decimal("3.5")] * n, pa.decimal128(38, 10)),
    lambda n: pa.array([2**64 - 1] * n, pa.uint64()),
    lambda n: pa.array([[1, [2, [3]]][:1] for _ in range(n)]),
    lambda n: pa.array([{"a": 1}] * n),
    lambda n: pa.array(["1"] * n).dictionary_encode(),
    lambda n: pa.array([math.nan, math.inf] * n, pa.float32())[:n],
    lambda n: pa.array([True] * n),
]  # fmt: skip


def damaged_values(values: Any, chance: random.Random) -> Any:
    """A copy of nested values in which one or more are others, gone, moved, or under another key."""
    result = copy.deepcopy(values)
    for _ in range(chance.choice([1, 1, 2, 4])):
        places = list(_places(result))
        if not places:
            return result
        inner, key = chance.choice(places)
        what = chance.choice(["value", "value", "value", "delete", "key", "deep", "swap"])
        if what == "value":
            inner[key] = copy.deepcopy(chance.choice(VALUES))
        elif what == "delete":
            del inner[key]
        elif what == "key" and isinstance(inner, dict):
            inner[chance.choice(["", "x", f"{key}s", "data", "__class__", "1"])] = inner.pop(key)
        elif what == "deep":
            for _ in range(chance.choice([1, 20])):
                inner[key] = chance.choice([[inner[key]], {"a": inner[key]}])
        elif what == "swap":
            other, other_key = chance.choice(places)
            taken = copy.deepcopy(other[other_key])
            inner[key] = taken
    return result


def _places(values: Any) -> Iterator[tuple[Any, Any]]:
    """Every container in nested values with each of its keys or places."""
    if isinstance(values, dict | list):
        for key in list(values) if isinstance(values, dict) else range(len(values)):
            yield values, key
            yield from _places(values[key])


def damage_place(path: Path, chance: random.Random) -> None:
    """Something else stands where a file is looked for."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
    match chance.choice(["empty", "missing", "folder", "full folder", "loop", "dangling", "null", "itself"]):
        case "empty":
            path.touch()
        case "folder":
            path.mkdir()
        case "full folder":
            path.mkdir()
            (path / "a.txt").write_bytes(chance.choice([b"", b"words", b"\xff", b"a\0b"]))
            (path / "b.txt").mkdir()
            (path / "c.txt").symlink_to("c.txt")
        case "loop":
            other = path.with_name(f"{path.name}.loop")
            other.unlink(missing_ok=True)
            other.symlink_to(path.name)
            path.symlink_to(other.name)
        case "dangling":
            path.symlink_to("nowhere")
        case "null":
            path.symlink_to("/dev/null")
        case "itself":
            path.symlink_to(".")
