"""Cells of a grid: each a fine-tuning run in a folder of its own, which is complete or absent.

A cell works in its folder below work/ and is moved to cells/ when it is done. A lock, which the system releases however
its process ends, lets several processes share one grid.
"""

from __future__ import annotations

import logging
import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from pydantic import Field

from aes_dynloss.configfile import ConfigModel, read_mapping, validate, with_value
from aes_dynloss.errors import ConfigError
from aes_dynloss.essays.benchmark.config import FILLED, FOLD, SEED, BenchmarkConfig
from aes_dynloss.essays.data.data_config import SplitConfig
from aes_dynloss.essays.finetune.config import FinetuneConfig, default_values
from aes_dynloss.essays.finetune.own_parts import own_parts
from aes_dynloss.essays.finetune.run import run_finetuning
from aes_dynloss.essays.model.model_folder import MODEL
from aes_dynloss.tables.provenance import read_provenance, seal
from aes_dynloss.teaching.teachers.config import LearningTeacherConfig
from aes_dynloss.training.accelerator import build_accelerator
from aes_dynloss.training.grid import Cell, grid_precision
from aes_dynloss.training.run_folder import MANIFEST, TEACHER, write_json

logger = logging.getLogger(__name__)

TARGET, COST = "target_", "cell.json"


class CellCost(ConfigModel):
    """What a run of a grid cost; its cell.json."""

    seconds: float = Field(ge=0, description="Seconds since it was begun, or resumed.")
    device: str = Field(description="The card, or the processor's threads.")
    resumed: bool = Field(description="Whether it was resumed, so that its first seconds are unknown.")


@dataclass(frozen=True)
class EssayCell(Cell):
    """One fine-tuning run of a grid.

    Args:
        root, name, config, needs: See :class:`aes_dynloss.training.grid.Cell`.
        arm: Its arm.
        part: What is tested in it: ``fold_2``, or ``target_3`` for the unseen prompt 3.
        prompt: The prompt of its model; None: one model for all.
        seed: Seed of training, and of the choice of the teacher's essays.
        keeps_model: Whether its model stays.
        force_precision: Whether it may be run in bf16 where the processor has that in software alone.
    """

    RUN_IN, KEPT_IN, LAST_FILE = "work", "cells", COST

    config: FinetuneConfig
    arm: str
    part: str
    prompt: str | None
    seed: int
    keeps_model: bool
    force_precision: bool = False

    @property
    def defaults(self) -> Mapping[str, Any]:
        """Defaults of the configuration."""
        return default_values()

    def run(self, *, resume: bool) -> None:
        """Fine-tune, note what it cost, and move the folder to where it is complete."""
        if not (self.work / COST).exists():
            start = time.perf_counter()
            training = self.config.training
            precision = grid_precision(self.root, training, force=self.force_precision)
            accelerator = build_accelerator(training, self.work, precision)
            run_finetuning(self.config, self.work, resume=resume, accelerator=accelerator)
            seconds = round(time.perf_counter() - start, 3)
            on_card = training.device != "cpu" and torch.cuda.is_available()
            device = torch.cuda.get_device_name() if on_card else f"CPU, {torch.get_num_threads()} threads"
            cost = CellCost(seconds=seconds, device=device, resumed=resume)
            write_json(self.work / COST, cost.model_dump())
        # Only now: without its model, a run that was stopped here could not be taken for complete.
        if not self.keeps_model:
            shutil.rmtree(self.work / MODEL, ignore_errors=True)
        seal(self.work, read_provenance(self.work))  # with its cost, and without what was removed
        self.folder.parent.mkdir(parents=True, exist_ok=True)
        self.work.replace(self.folder)

    def check(self) -> None:
        """Refuse also what is no run of the grid, and one whose model is wanted now and was not kept."""
        if self.folder.exists() and not self.is_complete:
            raise ConfigError(
                f"{self.folder} holds no run of this grid, or not all of one. Remove it, or choose another "
                "--output-dir."
            )
        if self.keeps_model and self.is_complete and not (self.folder / MODEL).exists():
            raise ConfigError(
                f"{self.folder} was done without keeping its model, which is wanted now (keep_models, or an arm that "
                "comes after it). Remove that folder, and it is done again."
            )
        super().check()
        now = own_parts(self.config)
        if now and self.is_complete:
            then = read_mapping(self.folder / MANIFEST).get("parts")
            if then != now:
                logger.warning("%s was made with other parts from outside: %s then, %s now.", self.folder, then, now)


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


