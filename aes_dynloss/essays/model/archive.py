"""Zip files of model folders, unpacked with distrust: whoever sends one may have made it by hand."""

from __future__ import annotations

import atexit
import lzma
import shutil
import stat
import tempfile
import zlib
from pathlib import Path, PurePosixPath
from zipfile import BadZipFile, ZipFile, ZipInfo, is_zipfile

from aes_dynloss.errors import CheckpointError

MOST_FILES = 10_000
MOST_BYTES = 32 * 2**30
# Weights hardly shrink, tables of words do, to a twentieth; a bomb shrinks to a thousandth.
MOST_RATIO = 100
_SMALL = 64 * 2**20  # so much of any ratio harms nobody
_AT_ONCE = 2**20
_ENCRYPTED = 0x1

_unpacked: dict[tuple[Path, int, int], Path] = {}


def unpacked(path: Path) -> Path:
    """The folder that a zip holds, unpacked into a temporary one, which is removed when the process ends.

    The same file is unpacked once. Where everything in it is in one folder, that is the folder. Names that begin with
    a dot, and macOS's own folder, are left out, as they are nowhere read.

    Args:
        path: The zip.

    Raises:
        CheckpointError: It is no zip, or damaged or encrypted; it is large or becomes so; or an entry is no plain file
            or folder, or would lie outside.
    """
    try:
        status = path.stat()
        key = path.resolve(), status.st_mtime_ns, status.st_size
        if key not in _unpacked:
            _unpacked[key] = _unpack(path)
    except (BadZipFile, NotImplementedError, EOFError, zlib.error, lzma.LZMAError, ValueError, OSError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else error
        raise CheckpointError(f"The zip {path} cannot be unpacked: {reason}. Fetch it again.") from None
    return _unpacked[key]


def _unpack(path: Path) -> Path:
    if not is_zipfile(path):
        raise BadZipFile("it is no zip file")
    with ZipFile(path) as archive:
        entries = _checked(archive.infolist(), path)
        folder = Path(tempfile.mkdtemp(prefix="aes-dynloss-"))
        atexit.register(shutil.rmtree, folder, ignore_errors=True)
        try:
            for name, entry in entries.items():
                target = folder / name
                target.parent.mkdir(parents=True, exist_ok=True)
                with archive.open(entry) as source, target.open("xb") as file:
                    shutil.copyfileobj(source, file, _AT_ONCE)  # never more than the entry's size, which was checked
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise
    inner = list(folder.iterdir())
    return inner[0] if len(inner) == 1 and inner[0].is_dir() else folder


def _checked(infos: list[ZipInfo], path: Path) -> dict[PurePosixPath, ZipInfo]:
    """The files of a zip by their path in it, or a refusal."""
    size, limit = sum(info.file_size for info in infos), max(_SMALL, MOST_RATIO * path.stat().st_size)
    if len(infos) > MOST_FILES or size > MOST_BYTES or size > limit:
        raise CheckpointError(
            f"The zip {path} is not unpacked: it holds {len(infos)} entries of {size / 2**20:,.0f} MiB in "
            f"{path.stat().st_size / 2**20:,.1f} MiB, more than a model has (at most {MOST_FILES} entries, "
            f"{MOST_BYTES // 2**20:,} MiB, and {MOST_RATIO} times the zip). If you trust it, unpack it and name the "
            "folder."
        )
    files: dict[PurePosixPath, ZipInfo] = {}
    for info in infos:
        name = PurePosixPath(info.filename)
        fault = _fault(info, name) or ("is there twice" if name in files else None)
        if fault is not None:
            raise CheckpointError(f"The zip {path} is not unpacked: its entry {info.filename!r} {fault}.")
        if not (info.is_dir() or any(part.startswith(".") or part == "__MACOSX" for part in name.parts)):
            files[name] = info
    return files


def _fault(info: ZipInfo, name: PurePosixPath) -> str | None:
    """What is wrong with an entry, in words; None where nothing is."""
    kind = stat.S_IFMT(info.external_attr >> 16)
    if name.is_absolute() or ".." in name.parts or "\\" in info.filename or ":" in info.filename or not name.parts:
        return "would lie outside the folder"
    if kind not in {0, stat.S_IFREG, stat.S_IFDIR}:
        return "is a link or a device, where a plain file is expected"
    return "is encrypted; unpack it yourself and name the folder" if info.flag_bits & _ENCRYPTED else None
