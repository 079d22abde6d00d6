"""Run a grid of losses and seeds of the translation recipe, and put its table together.

    python recipes/translation/translation_grid.py recipes/translation/grids/multi30k.yaml -o runs/translation

Every run is a folder OUTPUT/ARM/seed_S that is complete or absent: the same command goes on where it was stopped, and
given twice at once on one folder shares the runs between its processes. When all are there, the results are written.
"""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import Field
from translation import REPORT, TranslationConfig, run
from translation_results import table

from aes_dynloss import ConfigError
from aes_dynloss.cli.main import log_to_stderr, run_command
from aes_dynloss.cli.recipe_command import grid_command
from aes_dynloss.configfile import ConfigModel, apply_overrides, read_mapping, validate
from aes_dynloss.training.episodes import TEACHING_LOG, episode_figures
from aes_dynloss.training.grid import Cell, grid_precision
from aes_dynloss.training.run_folder import MANIFEST

HERE = Path(__file__).parent


class Arm(ConfigModel):
    """One loss."""

    sets: list[str] = Field(default=[], description="KEY=VALUE beside those of the grid.")
    start: str | None = Field(default=None, description="An arm before it whose students it starts from, by seed.")


class GridConfig(ConfigModel):
    """Arms by seeds."""

    recipe: str = Field(description="A recipe beside the script, such as multi30k.yaml.")
    sets: list[str] = Field(default=[], description="KEY=VALUE for all arms.")
    seeds: int = Field(default=3, ge=1, description="Seeds 0, 1, ... of weights, order, dropout and teacher_dev.")
    control: str = Field(description="The arm beside which others are compared.")
    arms: dict[str, Arm] = Field(min_length=1)


@dataclass(frozen=True)
class TranslationCell(Cell):
    """One run of a grid, see :class:`aes_dynloss.training.grid.Cell`.

    Args:
        root, name, config, needs: Those of a cell.
        arm: Its arm.
        force_precision: Whether it may be run in bf16 where the processor has that in software alone.
    """

    LAST_FILE = REPORT

    config: TranslationConfig
    arm: str
    force_precision: bool = False

    def run(self, *, resume: bool) -> None:
        """Train and test."""
        precision = grid_precision(self.root, self.config.training, force=self.force_precision)
        run(self.config, self.work, precision=precision, resume=resume)


def cells_of(grid: GridConfig, root: Path) -> list[TranslationCell]:
    """All runs, seed by seed, each after the one that it starts from.

    Raises:
        ConfigError: A configuration has faults, or an arm does not stand before one that starts from it.
    """
    if grid.control not in grid.arms:
        raise ConfigError(f"control: expected one of {', '.join(grid.arms)}, found {grid.control}.")
    base, cells = read_mapping(HERE / grid.recipe), list[TranslationCell]()
    for seed in range(grid.seeds):
        before: dict[str, TranslationCell] = {}
        for name, arm in grid.arms.items():
            overrides = [*grid.sets, *arm.sets, f"training.seed={seed}", f"data.seed={seed}"]
            needs: dict[str, Path] = {}
            if arm.start is not None:
                if arm.start not in before:
                    raise ConfigError(
                        f"arms.{name}.start: expected an arm before it ({', '.join(before) or 'none'}), found "
                        f"{arm.start}."
                    )
                needs["start"] = before[arm.start].name
                overrides.append("start=" + json.dumps(str(before[arm.start].folder)))
            config = validate(TranslationConfig, apply_overrides(base, overrides), f"{name}, seed {seed}")
            before[name] = TranslationCell(root, Path(name, f"seed_{seed}"), config, needs, name)
        cells += before.values()
    return cells


def results(grid: GridConfig, cells: Sequence[TranslationCell]) -> dict[str, Any]:
    """The figures of a complete grid, without a path of this machine."""
    arms = dict[str, Any]()
    for name, arm in grid.arms.items():
        folders = [cell.folder for cell in cells if cell.arm == name]
        reports = [read_mapping(folder / REPORT) for folder in folders]
        arms[name] = {
            "sets": arm.sets,
            "start": arm.start,
            **{key: [report[key] for report in reports] for key in ("test", "dev", "best_step", "taught", "seconds")},
            "teaching": [episode_figures(folder / TEACHING_LOG) for folder in folders],
        }
    first = read_mapping(cells[0].folder / REPORT)
    return {
        "grid": grid.model_dump(mode="json", exclude={"arms"}),
        "manifest": read_mapping(cells[0].folder / MANIFEST),
        **{key: first[key] for key in ("sacrebleu", "weights", "vocabulary")},
        "arms": arms,
    }


main = grid_command("translation_grid.py", GridConfig, cells_of, results, table)

if __name__ == "__main__":
    log_to_stderr(logging.INFO)
    sys.exit(run_command(main, "translation_grid.py"))
