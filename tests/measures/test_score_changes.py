from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from aes_dynloss.measures.differences import (
    CHANGE_COLUMNS,
    change_figures,
    clustered_interval,
    prompt_change_figures,
    share_of,
    wilson_interval,
)

ROWS = [
    # essay, prompt, score, raw, changed score, changed raw, lowest, unit, tolerance
    (0, "a", 3, 3.1, 4, 3.9, 1, 2.0, 0.01),
    (0, "a", 3, 3.1, 3, 3.105, 1, 2.0, 0.01),
    (1, "a", 1, 1.0, 1, 0.5, 1, 2.0, 0.01),
    (2, "b", 9, 9.0, 0, 0.2, 0, np.nan, 0.1),
]


@pytest.fixture
def changes():
    return pd.DataFrame(ROWS, columns=list(CHANGE_COLUMNS))


def test_shares_by_hand(changes):
    found = change_figures(changes, 0.9)
    shares = {name: entry["share"] for name, entry in found.items() if isinstance(entry, dict)}
    assert shares == {
        "rises": 0.25, "falls": 0.25, "stays": 0.5, "raw_rises": 0.25, "raw_falls": 0.5, "to_lowest": 0.5,
    }  # fmt: skip
    assert (found["n"], found["essays"], found["already_lowest"]) == (4, 3, 1)


def test_mean_changes_leave_out_prompts_without_a_spread(changes):
    found = change_figures(changes, 0.9)
    assert found["score_change_sd"] == pytest.approx((0.5 + 0 + 0) / 3)
    assert found["raw_change_sd"] == pytest.approx((0.4 + 0.0025 - 0.25) / 3)
    alone = prompt_change_figures(changes[changes.prompt_id == "b"], 0.9)
    assert (alone["score_change_sd"], alone["raw_change_sd"]) == (None, None)
    assert (alone["mean_score"], alone["mean_changed_score"], alone["mean_score_change"]) == (9, 0, -9)
    assert alone["mean_raw_change"] == pytest.approx(-8.8)


def test_nothing_changed_is_undefined(changes):
    found = prompt_change_figures(changes.iloc[:0], 0.95)
    assert (found["n"], found["essays"], found["already_lowest"]) == (0, 0, 0)
    assert all(value is None for name, value in found.items() if name not in {"n", "essays", "already_lowest"})


def test_intervals_are_by_essay():
    judged, essays = np.array([True, True, False, False, True]), np.array([7, 7, 3, 3, 9])
    found = share_of(judged, essays, 0.8)
    low, high = clustered_interval(np.array([0, 2, 1]), np.array([2, 2, 1]), 0.8)
    assert found == {"share": 0.6, "low": low, "high": high}
    single = share_of(judged, np.arange(5), 0.8)
    assert (single["low"], single["high"]) == pytest.approx(wilson_interval(0.6, 5, 0.8))
    assert share_of(judged[:0], essays[:0], 0.8) is None


def test_a_change_within_the_tolerance_is_none(changes):
    changes["tolerance"] = 100.0
    found = change_figures(changes, 0.95)
    assert (found["raw_rises"]["share"], found["raw_falls"]["share"], found["rises"]["share"]) == (0, 0, 0.25)
