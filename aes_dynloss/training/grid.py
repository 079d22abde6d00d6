"""A grid of runs: each cell is a run in a folder of its own, which is complete or absent.

A grid that was stopped is resumed. A lock for each cell, which the system releases however its process ends,
lets several processes share one grid.
"""

from __future__ import annotations

import gc
import logging
import os
import time
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from filelock import FileLock, Timeout

from aes_dynloss.configfile import dump_yaml, read_mapping
from aes_dynloss.errors import AesDynlossError, ConfigError
from aes_dynloss.progress import Progress
from aes_dynloss.tables.atomic import write_text
from aes_dynloss.training.config import Precision, TrainingConfig
from aes_dynloss.training.hardware import resolve_precision
from aes_dynloss.training.run_folder import CONFIG, LOCK, MANIFEST, changed_keys, recorded_precision, write_json

logger = logging.getLogger(__name__)

LOCKS = "locks"
PRECISION = "precision.json"
# Between two looks at cells that other processes work on.
_PAUSE_SECONDS = 2.0


@dataclass(frozen=True)
class Cell(ABC):
    """One run of a grid; each kind of grid has a subclass, which says how and where it is run.

    A cell is run in its folder below ``RUN_IN``. It is complete when the one below ``KEPT_IN`` holds ``LAST_FILE``.

    Args:
        root: Folder of the grid.
        name: Its folder below that.
        config: What is run, a ``ConfigModel`` with a section ``training``.
        needs: Names of cells that must be complete before, by the keys of ``config`` that point into their folders.
    """

    RUN_IN: ClassVar[str] = ""
    KEPT_IN: ClassVar[str] = ""
    LAST_FILE: ClassVar[str]

    root: Path
    name: Path
    config: Any
    needs: Mapping[str, Path]

    @abstractmethod
    def run(self, *, resume: bool) -> None:
        """Run it, or resume it, until it is complete."""

    @property
    def defaults(self) -> Mapping[str, Any]:
        """What keys of the configuration have that an earlier version of the program did not know."""
        return {}

    @property
    def work(self) -> Path:
        """The folder in which it is run."""
        return self.root / self.RUN_IN / self.name

    @property
    def folder(self) -> Path:
        """The folder in which it is complete."""
        return self.root / self.KEPT_IN / self.name

    @property
    def is_complete(self) -> bool:
        """Whether its run is done."""
        return (self.folder / self.LAST_FILE).exists()

    @property
    def missing_needs(self) -> list[Path]:
        """Names of the cells that it needs and that are not complete."""
        kept = self.root / self.KEPT_IN
        return [name for name in self.needs.values() if not (kept / name / self.LAST_FILE).exists()]

    def check(self) -> None:
        """Refuse to take over what was made, completely or in part, otherwise than it would be now.

        Raises:
            ConfigError: It had other settings, or started from a cell that is not there any more.
        """
        now, gone = self.config.model_dump(mode="json"), self.missing_needs
        for folder in dict.fromkeys((self.work, self.folder)):
            try:
                then = read_mapping(folder / CONFIG)
            except ConfigError:
                if (folder / CONFIG).exists():
                    raise
                continue  # not begun, or another process has just moved it to where it is complete
            # Cells that it starts from lie elsewhere when the grid was moved, or is named by another path.
            differing = [text for key, text in changed_keys(then, now, self.defaults).items() if key not in self.needs]
            if differing:
                raise ConfigError(
                    f"{folder} was made with other settings: {'; '.join(differing[:5])}. Choose another --output-dir, "
                    "or remove that folder, and it is done again."
                )
            if gone:
                raise ConfigError(
                    f"{folder} started from {gone[0]}, which is not there any more; done again, that would be another "
                    f"start. Bring back {self.root / self.KEPT_IN / gone[0]}, or remove {folder} too."
                )


def grid_lock(root: Path, name: str) -> FileLock:
    """A lock that the processes of a grid share.

    Raises:
        ConfigError: The grid's folder cannot be written.
    """
    try:
        (root / LOCKS).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"The output folder {root} cannot be used: {error.strerror or error}.") from None
    return FileLock(root / LOCKS / f"{name}.lock")


