"""Gather runs of `aes-dynloss finetune` into results files and print their table for the README.

    python recipes/essays/collect_results.py runs/asap1_mse runs/asap3_mse runs/asap1_teachers_mse_s*

Runs that differ in their seed alone end in `_s0`, `_s1`, ... and stand in one line and one file,
`recipes/essays/results/NAME.json`: configuration, manifest and figures of each; no essay text. Where all arms of a
comparison are given, their differences from the rescaled squared error follow, with bootstrap intervals.
"""

from __future__ import annotations

import json
import re
import statistics
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml
from numpy.typing import NDArray

from aes_dynloss import Paired, ScoreRange, bootstrap_draws, fit_rescaling, quadratic_weighted_kappa

RESULTS = Path(__file__).parent / "results"
COLUMNS = ("qwk", "qwk_rescaled", "pearson", "sd_ratio")
RESAMPLES = 2000


def collect(name: str, runs: list[Path], control: list[Path]) -> dict[str, Any]:
    """The content of a results file."""
    result = {"name": name, "runs": [_one(run) for run in runs]}
    if control and len(control) == len(runs):
        result["minus_rescaled_mse"] = difference(runs, control)
    return result


def table_row(result: dict[str, Any]) -> str:
    """One line in the README's table: mean over seeds, and their standard deviation where there are several."""
    entries = [next(iter(run["report"]["prompts"].items())) for run in result["runs"]]
    prompt = entries[0][0]
    figures = [_figure([entry[name] for _, entry in entries]) for name in COLUMNS]
    cells = [result["name"], prompt, str(len(entries)), *figures]
    if "minus_rescaled_mse" in result:
        gap = result["minus_rescaled_mse"]
        cells.append(f"{gap['mean']:+.3f} [{gap['interval'][0]:+.3f}, {gap['interval'][1]:+.3f}]")
    else:
        cells.append(f"{result['runs'][0]['report']['floors']['length_rescaled']['prompts'][prompt]:.3f}")
    return f"| {' | '.join(cells)} |"


def difference(runs: list[Path], control: list[Path]) -> dict[str, Any]:
    """Mean over seeds of the test QWK's difference from the control's rescaled QWK, with a paired bootstrap interval.

    Essays are drawn anew, the same for all seeds and both arms; the interval covers essays, not seeds.
    """
    measures = {}
    for number, (run, other) in enumerate(zip(runs, control, strict=True)):
        table = _predictions(run, "test")
        beside = _predictions(other, "test").loc[table.index]
        reference = table["reference"].to_numpy(float)
        scores = table["score"].to_numpy(float)
        measures[f"{number} arm"] = Paired(quadratic_weighted_kappa, reference, scores)
        measures[f"{number} control"] = Paired(quadratic_weighted_kappa, reference, _rescaled(other, beside))
    draws = bootstrap_draws(measures, RESAMPLES, np.random.default_rng(0))
    seeds = range(len(runs))
    point = {name: float(measure(reference, score)) for name, (measure, reference, score) in measures.items()}
    gaps = [point[f"{number} arm"] - point[f"{number} control"] for number in seeds]
    spread = np.mean([draws[f"{number} arm"] - draws[f"{number} control"] for number in seeds], axis=0)
    low, high = np.quantile(spread, [0.025, 0.975])
    return {"mean": float(np.mean(gaps)), "by_seed": gaps, "interval": [float(low), float(high)]}


def main(runs: list[str]) -> None:
    """Write the results files and print the table."""
    groups: dict[str, list[Path]] = {}
    for run in sorted(runs):
        groups.setdefault(re.sub(r"_s\d+$", "", Path(run).name), []).append(Path(run))
    RESULTS.mkdir(exist_ok=True)
    for name, members in groups.items():
        control = groups.get(re.sub(r"_teachers_.*", "_teachers_mse", name), []) if "_teachers_" in name else []
        result = collect(name, members, control)
        text = json.dumps(result, indent=1, ensure_ascii=False, allow_nan=False)
        (RESULTS / f"{name}.json").write_text(text + "\n", encoding="utf-8")
        sys.stdout.write(table_row(result) + "\n")


def _one(run: Path) -> dict[str, Any]:
    return {
        "config": yaml.safe_load((run / "config.yaml").read_text(encoding="utf-8")),
        "manifest": json.loads((run / "manifest.json").read_text(encoding="utf-8")),
        "report": json.loads((run / "report.json").read_text(encoding="utf-8")),
    }


def _figure(values: list[float]) -> str:
    mean = f"{statistics.fmean(values):.3f}"
    return f"{mean} ± {statistics.stdev(values):.3f}" if len(values) > 1 else mean


def _predictions(run: Path, part: str) -> pd.DataFrame:
    return pd.read_csv(run / f"predictions_{part}.csv", index_col="essay_id")


def _rescaled(run: Path, test: pd.DataFrame) -> NDArray[np.float64]:
    """Score points of the predictions once they have the human scores' mean and sd on dev."""
    dev = _predictions(run, "dev")
    (scale,) = json.loads((run / "model" / "config.json").read_text(encoding="utf-8"))["prompts"]
    line = fit_rescaling(dev["raw"], dev["reference"])
    return ScoreRange(**scale["prompt"]["range"]).to_point(line.apply(test["raw"]))


if __name__ == "__main__":
    main(sys.argv[1:])
