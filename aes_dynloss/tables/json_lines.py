"""Rows of jsonl: one JSON object a line, no NaN, no key twice."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any, NoReturn

from aes_dynloss.errors import DataError
from aes_dynloss.tables.rows import FaultHandler, Row, RowFault


def json_rows(lines: Iterable[str], name: str, on_fault: FaultHandler) -> Iterator[Row]:
    """Objects, numbered by their lines; blank lines are passed over.

    Args:
        lines: Lines with their line ends.
        name: The table's name in messages.
        on_fault: Is given each line that holds no JSON object.

    Raises:
        DataError: There is no line but blank ones.
    """
    empty = True
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        empty = False
        try:
            row = _parse_object(line)
        except ValueError as error:
            on_fault(RowFault(name, number, f"{error}. Write one JSON object a line."))
        else:
            yield number, row
    if empty:
        raise DataError(f"{name} is empty. Write one JSON object a line.")


def _parse_object(line: str) -> dict[str, object]:
    try:
        value = json.loads(line, parse_constant=_refuse_constant, object_pairs_hook=unique_keys)
    except json.JSONDecodeError as error:
        raise ValueError(f"column {error.colno} is not valid JSON: {error.msg}") from None
    except RecursionError:
        raise ValueError("nested too deeply") from None
    if not isinstance(value, dict):
        raise ValueError(f"expected a JSON object such as {{...}}, found {line.strip()[:40]}")
    return value


def _refuse_constant(word: str) -> NoReturn:
    raise ValueError(f"{word} is no JSON number; write null for a blank")


def unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A JSON object, as ``object_pairs_hook``.

    Raises:
        ValueError: A key comes twice, of which JSON's own reader would keep the last.
    """
    values = dict(pairs)
    if len(values) < len(pairs):
        twice = next(key for key, count in Counter(key for key, _ in pairs).items() if count > 1)
        raise ValueError(f"the key {twice!r} comes twice in one object")
    return values
