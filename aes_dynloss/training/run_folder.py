"""The folder of a run: its lock, configuration, description (versions, machine, time) and log, metrics.jsonl.

One process works in a folder at a time. A run is replaced only with ``force`` and resumed only with its configuration.
"""

from __future__ import annotations

import json
import logging
import math
import os
import platform
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any

import torch
from accelerate import Accelerator
from filelock import FileLock, Timeout

from aes_dynloss.configfile import dump_yaml, parse_yaml, read_mapping
from aes_dynloss.errors import CheckpointError, ConfigError
from aes_dynloss.tables.atomic import leftovers, write_text
from aes_dynloss.training.config import Precision
from aes_dynloss.versions import package_version

logger = logging.getLogger(__name__)


def describe_run(accelerator: Accelerator, packages: Sequence[str]) -> dict[str, Any]:
    """When, with which versions and on what a run was made; no path of the machine.

    Args:
        accelerator: The run's.
        packages: Names of the packages whose versions matter.
    """
    cuda = accelerator.device.type == "cuda"
    return {
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "versions": {"python": platform.python_version(), **{name: package_version(name) for name in packages}},
        "machine": {
            "system": platform.system(),
            "processor": platform.machine(),
            "cores": os.cpu_count(),
            "device": torch.cuda.get_device_name(accelerator.device) if cuda else "cpu",
            "processes": accelerator.num_processes,
            "threads": torch.get_num_threads(),
        },
        "precision": _PRECISIONS.get(accelerator.mixed_precision, accelerator.mixed_precision),
    }


def recorded_precision(path: Path) -> Precision | None:
    """The precision in which a run, or a grid, began, by its file that says so; None where that is not there.

    Args:
        path: Such as a run's manifest.json.

    Raises:
        ConfigError: The file names none.
    """
    if not path.exists():
        return None
    values = read_mapping(path)
    machine = values.get("machine")
    earlier = machine.get("precision") if isinstance(machine, Mapping) else None  # manifests had it there once
    named = str(values.get("precision", earlier))
    if named not in _PRECISIONS:
        raise ConfigError(
            f"{path}: expected a precision, float32 or bf16, found {named}, so that it cannot be known in which one to "
            "go on. Bring back the file as it was, or begin again."
        )
    return _PRECISIONS[named]


# By Accelerate's names and our own.
_PRECISIONS: dict[str, Precision] = {"no": "float32", "float32": "float32", "bf16": "bf16"}
CONFIG = "config.yaml"
MANIFEST = "manifest.json"
CHECKPOINT = "checkpoint.pt"
METRICS = "metrics.jsonl"
TEACHER, PLOTS = "teacher", "plots"
# Folder of a run in which a student is trained whose errors tell of the targets, while the run goes on.
FIRST_STAGE = "first_stage"
LOCK = ".lock"
# Where a run that is replaced lies until the new one is complete.
REPLACED = ".replaced"


class BusyFolderError(ConfigError):
    """Another process is working in a run's folder."""


