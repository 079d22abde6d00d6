"""A folder of exported files that appears whole or not at all, and replaces nothing but its like."""

from __future__ import annotations

import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from aes_dynloss.errors import DataError

CONFIG = "config.json"
EXPERIMENT = "prompt_"
_EXPORTED = re.compile(r"config\.json|(predictions|scaling)_[0-9a-f]{8}\.csv")


@contextmanager
def placing(folder: Path, *, force: bool = False) -> Iterator[Path]:
    """A temporary folder whose content takes ``folder``'s place when the block ends without an error.

    Args:
        folder: Where the files are to be; missing folders are made.
        force: Replace an earlier export; without it, the folder must be empty or not there.

    Yields:
        Folder to write to.

    Raises:
        DataError: The folder is there without ``force``, holds what is no part of an export, or cannot be written.
    """
    _refuse(folder, force=force)
    try:
        there = folder.is_dir()
        home = folder if there else folder.absolute().parent
        home.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".export.", dir=home) as temporary:
            new, old = Path(temporary) / "new", Path(temporary) / "old"
            new.mkdir()
            yield new
            if not there:
                new.rename(folder)
                return
            old.mkdir()
            for entry in _entries(folder):
                entry.rename(old / entry.name)
            for entry in sorted(new.iterdir()):
                entry.rename(folder / entry.name)
            shutil.rmtree(old)
    except OSError as error:
        raise DataError(f"Cannot write {folder}: {error.strerror or error}.") from error


def _refuse(folder: Path, *, force: bool) -> None:
    """Refuse a place that is taken."""
    if folder.exists() and not folder.is_dir():
        raise DataError(f"{folder} is a file; expected a folder to export to. Choose another one.")
    entries = _entries(folder)
    if entries and not force:
        raise DataError(f"{folder} is there already. Choose another folder, or give --force to replace the export.")
    for entry in entries:
        other = _foreign(entry)
        if other is not None:
            raise DataError(
                f"{other} is no part of an export, and --force replaces nothing else. Move it, or choose another "
                f"folder than {folder}."
            )


def _foreign(entry: Path) -> Path | None:
    """What is no part of an export: the entry itself, something in it, or nothing."""
    if not entry.is_dir() or not entry.name.startswith(EXPERIMENT):
        return entry
    return next((file for file in _entries(entry) if not file.is_file() or not _EXPORTED.fullmatch(file.name)), None)


def _entries(folder: Path) -> list[Path]:
    """What a folder holds, in order, but for what killed exports left; nothing where it is not there."""
    return sorted(entry for entry in folder.iterdir() if not _unfinished(entry)) if folder.is_dir() else []


def _unfinished(entry: Path) -> bool:
    """Whether a process that exports made the folder for its own use."""
    return entry.name.startswith(".export.")
