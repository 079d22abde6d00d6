"""Essays on three prompts, for scorers of prompts that they were not trained on, and a configuration of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import yaml
from small_run import RANGES, write_rows

from aes_dynloss.essays.samples import ESSAYS

ALL_RANGES = RANGES | {"trumpet": {"low": 10, "high": 60, "step": 10}}
TARGET = "data.split.target_prompt=river"


def essays(per_prompt: int = 45) -> list[dict[str, Any]]:
    """Three prompts; the third has others of the first one's essays, and ten times their scores."""
    rows = [json.loads(line) for line in ESSAYS.read_text(encoding="utf-8").splitlines()]
    phones, river = ([row for row in rows if row["prompt_id"] == prompt] for prompt in RANGES)
    trumpet = [
        row | {"prompt_id": "trumpet", "score": 10 * row["score"]} for row in phones[per_prompt : 2 * per_prompt]
    ]
    return [*phones[:per_prompt], *river[:per_prompt], *trumpet]


def write_config(folder: Path, rows: list[dict[str, Any]], form: str) -> Path:
    values = {
        "data": {"source": str(write_rows(folder / "essays.jsonl", rows)), "prompts": ALL_RANGES},
        "model": {"kind": "transfer", "form": form, "linguistic": ["counts", "diversity", "spelling"]},
        "evaluation": {"resamples": 100, "floors": False, "page": False, "explained": 2},
    }
    path = folder / "transfer.yaml"
    path.write_text(yaml.safe_dump(values), encoding="utf-8")
    return path
