"""Run a grid of losses and seeds of a vision recipe, and put its table together.

    python recipes/vision/grid.py recipes/vision/grids/cifar10.yaml --output-dir runs/vision_cifar10

Every run is a folder OUTPUT/ARM/seed_S that is complete or absent: the same command goes on where it was stopped, and
given twice at once on one folder shares the runs between its processes. When all are there, the results are written:
mean and sd over seeds of a measure on test, and the difference from the first arm, or from that which an arm names as
`beside`, with its standard error. An arm that only teaches, NAME_taught or NAME_taught-RATE, is not compared. A grid
that is measured on dev goes on where a training runs away; its row says so.
"""

from __future__ import annotations

import importlib
import json
import logging
import re
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import mean, stdev
from typing import Any, Literal

from pydantic import Field
from vision_run import CONFIG_NAMES, REPORT, VisionConfig, run

from aes_dynloss import ConfigError, TrainingError
from aes_dynloss.cli.main import log_to_stderr, run_command
from aes_dynloss.cli.recipe_command import grid_command
from aes_dynloss.configfile import ConfigModel, apply_overrides, read_mapping, validate
from aes_dynloss.teaching.teachers.config import TeachingConfig
from aes_dynloss.training.episodes import TEACHING_LOG, episode_figures
from aes_dynloss.training.grid import Cell, grid_precision
from aes_dynloss.training.run_folder import MANIFEST, METRICS, TEACHER, write_json

logger = logging.getLogger("aes_dynloss.vision")

HERE = Path(__file__).parent
TEACHES = "_taught"  # ends the name of an arm that only teaches, see teaches()
RAN_AWAY = "ran_away.json"  # instead of its report, of a run whose training did not stay finite


class Arm(ConfigModel):
    """One loss, on one student."""

    sets: list[str] = Field(default=[], description="KEY=VALUE beside those of the grid; {seed} is the run's seed.")
    title: str | None = Field(default=None, description="Its task in words, where it is another than the grid's.")
    student: str | None = Field(default=None, description="Its student in words, where it is another than the grid's.")
    teacher_of: str | None = Field(default=None, description="An arm before it whose teacher steers it, seed by seed.")
    beside: str | None = Field(
        default=None, description="The arm that it is compared with; by default the first, with another student none."
    )


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
    arms: dict[str, Arm] = Field(min_length=1, description="The first that does not only teach is the control.")


@dataclass(frozen=True)
class VisionCell(Cell):
    """One run of a grid.

    Args:
        root, name, config, needs: See :class:`aes_dynloss.training.grid.Cell`.
        arm: Its arm.
        grid: The grid.
        force_precision: Whether it may be run in bf16 where the processor has that in software alone.
        may_run_away: Whether the grid goes on where its training runs away: its folder then says so, and it is complete
            without a report, as are those that need it.
    """

    LAST_FILE = REPORT

    config: VisionConfig
    arm: str
    grid: GridConfig
    force_precision: bool = False
    may_run_away: bool = False

    def run(self, *, resume: bool) -> None:
        """Train and test; what is to be compared must be known to be there after the first run, not after the last."""
        build = importlib.import_module(self.grid.task).build
        precision = grid_precision(self.root, self.config.training, force=self.force_precision)
        try:
            run(build, self.config, self.work, precision, resume=resume)
        except TrainingError as error:
            if not self.may_run_away:
                raise
            logger.warning("%s ran away: %s", self.name, error)
            write_json(self.folder / RAN_AWAY, {"error": str(error)})
        self.check()

    @property
    def ran_away(self) -> list[Path]:
        """Names of those whose training ran away, of itself and the cells that it needs."""
        names = [self.name, *self.needs.values()] if self.may_run_away else []
        return [name for name in names if (self.root / name / RAN_AWAY).exists()]

    @property
    def is_complete(self) -> bool:
        """Whether its run is done, or training ran away."""
        return super().is_complete or bool(self.ran_away)

    @property
    def missing_needs(self) -> list[Path]:
        """Names of the cells that it waits for."""
        return [name for name in super().missing_needs if name not in self.ran_away]

    def check(self) -> None:
        """Refuse also a complete run that does not measure what is to be compared."""
        super().check()
        report = self.folder / REPORT
        known = read_mapping(report)[self.grid.measured_on] if report.exists() else None
        if known is not None and self.grid.measure not in known:
            raise ConfigError(
                f"measure: on {self.grid.measured_on} these runs measure {', '.join(known)}, and not "
                f"{self.grid.measure}. Take one of those; the runs that are there are kept."
            )


