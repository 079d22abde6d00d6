"""Resumable scoring: each window's scores are saved as a part, and the parts are joined at the end."""

from __future__ import annotations

import itertools
import json
import logging
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from filelock import FileLock, Timeout

from aes_dynloss.errors import ConfigError, DataError
from aes_dynloss.tables.atomic import leftovers_of, write_text
from aes_dynloss.tables.provenance import provenance_path

logger = logging.getLogger(__name__)

SETTINGS = "settings.json"
LOCK = ".lock"
SUFFIX = ".parts"
FILES = "files"
_PARTS, _HALVES = "[0-9]*.json", ".*.tmp"

Part = dict[str, Any]


class Processes(Protocol):
    """The processes that score together, as Accelerate's Accelerator tells of them."""

    @property
    def is_main_process(self) -> bool:
        """Whether this process writes."""

    @property
    def num_processes(self) -> int:
        """How many there are."""


@dataclass(frozen=True)
class OneProcess:
    """A process alone, which needs no Accelerate and no torch."""

    is_main_process: bool = True
    num_processes: int = 1


class ScoreParts:
    """The finished windows of one scoring, in a folder beside its output.

    Args:
        folder: The folder.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __iter__(self) -> Iterator[Part]:
        """The parts from the first on, to the first gap."""
        for number in itertools.count():
            path = self.path(number)
            if not path.exists():
                return
            try:
                part = json.loads(path.read_text(encoding="utf-8"))
                part["digest"]
            except (OSError, ValueError, KeyError, TypeError) as error:
                raise DataError(f"{path} is damaged: {error}. Start again with --force.") from None
            yield part

    def drop_from(self, number: int) -> None:
        """Remove the windows from a number on, such as those behind a gap."""
        for path in self.folder.glob(_PARTS):
            if path >= self.path(number):
                path.unlink()
        if number == 0:
            shutil.rmtree(self.files, ignore_errors=True)

    def put(self, number: int, part: Part) -> None:
        """Save a window; it is there whole or not at all.

        Args:
            number: Its number, from 0.
            part: ``digest`` of its essays, and columns by the name of the table that they go to.
        """
        write_text(self.path(number), json.dumps(part))  # in ASCII: a name of a file may be no Unicode

    def tables(self, name: str) -> Iterator[Mapping[str, list[Any]]]:
        """The columns of one table, window by window."""
        return (part[name] for part in self)

    @property
    def files(self) -> Path:
        """Folder for whatever else a run saves; it goes with the first window."""
        return self.folder / FILES

    def path(self, number: int) -> Path:
        """File of a window."""
        return self.folder / f"{number:07}.json"


def unfinished(output: Path) -> bool:
    """Whether a run into a file was begun and has not ended."""
    return (output.with_name(output.name + SUFFIX) / SETTINGS).exists()


@contextmanager
def score_parts(
    processes: Processes,
    output: Path,
    settings: Mapping[str, Any],
    *,
    others: Sequence[Path] = (),
    resume: bool = False,
    force: bool = False,
    keep: bool = False,
    patience: float = 0,
) -> Iterator[tuple[ScoreParts, list[str]]]:
    """Hold the folder of parts while they are made and joined; it is removed at the end, unless there was an error.

    Args:
        processes: Those of the run; the main one alone writes.
        output: The file that the scores go to; the folder is called as it is, with .parts.
        settings: What the scores depend on beside the essays, plain values: model, options.
        others: Files that are written with it.
        resume: Resume from parts that are there.
        force: Remove them.
        keep: Leave the folder at the end too, to whoever joins it with others.
        patience: Seconds for which a process that makes the same parts is waited for, such as one that is dying.

    Yields:
        The parts, and the digests of the finished windows, which are the same on all processes.

    Raises:
        ConfigError: Parts are there, and neither to resume nor to replace them was asked for; or they were made under
            other settings; or another process makes them; or the folder cannot be written.
    """
    parts = ScoreParts(output.with_name(output.name + SUFFIX))
    lock = FileLock(parts.folder / LOCK)
    done: list[list[str]] = [[]]
    if processes.is_main_process:
        try:
            parts.folder.mkdir(parents=True, exist_ok=True)
            lock.acquire(timeout=patience)
        except Timeout:
            raise ConfigError(
                f"Another process is writing {output}. Wait for it, or choose another --output."
            ) from None
        except OSError as error:
            raise ConfigError(f"Cannot write {output}: {error.strerror or error}.") from None
    try:
        if processes.is_main_process:
            _begin(parts, output, settings, resume=resume, force=force)
            written = [file for one in (output, *others) for file in (one, provenance_path(one))]
            halves = [half for file in written for half in leftovers_of(file)]  # of a process that was killed
            for half in (*parts.folder.glob(_HALVES), *halves):
                half.unlink(missing_ok=True)
            done = [[str(part["digest"]) for part in parts]]
            parts.drop_from(len(done[0]))
        if processes.num_processes > 1:
            from accelerate.utils import broadcast_object_list

            broadcast_object_list(done)
        yield parts, done[0]
        if processes.is_main_process and not keep:
            _remove(parts.folder)
    except BaseException:
        if processes.is_main_process:
            _end_early(parts.folder, output)
        raise
    finally:
        lock.release()


def _end_early(folder: Path, output: Path) -> None:
    """Remove a run that ended before its first window, such as by a wrong column; any other can be resumed."""
    files = folder / FILES
    parts = (path for path in files.glob("*/*") if path.is_file()) if files.exists() else folder.glob(_PARTS)
    finished = sum(1 for _ in parts)
    if finished:
        logger.warning("%d finished parts are kept in %s: continue with --resume.", finished, folder)
    elif not output.exists():  # else --resume would take the older scores for this run's
        _remove(folder)


def _remove(folder: Path) -> None:
    """Remove what a run saved, and nothing else; the settings first, since parts without them are void."""
    for pattern in (SETTINGS, _PARTS, _HALVES):
        for path in folder.glob(pattern):
            with suppress(OSError):
                path.unlink()
    shutil.rmtree(folder / FILES, ignore_errors=True)
    with suppress(OSError):
        (folder / LOCK).unlink()
    with suppress(OSError):
        folder.rmdir()


def remove_leftovers(output: Path) -> None:
    """Remove what a run into an output that is complete was killed before it could remove."""
    _remove(output.with_name(output.name + SUFFIX))


def _begin(parts: ScoreParts, output: Path, settings: Mapping[str, Any], *, resume: bool, force: bool) -> None:
    path = parts.folder / SETTINGS
    if force or not path.exists() or not parts.path(0).exists():
        path.unlink(missing_ok=True)
        parts.drop_from(0)
    if not path.exists():
        write_text(path, json.dumps(settings))
        return
    if not resume:
        raise ConfigError(
            f"{parts.folder} holds scores of a run that was stopped. Resume it with --resume, or start again with "
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
