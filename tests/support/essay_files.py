"""A small table of essays, its files and configurations, and tables of many essays to divide."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

from datasets import Dataset

from aes_dynloss.configfile import validate
from aes_dynloss.essays.data.data_config import DataConfig
from aes_dynloss.essays.data.essay_table import EssayTable, Prompt
from aes_dynloss.essays.data.splits import Splits
from aes_dynloss.tables.score_range import ScoreRange

ROWS = [
    {"essay_id": "007", "prompt_id": "1", "text": "NA", "score": "2"},
    {"essay_id": "NA", "prompt_id": "2", "text": "null, he said", "score": "0.5"},
    {"essay_id": "a b", "prompt_id": "1", "text": ' "two"\nlines ', "score": "4.0"},
]
PROMPTS = {"1": {"low": 1, "high": 6, "text": "Write."}, "2": {"low": 0, "high": 2, "step": 0.5}}


def config(source: object, **values: object) -> DataConfig:
    return validate(DataConfig, {"source": str(source), **values}, "test")


def write_rows(path: Path, rows: list[dict[str, Any]]) -> Path:
    """Write rows as jsonl or csv, as the suffix says."""
    if path.suffix == ".jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    else:
        with path.open("w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
    return path


def csv_file(folder: Path, rows: list[dict[str, Any]]) -> Path:
    return write_rows(folder / "essays.csv", rows)


def jsonl_file(folder: Path, rows: list[dict[str, Any]]) -> Path:
    return write_rows(folder / "essays.jsonl", rows)


def essay_table(
    essays: list[tuple[str, str, float]], left_out: frozenset[str] = frozenset(), **more: list[object]
) -> EssayTable:
    """A table of (id, prompt, score); every prompt's range is 0 to 6."""
    ids, prompts, scores = (list(column) for column in zip(*essays, strict=True))
    texts = [f"Essay {essay_id}." for essay_id in ids]
    columns = {"essay_id": ids, "prompt_id": prompts, "text": texts, "score": scores}
    ranges = {prompt: Prompt(prompt, ScoreRange(0, 6)) for prompt in sorted(set(prompts))}
    return EssayTable(Dataset.from_dict(columns | more), ranges, left_out)


def essays_by_split(splits: Splits) -> dict[str, list[str]]:
    """The ids of each part's essays."""
    return {name: part.essay_ids for name, part in splits.tables().items()}
