"""metrics.jsonl: the record of a run, one JSON object a line."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import IO

from aes_dynloss.errors import CheckpointError

Tracker = Callable[..., None]


class RunLog:
    """Appends records to metrics.jsonl on the main process, and can go back to an earlier length.

    Args:
        path: The file; None keeps nothing (on other processes).
        keep: Bytes of an earlier part of the run that are still true; what stands after them is cut off.
        tracker: Is given each record's numbers by name, with its step, as ``Accelerator.log`` takes them.

    Raises:
        CheckpointError: The file is shorter than ``keep``.
    """

    def __init__(self, path: Path | None, keep: int = 0, tracker: Tracker | None = None) -> None:
        self._file: IO[bytes] | None = None
        self._tracker = tracker
        if path is None:
            return
        if keep and (not path.exists() or path.stat().st_size < keep):
            raise CheckpointError(
                f"{path} holds less than the {keep} bytes that the checkpoint knows of. It was changed since; start "
                "again with --force."
            )
        self._file = path.open("r+b" if path.exists() else "w+b")
        self._file.truncate(keep)
        self._file.seek(keep)

    def write(self, record: Mapping[str, object]) -> None:
        """Add one record; numbers that are not finite become null."""
        if self._file is not None:
            self._file.write(json.dumps(_finite(record), allow_nan=False).encode() + b"\n")
        if self._tracker is not None:
            self._tracker(dict(_numbers(record)), step=record["step"])

    def flushed(self) -> int:
        """Bring all records to the disk; the file's length in bytes."""
        if self._file is None:
            return 0
        self._file.flush()
        os.fsync(self._file.fileno())
        return self._file.tell()

    def __enter__(self) -> RunLog:
        """Use as a context manager."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close, whatever happened."""
        self.close()

    def close(self) -> None:
        """Bring all records to the disk and close the file."""
        if self._file is not None:
            self.flushed()
            self._file.close()
            self._file = None


def _numbers(record: Mapping[str, object], prefix: str = "") -> Iterator[tuple[str, float]]:
    for key, value in record.items():
        if isinstance(value, Mapping):
            yield from _numbers(value, f"{prefix}{key}/")
        elif isinstance(value, int | float):
            yield f"{prefix}{key}", float(value)


def _finite(value: object) -> object:
    if isinstance(value, Mapping):
        return {key: _finite(inner) for key, inner in value.items()}
    return None if isinstance(value, float) and not math.isfinite(value) else value