def cells_of(grid: GridConfig, root: Path) -> list[VisionCell]:
    """All runs, seed by seed, a teacher before those that it steers.

    Raises:
        ConfigError: A configuration has faults, or a teacher's arm does not stand before its own or does not learn, or
            an arm's name cannot be a folder's.
    """
    odd = [name for name in grid.arms if not re.fullmatch(r"[\w.-]+", name) or name.startswith(".")]
    if odd:
        raise ConfigError(f"arms: {odd[0]!r} cannot be a folder; use letters, numbers, _, - and dots inside.")
    config_class = getattr(importlib.import_module(grid.task), CONFIG_NAMES[grid.task])
    base = read_mapping(HERE / grid.recipe)
    cells: list[VisionCell] = []
    for name, arm in grid.arms.items():
        if arm.beside is not None and arm.beside not in grid.arms:
            raise ConfigError(f"arms.{name}.beside: expected one of {', '.join(grid.arms)}, found {arm.beside}.")
    for seed in range(grid.seeds):
        of_seed: dict[str, VisionCell] = {}
        for name, arm in grid.arms.items():
            overrides = [text.replace("{seed}", str(seed)) for text in (*grid.sets, *arm.sets)]
            overrides, needs = [*overrides, f"training.seed={seed}"], {}
            if arm.teacher_of is not None:
                teacher = _teacher_of(name, arm.teacher_of, of_seed)
                needs["teacher.from"] = teacher.name
                overrides.append("teacher=" + json.dumps({"from": str(teacher.folder / TEACHER)}))
            config = validate(config_class, apply_overrides(base, overrides), f"{name}, seed {seed}")
            may_run_away = grid.measured_on == "dev"
            place = Path(name, f"seed_{seed}")
            of_seed[name] = VisionCell(root, place, config, needs, name, grid, may_run_away=may_run_away)
        cells += of_seed.values()
    return cells


def _teacher_of(arm: str, other: str, earlier: Mapping[str, VisionCell]) -> VisionCell:
    """The cell of another arm, among those before it of the same seed, whose teacher steers this one."""
    if other not in earlier:
        raise ConfigError(
            f"arms.{arm}.teacher_of: expected an arm before it ({', '.join(earlier) or 'none'}), found {other}."
        )
    if not isinstance(earlier[other].config.teacher, TeachingConfig):
        raise ConfigError(
            f"arms.{arm}.teacher_of: the arm {other} has no teacher that learns. Name one whose sets hold "
            "teacher={kind: dlf}, dln or mwn."
        )
    return earlier[other]


def results(grid: GridConfig, cells: list[VisionCell]) -> dict[str, Any]:
    """The figures of a complete grid, without a path of this machine; of an arm that ran away, in which runs it did."""
    runs = {arm: [cell for cell in cells if cell.arm == arm] for arm in grid.arms}
    lost = {arm: [str(name) for cell in seeds for name in cell.ran_away] for arm, seeds in runs.items()}
    reports = {
        arm: [read_mapping(cell.folder / REPORT) for cell in seeds] for arm, seeds in runs.items() if not lost[arm]
    }
    part, arms = grid.measured_on, dict[str, Any]()
    figures = {arm: [report[part][grid.measure] for report in seeds] for arm, seeds in reports.items()}
    for arm, settings in grid.arms.items():
        arms[arm] = {"sets": settings.sets, "teacher_of": settings.teacher_of}
        if lost[arm]:
            arms[arm]["ran_away"] = lost[arm]
            continue
        control = compared_with(grid, arm)
        control = control if control in figures else None
        differences = zip(figures[arm], figures[control or arm], strict=True)
        measured: dict[str, Any] = {
            **{name: [report[name] for report in reports[arm]] for name in dict.fromkeys(("dev", part))},
            "seconds": [report["seconds"] for report in reports[arm]],
            "teaching": [teaching(cell.folder) for cell in runs[arm]],
            grid.measure: summary(figures[arm]),
            "beside": control,
            "beside_control": summary([value - other for value, other in differences]) if control else None,
        }
        arms[arm] |= measured
    return {
        "grid": grid.model_dump(mode="json", exclude={"arms"}),
        "manifest": read_mapping(cells[0].folder / MANIFEST),
        "arms": arms,
    }


