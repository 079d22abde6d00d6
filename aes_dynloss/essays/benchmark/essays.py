"""The essays of a grid: what its cells read, looked at before any is run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd

from aes_dynloss.configfile import user_path, validate
from aes_dynloss.errors import ConfigError, DataError
from aes_dynloss.essays.benchmark.cells import grid_seeds, part_data, part_names, part_split, part_split_config
from aes_dynloss.essays.benchmark.config import BenchmarkConfig
from aes_dynloss.essays.data.data_config import DataConfig
from aes_dynloss.essays.data.essay_table import EssayTable
from aes_dynloss.essays.data.readers import read_essays
from aes_dynloss.essays.data.splits import data_hash, split_essays
from aes_dynloss.reports.human_scores import HumanScores
from aes_dynloss.tables.columns import ID_COLUMNS
from aes_dynloss.tables.formats import STANDARD_INPUT

_TEST_COLUMNS = ("essay_id", "prompt_id", "text", "score")


@dataclass(frozen=True)
class GridEssays:
    """Essays of all parts and seeds of a grid.

    Args:
        table: All essays; where they differ by cell, those of one part and seed.
        made_of: By part and seed, the essays' sha256 and number as a run's manifest has them.
        tests: Ids of the test essays by part, the same for all seeds.
        human: Human scores of all essays that are measured.
    """

    table: EssayTable
    made_of: Mapping[tuple[str, int], dict[str, Any]]
    tests: Mapping[str, list[str]]
    human: HumanScores


def read_first(config: BenchmarkConfig) -> EssayTable:
    """The essays of a grid's first part and seed, of all prompts.

    Raises:
        ConfigError: ``finetune.data`` is missing or has faults.
        DataError: The essays cannot be read.
    """
    _check_folds(config)
    return read_essays(_data(config, part_names(config, config.prompts or ["1"])[0], grid_seeds(config)[0]))


def _check_folds(config: BenchmarkConfig) -> None:
    """Refuse folds that are not there, before anything is read."""
    if config.protocol != "folds":
        return
    for part in part_names(config, []):
        folder = user_path(part_split(config, part, grid_seeds(config)[0])["folds_dir"], "splits_dir")
        if not folder.is_dir():
            there = sorted(path.name for path in folder.parent.glob("fold_*"))
            found = f"there are {', '.join(there)}" if there else "there is none"
            raise DataError(
                f"folds names {part}, but {folder} is not there; {found}. Name those that are there by folds, or "
                "--folds 0,1; `aes-dynloss data split` makes them."
            )


def grid_prompts(config: BenchmarkConfig, table: EssayTable) -> list[str]:
    """The prompts that the grid's models see, in the order of the data."""
    known = table.prompt_ids
    unknown = [prompt for prompt in config.prompts or () if prompt not in known]
    if unknown:
        raise DataError(f"prompts: there is no essay of prompt {unknown[0]!r}; the data have {', '.join(known)}.")
    if config.protocol == "folds":
        return [prompt for prompt in known if config.prompts is None or prompt in config.prompts]
    if len(known) < 2:
        raise DataError("protocol leave_one_prompt_out: the data have one prompt, so that none is left to train on.")
    return known  # config.prompts are left out in turn; all others are trained on


def read_grid(config: BenchmarkConfig, prompts: Sequence[str], first: EssayTable) -> GridEssays:
    """The essays of all parts and seeds, each file read once.

    Args:
        config: The grid.
        prompts: The prompts that its models see.
        first: What :func:`read_first` returned.

    Raises:
        DataError: Some essays cannot be read or split, or a part's test essays or their scores hang on the seed.
    """
    places = [(part, seed) for part in part_names(config, prompts) for seed in grid_seeds(config)]
    table, source = first, part_data(config, *places[0]) if len(prompts) == len(first.prompt_ids) else None
    made_of: dict[tuple[str, int], dict[str, Any]] = {}
    measured: dict[str, tuple[int, str]] = {}
    tests: dict[str, EssayTable] = {}
    # In the order of the files, so that each is read once and one is held at a time.
    for part, seed in sorted(places, key=lambda place: sorted(part_data(config, *place).items())):
        if part_data(config, part, seed) != source:
            source = part_data(config, part, seed)
            table = read_essays(_data(config, part, seed).model_copy(update={"keep_prompts": list(prompts)}))
        made_of[part, seed] = {"sha256": data_hash(table), "essays": table.essay_count}
        test = split_essays(table, part_split_config(config, part, seed)).test
        digest = data_hash(test, _TEST_COLUMNS)
        other, expected = measured.setdefault(part, (seed, digest))
        if digest != expected:
            raise DataError(
                f"{part}: the test essays of seed {seed}, their texts, scores or score ranges are not those of seed "
                f"{other}. Draws of the data may differ in train and dev alone: make the data, or the splits, anew."
            )
        tests.setdefault(part, test)
    scores = table.human_scores
    if config.varies:  # the score of an essay that is test in one fold may be a cheap one in another
        essays = pd.concat([test.human_scores.table for test in tests.values()])
        scores = replace(scores, table=essays.drop_duplicates([*ID_COLUMNS], ignore_index=True))
    return GridEssays(table, made_of, {part: test.essay_ids for part, test in tests.items()}, scores)


def source_files(config: BenchmarkConfig, prompts: Sequence[str]) -> list[Path]:
    """The files of all parts and seeds that essays, and which of them are trusted, are read from.

    A data set on the hub, or a column, is named too: there is no such file.

    Args:
        config: The grid.
        prompts: The prompts that its models see.
    """
    data = [_data(config, part, seed) for part in part_names(config, prompts) for seed in grid_seeds(config)]
    named = dict.fromkeys(name for one in data for name in (one.source, one.trusted) if name is not None)
    return [Path(name).expanduser() for name in named]


def _data(config: BenchmarkConfig, part: str, seed: int) -> DataConfig:
    """Where a part's essays are for a seed."""
    values = config.finetune.get("data")
    if not isinstance(values, dict):
        raise ConfigError("finetune.data is missing: name the essays there, as in a configuration of finetune.")
    own = {**part_data(config, part, seed), "split": part_split(config, part, seed)}
    data = validate(DataConfig, values | own, "finetune.data")
    if data.source == STANDARD_INPUT:
        raise ConfigError("finetune.data.source: standard input can be read once, and each run reads. Name a file.")
    return data
