"""A grid from its configuration to its report."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from aes_dynloss.configfile import dump_yaml
from aes_dynloss.essays.benchmark.cells import grid_cells
from aes_dynloss.essays.benchmark.config import BenchmarkConfig
from aes_dynloss.essays.benchmark.essays import grid_prompts, read_first, read_grid, source_files
from aes_dynloss.essays.benchmark.published_arms import read_against
from aes_dynloss.essays.benchmark.results import PRODUCTS, write_results
from aes_dynloss.reports.comparison import Benchmark
from aes_dynloss.tables.atomic import TEMPORARY, write_text
from aes_dynloss.tables.provenance import Provenance, sealed
from aes_dynloss.training.grid import Cell, grid_lock

CONFIG = "benchmark.yaml"
Engine = Callable[[Sequence[Cell]], None]


def benchmark(
    config: BenchmarkConfig,
    root: Path,
    run: Engine,
    against: Sequence[Path] = (),
    *,
    force_precision: bool = False,
    written_in: Path | None = None,
) -> Benchmark:
    """Run all cells of a grid that are not done, and report the grid.

    Args:
        config: The grid.
        root: Its folder; what is done there is not done again.
        run: Runs cells, such as :func:`aes_dynloss.training.grid.run_in_turn`.
        against: Files of published predictions of the same folds, to stand beside the grid's arms.
        force_precision: Allow bf16 on a processor that has it in software alone.
        written_in: File that the configuration was read from, for the report's provenance.

    Returns:
        The report, whose content is that of benchmark.json.

    Raises:
        AesDynlossError: One of its kinds; the message says what to mend.
    """
    first = read_first(config)
    prompts = grid_prompts(config, first)
    cells = [replace(cell, force_precision=force_precision) for cell in grid_cells(config, prompts, root)]
    for cell in cells:
        cell.check()
    # What is wrong with a fold, or a published arm, must not come to light after other folds' runs.
    essays = read_grid(config, prompts, first)
    published = read_against(config, against, essays)
    # Processes that share a grid begin and end at about the same time, and write the same files.
    alone = grid_lock(root, "grid")
    with alone:
        for half in root.glob(f".*{TEMPORARY}"):  # of a process that was killed as it wrote
            half.unlink(missing_ok=True)
        write_text(root / CONFIG, dump_yaml(config.model_dump(mode="json", by_alias=True)))
    run(cells)
    made = Provenance.now([*([] if written_in is None else [written_in]), *source_files(config, prompts), *against])
    with alone, sealed(made, root, names=(CONFIG, *PRODUCTS)):
        return write_results(config, cells, essays, root, published, about=made.about())
