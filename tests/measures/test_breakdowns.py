from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import confusion_matrix

from aes_dynloss.measures.agreement import quadratic_weighted_kappa
from aes_dynloss.measures.breakdowns import (
    confusion_cells,
    level_gap,
    reliability_rows,
    residuals_by_length,
    residuals_by_score,
    score_level_rows,
    score_point_rows,
    version_entries,
)
from aes_dynloss.measures.calibration import RescalingLine
from aes_dynloss.tables.score_range import ScoreRange

SPAN = ScoreRange(1, 4, 0.5)


def scores(n=200, seed=0):
    random = np.random.default_rng(seed)
    human = random.choice(SPAN.points, n)
    raw = human + random.normal(0, 0.6, n)
    return human, raw, SPAN.to_point(raw)


def test_score_points():
    human, _, score = scores()
    rows = score_point_rows(human, score, SPAN)
    assert [row["point"] for row in rows] == list(SPAN.points)
    for row in rows:
        assert row["human"] == (human == row["point"]).sum()
        assert row["machine"] == (score == row["point"]).sum()
        assert row["gap"] == pytest.approx((score == row["point"]).mean() - (human == row["point"]).mean())


def test_a_point_that_nobody_was_given_has_a_row():
    rows = score_point_rows(np.array([1.0, 1.0]), np.array([2.0, 1.0]), SPAN)
    assert [(row["human"], row["machine"]) for row in rows] == [(2, 1), (0, 0), (0, 1), (0, 0), (0, 0), (0, 0), (0, 0)]


def test_confusion_is_that_of_scikit_learn():
    human, _, score = scores()
    matrix = confusion_matrix(SPAN.to_index(human), SPAN.to_index(score), labels=range(7))
    cells = confusion_cells(human, score, SPAN)
    assert len(cells) == (matrix > 0).sum()
    for reference, machine, n in cells:
        assert n == matrix[SPAN.to_index(reference), SPAN.to_index(machine)]


def test_residuals_by_score():
    human, raw, _ = scores()
    rows = residuals_by_score(human, raw)
    assert [row["reference"] for row in rows] == sorted(set(human))
    for row in rows:
        own = (raw - human)[human == row["reference"]]
        assert (row["n"], row["mean"], row["sd"]) == (
            len(own),
            pytest.approx(own.mean()),
            pytest.approx(own.std(ddof=1)),
        )
    assert residuals_by_score(np.array([2.0]), np.array([3.0])) == [{"reference": 2, "n": 1, "mean": 1, "sd": None}]


def test_residuals_by_length():
    human, raw, _ = scores()
    words = np.arange(200.0)
    rows = residuals_by_length(human, raw, words)
    assert [row["n"] for row in rows] == [20] * 10
    assert (rows[0]["words_from"], rows[0]["words_to"], rows[-1]["words_to"]) == (0, 19, 199)
    assert rows[3]["mean"] == pytest.approx((raw - human)[60:80].mean())


@given(st.lists(st.integers(0, 5), min_size=1, max_size=60))
def test_bins_hold_each_essay_once_and_equal_values_together(values):
    words = np.array(values, dtype=float)
    rows = residuals_by_length(np.zeros(len(words)), words, words)
    assert sum(row["n"] for row in rows) == len(words)
    for before, after in pairwise(rows):
        assert before["words_to"] < after["words_from"]


def test_reliability():
    human, raw, _ = scores()
    rows = reliability_rows(human, raw)
    order = np.argsort(raw)
    assert rows[0]["mean_raw"] == pytest.approx(raw[order[:20]].mean())
    assert rows[0]["mean_reference"] == pytest.approx(human[order[:20]].mean())
    assert rows[0]["sd_reference"] == pytest.approx(human[order[:20]].std(ddof=1))
    assert rows[-1]["raw_to"] == raw.max()
    perfect = reliability_rows(human, human)
    assert [row["mean_raw"] for row in perfect] == [row["mean_reference"] for row in perfect]


def test_versions():
    human, raw, score = scores()
    entries = version_entries(human, raw, score[::-1], SPAN, RescalingLine(0.8, 0.5))
    assert list(entries) == ["given", "raw", "raw_trim", "raw_trim_round", "scale", "scale_trim", "scale_trim_round"]
    assert entries["raw_trim_round"]["qwk"] == pytest.approx(float(quadratic_weighted_kappa(human, score)))
    assert entries["raw"]["qwk"] is None
    assert entries["given"]["qwk"] == pytest.approx(float(quadratic_weighted_kappa(human, score[::-1])))
    assert entries["scale"]["mean"] == pytest.approx((0.8 * raw + 0.5).mean())
    assert entries["scale"]["pearson"] == pytest.approx(entries["raw"]["pearson"])
    assert entries["raw_trim"]["sd"] < entries["raw"]["sd"]
    assert list(version_entries(human, raw, score, SPAN, None)) == ["given", "raw", "raw_trim", "raw_trim_round"]


def test_levels_of_few_essays_are_merged_and_none_is_smaller():
    human = np.repeat([1.0, 2, 3, 4, 5, 6], [2, 30, 4, 40, 12, 3])
    rows = score_level_rows(human, human, ScoreRange(1, 6), 10)
    assert [(row["low"], row["high"], row["n"]) for row in rows] == [(1, 2, 32), (3, 4, 44), (5, 6, 15)]
    assert all(row["agreement"] == row["adjacent"] == 1 for row in rows)
    assert score_level_rows(human, human, ScoreRange(1, 6), 92) == []
    assert level_gap(score_level_rows(human, human, ScoreRange(1, 6), 40)) is None


def test_agreement_is_of_single_levels_in_a_merged_row():
    human, machine = np.repeat([1.0, 2.0], 5), np.array([2.0] * 5 + [2.0] * 5)
    (row,) = score_level_rows(human, machine, ScoreRange(1, 4), 10)
    assert (row["agreement"], row["adjacent"]) == (0.5, 1.0)


def test_wide_ranges_have_levels_of_several_points():
    human = np.arange(61.0)
    rows = score_level_rows(human, np.minimum(human + 3, 60), ScoreRange(0, 60))
    assert len(rows) == 11
    assert (rows[0]["low"], rows[0]["high"], rows[0]["n"]) == (0, 5, 6)
    assert (rows[-1]["low"], rows[-1]["high"], rows[-1]["n"]) == (60, 60, 1)
    assert rows[0]["agreement"] == 0.5
    assert level_gap(rows) == pytest.approx(4 / 7 - 0.5)
