"""The benchmark of fine-tuning runs, short and with a tiny encoder."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from asap_layout import write_asap
from tiny_encoder import write_tiny_encoder

pytestmark = pytest.mark.slow

FOLDER = Path(__file__).parents[2] / "recipes/benchmarks"
SIDES = ["ours", "ours, length_window 50", "Trainer", "Trainer, group_by_length"]
WINDOW = 32


@pytest.fixture
def benchmark(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(FOLDER))
    import finetuning_throughput

    return finetuning_throughput


def write_fold(folder: Path) -> tuple[Path, Path]:
    """The table and the fold's folder."""
    for name, numbers in (("train", range(48)), ("dev", range(48, 54)), ("test", range(54, 60))):
        (folder / f"{name}_ids.txt").write_text("".join(f"{number}\n" for number in numbers))
    return write_asap(folder / "training_set_rel3.tsv", 60), folder


def test_both_sides_train_on_the_same_tokens(tmp_path: Path, benchmark: Any) -> None:
    encoder = write_tiny_encoder(tmp_path / "encoder", positions=WINDOW)
    table, folds = write_fold(tmp_path)
    output = tmp_path / "found.json"
    words = [
        "--source",
        table,
        "--folds",
        folds,
        "--encoder",
        encoder,
        "--precision",
        "float32,bf16",
        "--device",
        "cpu",
    ]
    words += ["--steps", 2, "--rounds", 2, "--batch", 16, "--output", output]
    command = [sys.executable, FOLDER / "finetuning_throughput.py", *words]
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    values = json.loads(output.read_text(encoding="utf-8"))
    report = benchmark.read_report(values)
    assert done.stdout == benchmark.table(report) + "\n"
    assert str(tmp_path) not in output.read_text(encoding="utf-8")
    assert [(row.precision, row.side) for row in report] == [(p, s) for p in ("float32", "bf16") for s in SIDES]
    for row in report:
        assert [segment.essays for segment in row.segments] == [32, 32]
        assert all(segment.seconds > 0 for segment in row.segments)
    for segments in zip(*(row.segments for row in report), strict=True):  # of a round
        assert len({segment.tokens for segment in segments}) == 1
        # In the order of SIDES, for each precision; every essay goes through the encoder once.
        for first in (0, 4):
            ours, grouped, trainer, trainer_grouped = (segment.padded for segment in segments[first : first + 4])
            assert segments[0].tokens <= ours <= segments[0].tokens / 0.95
            assert grouped <= segments[0].tokens / 0.95
            assert ours < trainer_grouped < trainer <= 2 * 16 * WINDOW


def test_the_clock_and_the_ratio(benchmark: Any) -> None:
    row, other = (
        benchmark.Row("bf16", side, [benchmark.Segment(30, 600, padded, seconds) for seconds in times])
        for side, padded, times in (("ours", 625, (1.0, 2.0, 4.0)), ("Trainer", 1200, (3.0, 8.0, 5.0)))
    )
    assert benchmark.ratios(row, other) == [3.0, 4.0, 1.25]
    lines = benchmark.table([row, other]).splitlines()
    assert lines[2:] == [
        "| bf16 | ours | 15.00 | 3.00 | 1.25 to 4.00 | 4.0% | 300 |",
        "| bf16 | Trainer | 6.00 | 1.00 | 1.00 to 1.00 | 50.0% | 120 |",
    ]
