"""Scoring that goes on where it was killed: each window's scores are put by as a file, and joined at the end."""

from __future__ import annotations

import glob
import json
import logging
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from accelerate import Accelerator
from accelerate.utils import broadcast_object_list
from filelock import FileLock, Timeout

from aes_dynloss.errors import ConfigError, DataError
from aes_dynloss.evaluation.table_files import replacing

logger = logging.getLogger(__name__)

SETTINGS = "settings.json"
LOCK = ".lock"
SUFFIX = ".parts"

Part = dict[str, Any]


class ScoreParts:
    """The finished windows of one scoring, in a folder beside its output.

    Args:
        folder: The folder.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def digests(self) -> list[str]:
        """Digest of the essays of each finished window, from the first on, without a gap."""
        found: list[str] = []
        while self._path(len(found)).exists():
            found.append(str(self._read(len(found))["digest"]))
        return found

    def put(self, number: int, part: Part) -> None:
        """Put a window by; it is there whole or not at all.

        Args:
            number: Its number, from 0.
            part: ``digest`` of its essays, and columns by the name of the table that they go to.
        """
        with replacing(self._path(number)) as temporary:
            temporary.write_text(json.dumps(part, ensure_ascii=False), encoding="utf-8")

    def tables(self, name: str) -> Iterator[Mapping[str, list[Any]]]:
        """The columns of one table, window by window."""
        number = 0
        while self._path(number).exists():
            yield self._read(number)[name]
            number += 1

    def _path(self, number: int) -> Path:
        return self.folder / f"{number:07}.json"

    def _read(self, number: int) -> Part:
        path = self._path(number)
        try:
            part = json.loads(path.read_text(encoding="utf-8"))
            part["digest"]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise DataError(f"{path} is damaged: {error}. Start again with --force.") from None
        return dict(part)


@contextmanager
def score_parts(
    accelerator: Accelerator,
    output: Path,
    settings: Mapping[str, Any],
    *,
    resume: bool = False,
    force: bool = False,
) -> Iterator[tuple[ScoreParts, list[str]]]:
    """Hold the folder of parts while they are made and joined; it is removed at the end, unless there was an error.

    Args:
        accelerator: The run's; the main process alone writes.
        output: The file that the scores go to; the folder is called as it is, with .parts.
        settings: What the scores depend on beside the essays, plain values: model, options.
        resume: Go on with parts that are there.
        force: Remove them.

    Yields:
        The parts, and the digests of the finished windows, which are the same on all processes.

    Raises:
        ConfigError: Parts are there, and neither to resume nor to replace them was asked for; or they were made under
            other settings; or another process makes them; or the folder cannot be written.
    """
    parts = ScoreParts(output.with_name(output.name + SUFFIX))
    lock = FileLock(parts.folder / LOCK)
    done: list[list[str]] = [[]]
    if accelerator.is_main_process:
        try:
            parts.folder.mkdir(parents=True, exist_ok=True)
            lock.acquire(timeout=0)
        except Timeout:
            raise ConfigError(
                f"Another process is writing {output}. Wait for it, or choose another --output."
            ) from None
        except OSError as error:
            raise ConfigError(f"Cannot write {output}: {error.strerror or error}.") from None
    try:
        if accelerator.is_main_process:
            _begin(parts, output, settings, resume=resume, force=force)
            done = [parts.digests()]
        if accelerator.num_processes > 1:
            broadcast_object_list(done)
        yield parts, done[0]
        if accelerator.is_main_process:
            shutil.rmtree(parts.folder, ignore_errors=True)
    except BaseException:
        if accelerator.is_main_process:
            _end_early(parts)
        raise
    finally:
        lock.release()


def _end_early(parts: ScoreParts) -> None:
    """What ended before the first window, such as by a wrong column, need not be gone on with; the rest can be."""
    finished = sum(1 for _ in parts.folder.glob("[0-9]*.json"))
    if finished:
        logger.warning("%d finished parts are kept in %s: go on with --resume.", finished, parts.folder)
    else:
        shutil.rmtree(parts.folder, ignore_errors=True)


def _begin(parts: ScoreParts, output: Path, settings: Mapping[str, Any], *, resume: bool, force: bool) -> None:
    path = parts.folder / SETTINGS
    if force:
        for file in parts.folder.glob("*.json"):
            file.unlink()
    for half in (*parts.folder.glob(".*.tmp"), *output.parent.glob(f".{glob.escape(output.name)}.*.tmp")):
        half.unlink(missing_ok=True)  # of a process that was killed as it wrote
    if not path.exists():
        with replacing(path) as temporary:
            temporary.write_text(json.dumps(settings), encoding="utf-8")
        return
    if not resume:
        raise ConfigError(
            f"{parts.folder} holds scores of a run that was stopped. Go on with it by --resume, or start again with "
            "--force."
        )
    try:
        before = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path} is damaged: {error}. Start again with --force.") from None
    changed = [name for name in settings if before.get(name) != settings[name]] if isinstance(before, dict) else ["all"]
    if changed:
        raise ConfigError(
            f"--resume: the scores in {parts.folder} were made with other settings ({', '.join(changed)}). Bring them "
            f"back, or start {output} again with --force."
        )
