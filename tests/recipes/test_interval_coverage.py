"""The script on intervals: coverage and certainty of made-up scorers whose errors are known."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from aes_dynloss.reports.predictions import write_predictions
from aes_dynloss.reports.prompts import build_report, write_report
from aes_dynloss.tables.score_range import ScoreRange

FOLDER = Path(__file__).parents[2] / "recipes/benchmarks"
RANGES = {"1": ScoreRange(1, 6), "2": ScoreRange(0, 60)}


@pytest.fixture
def script(monkeypatch):
    monkeypatch.syspath_prepend(str(FOLDER))
    import interval_coverage

    return interval_coverage


def made_up(name: str, essays: int, generator: np.random.Generator, spread: float = 1.0) -> pd.DataFrame:
    parts = []
    for prompt, span in RANGES.items():
        raw = generator.uniform(span.low, span.high, essays)
        sd = 0.5 if prompt == "1" else 4.0
        human = span.to_point(raw + generator.normal(0, sd * spread, essays))
        ids = [f"{name}-{prompt}-{number}" for number in range(essays)]
        columns = {"essay_id": ids, "prompt_id": prompt, "reference": human, "raw": raw, "score": span.to_point(raw)}
        parts.append(pd.DataFrame(columns))
    return pd.concat(parts, ignore_index=True)


def write_run(folder: Path, seed: int, spread: float = 1.0) -> None:
    generator = np.random.default_rng(seed)
    test = made_up(f"test{seed}", 800, generator, spread)
    write_predictions(made_up(f"dev{seed}", 800, generator), folder / "predictions_dev.csv")
    write_predictions(test, folder / "predictions_test.csv")
    write_report(build_report(test, ranges=RANGES, resamples=0), folder / "report.json")


def test_stated_coverage_is_measured(script, tmp_path):
    for fold in range(2):
        write_run(tmp_path / f"fold_{fold}" / "seed_0", fold)
    found = script.measure(sorted(path.parent for path in tmp_path.glob("fold_*/seed_*/report.json")))
    assert found["runs"] == 2
    for own in found["prompts"].values():
        assert own["n"] == 1600
        for coverage, inside in own["inside"].items():
            assert inside == pytest.approx(float(coverage), abs=0.04)
        assert own["certainty"] == pytest.approx(own["exact_agreement"], abs=0.025)
    assert found["prompts"]["1"]["exact_agreement_surer_half"] > found["prompts"]["1"]["exact_agreement_other_half"]
    lines = script.table(found).splitlines()
    assert [line.count("|") for line in lines] == [12] * 4
    assert lines[2].startswith("| 1 | 1600 | ")


def test_essays_unlike_dev_show(script, tmp_path):
    write_run(tmp_path / "fold_0" / "seed_0", 0, spread=2.0)
    found = script.measure([tmp_path / "fold_0" / "seed_0"])
    assert all(own["inside"]["0.9"] < 0.75 for own in found["prompts"].values())
    json.dumps(found)


def test_the_results_are_as_near_as_the_readme_says():
    found = json.loads((FOLDER / "results/interval_coverage.json").read_text(encoding="utf-8"))
    inside = [own["inside"] for own in found["prompts"].values()]
    worst = max(abs(value - float(stated)) for own in inside for stated, value in own.items())
    assert worst == pytest.approx(0.011, abs=0.0005)
    off = [abs(own["certainty_off_worst_model"]) for own in found["prompts"].values()]
    assert max(off) == pytest.approx(0.089, abs=0.0005)
    gaps = [abs(own["certainty"] - own["exact_agreement"]) for own in found["prompts"].values()]
    assert max(gaps) == pytest.approx(0.016, abs=0.0005)
