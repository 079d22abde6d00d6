"""A grid's cells one after the other, in this process; several processes may share a grid."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Sequence
from pathlib import Path

from aes_dynloss.errors import ConfigError
from aes_dynloss.essays.benchmark.cell_run import is_complete, run_cell
from aes_dynloss.essays.benchmark.cells import CELLS, Cell

logger = logging.getLogger(__name__)

# Between two looks at cells that other processes work on.
_PAUSE_SECONDS = 2.0


def run_in_turn(cells: Sequence[Cell], root: Path) -> None:
    """Run all cells that are not done; those on which other processes work are taken over where these end early.

    Args:
        cells: Those that others need before these.
        root: Folder of the grid.

    Raises:
        ConfigError: The process is one of several of one run, or the cells differ in device or precision.
        AesDynlossError: What a cell's run raised.
    """
    _check_one_process(cells)
    waiting = [cell for cell in cells if not is_complete(cell, root)]
    done = len(cells) - len(waiting)
    logger.info("Runs: %d, of which %d are done already.", len(cells), done)
    while waiting:
        left = []
        for cell in waiting:
            ready = all((root / CELLS / need).exists() for need in cell.needs)
            if ready and run_cell(cell, root, wait=False):
                done += 1
                logger.info("Run %d of %d is done: %s.", done, len(cells), cell.name)
            else:
                left.append(cell)
        if len(left) == len(waiting):
            time.sleep(_PAUSE_SECONDS)
        waiting = left


def _check_one_process(cells: Sequence[Cell]) -> None:
    processes = int(os.environ.get("WORLD_SIZE", "1"))
    if processes > 1:
        raise ConfigError(
            f"benchmark was started as {processes} processes of one run. For several cards start it several times on "
            "one --output-dir, each with its own CUDA_VISIBLE_DEVICES, or give --engine ray."
        )
    for key in ("device", "precision"):
        values = {str(getattr(cell.config.training, key)) for cell in cells}
        if len(values) > 1:
            raise ConfigError(
                f"training.{key} is {' and '.join(sorted(values))} in one grid: one process can have only one. Set it "
                "the same in all arms, or run two grids and `aes-dynloss compare` them."
            )
