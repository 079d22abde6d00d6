"""Measure what a report costs: a page of many essays, and the measures of very many.

    python recipes/benchmarks/reporting_speed.py --output recipes/benchmarks/results/reporting_speed.json

Two rows. ``page``: ``aes-dynloss evaluate`` as a process of its own, on a csv of 100,000 essays of 8 prompts of 51
score points with two human scores, lengths and two columns of groups, to report.html, .json and .csv.
``measures``: ``build_report`` on a table of a million essays of one prompt in memory, with 1,000 bootstrap resamples.
The essays are made up (seeded); every row is the median of some runs. CPU seconds, of all cores together, are what to
read on a machine that has other work: seconds count its waiting too.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import pandas as pd
from result_table import result_table

from aes_dynloss.reports.prompts import build_report
from aes_dynloss.tables.score_range import ScoreRange

GOALS = {"page": 20.0, "measures": 10.0}
LARGEST_PAGE = 3e6


def made_up(essays: int, prompts: int, score_range: ScoreRange, seed: int = 0) -> pd.DataFrame:
    """Predictions of essays, of each prompt as many.

    Args:
        essays: How many, of all prompts.
        prompts: Number of prompts, ``1``, ``2``, ...
        score_range: Score points of all of them.
        seed: Of what is drawn.

    Returns:
        Columns essay_id, prompt_id, reference, second_reference, raw, words, first_language, gender.
    """
    random = np.random.default_rng(seed)
    true = random.normal(0, 1, essays)
    middle, unit = (score_range.low + score_range.high) / 2, (score_range.high - score_range.low) / 6
    human, second = (score_range.to_point(middle + unit * (true + random.normal(0, 0.5, essays))) for _ in range(2))
    return pd.DataFrame(
        {
            "essay_id": [f"essay {number}" for number in range(essays)],
            "prompt_id": [str(1 + number % prompts) for number in range(essays)],
            "reference": human,
            "second_reference": second,
            "raw": middle + unit * (0.8 * true + random.normal(0, 0.4, essays)),
            "words": np.rint(np.exp(5.5 + 0.3 * true + random.normal(0, 0.2, essays))),
            "first_language": random.choice(["a", "b", "c", "d", "e"], essays),
            "gender": random.choice(["f", "m", "x"], essays, p=[0.5, 0.49, 0.01]),
        }
    )


def page_row(essays: int, runs: int) -> dict[str, Any]:
    """Seconds of the command, and bytes of its page."""
    seconds, cpu_seconds = [], []
    with tempfile.TemporaryDirectory() as folder:
        table = Path(folder) / "predictions.csv"
        made_up(essays, 8, ScoreRange(10, 60)).to_csv(table, index=False)
        ranges = [word for prompt in range(1, 9) for word in ("--range", f"{prompt}=10:60")]
        groups = ["--subgroup", "first_language", "--subgroup", "gender"]
        command = [sys.executable, "-m", "aes_dynloss", "evaluate", str(table), *ranges, *groups, "--force"]
        for _ in range(runs):
            start, cpu_start = time.perf_counter(), _cpu_seconds_of_children()
            subprocess.run([*command, "--output-dir", f"{folder}/report"], check=True, capture_output=True)  # noqa: S603
            seconds.append(time.perf_counter() - start)
            cpu_seconds.append(_cpu_seconds_of_children() - cpu_start)
        size = (Path(folder) / "report" / "report.html").stat().st_size
    return {"row": "page", "essays": essays, "seconds": seconds, "cpu_seconds": cpu_seconds, "page_bytes": size}


def _cpu_seconds_of_children() -> float:
    """What processes that were waited for have taken."""
    times = os.times()
    return times.children_user + times.children_system


def measures_row(essays: int, runs: int) -> dict[str, Any]:
    """Seconds of all measures with their intervals."""
    table = made_up(essays, 1, ScoreRange(1, 6))
    seconds, cpu_seconds = [], []
    for _ in range(runs):
        start, cpu_start = time.perf_counter(), time.process_time()
        build_report(table, ranges={"1": ScoreRange(1, 6)}, resamples=1000)
        seconds.append(time.perf_counter() - start)
        cpu_seconds.append(time.process_time() - cpu_start)
    return {"row": "measures", "essays": essays, "seconds": seconds, "cpu_seconds": cpu_seconds, "page_bytes": None}


def speed_table(found: dict[str, Any]) -> str:
    """The rows as markdown."""
    lines = []
    for row in found["rows"]:
        page = row["page_bytes"]
        sizes = ["", ""] if page is None else [f"{page / 1e6:.2f}", f"{LARGEST_PAGE / 1e6:g}"]
        seconds = [f"{median(row['seconds']):.1f}", f"{GOALS[row['row']]:g}", f"{median(row['cpu_seconds']):.1f}"]
        lines.append([row["row"], f"{row['essays']:,}", *seconds, *sizes])
    return result_table(["row", "essays", "seconds", "goal", "CPU seconds", "page MB", "goal"], lines)


def main() -> None:
    """From the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--page-essays", type=int, default=100_000)
    parser.add_argument("--essays", type=int, default=1_000_000)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--output", type=Path, help="Write the results here as json.")
    words = parser.parse_args()
    load = os.getloadavg()[0]  # before this program adds to it
    rows = [page_row(words.page_essays, words.runs), measures_row(words.essays, words.runs)]
    machine = {"system": platform.system(), "python": platform.python_version(), "cores": os.cpu_count(), "load": load}
    found = {"rows": rows, "machine": machine}
    if words.output is not None:
        words.output.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
    sys.stdout.write(speed_table(found) + "\n")


if __name__ == "__main__":
    main()
