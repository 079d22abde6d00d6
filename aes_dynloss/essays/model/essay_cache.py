"""What a frozen encoder makes of essays, kept on disk, so that an essay is encoded once for all runs.

Safetensors files, named by a hash of what determines their content beside the essays. In them stand, for each essay,
one row or several under the SHA-256 of its chunks: prompts, folds, seeds and losses share them, another window or cap
does not. No text and no token is stored. Yet a vector tells what its essay is about: the folder needs the care that
the essays do.

While a run encodes, each batch becomes a part, a file that is there whole or not at all. Files are mapped, not loaded:
memory holds what the caller copies.

The device is not told apart: what a GPU computed is used on a CPU, though the last bits would differ there.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import shutil
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, ClassVar

import numpy as np
import torch
import transformers
from filelock import FileLock, Timeout
from numpy.typing import NDArray
from torch import nn

from aes_dynloss.errors import CheckpointError, first_line
from aes_dynloss.essays.model.encoders import encoder_values
from aes_dynloss.tables.atomic import atomic_file

Values = NDArray[np.float32] | NDArray[np.float16]

_DIGEST_BYTES = 32
_LOCK_SECONDS = 300
ABSENT = (0, 0, 0)
_TYPES: dict[str, np.dtype[Any]] = {
    "U8": np.dtype("u1"),
    "I64": np.dtype("<i8"),
    "F16": np.dtype("<f2"),
    "F32": np.dtype("<f4"),
}


def essay_digest(chunks: Sequence[NDArray[np.int32]]) -> bytes:
    """SHA-256 of an essay as an encoder reads it: the token ids, and where one chunk ends."""
    digest = hashlib.sha256()
    for chunk in chunks:
        digest.update(len(chunk).to_bytes(8, "little"))
        digest.update(chunk.astype("<i4").tobytes())
    return digest.digest()


def weights_digest(encoder: nn.Module) -> str:
    """SHA-256 of an encoder's weights with their names, types and shapes, in hexadecimal."""
    digest = hashlib.sha256()
    for name, tensor in sorted(encoder.state_dict().items()):
        digest.update(json.dumps([name, str(tensor.dtype), list(tensor.shape)]).encode())
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
    return digest.hexdigest()


def encoder_identity(encoder: nn.Module, precision: str, *, dropout: bool) -> dict[str, str]:
    """What determines an encoder's answers beside the essays.

    Args:
        encoder: The encoder.
        precision: Accelerate's mixed precision, such as no or bf16.
        dropout: Whether its dropouts count, which change no answer.
    """
    config = json.dumps(encoder_values(encoder, dropout=dropout), sort_keys=True)
    return {
        "encoder": type(encoder).__name__,
        "config": hashlib.sha256(config.encode()).hexdigest(),
        "weights": weights_digest(encoder),
        "precision": precision,
        "transformers": transformers.__version__,  # whose code is the encoder's
    }


