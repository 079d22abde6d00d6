"""DataFrames in memory as sources of rows: each has a name that says what is in it, as a file's path would."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from types import MappingProxyType
from typing import TYPE_CHECKING

from aes_dynloss.errors import DataError
from aes_dynloss.tables.csv_jsonl import check_header
from aes_dynloss.tables.rows import Row

if TYPE_CHECKING:
    import pandas as pd

_PREFIX = "dataframe:"
_SHORT = 16  # digits of the digest in a name

_held: ContextVar[Mapping[str, pd.DataFrame]] = ContextVar("held DataFrames", default=MappingProxyType({}))


@contextmanager
def held_frame(frame: pd.DataFrame) -> Iterator[str]:
    """A name under which a DataFrame can be read within the block, by the digest of its cells.

    Args:
        frame: The table; its index is not read.

    Raises:
        DataError: It has no rows, or two columns have one name.

    Example:
        >>> import pandas as pd
        >>> with held_frame(pd.DataFrame({"text": ["Dear editor,", None], "score": [3, 4]})) as name:
        ...     print(name, list(frame_rows(name)))
        dataframe:f88adda7c11a77a3 [(1, {'text': 'Dear editor,', 'score': 3}), (2, {'text': None, 'score': 4})]
    """
    digest = hashlib.sha256()
    for row in _rows(frame):
        digest.update(repr(row).encode("utf-8", "backslashreplace"))
    name = _PREFIX + digest.hexdigest()[:_SHORT]
    token = _held.set({**_held.get(), name: frame})
    try:
        yield name
    finally:
        _held.reset(token)


def is_frame(source: object) -> bool:
    """Whether a source is the name of a DataFrame, held now or before."""
    return str(source).startswith(_PREFIX)


def check_frame(source: object) -> None:
    """Refuse the name of a DataFrame that is not held.

    Raises:
        DataError: It is such a name.
    """
    if str(source) not in _held.get():
        raise DataError(
            f"{source} is a DataFrame that was in memory when the run began. Give the DataFrame again, or a file."
        )


def frame_rows(source: object) -> Iterator[Row]:
    """Rows of a held DataFrame, the first of which is row 1; what pandas takes for missing is None.

    Args:
        source: Its name.

    Raises:
        DataError: It is not held.
    """
    check_frame(source)
    return _rows(_held.get()[str(source)])


def _rows(frame: pd.DataFrame) -> Iterator[Row]:
    names = [str(name) for name in frame.columns]
    check_header(names, "the DataFrame")
    if not len(frame):
        raise DataError("The DataFrame holds no rows. Give one with a row for each essay.")
    cells = frame.astype(object).where(frame.notna(), None)
    for number, row in enumerate(cells.itertuples(index=False, name=None), start=1):
        yield number, dict(zip(names, row, strict=True))