def grid_precision(root: Path, config: TrainingConfig, *, force: bool = False) -> Precision:
    """The precision of a grid's cell: what ``auto`` was in the first one, which the grid's folder keeps.

    Args:
        root: The grid's folder.
        config: The cell's settings.
        force: See :func:`aes_dynloss.training.hardware.resolve_precision`.

    Raises:
        ConfigError: The processor has it in software alone, or the grid's folder cannot be used.
    """
    if config.precision != "auto":
        return resolve_precision(config, force=force)
    path = root / PRECISION
    with grid_lock(root, "precision"):
        began_in = recorded_precision(path)
        if began_in is None:  # runs of before grids kept it have it each
            began_in = next((recorded_precision(manifest) for manifest in sorted(root.rglob(MANIFEST))), None)
        precision = resolve_precision(config, began_in, force=force)
        write_json(path, {"precision": precision})
    return precision


def run_cell(cell: Cell) -> bool:
    """Run a cell, unless it is complete; resume it where it was stopped.

    Args:
        cell: The cell; those that it needs are complete.

    Returns:
        Whether it is complete; otherwise another process works on it.

    Raises:
        AesDynlossError: What the run raised, with the cell's name before it.
    """
    lock = grid_lock(cell.root, "__".join(cell.name.parts))
    try:
        lock.acquire(timeout=0)
        if cell.work.exists():
            with FileLock(cell.work / LOCK, timeout=0):  # which a run holds that was started without the grid
                pass
    except Timeout:
        lock.release()
        return False
    try:
        if not cell.is_complete:
            cell.check()
            begun = (cell.work / CONFIG).exists()
            logger.info("%s %s.", "Resuming" if begun else "Beginning", cell.name)
            if begun:
                write_text(cell.work / CONFIG, dump_yaml(cell.config.model_dump(mode="json")))
            try:
                cell.run(resume=begun)
            finally:
                gc.collect()  # a run's model must not stay on the card beside the next one's
    except AesDynlossError as error:
        raise type(error)(f"{cell.name}: {error}") from None
    finally:
        lock.release()
    return True


def run_in_turn(cells: Sequence[Cell]) -> None:
    """Run all cells that are not complete, one after the other.

    Cells on which other processes work are passed over, waited for at the end, and taken over where these end early.

    Args:
        cells: Those that others need before these.

    Raises:
        ConfigError: The process is one of several of one run, or the cells differ in device or precision.
        AesDynlossError: What a cell's run raised.
    """
    _check_one_process(cells)
    waiting = [cell for cell in cells if not cell.is_complete]
    done = len(cells) - len(waiting)
    logger.info("Runs: %d, of which %d are done already.", len(cells), done)
    logged: list[Cell] = []
    with Progress(total=len(cells), initial=done, desc="grid", unit="run") as bar:
        while waiting:
            left = []
            for cell in waiting:
                if cell.missing_needs or not run_cell(cell):
                    left.append(cell)
                    continue
                done += 1
                bar.update()
                logger.info("Run %d of %d is done: %s.", done, len(cells), cell.name)
            if left == waiting:
                if left != logged:
                    logger.info("Waiting for other processes: %s.", ", ".join(str(cell.name) for cell in left))
                    logged = left
                time.sleep(_PAUSE_SECONDS)
            waiting = left


def _check_one_process(cells: Sequence[Cell]) -> None:
    processes = int(os.environ.get("WORLD_SIZE", "1"))
    if processes > 1:
        raise ConfigError(
            f"A grid was started as {processes} processes of one run. For several cards start it several times on one "
            "--output-dir, each with its own CUDA_VISIBLE_DEVICES, or give --engine ray where the command has it."
        )
    for key in ("device", "precision"):
        choices = {str(getattr(cell.config.training, key)) for cell in cells}
        if len(choices) > 1:
            raise ConfigError(
                f"training.{key} is {' and '.join(sorted(choices))} in one grid: one process can have only one. Set it "
                "the same in all arms, or run a grid for each, and compare these."
            )
