"""A grid of runs of a second each: two arms on two folds of a few short essays with a random encoder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml
from small_run import RANGES, small_essays, write_small_run

PARTS = ("train", "dev", "test")


def small_grid(**changes: Any) -> dict[str, Any]:
    """Its configuration, with paths relative to the folder that :func:`write_small_grid` fills."""
    finetune = {
        "data": {"source": "essays.jsonl", "prompts": RANGES},
        "model": {"encoder": "encoder"},
        "training": {"epochs": 1, "batch_size": 8, "head_learning_rate": 0.05, "device": "cpu", "precision": "float32"},
        "evaluation": {"resamples": 100},
    }
    grid = {
        "finetune": finetune,
        "arms": {"mse": {}, "mae": {"set": {"loss.terms": {"mae": 1.0}}}},
        "splits_dir": "folds",
        "folds": [0, 1],
        "resamples": 100,
    }
    return grid | changes


def write_small_grid(folder: Path, **changes: Any) -> Path:
    """Write an encoder, essays.jsonl, folds, lists of dev ids for prompts left out, and grid.yaml; returns its path."""
    write_small_run(folder)
    essays = small_essays()
    for fold in range(2):
        place = folder / "folds" / f"fold_{fold}"
        place.mkdir(parents=True, exist_ok=True)
        for number, part in enumerate(PARTS):
            mine = [row["essay_id"] for row_number, row in enumerate(essays) if part_of(row_number, fold) == number]
            (place / f"{part}_ids.txt").write_text("\n".join(mine) + "\n", encoding="utf-8")
    for target in RANGES:
        ids = [row["essay_id"] for row in essays if row["prompt_id"] != target][::3]
        (folder / "folds" / f"target_{target}_dev_ids.txt").write_text("\n".join(ids) + "\n", encoding="utf-8")
    path = folder / "grid.yaml"
    path.write_text(yaml.safe_dump(small_grid(**changes), sort_keys=False), encoding="utf-8")
    return path


def part_of(row: int, fold: int) -> int:
    """Number of an essay's part: of five, three are train, one is dev and one is test."""
    place = (row + fold) % 5
    return 0 if place < 3 else place - 2
