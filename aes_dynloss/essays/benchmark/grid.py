"""A grid from its configuration to its report.

A grid's cells one after the other, in this process; several processes may share a grid.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from filelock import FileLock

from aes_dynloss.configfile import dump_yaml, validate
from aes_dynloss.errors import ConfigError, DataError
from aes_dynloss.essays.benchmark.cells import (
    CELLS,
    LOCKS,
    Cell,
    check_cells,
    grid_cells,
    is_complete,
    part_names,
    part_split,
    part_split_config,
    run_cell,
)
from aes_dynloss.essays.benchmark.config import BenchmarkConfig
from aes_dynloss.essays.benchmark.results import write_results
from aes_dynloss.essays.data.data_config import DataConfig
from aes_dynloss.essays.data.essay_table import EssayTable
from aes_dynloss.essays.data.readers import read_essays
from aes_dynloss.essays.data.splits import split_essays
from aes_dynloss.reports.comparison import Benchmark
from aes_dynloss.tables.atomic import TEMPORARY, write_text
from aes_dynloss.tables.formats import STANDARD_INPUT

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


CONFIG = "benchmark.yaml"
Engine = Callable[[Sequence[Cell], Path], None]


def benchmark(config: BenchmarkConfig, root: Path, run: Engine) -> Benchmark:
    """Run all cells of a grid that are not done, and report the grid.

    Args:
        config: The grid.
        root: Its folder; what is done there is not done again.
        run: Runs cells, such as :func:`aes_dynloss.essays.benchmark.grid.run_in_turn`.

    Returns:
        The report, whose content is that of benchmark.json.

    Raises:
        AesDynlossError: One of its kinds; the message says what to mend.
    """
    data = _data(config)
    table = read_essays(data)
    prompts = _prompts(config, table)
    if len(prompts) < len(table.prompts):
        table = read_essays(data.model_copy(update={"keep_prompts": prompts}))
    cells = grid_cells(config, prompts, root)
    check_cells(cells, root)
    for part in part_names(config, prompts):  # what is wrong with a fold must not come to light after other folds' runs
        split_essays(table, part_split_config(config, part))
    try:
        (root / LOCKS).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"The output folder {root} cannot be used: {error.strerror}.") from None
    # Processes that share a grid begin and end at about the same time, and write the same files.
    alone = FileLock(root / LOCKS / "grid.lock")
    with alone:
        for half in root.glob(f".*{TEMPORARY}"):  # of a process that was killed as it wrote
            half.unlink(missing_ok=True)
        write_text(root / CONFIG, dump_yaml(config.model_dump(mode="json", by_alias=True)))
    run(cells, root)
    with alone:
        return write_results(config, cells, table, root)


def _data(config: BenchmarkConfig) -> DataConfig:
    """Where the essays are: the shared configuration's, since arms share their essays."""
    values = config.finetune.get("data")
    if not isinstance(values, dict):
        raise ConfigError("finetune.data is missing: name the essays there, as in a configuration of finetune.")
    part = part_names(config, config.prompts or ["1"])[0]
    data = validate(DataConfig, values | {"split": part_split(config, part)}, "finetune.data")
    if data.source == STANDARD_INPUT:
        raise ConfigError("finetune.data.source: standard input can be read once, and each run reads. Name a file.")
    return data


def _prompts(config: BenchmarkConfig, table: EssayTable) -> list[str]:
    """The prompts that the grid's models see, in the order of the data."""
    known = list(table.prompts)
    unknown = [prompt for prompt in config.prompts or () if prompt not in known]
    if unknown:
        raise DataError(f"prompts: there is no essay of prompt {unknown[0]!r}; the data have {', '.join(known)}.")
    if config.protocol == "folds":
        return [prompt for prompt in known if config.prompts is None or prompt in config.prompts]
    if len(known) < 2:
        raise DataError("protocol leave_one_prompt_out: the data have one prompt, so that none is left to train on.")
    return known  # config.prompts are left out in turn; all others are trained on
