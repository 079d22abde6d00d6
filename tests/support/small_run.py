"""Everything for a run of a second: a random encoder, some bundled essays cut short, and a configuration of them."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from command_line import Outcome, command
from essay_files import write_rows
from tiny_encoder import write_tiny_encoder

from aes_dynloss.essays.samples import ESSAYS
from aes_dynloss.essays.screening.kinds import KINDS

RANGES = {"phones": {"low": 1, "high": 6}, "river": {"low": 0, "high": 4}}
RANGE_OPTIONS = ["--range", "phones=1:6", "--range", "river=0:4"]
# What a run leaves behind.
ALWAYS = {
    "config.yaml", "manifest.json", "metrics.jsonl", "model", "plots", "predictions_dev.csv", "report.json",
    "report.csv", "provenance.json", ".lock",
}  # fmt: skip
EVERYTHING = ALWAYS | {"predictions_test.csv"}


def small_essays(per_prompt: int = 30) -> list[dict[str, Any]]:
    """The first essays of each prompt, 200 letters of each."""
    rows = [json.loads(line) for line in ESSAYS.read_text(encoding="utf-8").splitlines()]
    found = []
    for prompt in RANGES:
        found += [row | {"text": row["text"][:200]} for row in rows if row["prompt_id"] == prompt][:per_prompt]
    return found


def read_rows(path: Path) -> list[dict[str, str]]:
    """Rows of a csv file."""
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def write_small_run(folder: Path) -> Path:
    """Write an encoder, essays.jsonl and run.yaml into a folder; returns the path of run.yaml."""
    encoder = write_tiny_encoder(folder / "encoder")
    essays = write_rows(folder / "essays.jsonl", small_essays())
    values = {
        "data": {"source": str(essays), "prompts": RANGES},
        "model": {"encoder": str(encoder)},
        "training": {
            "epochs": 2,
            "batch_size": 8,
            "learning_rate": 1e-3,
            "head_learning_rate": 0.05,
            "device": "cpu",
            "precision": "float32",
        },
        "evaluation": {"resamples": 100, "floors": False, "page": False},
    }
    path = folder / "run.yaml"
    path.write_text(yaml.safe_dump(values), encoding="utf-8")
    return path


def tune(run_yaml: Path, folder: Path, *words: object) -> Outcome:
    """Fine-tune into a folder."""
    return command("finetune", run_yaml, *words, "--output-dir", folder)


def records(folder: Path) -> list[dict[str, Any]]:
    """The lines of metrics.jsonl."""
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def report_of(folder: Path) -> dict[str, Any]:
    """report.json."""
    return json.loads((folder / "report.json").read_text(encoding="utf-8"))


def check_scores(folder: Path, essays: Path, split: str, *options: str) -> None:
    """The stored model gives every essay of a split the raw and the score of the run's predictions."""
    # Essays of a few words, cut short, are what a model is right to doubt.
    policy = [f"--policy={kind}=off" for kind in KINDS]
    again_path = folder.parent / "again.csv"
    assert command("score", folder / "model", essays, *options, *policy, "-o", again_path, "--force").code == 0
    again = {row["essay_id"]: row for row in read_rows(again_path)}
    predictions = read_rows(folder / f"predictions_{split}.csv")
    assert len(predictions) >= 3
    for row in predictions:
        other = again[row["essay_id"]]
        # Stored and recomputed token states differ by float32 rounding, which the features' standardisation magnifies:
        # 6.2e-5 was seen on a processor with other kernels.
        assert float(other["raw"]) == pytest.approx(float(row["raw"]), abs=2e-4)
        shared = (other.keys() & row.keys()) - {"raw"}
        assert shared >= {"essay_id", "prompt_id", "score"}
        assert {key: other[key] for key in shared} == {key: row[key] for key in shared}
        # Blank where dev has too few essays to tell.
        assert other["low"] == other["high"] == "" or float(other["low"]) <= float(row["score"]) <= float(other["high"])
