"""Run a grid of losses and seeds of a vision recipe, and put its table together.

    python recipes/vision/grid.py recipes/vision/grids/cifar10.yaml --output-dir runs/vision_cifar10

Every run is a folder OUTPUT/ARM/seed_S that is complete or absent: the same command goes on where it was stopped, and
given twice at once on one folder shares the runs between its processes. When all are there, the results are written:
mean and sd over seeds of a measure on test, and the difference from the first arm with its standard error.
"""

from __future__ import annotations

import importlib
import json
import logging
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import mean, stdev
from typing import Any, Literal

import click
from pydantic import Field
from vision_run import CONFIG_NAMES, MANIFEST, REPORT, run

from aes_dynloss import ConfigError
from aes_dynloss.cli.main import log_to_stderr, run_command
from aes_dynloss.configfile import ConfigModel, apply_overrides, read_mapping, validate
from aes_dynloss.teaching.teachers.config import DlfConfig, DlnConfig
from aes_dynloss.training.episodes import TEACHING_LOG
from aes_dynloss.training.run_folder import CONFIG, METRICS, TEACHER, BusyFolderError, changed_keys, write_json

logger = logging.getLogger("aes_dynloss.vision")

HERE = Path(__file__).parent


class Arm(ConfigModel):
    """One loss, on one student."""

    sets: list[str] = Field(default=[], description="KEY=VALUE beside those of the grid.")
    student: str | None = Field(default=None, description="Its student in words, where it is another than the grid's.")
    teacher_of: str | None = Field(default=None, description="An arm before it whose teacher steers it, seed by seed.")


class GridConfig(ConfigModel):
    """Arms by seeds of one recipe."""

    title: str = Field(default="", description="The task in words, for the table of all grids.")
    student: str = Field(default="", description="The student in words, for the table of all grids.")
    task: Literal["classification", "detection", "segmentation"]
    recipe: str = Field(description="A recipe beside the task's script, such as cifar10.yaml.")
    sets: list[str] = Field(default=[], description="KEY=VALUE for all arms.")
    seeds: int = Field(default=3, ge=1, description="Seeds 0, 1, ... of weights, order and variation.")
    measure: str = Field(description="The measure that is compared.")
    measured_on: Literal["test", "dev"] = Field(default="test", description="dev is for tuning: test is then left out.")
    arms: dict[str, Arm] = Field(min_length=1, description="The first is the control.")


@dataclass(frozen=True)
class Cell:
    """One run of a grid."""

    arm: str
    seed: int
    folder: Path
    overrides: list[str]
    teacher: Path | None = None


def cells_of(grid: GridConfig, folder: Path) -> list[Cell]:
    """All runs, seed by seed, a teacher before those that it steers.

    Raises:
        ConfigError: A teacher's arm does not stand before its own, or an arm's name cannot be a folder's.
    """
    odd = [name for name in grid.arms if not re.fullmatch(r"[\w.-]+", name) or name.startswith(".")]
    if odd:
        raise ConfigError(f"arms: {odd[0]!r} cannot be a folder; use letters, numbers, _, - and dots inside.")
    cells, known = [], list(grid.arms)
    for seed in range(grid.seeds):
        for number, (name, arm) in enumerate(grid.arms.items()):
            given, teacher = [*grid.sets, *arm.sets, f"training.seed={seed}"], None
            if arm.teacher_of is not None:
                if arm.teacher_of not in known[:number]:
                    raise ConfigError(
                        f"arms.{name}.teacher_of: expected an arm before it ({', '.join(known[:number]) or 'none'}), "
                        f"found {arm.teacher_of}."
                    )
                teacher = folder / arm.teacher_of / f"seed_{seed}"
                given.append("teacher=" + json.dumps({"from": str(teacher / TEACHER)}))
            cells.append(Cell(name, seed, folder / name / f"seed_{seed}", given, teacher))
    return cells


def run_cells(grid: GridConfig, cells: list[Cell]) -> bool:
    """Make what is not there yet; whether all runs are complete then."""
    task = importlib.import_module(grid.task)
    config_class, build = getattr(task, CONFIG_NAMES[grid.task]), task.build
    base = read_mapping(HERE / grid.recipe)
    configs = {
        cell.folder: validate(config_class, apply_overrides(base, cell.overrides), f"{cell.arm}, seed {cell.seed}")
        for cell in cells
    }
    _check_together(cells, configs)
    for folder, config in configs.items():
        check_settings(folder, config)
    for cell in cells:
        if (cell.folder / REPORT).exists():
            continue
        if cell.teacher is not None and not (cell.teacher / REPORT).exists():
            logger.info("%s, seed %d waits for its teacher, which another process makes.", cell.arm, cell.seed)
            continue
        config = configs[cell.folder]
        logger.info("%s, seed %d", cell.arm, cell.seed)
        try:
            run(build, config, cell.folder, resume=(cell.folder / CONFIG).exists())
        except BusyFolderError:
            logger.info("Another process makes it.")
        else:
            check_measure(grid, read_mapping(cell.folder / REPORT))
    return all((cell.folder / REPORT).exists() for cell in cells)


def _check_together(cells: list[Cell], configs: Mapping[Path, Any]) -> None:
    """Refuse, before any run is made, what would fail when others are.

    Raises:
        ConfigError: Runs differ in what a process settles once, or a teacher is asked for where none learns.
    """
    for key in ("precision", "device"):
        found = {str(getattr(config.training, key)) for config in configs.values()}
        if len(found) > 1:
            raise ConfigError(
                f"training.{key}: the runs of one grid share a process, and it; found {', '.join(sorted(found))}. Make "
                "a grid for each."
            )
    for cell in cells:
        if cell.teacher is not None and not isinstance(configs[cell.teacher].teacher, DlfConfig | DlnConfig):
            raise ConfigError(
                f"arms.{cell.arm}.teacher_of: the arm {cell.teacher.parent.name} has no teacher that learns. Name one "
                "whose sets hold teacher={kind: dlf} or dln."
            )


