"""A grid from its configuration to its report."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from aes_dynloss.configfile import dump_yaml, validate
from aes_dynloss.errors import ConfigError, DataError
from aes_dynloss.essays.benchmark.cells import grid_cells, part_names, part_split, part_split_config
from aes_dynloss.essays.benchmark.config import BenchmarkConfig
from aes_dynloss.essays.benchmark.published_arms import read_against
from aes_dynloss.essays.benchmark.results import write_results
from aes_dynloss.essays.data.data_config import DataConfig
from aes_dynloss.essays.data.essay_table import EssayTable
from aes_dynloss.essays.data.readers import read_essays
from aes_dynloss.essays.data.splits import split_essays
from aes_dynloss.reports.comparison import Benchmark
from aes_dynloss.tables.atomic import TEMPORARY, write_text
from aes_dynloss.tables.formats import STANDARD_INPUT
from aes_dynloss.training.grid import Cell, grid_lock

CONFIG = "benchmark.yaml"
Engine = Callable[[Sequence[Cell]], None]


def benchmark(config: BenchmarkConfig, root: Path, run: Engine, against: Sequence[Path] = ()) -> Benchmark:
    """Run all cells of a grid that are not done, and report the grid.

    Args:
        config: The grid.
        root: Its folder; what is done there is not done again.
        run: Runs cells, such as :func:`aes_dynloss.training.grid.run_in_turn`.
        against: Files of published predictions of the same folds, to stand beside the grid's arms.

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
    for cell in cells:
        cell.check()
    # What is wrong with a fold, or a published arm, must not come to light after other folds' runs.
    splits = {part: split_essays(table, part_split_config(config, part)) for part in part_names(config, prompts)}
    tests = {part: split.test.essay_ids for part, split in splits.items()}
    published = read_against(config, against, table, tests)
    # Processes that share a grid begin and end at about the same time, and write the same files.
    alone = grid_lock(root, "grid")
    with alone:
        for half in root.glob(f".*{TEMPORARY}"):  # of a process that was killed as it wrote
            half.unlink(missing_ok=True)
        write_text(root / CONFIG, dump_yaml(config.model_dump(mode="json", by_alias=True)))
    run(cells)
    with alone:
        return write_results(config, cells, table, root, published)


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
