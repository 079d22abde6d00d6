"""How often human scores lie in prediction intervals, and how often certainty is right, on a grid's test essays.

    python recipes/benchmarks/interval_coverage.py runs/asap_minilm/cells/minilm_frozen --results FILE

Takes the folders of one arm, fold by fold: intervals and certainty are fitted on each run's dev predictions, as its
model holds them, and measured on its test predictions; essays are pooled over the folds. ASAP's common folds have no
test essay twice. The surer half is the half of each fold, and "worst model" is the fold whose mean certainty is
farthest from its exact agreement. Prints the README table.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from result_table import result_table

from aes_dynloss import read_predictions
from aes_dynloss.measures.intervals import equal_points, fit_certainty, fit_intervals, same_score_probability
from aes_dynloss.tables.atomic import atomic_file
from aes_dynloss.tables.score_range import ScoreRange

COVERAGES = (0.8, 0.9, 0.95)
Scores = NDArray[np.float64]


def test_essays(run: Path) -> pd.DataFrame:
    """One run's test essays: whether their score lies inside for each coverage, widths, certainty, agreement."""
    ranges = {name: ScoreRange(**span) for name, span in _ranges(run).items()}
    dev, test = (read_predictions(run / f"predictions_{part}.csv", ranges=ranges).table for part in ("dev", "test"))
    intervals = fit_intervals(dev["prompt_id"].tolist(), dev["raw"], dev["reference"])
    parts = []
    for prompt, essays in test.groupby("prompt_id", sort=False):
        human, raw, score = (essays[name].to_numpy(dtype=np.float64) for name in ("reference", "raw", "score"))
        exact = equal_points(ranges, essays["prompt_id"].tolist(), score, human)
        part = pd.DataFrame({"run": str(run), "prompt": prompt, "exact": exact}, index=essays.index)
        part["certainty"] = _certainty(dev[dev["prompt_id"] == prompt], raw, score, ranges[str(prompt)])
        for coverage in COVERAGES:
            bounds = intervals.bounds(str(prompt), raw, ranges[str(prompt)], coverage)
            if bounds is not None:
                part[f"inside_{coverage}"] = (bounds[0] <= human) & (human <= bounds[1])
                part[f"width_{coverage}"] = bounds[1] - bounds[0]
        part["surer"] = part["certainty"] >= part["certainty"].median()
        parts.append(part)
    return pd.concat(parts)


def _certainty(dev: pd.DataFrame, raw: Scores, score: Scores, span: ScoreRange) -> Scores:
    """Of one prompt's test essays, as a model learns it from the prompt's dev essays."""
    prompt_ids = dev["prompt_id"].tolist()
    known = fit_intervals(prompt_ids, dev["raw"], dev["reference"]).prompts[prompt_ids[0]]
    own = same_score_probability(known, dev["raw"], dev["score"], span)
    learned = fit_certainty(prompt_ids, own, equal_points({prompt_ids[0]: span}, *_scores(dev)))
    return learned.of([prompt_ids[0]] * len(raw), same_score_probability(known, raw, score, span))


def _scores(essays: pd.DataFrame) -> tuple[list[str], Scores, Scores]:
    return essays["prompt_id"].tolist(), essays["score"].to_numpy(), essays["reference"].to_numpy()


def _ranges(run: Path) -> dict[str, dict[str, float]]:
    report = json.loads((run / "report.json").read_text(encoding="utf-8"))
    return {prompt: entry["range"] for prompt, entry in report["prompts"].items()}


def measure(runs: list[Path]) -> dict[str, Any]:
    """Figures by prompt over all runs' test essays."""
    essays = pd.concat([test_essays(run) for run in runs])
    found = {}
    for prompt, own in essays.groupby("prompt"):
        by_run = own.groupby("run")[["certainty", "exact"]].mean()
        gaps = (by_run["certainty"] - by_run["exact"]).to_numpy()
        found[str(prompt)] = {
            "n": len(own),
            "inside": {f"{coverage:g}": float(own[f"inside_{coverage}"].mean()) for coverage in COVERAGES},
            "width": {f"{coverage:g}": float(own[f"width_{coverage}"].mean()) for coverage in COVERAGES},
            "certainty": float(own["certainty"].mean()),
            "exact_agreement": float(own["exact"].mean()),
            "exact_agreement_surer_half": float(own.loc[own["surer"], "exact"].mean()),
            "exact_agreement_other_half": float(own.loc[~own["surer"], "exact"].mean()),
            "certainty_off_worst_model": float(gaps[np.abs(gaps).argmax()]),
        }
    return {"runs": len(runs), "prompts": found}


def table(result: dict[str, Any]) -> str:
    """The README's table."""
    titles = ["prompt", "essays", "covered at 0.80", "at 0.90", "at 0.95", "width at 0.90", "mean certainty"]
    titles += ["exact agreement", "surer half", "other half", "worst model off"]
    measures = ("certainty", "exact_agreement", "exact_agreement_surer_half", "exact_agreement_other_half")
    rows = []
    for prompt, own in result["prompts"].items():
        inside = [f"{own['inside'][name]:.3f}" for name in ("0.8", "0.9", "0.95")]
        figures = [f"{own[name]:.3f}" for name in measures]
        off = f"{own['certainty_off_worst_model']:+.3f}"
        rows.append([prompt, str(own["n"]), *inside, f"{own['width']['0.9']:.1f}", *figures, off])
    return result_table(titles, rows)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("arm", type=Path, help="folder of an arm, with fold_K/seed_S in it")
    parser.add_argument("--results", type=Path, help="write the figures to this file")
    arguments = parser.parse_args()
    runs = sorted(path.parent for path in arguments.arm.glob("fold_*/seed_*/report.json"))
    if not runs:
        parser.error(f"{arguments.arm} holds no fold_K/seed_S/report.json; name the folder cells/ARM of a benchmark")
    found = measure(runs)
    if arguments.results:
        with atomic_file(arguments.results) as temporary:
            temporary.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    print(table(found))  # noqa: T201 - it is what the script is for
