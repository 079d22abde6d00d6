"""The cells of a grid: each a fine-tuning run with a folder of its own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aes_dynloss.configfile import validate, with_value
from aes_dynloss.errors import ConfigError
from aes_dynloss.essays.benchmark.config import BenchmarkConfig
from aes_dynloss.essays.data.data_config import SplitConfig
from aes_dynloss.essays.finetune_config import FinetuneConfig
from aes_dynloss.essays.model.warm_start import MODEL
from aes_dynloss.essays.run_products import TEACHER
from aes_dynloss.teaching.teachers.config import DlfConfig, DlnConfig

CELLS, TARGET = "cells", "target_"


@dataclass(frozen=True)
class Cell:
    """One fine-tuning run of a grid.

    Args:
        arm: Its arm.
        part: What is tested in it: ``fold_2``, or ``target_3`` for the unseen prompt 3.
        prompt: The prompt of its model; None: one model for all.
        seed: Seed of training, and of the choice of the teacher's essays.
        config: What is run.
        needs: Names of cells that must be complete before.
        keeps_model: Whether its model stays.
    """

    arm: str
    part: str
    prompt: str | None
    seed: int
    config: FinetuneConfig
    needs: tuple[Path, ...]
    keeps_model: bool

    @property
    def name(self) -> Path:
        """Its folder below :data:`CELLS`."""
        return cell_name(self.arm, self.part, self.prompt, self.seed)


def cell_name(arm: str, part: str, prompt: str | None, seed: int) -> Path:
    """Folder of a cell: ARM/fold_2/seed_0, or ARM/fold_2/prompt_3/seed_0."""
    parts = [arm, part, *([] if prompt is None else [f"prompt_{prompt}"]), f"seed_{seed}"]
    # A prompt's id may hold what would lead to another folder, even out of the grid's.
    return Path(*(name.replace("%", "%25").replace("/", "%2F") for name in parts))


def part_names(config: BenchmarkConfig, prompts: Sequence[str]) -> list[str]:
    """The parts of the data that are test in turn: fold_0, ..., or target_1, ... for prompts that are left out."""
    if config.protocol == "leave_one_prompt_out":
        return [f"{TARGET}{prompt}" for prompt in prompts if config.prompts is None or prompt in config.prompts]
    return [f"fold_{fold}" for fold in config.folds]


def part_split(config: BenchmarkConfig, part: str) -> dict[str, str]:
    """Keys of ``data.split`` that make a part test."""
    if config.protocol == "leave_one_prompt_out":
        dev_ids = f"{config.splits_dir}/{part}_dev_ids.txt"
        return {"target_prompt": part.removeprefix(TARGET), "target_dev_ids": dev_ids}
    return {"folds_dir": f"{config.splits_dir}/{part}"}


def part_split_config(config: BenchmarkConfig, part: str) -> SplitConfig:
    """How a part's essays are split, as the runs split them but for the teacher's, which are an arm's own."""
    shared = (config.finetune["data"].get("split") or {}).get("allow_unassigned", False)
    return SplitConfig.model_validate({**part_split(config, part), "allow_unassigned": shared})


def grid_cells(config: BenchmarkConfig, prompts: Sequence[str], root: Path) -> list[Cell]:
    """All cells, those that others start from first.

    Args:
        config: The grid.
        prompts: The prompts of the data that its models see, in training or in test.
        root: Folder of the grid, where stages find each other.

    Raises:
        ConfigError: A cell's configuration has faults, named with its arm; or an arm that is to teach does not.
    """
    cells = []
    for arm in _in_order(config):
        own = prompts if config.models_of(arm) == "one_per_prompt" else [None]
        for part in part_names(config, prompts):
            for seed in config.seed_list:
                cells += [_cell(config, arm, part, prompt, seed, prompts, root) for prompt in own]
    learning = {cell.arm for cell in cells if isinstance(cell.config.teacher, DlfConfig | DlnConfig)}
    for arm, settings in config.arms.items():
        if settings.teacher_of is not None and settings.teacher_of not in learning:
            raise ConfigError(f"arms.{arm}.teacher_of: {settings.teacher_of} has no teacher that learns.")
    return cells


def _in_order(config: BenchmarkConfig) -> list[str]:
    """The arms, each behind those that it starts from."""
    ordered: list[str] = []
    while len(ordered) < len(config.arms):
        for name, arm in config.arms.items():
            if name not in ordered and all(other in (None, *ordered) for other in (arm.after, arm.teacher_of)):
                ordered.append(name)
    return ordered


def _cell(
    config: BenchmarkConfig,
    arm: str,
    part: str,
    prompt: str | None,
    seed: int,
    prompts: Sequence[str],
    root: Path,
) -> Cell:
    values, needs = _values(config, arm, part, prompt, seed, root)
    values = with_value(values, "data.keep_prompts", list(prompts) if prompt is None else [prompt], "the grid")
    started_from = {other for each in config.arms.values() for other in (each.after,) if other is not None}
    return Cell(
        arm,
        part,
        prompt,
        seed,
        validate(FinetuneConfig, values, f"finetune with arms.{arm}"),
        needs,
        config.keep_models or arm in started_from,
    )


def _values(
    config: BenchmarkConfig, arm: str, part: str, prompt: str | None, seed: int, root: Path
) -> tuple[Mapping[str, Any], tuple[Path, ...]]:
    """What a cell runs, and the cells that it needs."""
    values: Mapping[str, Any] = config.finetune
    changes = dict(config.arms[arm].changes)
    changes |= {f"data.split.{key}": value for key, value in part_split(config, part).items()}
    changes |= {"data.split.seed": seed, "training.seed": seed, "evaluation.floors": False}
    changes["evaluation.page"] = False  # the grid has one of its own
    needs = []
    for key, other, product in (
        ("model.start_from", config.arms[arm].after, MODEL),
        ("teacher", config.arms[arm].teacher_of, TEACHER),
    ):
        if other is not None:
            shared = config.models_of(other) == "all_prompts"
            needs.append(cell_name(other, part, None if shared else prompt, seed))
            place = str(root / CELLS / needs[-1] / product)
            changes[key] = {"from": place} if key == "teacher" else place
    for key, value in changes.items():
        values = with_value(values, key, value, f"arms.{arm}.set")
    return values, tuple(needs)