def teaches(arm: str) -> bool:
    """Whether an arm only teaches, so that its student is compared with no other: its name says so, whatever its rate.

    Examples:
        >>> teaches("l2t_dlf_taught"), teaches("l2t_dlf_taught-0.015"), teaches("l2t_dlf-0.015")
        (True, True, False)
    """
    return arm.partition("-")[0].endswith(TEACHES)


def compared_with(grid: GridConfig, arm: str) -> str | None:
    """The arm beside which another's figures are put; None: none, as for one that only teaches."""
    if teaches(arm):
        return None
    settings, first = grid.arms[arm], _first(grid.arms)
    other = settings.beside or (first if settings.student is None else None)
    return None if other == arm else other


def _first(arms: Iterable[str]) -> str | None:
    return next((arm for arm in arms if not teaches(arm)), None)


def teaching(folder: Path) -> dict[str, Any] | None:
    """How a run's teacher learnt; None without one.

    Returns:
        L2T-DLF: the measure and the hypergradient's norm in every episode. L2T-DLN and Meta-Weight-Net: the number of
        windows; in what part of them the measure was lower under the rewritten loss than under the one before, on the
        batch that gave the gradient and on a fresh one; and the mean SD of a rewrite over the loss's weights. Results
        and runs of earlier versions lack the last two.
    """
    episodes = episode_figures(folder / TEACHING_LOG)
    if episodes is not None:
        return episodes
    windows = [line["teacher"] for line in _lines(folder / METRICS) if "teacher" in line]
    if not windows:
        return None
    lower = mean(window["measure_after"] < window["measure_before"] for window in windows)
    known: dict[str, Any] = {"windows": len(windows), "lower_after": lower}
    if all("fresh_after" in window for window in windows):
        known["fresh_lower_after"] = mean(window["fresh_after"] < window["fresh_before"] for window in windows)
    if all("rewrite_sd" in window for window in windows):
        known["rewrite_sd"] = mean(window["rewrite_sd"] for window in windows)
    return known


def _lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def summary(values: list[float]) -> dict[str, float | None]:
    """Mean, sd and the mean's standard error."""
    spread = stdev(values) if len(values) > 1 else None
    return {"mean": mean(values), "sd": spread, "se": None if spread is None else spread / len(values) ** 0.5}


def table(figures: Mapping[str, Any]) -> str:
    """The results as the README shows them, without arms that only teach."""
    measure, first = figures["grid"]["measure"], _first(figures["arms"])
    lines = [f"| loss | {measure}, mean (sd) | beside {first} (se) | minutes |", "|---|---:|---:|---:|"]
    for arm, values in figures["arms"].items():
        if teaches(arm):
            continue
        if "ran_away" in values:
            own = any(name.startswith(f"{arm}/") for name in values["ran_away"])
            lines.append(f"| {arm} | {'ran away' if own else 'its teacher ran away'} |  |  |")
            continue
        beside = values["beside_control"]
        difference = with_spread(beside, "se", "+") if beside else ""
        if (other := values.get("beside")) not in {None, first}:
            difference += f", {other}"
        lines.append(f"| {arm} | {with_spread(values[measure], 'sd')} | {difference} | {minutes(values)} |")
    return "\n".join(lines)


def minutes(arm: Mapping[str, Any]) -> str:
    """The mean time of an arm's runs, of those whose time is known."""
    known = [seconds for seconds in arm["seconds"] if seconds is not None]
    return f"{mean(known) / 60:.2g}" if known else ""


def with_spread(values: Mapping[str, float | None], spread: str, sign: str = "") -> str:
    """A figure with its spread in brackets, where it has one."""
    beside = "" if values[spread] is None else f" ({values[spread]:.4f})"
    return f"{values['mean']:{sign}.4f}{beside}"


main = grid_command("grid.py", GridConfig, cells_of, results, table)

if __name__ == "__main__":
    log_to_stderr(logging.INFO)
    sys.exit(run_command(main, "grid.py"))
