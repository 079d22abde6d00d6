"""The simulation of a monitor's false alarms runs, and its results are as the README says."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[2] / "recipes/benchmarks"


@pytest.fixture
def script(monkeypatch):
    monkeypatch.syspath_prepend(FOLDER)
    import monitor_false_alarms

    return monitor_false_alarms


def test_a_small_simulation(script):
    found = script.measure_row("lengths", 2, (150, 150), {"lengths": 1.0}, "criteria", seed=0)
    assert (found["alarm"], found["found"], found["pages"]) == (1.0, 1.0, 2)
    quiet = script.measure_row("none", 2, (150, 150), {}, "evidence alone", seed=0)
    assert quiet["tests"] == found["tests"] > 100
    beside = script.measure_row(script.TRAINING, 2, (150, 150), {}, "criteria", seed=0)
    traits = script.measure_row(script.OF_TRAITS, 1, (150, 150), {}, "criteria", seed=0)
    assert traits["tests"] > quiet["tests"] + 60
    one = script.measure_row("trait", 1, (300, 300), {"trait": -1.5}, "criteria", seed=0)
    assert (one["found"], one["elsewhere"]) == (1.0, 0.0)
    lines = script.table({"rows": [found, quiet | {"drift": "none"}, beside]}).splitlines()
    assert len({line.count("|") for line in lines}) == 1


def test_few_pages_without_drift_have_an_alarm_and_planted_drift_is_found():
    rows = json.loads((FOLDER / "results/monitor_false_alarms.json").read_text(encoding="utf-8"))["rows"]
    quiet, drifted = ([row for row in rows if row["drift"].startswith("none") == none] for none in (True, False))
    assert all(row["pages"] >= 600 and row["alarm"] <= 0.05 for row in quiet)
    assert all(row["elsewhere"] <= 0.05 for row in drifted)
    # Some hundred essays of a group do not tell a shift of 0.4 SD over so many tests; the README says so.
    few = [row for row in drifted if "group" in row["drift"] and row["then"] == 600]
    assert all(row["found"] < 0.5 for row in few)
    assert all(row["found"] >= 0.8 for row in drifted if row not in few)
