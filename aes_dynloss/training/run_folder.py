"""The folder of a run: one run at a time, never overwritten unasked, resumed only as what it was."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from accelerate import Accelerator
from filelock import FileLock, Timeout

from aes_dynloss.configfile import dump_yaml, parse_yaml, read_mapping
from aes_dynloss.errors import ConfigError
from aes_dynloss.training.loop import CHECKPOINT, METRICS

CONFIG = "config.yaml"
LOCK = ".lock"


class BusyFolderError(ConfigError):
    """Another process is working in a run's folder."""


@contextmanager
def run_folder(
    accelerator: Accelerator,
    folder: Path,
    config: Mapping[str, Any],
    products: Sequence[str],
    *,
    resume: bool = False,
    force: bool = False,
) -> Iterator[bool]:
    """Hold a folder while a run works in it; its config.yaml is there from the first moment.

    A run that fails before it has made anything takes its config.yaml along.

    Args:
        accelerator: The run's.
        folder: The folder, made if it is not there.
        config: The resolved configuration.
        products: What such a run leaves behind, besides its configuration, log and checkpoint; the last of them is
            written last, so that it marks a complete run.
        resume: Go on with the run that is there.
        force: Remove what an earlier run left behind, and nothing else.

    Yields:
        Whether the run that is there is complete, so that nothing is left to do.

    Raises:
        ConfigError: There is a run already, or it had another configuration, or the folder cannot be written.
        BusyFolderError: Another process works on it.
    """
    known = [CONFIG, METRICS, CHECKPOINT, *products]
    lock = FileLock(folder / LOCK)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if accelerator.is_main_process:
            lock.acquire(timeout=0)
            # Of a process that was killed as it wrote.
            for partial in (*folder.rglob("*.partial"), *folder.rglob(".*.tmp")):
                partial.unlink(missing_ok=True)
    except Timeout:
        raise BusyFolderError(
            f"Another process is working in {folder}. Wait for it, or choose another --output-dir."
        ) from None
    except OSError as error:
        raise ConfigError(f"The output folder {folder} cannot be used: {error.strerror or error}.") from None
    try:
        _begin(accelerator, folder, config, known, resume=resume, force=force)
        accelerator.wait_for_everyone()
        try:
            yield (folder / products[-1]).exists()
        except BaseException:
            # What ended before it made anything, such as by a wrong path, is no run that would have to be resumed.
            if accelerator.is_main_process and not any((folder / name).exists() for name in known if name != CONFIG):
                (folder / CONFIG).unlink(missing_ok=True)
            raise
    finally:
        lock.release()


def _begin(
    accelerator: Accelerator,
    folder: Path,
    config: Mapping[str, Any],
    known: Sequence[str],
    *,
    resume: bool,
    force: bool,
) -> None:
    """Make a locked folder the run's: see that it may be, and write its configuration."""
    found = [name for name in known if (folder / name).exists()]
    accelerator.wait_for_everyone()
    if resume and (folder / CONFIG).exists():
        _check_same(config, read_mapping(folder / CONFIG), folder)
    elif found and resume:
        raise ConfigError(
            f"--resume: {folder} holds {', '.join(found)} but no {CONFIG}, so it cannot be known which run that "
            "is. Replace it by --force, or choose another --output-dir."
        )
    elif found and not force:
        raise ConfigError(
            f"{folder} already holds a run ({', '.join(found)}). Go on with it by --resume, replace it by --force, "
            "or choose another --output-dir."
        )
    elif accelerator.is_main_process:
        for name in found:
            _remove(folder / name)
        write_text(folder / CONFIG, dump_yaml(config))


def write_text(path: Path, text: str) -> None:
    """Write a text file that is there whole or not at all.

    Raises:
        ConfigError: It cannot be written.
    """
    partial = path.with_name(f"{path.name}.{os.getpid()}.partial")  # two processes may write at once
    try:
        with partial.open("w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    except OSError as error:
        partial.unlink(missing_ok=True)
        raise ConfigError(f"{path} cannot be written: {error.strerror or error}.") from None


def write_json(path: Path, values: object) -> None:
    """Write a JSON file that is there whole or not at all."""
    write_text(path, json.dumps(values, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def changed_keys(then: Mapping[str, Any], now: Mapping[str, Any]) -> dict[str, str]:
    """The keys in which two configurations differ, each with words on both values.

    Args:
        then: As a file holds it.
        now: Plain values, which are written as YAML and read again: what is compared is what a file can hold.
    """
    before, after = _flat(then), _flat(parse_yaml(dump_yaml(now), CONFIG))
    differing = [key for key in sorted(after.keys() | before.keys()) if after.get(key) != before.get(key)]
    return {key: f"{key} was {before.get(key)!r}, now {after.get(key)!r}" for key in differing}


def _check_same(config: Mapping[str, Any], before: Mapping[str, Any], folder: Path) -> None:
    differing = list(changed_keys(before, config).values())
    if differing:
        raise ConfigError(
            f"--resume: {folder / CONFIG} differs from this configuration: {'; '.join(differing[:5])}. Resume with the "
            "same configuration, or start again with --force."
        )


def _flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, Mapping):
            flat |= _flat(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink()