@contextmanager
def run_folder(
    accelerator: Accelerator,
    folder: Path,
    config: Mapping[str, Any],
    products: Sequence[str],
    *,
    defaults: Mapping[str, Any] | None = None,
    resume: bool = False,
    force: bool = False,
) -> Iterator[bool]:
    """Hold a folder while a run works in it; its config.yaml is there from the first moment.

    A run that fails before it has made anything but config.yaml and manifest.json takes these along, and the folder
    too if that is new and empty, so that nothing is in the way of the corrected command; a run that it was to replace
    is then there again, or where that had not got to its end either, the one before it.

    Args:
        accelerator: The run's.
        folder: The folder, made if it is not there.
        config: The resolved configuration.
        products: What such a run leaves behind, besides its configuration, log and checkpoint; the last of them is
            written last, so that it marks a complete run.
        defaults: What a key has that an earlier version of the program did not know, and did not write.
        resume: Go on with the run that is there.
        force: Replace an earlier run, and nothing else in the folder; it is kept aside until the new one is complete.

    Yields:
        Whether the run that is there is complete, so that nothing is left to do.

    Raises:
        ConfigError: There is a run already, or it had another configuration, or the folder cannot be written.
        BusyFolderError: Another process works on it.
    """
    known = [CONFIG, METRICS, CHECKPOINT, *products]
    new = [path for path in (folder, *folder.parents) if not path.exists()]
    with held_folder(folder, main_process=accelerator.is_main_process):
        if accelerator.is_main_process:
            _settle(folder, products[-1])
        accelerator.wait_for_everyone()
        _begin(accelerator, folder, config, known, defaults or {}, resume=resume, force=force)
        accelerator.wait_for_everyone()
        try:
            yield (folder / products[-1]).exists()
            if accelerator.is_main_process:
                _forget(folder / REPLACED)
        except BaseException:
            # What ended before it made anything, such as by a wrong path, is no run that would have to be resumed.
            described = (CONFIG, MANIFEST)
            if accelerator.is_main_process and not any(_holds_data(folder / n) for n in known if n not in described):
                for name in reversed(known):
                    _remove(folder / name)
                _put_back(folder)
                _remove(folder / LOCK)
                with suppress(OSError):  # something else is there
                    for path in new:
                        path.rmdir()
            raise


@contextmanager
def held_folder(folder: Path, *, main_process: bool = True) -> Iterator[None]:
    """Hold a folder, made if it is not there, and remove what a process left that was killed as it wrote.

    Args:
        folder: The folder of a run.
        main_process: Whether this process is the one that writes; others hold nothing.

    Raises:
        BusyFolderError: Another process works on it.
        ConfigError: It cannot be written.
    """
    lock = FileLock(folder / LOCK)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if main_process:
            lock.acquire(timeout=0)
            for partial in leftovers(folder):
                partial.unlink(missing_ok=True)
    except Timeout:
        raise BusyFolderError(
            f"Another process is working in {folder}. Wait for it, or choose another --output-dir."
        ) from None
    except OSError as error:
        raise ConfigError(f"The output folder {folder} cannot be used: {error.strerror or error}.") from None
    try:
        yield
    finally:
        lock.release()


def _begin(
    accelerator: Accelerator,
    folder: Path,
    config: Mapping[str, Any],
    known: Sequence[str],
    defaults: Mapping[str, Any],
    *,
    resume: bool,
    force: bool,
) -> None:
    """Make a locked folder the run's: see that it may be, and write its configuration."""
    present = [name for name in known if (folder / name).exists()]
    accelerator.wait_for_everyone()
    if resume and (folder / CONFIG).exists():
        differing = list(changed_keys(read_mapping(folder / CONFIG), config, defaults).values())
        if differing:
            raise ConfigError(
                f"--resume: {folder / CONFIG} differs from this configuration: {'; '.join(differing[:5])}. Resume with "
                "the same configuration, or start again with --force."
            )
    elif present and resume:
        raise ConfigError(
            f"--resume: {folder} holds {', '.join(present)} but no {CONFIG}, so it cannot be known which run that "
            "is. Replace it by --force, or choose another --output-dir."
        )
    elif present and not force:
        raise ConfigError(
            f"{folder} already holds a run ({', '.join(present)}). Go on with it by --resume, replace it by --force, "
            "or choose another --output-dir."
        )
    elif accelerator.is_main_process:
        try:
            _set_aside(folder, known)
        except OSError as error:
            raise ConfigError(f"The run in {folder} cannot be set aside: {error.strerror or error}.") from None
        write_text(folder / CONFIG, dump_yaml(config))


# A run that is replaced is moved with its configuration first, and back with it last: so wherever a process is killed,
# the two configurations say how far it had come.
def _set_aside(folder: Path, names: Sequence[str]) -> None:
    """Move an earlier run to REPLACED; where another one lies there, which this one had replaced, remove this one."""
    present = [name for name in names if (folder / name).exists() or (folder / name).is_symlink()]
    if CONFIG in present and not (folder / REPLACED).exists():
        (folder / REPLACED).mkdir()
        for name in sorted(present, key=lambda one: one != CONFIG):
            (folder / name).replace(folder / REPLACED / name)
        return
    for name in sorted(present, key=lambda one: one == CONFIG):
        _remove(folder / name)