@dataclass(frozen=True)
class EssayCache:
    """What one encoder makes of essays, each a row or several; several processes may use it at the same time.

    Args:
        path: What it is named by; its files are here or beside it, and need not be there.
        identity: What determines the rows beside their essay, as JSON.
        width: Length H of a row.
    """

    path: Path
    identity: str
    width: int

    # In messages: the cache, what it keeps, and what to do instead of using it.
    name: ClassVar[str]
    content: ClassVar[str]
    otherwise: ClassVar[str] = "set model.features_cache to another folder"
    # In files: the table of rows, its usual type and that of rows which the usual one cannot hold.
    table: ClassVar[str]
    types: ClassVar[tuple[str, ...]]
    # Whether an essay has several rows, (rows, H), or one, (H,).
    several_rows: ClassVar[bool]

    def find(self, wanted: Collection[bytes], *, check: bool = True) -> dict[bytes, Any]:
        """What is kept of some essays, mapped from the files.

        Args:
            wanted: Their digests.
            check: Whether checksums of the files that have them are computed, for which all of these are read.

        Raises:
            CheckpointError: A file is damaged or foreign.
        """
        stored = self._stored(frozenset(wanted) if check else frozenset())
        return {digest: stored[digest] for digest in wanted if digest in stored}

    def find_all(self, wanted: Collection[bytes], *, check: bool = True) -> dict[bytes, Any]:
        """What is kept of some essays, of all of which something was kept.

        Raises:
            CheckpointError: It was removed, or a file is damaged or foreign.
        """
        found = self.find(wanted, check=check)
        if any(digest not in found for digest in wanted):
            raise CheckpointError(
                f"{self.content.capitalize()} were removed from {self.path} during this run. Run it again."
            )
        return found

    def missing(self, packs: Iterable[Sequence[bytes]]) -> Iterator[bool]:
        """Whether packs are still to compute, each looked up when it is asked for.

        Args:
            packs: Digests of the essays of each, as they are added.
        """
        for pack in packs:
            yield not self._part(pack).exists()

    def size(self, essays: int = 0, rows: int | None = None) -> int:
        """Bytes of all files, with some more essays, which have so many rows together; None: one each."""
        index = _DIGEST_BYTES + (_TYPES["I64"].itemsize if self.several_rows else 0)
        row = self.width * _TYPES[self.types[0]].itemsize
        more = essays * index + (essays if rows is None else rows) * row
        return sum(file_state(path)[-1] for path in self._files()) + more

    def make_room(self, essays: int, rows: int | None = None) -> None:
        """Make the folder; see, before anything is encoded, that essays can be added.

        Args:
            essays: Number of essays to add.
            rows: Number of their rows; None: one each.

        Raises:
            CheckpointError: Nothing can be written, or the disk has no room.
        """
        folder = self.path.parent
        try:
            folder.mkdir(parents=True, exist_ok=True)
            if not self._writable():
                raise PermissionError("Permission denied")
            free = shutil.disk_usage(folder).free
        except OSError as error:
            raise self._out_of_reach("written", error) from None
        needed = self._needed(essays, rows)
        if needed > free:
            with suppress(OSError):  # it is of use to others
                folder.rmdir()
            raise CheckpointError(
                f"The {self.name} {self.path} needs {needed / 1e6:,.1f} MB to add {essays} essays, but {folder} has "
                f"{free / 1e6:,.1f} MB free. Make room, or {self.otherwise}."
            )

    @contextmanager
    def lead(self) -> Iterator[bool]:
        """Whether no other process is within this block."""
        lock = FileLock(self.path.with_name(f"{self.path.name}.lead.lock"))
        try:
            with suppress(Timeout):
                lock.acquire(blocking=False)
        except OSError as error:
            raise self._out_of_reach("written", error) from None
        try:
            yield lock.is_locked
        finally:
            lock.release()

    def add(self, values: Mapping[bytes, Values]) -> None:
        """Keep what was made of a pack of essays as a part, unless there is such a part; whole or not at all.

        Args:
            values: (rows, H) or (H,) for each digest.

        Raises:
            CheckpointError: The part cannot be written.
        """
        with self._locked():
            part = self._part(values)
            if not part.exists():
                self._write(part, values)

    @property
    def _folder(self) -> Path:
        """Where parts lie. It is changed under the lock alone."""
        raise NotImplementedError

    def _stored(self, checked: Collection[bytes]) -> dict[bytes, Any]:
        """Everything that is kept; at least the files that have some essays are compared with their checksums."""
        return self._read_parts(checked)

    def _needed(self, essays: int, rows: int | None) -> int:
        """Free bytes that it takes to add essays."""
        return self.size(essays, rows) - self.size()

    def _files(self) -> list[Path]:
        return self._parts()

    def _parts(self) -> list[Path]:
        """Those that were written last come first."""
        try:
            files = list(self._folder.iterdir())
        except FileNotFoundError:
            return []
        except (OSError, ValueError) as error:  # ValueError: a name with a null byte
            raise self._out_of_reach("read", error) from None
        whole = [path for path in files if path.suffix == ".safetensors"]  # another one is half written
        return sorted(whole, key=lambda path: (file_state(path)[1], path.name), reverse=True)

    def _part(self, digests: Iterable[bytes]) -> Path:
        name = hashlib.sha256(b"".join(sorted(digests))).hexdigest()[:32]
        return self._folder / f"{name}.safetensors"

    def _writable(self) -> bool:
        return os.access(self.path.parent, os.W_OK | os.X_OK)

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """Within the block no other process writes."""
        lock = self.path.with_name(f"{self.path.name}.lock")
        try:
            with FileLock(lock, timeout=_LOCK_SECONDS):
                yield
        except Timeout:
            raise CheckpointError(
                f"Another process has held {lock} for {_LOCK_SECONDS} seconds. End it, or set model.features_cache to "
                "another folder."
            ) from None
        except OSError as error:
            raise self._out_of_reach("written", error) from None

    def _write(self, path: Path, values: Mapping[bytes, Values]) -> None:
        """Write a safetensors file row by row: its library would hold all of them in memory, twice."""
        order = sorted(values)
        usual, wide = _TYPES[self.types[0]], self.types[-1]
        kind = self.types[0] if all(values[digest].dtype == usual for digest in order) else wide
        rows = [np.ascontiguousarray(values[digest], _TYPES[kind]).reshape(-1, self.width) for digest in order]
        ends = np.cumsum([len(each) for each in rows], dtype="<i8")
        index = ends.tobytes() if self.several_rows else b""
        keys = b"".join(order)
        shapes = {
            **({"ends": ("I64", [len(order)])} if self.several_rows else {}),
            self.table: (kind, [int(ends[-1]), self.width]),
            "digests": ("U8", [len(order), _DIGEST_BYTES]),
        }
        header: dict[str, Any] = {"__metadata__": {"identity": self.identity, "sha256": _checksum(keys + index, rows)}}
        end = 0
        for name, (dtype, shape) in shapes.items():
            begin, end = end, end + math.prod(shape) * _TYPES[dtype].itemsize
            header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}
        text = json.dumps(header).encode()
        text += b" " * (-len(text) % 8)
        with atomic_file(path, raises=None) as temporary, temporary.open("wb") as file:
            file.write(len(text).to_bytes(8, "little") + text + index)
            for each in rows:
                file.write(each.tobytes())
            file.write(keys)

    def _read_parts(self, checked: Collection[bytes] | None = None) -> dict[bytes, Any]:
        """All parts' essays; where several parts have one, the first of them that was written counts."""
        parts = (self._read(part, checked) for part in self._parts())
        return {digest: rows for part in parts for digest, rows in part.items()}

    def _read(self, path: Path, checked: Collection[bytes] | None = None) -> dict[bytes, Any]:
        """All essays of a file, mapped from it; none if it is not there.

        Args:
            path: The file.
            checked: It is compared with its checksum if it has one of these essays; None: in any case.
        """
        try:
            file = path.open("rb")
        except FileNotFoundError:
            return {}
        except (OSError, ValueError) as error:  # ValueError: a name with a null byte
            raise self._out_of_reach("read", error) from None
        try:
            with file:
                content = _mapped(file)
            start = 8 + int.from_bytes(content[:8].tobytes(), "little")
            header = json.loads(content[8:start].tobytes())
            metadata = header.get("__metadata__", {})
        except Exception as error:  # json and torch each raise their own
            raise self._damaged(path, f"its header cannot be read ({first_line(error)})") from None
        if metadata.get("identity") != self.identity:
            raise self._damaged(path, f"it holds something else than {self.content} of this encoder")
        content, index = content[start:], b""
        try:
            count = header["digests"]["shape"][0]
            keys = _table(content, header["digests"], ("U8",), [count, _DIGEST_BYTES])
            if self.several_rows:
                ends = _table(content, header["ends"], ("I64",), [count])
                rows = _table(content, header[self.table], self.types, [int(ends[-1]), self.width])
                index = ends.tobytes()
            else:
                rows = _table(content, header[self.table], self.types, [count, self.width])
        except Exception:
            raise self._damaged(path, "its tables are cut off or do not fit together") from None
        each = np.split(rows, ends[:-1]) if self.several_rows else rows
        values = {key.tobytes(): value for key, value in zip(keys, each, strict=True)}
        asked = checked is None or not values.keys().isdisjoint(checked)
        if asked and metadata.get("sha256") != _checksum(keys.tobytes() + index, rows):
            raise self._damaged(path, "it does not have its checksum")
        return values

    def _damaged(self, path: Path, why: str) -> CheckpointError:
        return CheckpointError(
            f"The {self.name} {path} cannot be used: {why}. Remove the file, and its {self.content} are computed anew."
        )

    def _out_of_reach(self, done: str, error: Exception) -> CheckpointError:
        return CheckpointError(
            f"The {self.name} {self.path} cannot be {done}: {getattr(error, 'strerror', None) or error}. Make room "
            f"and mend its rights, or {self.otherwise}."
        )