def check_settings(folder: Path, config: ConfigModel) -> None:
    """Refuse to take a run with other settings for one of this grid.

    Raises:
        ConfigError: There is such a run.
    """
    if (folder / CONFIG).exists():
        differing = list(changed_keys(read_mapping(folder / CONFIG), config.model_dump(mode="json")).values())
        if differing:
            raise ConfigError(
                f"{folder} was made with other settings: {'; '.join(differing[:5])}. Choose another --output-dir, or "
                "remove that folder."
            )


def check_measure(grid: GridConfig, report: Mapping[str, Any]) -> None:
    """See after the first run, not after the last, whether there is what is to be compared.

    Raises:
        ConfigError: The runs do not measure that.
    """
    known = report[grid.measured_on]
    if grid.measure not in known:
        raise ConfigError(
            f"measure: on {grid.measured_on} these runs measure {', '.join(known)}, and not {grid.measure}. Take one "
            "of those; the runs that are there are kept."
        )


def results(grid: GridConfig, cells: list[Cell]) -> dict[str, Any]:
    """The figures of a complete grid, without a path of this machine."""
    reports = {(cell.arm, cell.seed): read_mapping(cell.folder / REPORT) for cell in cells}
    control, seeds = next(iter(grid.arms)), range(grid.seeds)
    part, found = grid.measured_on, dict[str, Any]()
    for arm, settings in grid.arms.items():
        mine = [reports[arm, seed] for seed in seeds]
        values = [report[part][grid.measure] for report in mine]
        beside = [value - reports[control, seed][part][grid.measure] for value, seed in zip(values, seeds, strict=True)]
        found[arm] = {
            "sets": settings.sets,
            "teacher_of": settings.teacher_of,
            **{name: [report[name] for report in mine] for name in dict.fromkeys(("dev", part))},
            "seconds": [report["seconds"] for report in mine],
            "teaching": [teaching(cell.folder) for cell in cells if cell.arm == arm],
            grid.measure: summary(values),
            "beside_control": summary(beside) if arm != control else None,
        }
    return {
        "grid": grid.model_dump(mode="json", exclude={"arms"}),
        "manifest": read_mapping(cells[0].folder / MANIFEST),
        "arms": found,
    }


def teaching(folder: Path) -> dict[str, Any] | None:
    """How a run's teacher learnt; None without one.

    Returns:
        L2T-DLF: the measure and the hypergradient's norm in every episode. L2T-DLN: the number of windows, and in what
        part of them the measure was lower under the rewritten loss than under the one before.
    """
    if (folder / TEACHING_LOG).exists():
        episodes = _lines(folder / TEACHING_LOG)
        return {name: [episode[name] for episode in episodes] for name in ("measure", "hypergradient_norm")}
    windows = [line["teacher"] for line in _lines(folder / METRICS) if "teacher" in line]
    if not windows:
        return None
    lower = mean(window["measure_after"] < window["measure_before"] for window in windows)
    return {"windows": len(windows), "lower_after": lower}


def _lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def summary(values: list[float]) -> dict[str, float | None]:
    """Mean, sd and the mean's standard error."""
    spread = stdev(values) if len(values) > 1 else None
    return {"mean": mean(values), "sd": spread, "se": None if spread is None else spread / len(values) ** 0.5}


def table(found: Mapping[str, Any]) -> str:
    """The results as the README shows them."""
    measure = found["grid"]["measure"]
    lines = [
        f"| loss | {measure}, mean (sd) | beside {next(iter(found['arms']))} (se) | minutes |",
        "|---|---:|---:|---:|",
    ]
    for arm, values in found["arms"].items():
        beside = values["beside_control"]
        difference = words_of(beside, "se", "+") if beside else ""
        known = [seconds for seconds in values["seconds"] if seconds is not None]
        minutes = f"{mean(known) / 60:.2g}" if known else ""
        lines.append(f"| {arm} | {words_of(values[measure], 'sd')} | {difference} | {minutes} |")
    return "\n".join(lines)


def words_of(values: Mapping[str, float | None], spread: str, sign: str = "") -> str:
    """A figure with its spread in brackets, where it has one."""
    beside = "" if values[spread] is None else f" ({values[spread]:.4f})"
    return f"{values['mean']:{sign}.4f}{beside}"


@click.command(help="Run the grid that CONFIG describes, and write its results.")
@click.argument("file", metavar="CONFIG", type=click.Path(path_type=Path))
@click.argument("overrides", nargs=-1, metavar="[KEY=VALUE]...")
@click.option("--output-dir", "-o", type=click.Path(path_type=Path), required=True, help="Folder of the runs.")
@click.option("--results", "output", type=click.Path(path_type=Path), help="Where the results go; by default there.")
def main(file: Path, overrides: tuple[str, ...], output_dir: Path, output: Path | None) -> None:
    """From the command line."""
    grid = validate(GridConfig, apply_overrides(read_mapping(file), overrides), str(file))
    cells = cells_of(grid, output_dir.resolve())
    if not run_cells(grid, cells):
        click.echo(
            "Other processes have not finished yet; the same command writes the results when they have.", err=True
        )
        return
    found = results(grid, cells)
    write_json(output or output_dir / "results.json", found)
    click.echo(table(found))


if __name__ == "__main__":
    log_to_stderr(logging.INFO)
    sys.exit(run_command(main, "grid.py"))
