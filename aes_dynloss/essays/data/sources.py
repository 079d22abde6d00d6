"""Rows of a source: a local table, or a data set on the Hugging Face hub or in its local cache."""

from __future__ import annotations

import inspect
import re
from collections.abc import Collection, Iterator
from typing import Any, BinaryIO

import datasets

from aes_dynloss.configfile import user_path
from aes_dynloss.errors import ConfigError, DataError
from aes_dynloss.essays.samples import BUNDLED, ESSAYS
from aes_dynloss.tables.formats import STANDARD_INPUT, SUFFIXES, iterate_rows
from aes_dynloss.tables.rows import FaultHandler, Row, refuse
from aes_dynloss.tables.text_rows import Quoting

_HUB_ID = re.compile(r"[\w-][\w.-]*(/[\w.-]+)?")


def is_hub_id(source: str) -> bool:
    """Whether a source could be the id of a data set, such as ``name`` or ``owner/name``."""
    return _HUB_ID.fullmatch(source) is not None


def hub_rows(dataset_id: str, split: str | None, wanted: Collection[str]) -> Iterator[Row]:
    """Read a data set; code that it carries is never run. Row 1 is the first.

    Args:
        dataset_id: Such as ``owner/name``.
        split: Name of its split; None if it has just one.
        wanted: The columns that are used. No others are read, provided that it has all these.

    Raises:
        DataError: It cannot be had (unknown, offline), or has several splits and none is named.
    """
    # Versions before 4 can be told by the environment to run a data set's code, unless the call forbids it.
    known = inspect.signature(datasets.load_dataset).parameters
    forbid: dict[str, Any] = {"trust_remote_code": False} if "trust_remote_code" in known else {}
    try:
        found = datasets.load_dataset(dataset_id, split=split, **forbid)
    except Exception as error:  # Network, cache, builder and format errors share no class.
        words = " ".join(str(error).split())[:300] or type(error).__name__
        meant = f"There is no file or folder {dataset_id}, and no data set of that id could be loaded from the hub"
        raise DataError(f"{meant}: {words}. Correct the path or the id, or go online once.") from None
    if isinstance(found, dict):
        if len(found) != 1:
            names = ", ".join(str(name) for name in found)
            raise DataError(f"{dataset_id} has the splits {names}. Name one in data.hub_split.")
        found = next(iter(found.values()))
    if len(found) == 0:
        raise DataError(f"{dataset_id} holds no rows.")
    # If a wanted column is missing, all are read, so that the message about it can suggest another.
    if not set(wanted) - set(found.column_names):
        found = found.select_columns(list(wanted))
    labels = {name: kind for name, kind in found.features.items() if isinstance(kind, datasets.ClassLabel)}
    for number, row in enumerate(found, start=1):
        yield number, {name: _label(value, labels[name]) if name in labels else value for name, value in row.items()}


def _label(value: int | None, kind: datasets.ClassLabel) -> str | None:
    """A class label's name: its number is a place in a list, which says nothing here. -1 marks a missing label."""
    return None if value is None or value < 0 else str(kind.int2str(value))


_FILE_SUFFIXES = (*SUFFIXES, ".json", ".txt", ".gz", ".zip", ".xlsx", ".xls")


def open_rows(
    source: str,
    *,
    encoding: str,
    quoting: Quoting,
    wanted: Collection[str],
    hub_split: str | None,
    on_fault: FaultHandler = refuse,
    stdin: BinaryIO | None = None,
) -> Iterator[Row]:
    """Rows of a local source if there is one, else of a hub data set if the source may be its id.

    Raises:
        DataError: The source cannot be read.
        ConfigError: A hub split is named for a local source.
    """
    path = ESSAYS if source == BUNDLED else user_path(source, "data.source")
    like_path = source.startswith((".", "/", "~")) or path.suffix.lower() in _FILE_SUFFIXES
    if source not in {STANDARD_INPUT, BUNDLED} and not like_path and not path.exists() and is_hub_id(source):
        return hub_rows(source, hub_split, wanted)
    if hub_split is not None:
        raise ConfigError(f"data.hub_split names a split of a hub data set, but {source} is local. Remove it.")
    return iterate_rows(path, encoding=encoding, quoting=quoting, wanted=wanted, on_fault=on_fault, stdin=stdin)
