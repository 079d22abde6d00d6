"""What a monitor grants beside a cross-fitted run is what was measured."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from aes_dynloss.programme.administrations import CROSS_FITTED_SPREAD

FOLDER = Path(__file__).parents[2] / "recipes/benchmarks"


@pytest.fixture
def script(monkeypatch):
    monkeypatch.syspath_prepend(FOLDER)
    import cross_fitted_spread

    return cross_fitted_spread


def test_a_model_of_more_essays_spreads_more(script):
    texts = [f"{word * count} end." for count in range(1, 11) for word in ("tea ", "otter ", "river ")]
    scores = np.repeat(np.arange(1.0, 11.0), 3)
    of_run, same = script.spread_ratios(texts, scores, texts[:12], np.random.default_rng(0))
    assert 0.5 < same < 2
    assert 0.1 < of_run < 10
    table = script.table({"rows": [{"essays": "tea", "fitted": 30, "ratios": [[of_run, same]] * 2}]})
    assert len({line.count("|") for line in table.splitlines()}) == 1


def test_the_factor_is_just_beyond_all_that_were_measured():
    rows = json.loads((FOLDER / "results/cross_fitted_spread.json").read_text(encoding="utf-8"))["rows"]
    same = [ratios[1] for row in rows for ratios in row["ratios"]]
    assert len(same) >= 72
    assert max(same) < CROSS_FITTED_SPREAD < max(same) + 0.01
    # With the chance of essays in it, the mean ratio is no higher than that by two standard errors.
    for row in rows:
        ratios = np.array(row["ratios"])[:, 0]
        assert ratios.mean() - 2 * ratios.std() / len(ratios) ** 0.5 < CROSS_FITTED_SPREAD