def _mapped(file: BinaryIO) -> NDArray[np.uint8]:
    """A file's bytes, mapped. numpy would keep a descriptor open for each of hundreds of files, torch keeps none."""
    size = os.fstat(file.fileno()).st_size
    return torch.from_file(f"/dev/fd/{file.fileno()}", size=size, dtype=torch.uint8).numpy()


def _table(
    content: NDArray[np.uint8], entry: Mapping[str, Any], kinds: Sequence[str], shape: Sequence[int]
) -> NDArray[Any]:
    """A table of a safetensors file, where its header's entry says; a ValueError for another type or shape."""
    if entry["dtype"] not in kinds or entry["shape"] != shape:
        raise ValueError(f"{kinds} {shape}")
    begin, end = entry["data_offsets"]
    return content[begin:end].view(_TYPES[entry["dtype"]]).reshape(shape)


def _checksum(index: bytes, rows: Iterable[NDArray[Any]]) -> str:
    """SHA-256 of all tables: safetensors has no checksum, and a changed byte would pass for a vector."""
    digest = hashlib.sha256(index)
    for row in rows:
        digest.update(row.tobytes())
    return digest.hexdigest()


def file_state(path: Path) -> tuple[int, int, int]:
    """A file's inode, time of change and bytes, by which a replaced one is told."""
    try:
        status = path.stat()
    except OSError:
        return ABSENT
    return status.st_ino, status.st_mtime_ns, status.st_size
