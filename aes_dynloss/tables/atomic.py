"""Files and folders that appear whole or not at all, whenever the process ends.

What is written lies beside its place under a temporary name with the process's id, reaches the disk, and is renamed. A
process that is killed leaves at most such a temporary, which the next writer of the same file on the same machine
removes, and which :func:`leftovers` finds.
"""

from __future__ import annotations

import ctypes
import glob
import hashlib
import os
import platform
import shutil
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from aes_dynloss.errors import AesDynlossError, DataError

TEMPORARY = ".tmp"


@contextmanager
def atomic_file(path: Path, raises: type[AesDynlossError] | None = DataError) -> Iterator[Path]:
    """A temporary path beside ``path`` that takes its place when the block ends without an error.

    Args:
        path: The file; missing folders are made. A link to a file is followed, so that the link stays.
        raises: The error that stands for the system's; None lets the system's through.

    Yields:
        Path to write to; it does not exist yet.

    Raises:
        AesDynlossError: The file cannot be written; a folder, a device, a pipe or a socket in its place is a DataError.
    """
    target = _regular_target(path)
    temporary = _temporary(target)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        _remove_of_dead(target)
        yield temporary
        _sync(temporary)
        temporary.replace(target)
        _sync(target.parent)
    except OSError as error:
        if raises is None:
            raise
        raise raises(f"Cannot write {path}: {error.strerror or error}.") from error
    finally:
        with suppress(OSError):  # It may not be there, or have a name too long to be.
            temporary.unlink()


@contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """An empty temporary folder beside ``path`` that takes its place when the block ends without an error.

    Args:
        path: The folder; an earlier one is replaced as a whole, and put back if that fails.

    Yields:
        Folder to write into.

    Raises:
        OSError: The folder cannot be written.
    """
    target = Path(os.path.realpath(path))  # Path.resolve raises RuntimeError for a link to itself
    target.parent.mkdir(parents=True, exist_ok=True)
    new, old = _temporary(target), _temporary(target, "old")
    for half in (new, old):
        shutil.rmtree(half, ignore_errors=True)
    try:
        new.mkdir()
        yield new
        for entry in (*new.rglob("*"), new):
            _sync(entry)
        if not (target.exists() and _exchange(new, target)):
            if target.exists():
                target.replace(old)
            new.replace(target)
        _sync(target.parent)
    finally:
        if old.exists() and not target.exists():
            old.replace(target)
        shutil.rmtree(new, ignore_errors=True)
        shutil.rmtree(old, ignore_errors=True)


@contextmanager
def atomic_copy(path: Path) -> Iterator[Path]:
    """A temporary copy of a folder that takes its place when the block ends without an error.

    Its files are links to the old ones where the file system has links: the block replaces files, by
    :func:`write_text` for one, and never changes them in place.

    Args:
        path: The folder, which no other process is writing. What earlier killed copies of it left is removed.

    Yields:
        Folder to change.

    Raises:
        OSError: The folder cannot be copied or replaced.
    """
    target = Path(os.path.realpath(path))
    for left in leftovers_of(target):
        shutil.rmtree(left, ignore_errors=True)
    with atomic_folder(target) as new:
        shutil.copytree(target, new, symlinks=True, copy_function=_link, dirs_exist_ok=True)
        yield new


def publish(path: Path, target: Path) -> None:
    """Let a file that is whole appear in another place too, by a link where the file system has links.

    Raises:
        DataError: It cannot.
    """
    with atomic_file(target) as temporary:
        _link(str(path), str(temporary))


def _link(source: str, target: str) -> None:
    try:
        os.link(source, target, follow_symlinks=False)
    except OSError:  # the file system has no hard links
        shutil.copy2(source, target, follow_symlinks=False)


_HERE, _EXCHANGE = -100, 2  # AT_FDCWD and RENAME_EXCHANGE of Linux


def _exchange(one: Path, other: Path) -> bool:
    """Let two folders change places in one step; whether the system could."""
    try:
        rename = ctypes.CDLL(None, use_errno=True).renameat2
    except (AttributeError, OSError):
        return False
    return bool(rename(_HERE, os.fsencode(one), _HERE, os.fsencode(other), _EXCHANGE) == 0)


def write_text(path: Path, text: str) -> None:
    """Write a text file in UTF-8, atomically.

    Raises:
        DataError: It cannot be written.
    """
    with atomic_file(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def leftovers(folder: Path) -> list[Path]:
    """Temporary files below a folder that killed processes left.

    Args:
        folder: A folder in which no other process is writing.
    """
    return [path for path in folder.rglob(f".*{TEMPORARY}") if path.is_file()]


def leftovers_of(path: Path) -> list[Path]:
    """Temporary files of one file that killed processes left.

    Args:
        path: A file that no other process is writing.
    """
    return list(path.parent.glob(f".{glob.escape(path.name)}.[0-9]*{TEMPORARY}"))


def _regular_target(path: Path) -> Path:
    """The file that is to be replaced: at the end of a link, if it is one."""
    try:
        target = path.resolve() if path.is_symlink() else path
        if target.exists() and not target.is_file():
            kind = "a folder" if target.is_dir() else "no regular file, but a device, a pipe or a socket"
            raise DataError(f"Cannot write {path}: it is {kind}. Choose another path.")
    except (OSError, RuntimeError) as error:
        raise DataError(f"Cannot write {path}: {error}.") from error
    return target


def _temporary(target: Path, role: str = "") -> Path:
    return target.with_name(f".{target.name}.{os.getpid()}.{_machine()}{role and f'.{role}'}{TEMPORARY}")


def _machine() -> str:
    """Words for the machine, or the container on it, in temporary names: of others it is not known who is alive."""
    processes = ""
    with suppress(OSError):  # Linux alone has it
        processes = str(Path("/proc/self/ns/pid").readlink())
    return f"{zlib.crc32(f'{platform.node()} {processes}'.encode()):08x}"


def _remove_of_dead(target: Path) -> None:
    """Remove the temporary files of a file whose processes, of this machine, have ended."""
    for left in leftovers_of(target):
        number = left.name.removeprefix(f".{target.name}.").removesuffix(f".{_machine()}{TEMPORARY}")
        if number.isdecimal() and not _is_alive(int(number)):
            with suppress(OSError):
                left.unlink()


def _is_alive(process: int) -> bool:
    if os.name == "nt":  # there signal 0 is Ctrl+C
        return True
    try:
        os.kill(process, 0)
    except PermissionError:  # another user's
        return True
    except (ProcessLookupError, OverflowError):
        return False
    return True


def _sync(path: Path) -> None:
    """Bring a file, or a folder's entries, to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def file_sha256(path: Path) -> str:
    """SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
