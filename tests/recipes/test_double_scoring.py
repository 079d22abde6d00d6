"""The simulation of double-scoring plans runs, and its results are as the README says."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[2] / "recipes/benchmarks"


@pytest.fixture
def script(monkeypatch):
    monkeypatch.syspath_prepend(FOLDER)
    import double_scoring

    return double_scoring


def test_a_small_simulation(script):
    found = script.measure(essays=600, draws=3, resamples=20)
    assert len(found["domains"]) == 6
    for one in found["domains"]:
        assert 0.6 < one["qwk"]["true"] < 0.9
        assert one["qwk"]["half_width"] == pytest.approx(one["qwk"]["planned"], rel=0.5)
    lines = script.table(found).splitlines()
    assert len({line.count("|") for line in lines}) == 1


def test_estimates_are_unbiased_and_intervals_hold():
    found = json.loads((FOLDER / "results/double_scoring.json").read_text(encoding="utf-8"))
    assert found["draws"] >= 2000
    for one in found["domains"]:
        for measure in ("qwk", "smd", "exact_agreement", "pearson"):
            assert abs(one[measure]["bias"]) < 0.001
            assert (0.92 if measure == "exact_agreement" else 0.93) <= one[measure]["covered"] <= 0.97
        for measure in ("qwk", "smd"):
            assert one[measure]["half_width"] == pytest.approx(one[measure]["planned"], rel=0.12)
