"""Cells of a grid: each a fine-tuning run in a folder of its own, which is complete or absent.

A cell works in its folder below work/ and is moved to cells/ when it is done. A lock, which the system releases however
its process ends, lets several processes share one grid.
"""

from __future__ import annotations

import gc
import logging
import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock, Timeout

from aes_dynloss.configfile import dump_yaml, read_mapping, validate, with_value
from aes_dynloss.errors import AesDynlossError, ConfigError
from aes_dynloss.essays.benchmark.config import BenchmarkConfig
from aes_dynloss.essays.data.data_config import SplitConfig
from aes_dynloss.essays.finetune.config import FinetuneConfig
from aes_dynloss.essays.finetune.run import finetune
from aes_dynloss.essays.finetune.warm_start import MODEL
from aes_dynloss.tables.atomic import write_text
from aes_dynloss.teaching.teachers.config import DlfConfig, DlnConfig
from aes_dynloss.training.run_folder import CONFIG, TEACHER, changed_keys, write_json

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
