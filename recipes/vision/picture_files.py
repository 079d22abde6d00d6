"""Reading tables of pictures, and pictures, with words on what is wrong with them."""

from __future__ import annotations

from collections.abc import Sequence
from io import BytesIO
from pathlib import Path

import pyarrow
from PIL import Image, UnidentifiedImageError
from pyarrow import parquet

from aes_dynloss import DataError

# Damaged files make PIL raise all of these.
_FAULTS = (OSError, SyntaxError, TypeError, ValueError, Image.DecompressionBombError)


def read_columns(path: Path, columns: Sequence[str], optional: Sequence[str] = ()) -> pyarrow.Table:
    """Columns of a parquet file.

    Args:
        path: The file.
        columns: Those that must be there.
        optional: Those that are read too, where they are there.

    Raises:
        DataError: The file cannot be read, has no row, or lacks a column.
    """
    try:
        known = parquet.read_schema(path).names
        missing = [name for name in columns if name not in known]
        if missing:
            raise DataError(
                f"{path} has the columns {', '.join(known)}, and {', '.join(missing)} is not among them. Name them "
                f"{', '.join(columns)}."
            )
        table = parquet.read_table(path, columns=[*columns, *(name for name in optional if name in known)])
    except (OSError, pyarrow.ArrowException) as error:
        raise DataError(f"data.source: {path} cannot be read as parquet: {error}. Name another file.") from None
    if table.num_rows == 0:
        raise DataError(f"{path} has no rows. Name a file with pictures.")
    return table


def opened(content: object, what: str, where: str) -> Image.Image:
    """A picture, read whole.

    Args:
        content: Its file, or the bytes of one.
        what: What it is, for messages.
        where: Where it stands, for messages.

    Raises:
        DataError: It cannot be read.
    """
    if not isinstance(content, bytes | Path | None):
        kind = type(content).__name__
        raise DataError(
            f"{where}: the {what} is of type {kind}, expected the bytes of a picture's file. Write the column anew."
        )
    try:
        image = Image.open(content if isinstance(content, Path) else BytesIO(content))  # type: ignore[arg-type]
        image.load()
    except UnidentifiedImageError:
        raise DataError(f"{where}: the {what} cannot be read: its format is not known. Mend or remove it.") from None
    except _FAULTS as error:
        raise DataError(f"{where}: the {what} cannot be read: {error}. Mend or remove it.") from None
    return image
