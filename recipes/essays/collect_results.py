"""Gather runs of `aes-dynloss finetune` into results files and print their table for the README.

    python recipes/essays/collect_results.py runs/asap1_mse runs/asap3_mse

Each run becomes `recipes/essays/results/NAME.json`: its configuration, manifest and report; no essay text.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import yaml

RESULTS = Path(__file__).parent / "results"
COLUMNS = ("qwk", "qwk_rescaled", "pearson", "sd_ratio")


def collect(run: Path) -> dict[str, Any]:
    """The content of a run's results file."""
    return {
        "name": run.name,
        "config": yaml.safe_load((run / "config.yaml").read_text(encoding="utf-8")),
        "manifest": json.loads((run / "manifest.json").read_text(encoding="utf-8")),
        "report": json.loads((run / "report.json").read_text(encoding="utf-8")),
    }


def table_row(result: dict[str, Any]) -> str:
    """One run's line in the README's table."""
    ((prompt, entry),) = result["report"]["prompts"].items()
    floors = result["report"]["floors"]
    figures = [f"{entry[name]:.3f}" for name in COLUMNS]
    floor = f"{floors['length_rescaled']['prompts'][prompt]:.3f}"
    return f"| {result['name']} | {prompt} | {' | '.join(figures)} | {floor} |"


def main(runs: list[str]) -> None:
    """Write the results files and print the table."""
    RESULTS.mkdir(exist_ok=True)
    for run in runs:
        result = collect(Path(run))
        text = json.dumps(result, indent=2, ensure_ascii=False, allow_nan=False)
        (RESULTS / f"{result['name']}.json").write_text(text + "\n", encoding="utf-8")
        sys.stdout.write(table_row(result) + "\n")


if __name__ == "__main__":
    main(sys.argv[1:])