def grid_seeds(config: BenchmarkConfig) -> Sequence[int]:
    """The seeds of a grid."""
    return range(config.seeds) if isinstance(config.seeds, int) else config.seeds


def part_data(config: BenchmarkConfig, part: str, seed: int) -> dict[str, str]:
    """Keys of ``data`` that a part and seed fill: its own files of essays, where the data differ by cell."""
    values = {key: config.finetune["data"].get(key) for key in FILLED}
    filled = {key: _fill(value, part, seed) for key, value in values.items() if isinstance(value, str)}
    return {key: value for key, value in filled.items() if value != values[key]}


def part_split(config: BenchmarkConfig, part: str, seed: int) -> dict[str, str]:
    """Keys of ``data.split`` that make a part test."""
    folder = _fill(config.splits_dir, part, seed)
    if config.protocol == "leave_one_prompt_out":
        return {"target_prompt": part.removeprefix(TARGET), "target_dev_ids": f"{folder}/{part}_dev_ids.txt"}
    return {"folds_dir": f"{folder}/{part}"}


def _fill(text: str, part: str, seed: int) -> str:
    return text.replace(FOLD, part.removeprefix("fold_")).replace(SEED, str(seed))


def part_split_config(config: BenchmarkConfig, part: str, seed: int) -> SplitConfig:
    """How a part's essays are split, as the runs split them but for the teacher's, which are an arm's own."""
    shared = (config.finetune["data"].get("split") or {}).get("allow_unassigned", False)
    return SplitConfig.model_validate({**part_split(config, part, seed), "allow_unassigned": shared})


def grid_cells(config: BenchmarkConfig, prompts: Sequence[str], root: Path) -> list[EssayCell]:
    """All cells, those that others start from first.

    Args:
        config: The grid.
        prompts: The prompts of the data that its models see, in training or in test.
        root: Folder of the grid, where stages find each other.

    Raises:
        ConfigError: A cell's configuration has faults, named with its arm; or an arm that is to teach does not, or
            traits that essays do not have are to be stacked.
    """
    cells = [
        _cell(config, arm, part, prompt, seed, prompts, root)
        for arm in config.arm_order
        for part in part_names(config, prompts)
        for seed in grid_seeds(config)
        for prompt in (prompts if config.models_of(arm) == "one_per_prompt" else [None])
    ]
    learning = {cell.arm for cell in cells if isinstance(cell.config.teacher, LearningTeacherConfig)}
    for arm, settings in config.arms.items():
        if settings.teacher_of is not None and settings.teacher_of not in learning:
            raise ConfigError(f"arms.{arm}.teacher_of: {settings.teacher_of} has no teacher that learns.")
    if config.trait_stacks and not all(cell.config.data.columns.traits for cell in cells):
        raise ConfigError("trait_stacks: essays have one score. Name several traits in finetune.data.columns.score.")
    return cells


# How a cell is pointed to what it takes of another.
_STAGES = {"after": ("model.start_from", MODEL), "teacher_of": ("teacher.from", TEACHER)}


def _cell(
    config: BenchmarkConfig, arm: str, part: str, prompt: str | None, seed: int, prompts: Sequence[str], root: Path
) -> EssayCell:
    settings = config.arms[arm]
    changes = {
        **settings.changes,
        **{f"data.{key}": value for key, value in part_data(config, part, seed).items()},
        **{f"data.split.{key}": value for key, value in part_split(config, part, seed).items()},
        "data.split.seed": seed,
        "data.keep_prompts": list(prompts) if prompt is None else [prompt],
        "training.seed": seed,
        "evaluation.floors": False,
        "evaluation.page": False,  # the grid has one of its own
        "evaluation.screen": config.keep_models,  # the figures do not need it
    }
    needs = {}
    for stage, other in settings.starts_from.items():
        key, product = _STAGES[stage]
        needs[key] = cell_name(other, part, None if config.models_of(other) == "all_prompts" else prompt, seed)
        if stage == "teacher_of":
            changes["teacher"] = None  # no key of a shared one stays
        changes[key] = str(root / EssayCell.KEPT_IN / needs[key] / product)
    values: Mapping[str, Any] = config.finetune
    for key, value in changes.items():
        values = with_value(values, key, value, f"arms.{arm}.set")
    return EssayCell(
        root,
        cell_name(arm, part, prompt, seed),
        validate(FinetuneConfig, values, f"finetune with arms.{arm}"),
        needs,
        arm,
        part,
        prompt,
        seed,
        keeps_model=config.keep_models or any(other.after == arm for other in config.arms.values()),
    )
