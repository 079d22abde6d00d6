"""Rows of a source: a local table, or a data set on the Hugging Face hub or in its local cache; and files of ids."""

from __future__ import annotations

import inspect
import re
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import Any

from aes_dynloss.configfile import user_path
from aes_dynloss.errors import ConfigError, DataError
from aes_dynloss.essays.samples import BUNDLED, ESSAYS
from aes_dynloss.tables.csv_jsonl import Quoting
from aes_dynloss.tables.formats import STANDARD_INPUT, SUFFIXES, existing_path, iterate_rows, short_columns
from aes_dynloss.tables.frames import check_frame, is_frame
from aes_dynloss.tables.rows import FaultHandler, Row, refuse

# Rows of a hub data set by which columns of long texts are known.
_SAMPLED = 256


def _hub_rows(dataset_id: str, split: str | None, wanted: Collection[str] | None, short: int) -> Iterator[Row]:
    """Rows of a data set, the first of which is row 1; code that it carries is never run."""
    import datasets

    # Versions before 4 can be told by the environment to run a data set's code, unless the call forbids it.
    known = inspect.signature(datasets.load_dataset).parameters
    forbid: dict[str, Any] = {"trust_remote_code": False} if "trust_remote_code" in known else {}
    try:
        dataset = datasets.load_dataset(dataset_id, split=split, **forbid)
    except Exception as error:  # Network, cache, builder and format errors share no class.
        message = " ".join(str(error).split())[:300] or type(error).__name__
        failure = f"There is no file or folder {dataset_id}, and no data set of that id could be loaded from the hub"
        raise DataError(f"{failure}: {message}. Correct the path or the id, or go online once.") from None
    if isinstance(dataset, dict):
        if len(dataset) != 1:
            names = ", ".join(str(name) for name in dataset)
            raise DataError(f"{dataset_id} has the splits {names}. Name one in data.hub_split.")
        dataset = next(iter(dataset.values()))
    if len(dataset) == 0:
        raise DataError(f"{dataset_id} holds no rows.")
    # If a wanted column is missing, all are read, so that the message about it can suggest another.
    if wanted is not None and not set(wanted) - set(dataset.column_names):
        kept = [*wanted]
        if short:
            arrow = dataset.with_format("arrow")
            kept += short_columns(
                dataset.features.arrow_schema, lambda names: arrow.select_columns(names)[:_SAMPLED], short
            )
        dataset = dataset.select_columns(list(dict.fromkeys(kept)))
    labels = {name: kind for name, kind in dataset.features.items() if isinstance(kind, datasets.ClassLabel)}
    for number, row in enumerate(dataset, start=1):
        # A label's number is a place in a list, which says nothing here; -1 marks a missing one.
        for name, kind in labels.items():
            if row[name] is not None:
                row[name] = None if row[name] < 0 else str(kind.int2str(row[name]))
        yield number, row


_FILE_SUFFIXES = (*SUFFIXES, ".json", ".txt", ".gz", ".zip", ".xlsx", ".xls")


def _names_hub_data(source: str) -> bool:
    """Whether a source is not local but may be the id of a data set on the hub."""
    path = user_path(source, "data.source")
    like_id = re.fullmatch(r"[\w-][\w.-]*(/[\w.-]+)?", source) is not None  # name or owner/name
    like_path = source.startswith((".", "/", "~")) or path.suffix.lower() in _FILE_SUFFIXES
    return source not in {STANDARD_INPUT, BUNDLED} and not like_path and not path.exists() and like_id


def check_source(source: str) -> None:
    """Refuse a source that can only be a path and is not there, before anything is read.

    Raises:
        DataError: It is such a one.
    """
    if is_frame(source):
        check_frame(source)
    elif source not in {STANDARD_INPUT, BUNDLED} and not _names_hub_data(source):
        existing_path(source)


def open_rows(
    source: str,
    *,
    encoding: str,
    quoting: Quoting,
    wanted: Collection[str] | None,
    hub_split: str | None,
    short: int = 0,
    on_fault: FaultHandler = refuse,
    content: bytes | None = None,
) -> Iterator[Row]:
    """Rows of a local source if there is one, else of a hub data set if the source may be its id.

    With ``content`` the source is the name of a table in memory, see `iterate_rows`, and nothing else. Of hub data the
    columns are read that `iterate_rows` reads of parquet.

    Raises:
        DataError: The source cannot be read.
        ConfigError: A hub split is named for a local source.
    """
    if content is not None:
        return iterate_rows(
            source, encoding=encoding, quoting=quoting, wanted=wanted, short=short, on_fault=on_fault, content=content
        )
    path = ESSAYS if source == BUNDLED else user_path(source, "data.source")
    if _names_hub_data(source):
        return _hub_rows(source, hub_split, wanted, short)
    if hub_split is not None:
        raise ConfigError(f"data.hub_split names a split of a hub data set, but {source} is local. Remove it.")
    return iterate_rows(path, encoding=encoding, quoting=quoting, wanted=wanted, short=short, on_fault=on_fault)


def ids_in(path: Path) -> list[str]:
    """The ids of a file, one a line.

    Raises:
        DataError: The file cannot be read.
    """
    try:
        lines = path.read_text(encoding="utf-8-sig").split("\n")
    except (OSError, ValueError) as error:  # ValueError: no UTF-8, or a path with a NUL
        raise DataError(f"{path} cannot be read: {error}. It should hold one essay id a line, as UTF-8 text.") from None
    return [line.strip() for line in lines if line.strip()]


def named_in(path: Path, essay_ids: Sequence[str], others: Collection[str]) -> list[bool]:
    """Which essays the file of ``data.trusted`` names.

    Args:
        path: A file of ids.
        essay_ids: The essays' ids.
        others: Further ids that it may name.

    Raises:
        DataError: The file cannot be read, or names essays that are not there.
    """
    named = set(ids_in(path))
    unknown = sorted(named.difference(essay_ids, others))
    if unknown:
        listed = ", ".join(unknown[:10])
        raise DataError(
            f"data.trusted: {path} names {len(unknown)} essays that the data do not hold: {listed}. Is it of others?"
        )
    return [essay_id in named for essay_id in essay_ids]