def _put_back(folder: Path) -> None:
    """Move what was set aside to where it was, if something was."""
    aside = folder / REPLACED
    if aside.is_dir():
        for path in sorted(aside.iterdir(), key=lambda one: one.name == CONFIG):
            _remove(folder / path.name)
            path.replace(folder / path.name)
        aside.rmdir()


def _settle(folder: Path, last: str) -> None:
    """Finish what a process that was killed had begun with a run that was set aside.

    Args:
        folder: The run's.
        last: What marks a complete run.
    """
    aside = folder / REPLACED
    if aside.is_dir() and not (folder / CONFIG).exists():
        _put_back(folder)
    elif aside.is_dir() and (not (aside / CONFIG).exists() or (folder / last).exists()):
        _forget(aside)


def _forget(aside: Path) -> None:
    """Remove a run that was replaced, its configuration first: what is left of it is then known to be no whole run."""
    try:
        _remove(aside / CONFIG)
        _remove(aside)
    except OSError as error:
        logger.warning("%s, the run that was replaced, cannot be removed: %s.", aside, error.strerror or error)


def write_json(path: Path, values: object) -> None:
    """Write a JSON file that is there whole or not at all."""
    write_text(path, json.dumps(values, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


# They say how a run is kept, not what it is: it may be resumed with others.
_WITHOUT_EFFECT = {"training.checkpoint_minutes"}


def changed_keys(
    then: Mapping[str, Any], now: Mapping[str, Any], defaults: Mapping[str, Any] | None = None
) -> dict[str, str]:
    """The keys in which two configurations of a run differ, each with words on both values.

    Args:
        then: As a file holds it.
        now: Plain values, which are written as YAML and read again: what is compared is what a file can hold.
        defaults: What a key has that the file lacks, as an earlier version of the program did not know it.

    Examples:
        >>> changed_keys({"a": 1}, {"a": 2, "b": 3, "c": 4}, {"b": 3})
        {'a': 'a was 1, now 2', 'c': 'c was None, now 4'}
    """
    before, after, known = _flat(then), _flat(parse_yaml(dump_yaml(now), CONFIG)), _flat(defaults or {})
    before |= {key: known[key] for key in after.keys() - before.keys() if key in known}
    keys = sorted((after.keys() | before.keys()) - _WITHOUT_EFFECT)
    differing = [key for key in keys if after.get(key) != before.get(key)]
    return {key: f"{key} was {before.get(key)!r}, now {after.get(key)!r}" for key in differing}


def _flat(values: Mapping[str, Any], separator: str = ".") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, Mapping):
            flat |= {f"{key}{separator}{inner}": one for inner, one in _flat(value, separator).items()}
        else:
            flat[str(key)] = value
    return flat


def _holds_data(path: Path) -> bool:
    """Whether there is a file with content, or a folder with one in it."""
    files = path.rglob("*") if path.is_dir() else [path]
    return any(file.is_file() and file.stat().st_size > 0 for file in files)


def _remove(path: Path) -> None:
    """Remove a file, a link or a folder with all that is in it, if it is there."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


Tracker = Callable[..., None]


class RunLog(AbstractContextManager["RunLog"]):
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
            numbers = {name: value for name, value in _flat(record, "/").items() if isinstance(value, int | float)}
            self._tracker({name: float(value) for name, value in numbers.items()}, step=record["step"])

    def flushed(self) -> int:
        """Bring all records to the disk; the file's length in bytes."""
        if self._file is None:
            return 0
        self._file.flush()
        os.fsync(self._file.fileno())
        return self._file.tell()

    def __exit__(self, *_: object) -> None:
        """Close, whatever happened."""
        self.close()

    def close(self) -> None:
        """Bring all records to the disk and close the file."""
        if self._file is not None:
            self.flushed()
            self._file.close()
            self._file = None


def _finite(value: object) -> object:
    if isinstance(value, Mapping):
        return {key: _finite(inner) for key, inner in value.items()}
    return None if isinstance(value, float) and not math.isfinite(value) else value
