"""Running one cell of a grid, so that its folder below cells/ is complete or absent.

A cell works in a folder of its own below work/ and is moved when it is done. A lock, which the system releases when its
process ends in whatever way, lets several processes share one grid.
"""

from __future__ import annotations

import gc
import logging
import shutil
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock, Timeout

from aes_dynloss.configfile import dump_yaml, read_mapping
from aes_dynloss.errors import AesDynlossError, ConfigError
from aes_dynloss.essays.benchmark.cells import CELLS, Cell
from aes_dynloss.essays.finetune import finetune
from aes_dynloss.essays.model.warm_start import MODEL
from aes_dynloss.training.run_folder import CONFIG, changed_keys, write_json, write_text

logger = logging.getLogger(__name__)

WORK, LOCKS = "work", "locks"
COST = "cell.json"
# Where an arm that a cell starts from lies, which a grid that was moved finds elsewhere.
_PLACES = ("model.start_from", "teacher.from")


def is_complete(cell: Cell, root: Path) -> bool:
    """Whether a cell's run is done."""
    return (root / CELLS / cell.name / COST).exists()


def check_cells(cells: Sequence[Cell], root: Path) -> None:
    """Refuse to go on with a grid whose cells, done or begun, were made otherwise than they would be now.

    Args:
        cells: All of the grid.
        root: Its folder.

    Raises:
        ConfigError: Naming the first such cell, and what differs.
    """
    for cell in cells:
        for folder in (root / WORK / cell.name, root / CELLS / cell.name):
            if (folder / CONFIG).exists():
                _check_begun(cell, folder, root)
        if (root / CELLS / cell.name).exists() and not is_complete(cell, root):
            raise ConfigError(
                f"{root / CELLS / cell.name} holds no run of this grid, or not all of one. Remove it, or choose "
                "another --output-dir."
            )
        if cell.keeps_model and is_complete(cell, root) and not (root / CELLS / cell.name / MODEL).exists():
            raise ConfigError(
                f"{root / CELLS / cell.name} was done without keeping its model, which is wanted now (keep_models, or "
                "an arm that comes after it). Remove that folder, and it is done again."
            )


def run_cell(cell: Cell, root: Path, *, wait: bool) -> bool:
    """Run a cell, unless it is done; go on with it where it was stopped.

    Args:
        cell: The cell; those that it needs are done.
        root: Folder of the grid.
        wait: Whether to wait where another process works on it.

    Returns:
        Whether it is done; otherwise another process works on it.

    Raises:
        AesDynlossError: What the run raised, with the cell's name before it.
    """
    lock = FileLock(root / LOCKS / f"{'__'.join(cell.name.parts)}.lock")
    Path(lock.lock_file).parent.mkdir(parents=True, exist_ok=True)
    try:
        lock.acquire(timeout=-1 if wait else 0)
    except Timeout:
        return False
    try:
        if not is_complete(cell, root):
            _run(cell, root)
    except AesDynlossError as error:
        raise type(error)(f"{cell.name}: {error}") from None
    finally:
        lock.release()
        gc.collect()  # a run's model must not stay on the card beside the next one's
    return True


def _run(cell: Cell, root: Path) -> None:
    work, target = root / WORK / cell.name, root / CELLS / cell.name
    if not (work / COST).exists():
        begun = (work / CONFIG).exists()
        logger.info("%s %s.", "Going on with" if begun else "Beginning", cell.name)
        if begun:
            _check_same(cell, work)
            # A grid that was moved, or is named by another path now, finds the arms before this one elsewhere.
            write_text(work / CONFIG, dump_yaml(cell.config.model_dump(mode="json")))
        start = time.perf_counter()
        finetune(cell.config, work, resume=begun)
        seconds = time.perf_counter() - start
        write_json(work / COST, {"seconds": round(seconds, 3), "device": _device(cell), "resumed": begun})
    # Only now: without its model, a run that was stopped here could not be taken for complete.
    if not cell.keeps_model:
        shutil.rmtree(work / MODEL, ignore_errors=True)
    target.parent.mkdir(parents=True, exist_ok=True)
    work.replace(target)


def _device(cell: Cell) -> str:
    if cell.config.training.device != "cpu" and torch.cuda.is_available():
        return torch.cuda.get_device_name()
    return f"CPU, {torch.get_num_threads()} threads"


def _check_begun(cell: Cell, folder: Path, root: Path) -> None:
    """Refuse a run, done or begun, of another configuration, or one that started from what is not there any more."""
    try:
        _check_same(cell, folder)
    except ConfigError:
        if (folder / CONFIG).exists():
            raise
        return  # another process has just moved it to where it is complete
    gone = [need for need in cell.needs if not (root / CELLS / need).exists()]
    if gone:
        raise ConfigError(
            f"{folder} started from {gone[0]}, which is not there any more; done again, that would be another start. "
            f"Bring back {root / CELLS / gone[0]}, or remove {folder} too."
        )


def _check_same(cell: Cell, folder: Path) -> None:
    now: dict[str, Any] = cell.config.model_dump(mode="json")
    then = read_mapping(folder / CONFIG)
    differing = {key: words for key, words in changed_keys(then, now).items() if key not in _PLACES}
    if differing:
        raise ConfigError(
            f"{folder} was made with another configuration: {'; '.join(list(differing.values())[:5])}. Choose another "
            "--output-dir, or remove that folder, and it is done again."
        )
