"""Pooled vectors of a frozen encoder, kept from run to run, so that an essay is encoded once for all of them.

One safetensors file for each encoder, pooling and precision, named by a hash of what they are. In it each vector stands
under the SHA-256 of its essay's chunks: prompts, folds, seeds and losses share it, another window or cap does not. No
text and no token is stored. Yet a vector tells what its essay is about: the folder needs the care that the essays do.

While a run encodes, each batch becomes a part, a file of the same kind in a folder beside the main file. At its end all
parts are merged into the main file. Files are mapped, not loaded: memory holds what the caller copies.

The device is not told apart: vectors that a GPU computed are used on a CPU, though the last bits would differ there.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from filelock import FileLock, Timeout
from numpy.typing import NDArray
from torch import nn

from aes_dynloss.configfile import user_path
from aes_dynloss.errors import CheckpointError, first_line
from aes_dynloss.essays.model.encoders import encoder_values
from aes_dynloss.essays.model.scoring_model import ScoringModel
from aes_dynloss.tables.atomic import atomic_file, leftovers_of

Vectors = dict[bytes, NDArray[np.float32]]

FORMAT = "aes_dynloss.pooled_vectors"
VERSION = 1
_DIGEST_BYTES = 32
_LOCK_SECONDS = 300
_ABSENT = (0, 0, 0)


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


@dataclass(frozen=True)
class FeatureCache:
    """The vectors of one encoder under one pooling and precision; several processes may use it at the same time.

    Args:
        path: Their main file, which need not be there.
        identity: What determines a vector beside its essay, as JSON.
        width: Length H of a vector.
    """

    path: Path
    identity: str
    width: int

    @classmethod
    def of(cls, model: ScoringModel, precision: str, folder: str) -> FeatureCache:
        """The cache of a scorer's vectors.

        Args:
            model: The scorer.
            precision: Accelerate's mixed precision, such as no or bf16.
            folder: Where caches lie.

        Raises:
            ConfigError: The folder is that of a user who is not there.
        """
        path = user_path(folder, "model.features_cache")
        config = json.dumps(encoder_values(model.encoder), sort_keys=True)
        values = {
            "format": FORMAT,
            "version": VERSION,
            "encoder": type(model.encoder).__name__,
            "config": hashlib.sha256(config.encode()).hexdigest(),
            "weights": weights_digest(model.encoder),
            "pooling": model.config.pooling,
            "layers": model.pooled_count,
            "precision": precision,
            "transformers": transformers.__version__,  # whose code is the encoder's
        }
        identity = json.dumps(values, sort_keys=True)
        name = hashlib.sha256(identity.encode()).hexdigest()[:32]
        return cls(path / f"{name}.safetensors", identity, int(model.feature_mean.shape[0]))

    def find(self, wanted: Collection[bytes]) -> Vectors:
        """What is kept of some essays, mapped from the files.

        Args:
            wanted: Their digests.

        Raises:
            CheckpointError: A file is damaged or foreign.
        """
        # The main file comes last: what another process merges meanwhile is then found there.
        stored = self._read_parts() | self._read(self.path)
        return {digest: stored[digest] for digest in wanted if digest in stored}

    def missing(self, packs: Iterable[Sequence[bytes]]) -> Iterator[bool]:
        """Whether packs are still to compute, each looked up when it is asked for.

        Args:
            packs: Digests of the essays of each, as they are added.

        Raises:
            CheckpointError: The main file is damaged or foreign.
        """
        merged: Collection[bytes] = ()
        read = _ABSENT
        for pack in packs:
            if (state := _state(self.path)) != read:  # another process has merged its parts
                merged, read = self._read(self.path).keys(), state
            yield not self._part(pack).exists() and not all(digest in merged for digest in pack)

    def size(self, more: int = 0) -> int:
        """Bytes of all files, with some more vectors."""
        return sum(_state(path)[-1] for path in (self.path, *self._parts())) + more * (4 * self.width + _DIGEST_BYTES)

    def make_room(self, more: int) -> None:
        """Make the folder; see, before anything is encoded, that vectors can be added.

        Args:
            more: Number of vectors to add.

        Raises:
            CheckpointError: Nothing can be written, or the disk has no room for the parts and for the file into which
                they are merged, while the old one is still there.
        """
        folder = self.path.parent
        try:
            folder.mkdir(parents=True, exist_ok=True)
            if not self._writable():
                raise PermissionError("Permission denied")
            free = shutil.disk_usage(folder).free
        except OSError as error:
            raise self._out_of_reach("written", error) from None
        needed = 2 * self.size(more) - self.size()
        if needed > free:
            raise CheckpointError(
                f"The features cache {self.path} needs {needed / 1e6:,.1f} MB to add {more} essays, but {folder} has "
                f"{free / 1e6:,.1f} MB free. Make room, or set model.features_cache to another folder; null: no cache."
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

    def add(self, vectors: Mapping[bytes, NDArray[np.float32]]) -> None:
        """Keep the vectors of a pack as a part, unless there is such a part already; whole or not at all.

        Args:
            vectors: (H,) for each digest.

        Raises:
            CheckpointError: The part cannot be written.
        """
        with self._locked():
            part = self._part(vectors)
            if not part.exists():
                self._write(part, vectors)

    def merge(self) -> None:
        """Move all parts into the main file, but for vectors that it has already; whole or not at all.

        In a folder that is only to be read parts stay as they are.

        Raises:
            CheckpointError: The main file cannot be written, or a file is damaged or foreign.
        """
        if not (self._folder.is_dir() and self._writable()):
            return
        with self._locked():
            main = self._read(self.path)
            merged = self._read_parts() | main
            if len(merged) > len(main):
                for half in leftovers_of(self.path):
                    half.unlink(missing_ok=True)
                self._write(self.path, merged)
            if self._folder.is_dir():  # another process may have merged them
                shutil.rmtree(self._folder)

    @property
    def _folder(self) -> Path:
        """Where parts lie. It is changed under the lock alone."""
        return self.path.with_name(f"{self.path.name}.parts")

    def _parts(self) -> list[Path]:
        try:
            files = sorted(self._folder.iterdir())
        except FileNotFoundError:
            return []
        except (OSError, ValueError) as error:  # ValueError: a name with a null byte
            raise self._out_of_reach("read", error) from None
        return [path for path in files if path.suffix == ".safetensors"]  # another one is half written

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

    def _write(self, path: Path, vectors: Mapping[bytes, NDArray[np.float32]]) -> None:
        """Write a safetensors file vector by vector: its library would hold all of them in memory, twice."""
        order = sorted(vectors)
        keys, rows = b"".join(order), [np.ascontiguousarray(vectors[digest], dtype="<f4") for digest in order]
        end = 4 * self.width * len(rows)
        header = {
            "__metadata__": {"identity": self.identity, "sha256": _checksum(keys, rows)},
            "vectors": {"dtype": "F32", "shape": [len(rows), self.width], "data_offsets": [0, end]},
            "digests": {"dtype": "U8", "shape": [len(rows), _DIGEST_BYTES], "data_offsets": [end, end + len(keys)]},
        }
        text = json.dumps(header).encode()
        text += b" " * (-len(text) % 8)
        with atomic_file(path, raises=None) as temporary, temporary.open("wb") as file:
            file.write(len(text).to_bytes(8, "little") + text)
            for row in rows:
                file.write(row.tobytes())
            file.write(keys)

    def _read_parts(self) -> Vectors:
        return {digest: row for part in self._parts() for digest, row in self._read(part).items()}

    def _read(self, path: Path) -> Vectors:
        """All vectors of a file, mapped from it; none if it is not there."""
        try:
            file = path.open("rb")
        except FileNotFoundError:
            return {}
        except (OSError, ValueError) as error:  # ValueError: a name with a null byte
            raise self._out_of_reach("read", error) from None
        try:
            with file:
                content = np.asarray(np.memmap(file, np.uint8, mode="r"))
            start = 8 + int.from_bytes(content[:8].tobytes(), "little")
            header = json.loads(content[8:start].tobytes())
            metadata = header.get("__metadata__", {})
        except Exception as error:  # json and numpy each raise their own
            raise self._damaged(path, f"its header cannot be read ({first_line(error)})") from None
        if metadata.get("identity") != self.identity:
            raise self._damaged(path, "it holds something else than vectors of this encoder")
        try:
            count = header["digests"]["shape"][0]
            keys = _table(content[start:], header["digests"], "U8", [count, _DIGEST_BYTES])
            rows = _table(content[start:], header["vectors"], "F32", [count, self.width])
        except Exception:
            raise self._damaged(path, "its tables are cut off or do not fit together") from None
        if metadata.get("sha256") != _checksum(keys.tobytes(), rows):
            raise self._damaged(path, "it does not have its checksum")
        return {key.tobytes(): row for key, row in zip(keys, rows, strict=True)}

    def _damaged(self, path: Path, why: str) -> CheckpointError:
        return CheckpointError(
            f"The features cache {path} cannot be used: {why}. Remove the file, and its vectors are computed anew."
        )

    def _out_of_reach(self, done: str, error: Exception) -> CheckpointError:
        return CheckpointError(
            f"The features cache {self.path} cannot be {done}: {getattr(error, 'strerror', None) or error}. Make room "
            "and mend its rights, or set model.features_cache to another folder; null: no cache."
        )


def _table(content: NDArray[np.uint8], entry: Mapping[str, Any], kind: str, shape: Sequence[int]) -> NDArray[Any]:
    """A table of a safetensors file, where its header's entry says; a ValueError for another kind or shape."""
    if entry["dtype"] != kind or entry["shape"] != shape:
        raise ValueError(f"{kind} {shape}")
    begin, end = entry["data_offsets"]
    return content[begin:end].view({"U8": "u1", "F32": "<f4"}[kind]).reshape(shape)


def _checksum(keys: bytes, rows: Iterable[NDArray[np.float32]]) -> str:
    """SHA-256 of both tables: safetensors has no checksum, and a changed byte would pass for a vector."""
    digest = hashlib.sha256(keys)
    for row in rows:
        digest.update(row.tobytes())
    return digest.hexdigest()


def _state(path: Path) -> tuple[int, int, int]:
    """A file's inode, time of change and bytes, by which a replaced one is told."""
    try:
        status = path.stat()
    except OSError:
        return _ABSENT
    return status.st_ino, status.st_mtime_ns, status.st_size
