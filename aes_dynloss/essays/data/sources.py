"""The rows of a source: a local table, or a data set on the Hugging Face hub."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import BinaryIO

from aes_dynloss.configfile import user_path
from aes_dynloss.errors import ConfigError
from aes_dynloss.essays.data.delimited import Quoting
from aes_dynloss.essays.data.rows import FaultHandler, Row, refuse
from aes_dynloss.essays.data.tables import STANDARD_INPUT, SUFFIXES, iterate_rows
from aes_dynloss.essays.samples import BUNDLED, ESSAYS

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
    if source not in {STANDARD_INPUT, BUNDLED} and not like_path and not path.exists():
        from aes_dynloss.essays.data.hub import hub_rows, is_hub_id

        if is_hub_id(source):
            return hub_rows(source, hub_split, wanted)
    if hub_split is not None:
        raise ConfigError(f"data.hub_split names a split of a hub data set, but {source} is local. Remove it.")
    return iterate_rows(path, encoding=encoding, quoting=quoting, wanted=wanted, on_fault=on_fault, stdin=stdin)
