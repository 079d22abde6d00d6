from __future__ import annotations

import json
import math

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from aes_dynloss.errors import CheckpointError, DataError
from aes_dynloss.measures.agreement import quadratic_weighted_kappa
from aes_dynloss.measures.calibration import (
    CUT_POINT_COST,
    CutPoints,
    RescalingLine,
    fit_cut_points,
    fit_rescaling,
)
from aes_dynloss.tables.score_range import ScoreRange

RANGE = ScoreRange(1, 6)
raws = st.lists(st.floats(-20, 20), min_size=1, max_size=30)


def shrunk_predictions(n=300, seed=0, score_range=RANGE, shrink=0.4):
    """Human scores, and predictions of the right order that shrink to the mean."""
    random = np.random.default_rng(seed)
    true = random.normal(0, 1, n)
    middle, spread = (score_range.low + score_range.high) / 2, (score_range.high - score_range.low) / 5
    human = score_range.to_point(middle + spread * (true + random.normal(0, 0.4, n)))
    return middle + shrink * spread * (true + random.normal(0, 0.4, n)), human


@given(raws, st.lists(st.integers(1, 6), min_size=1, max_size=30))
def test_rescaled_dev_has_the_humans_mean_and_sd(raw, human):
    n = min(len(raw), len(human))
    raw, human = np.array(raw[:n]), np.array(human[:n])
    assume(raw.std() > 1e-3 and human.std() > 0)
    line = fit_rescaling(raw, human)
    assert line.note == ""
    assert line.apply(raw).mean() == pytest.approx(human.mean(), abs=1e-6)
    assert line.apply(raw).std() == pytest.approx(human.std(), abs=1e-6)


@given(st.floats(0.1, 10), st.floats(-10, 10))
def test_rescaled_predictions_do_not_depend_on_their_own_scale(slope, shift):
    raw, human = shrunk_predictions(50)
    once = fit_rescaling(raw, human).apply(raw)
    np.testing.assert_allclose(fit_rescaling(slope * raw + shift, human).apply(slope * raw + shift), once, atol=1e-7)


@pytest.mark.parametrize(
    ("raw", "human", "note"),
    [
        ([2.2], [3], "a single essay"),
        ([2.2, 2.2], [3, 4], "all predictions on dev are equal"),
        ([2.2, 2.2 + 1e-9], [3, 4], "all predictions on dev are equal"),
        ([2.2, 4.1], [3, 3], "all human scores on dev are equal"),
    ],
)
def test_degenerate_dev_leaves_plain_rounding_and_says_so(raw, human, note):
    line, cuts = fit_rescaling(raw, human), fit_cut_points(raw, human, RANGE)
    assert (line.slope, line.intercept) == (1, 0)
    assert note in line.note
    assert note in cuts.note
    values = np.linspace(-1, 9, 101)
    np.testing.assert_array_equal(cuts.apply(values), RANGE.to_point(values))


@settings(max_examples=40)
@given(raws, st.integers(0, 10**6))
def test_tuned_scores_are_points_in_the_order_of_raw(values, seed):
    random = np.random.default_rng(seed)
    n = int(random.integers(1, 40))
    cuts = fit_cut_points(random.normal(3, random.uniform(0, 2), n), random.integers(1, 7, n), RANGE)
    assert all(one <= other for one, other in zip(cuts.cuts, cuts.cuts[1:], strict=False))
    scores = cuts.apply(np.sort(values))
    assert all(RANGE.is_score_point(score) for score in scores)
    assert (np.diff(scores) >= 0).all()


def plain_objective(cuts, line, raw, human, score_range):
    """Dev's kappa less the cost of leaving the start, from the definition."""
    start = score_range.points[:-1] + score_range.step / 2
    shifts = (line.apply(np.array(cuts.cuts)) - start) / score_range.step
    return float(quadratic_weighted_kappa(human, cuts.apply(raw))) - CUT_POINT_COST / len(raw) * np.square(shifts).sum()


@pytest.mark.parametrize("score_range", [RANGE, ScoreRange(0, 60), ScoreRange(0, 9, 0.5)])
@pytest.mark.parametrize("seed", range(3))
def test_no_single_move_improves_the_tuned_cuts(score_range, seed):
    raw, human = shrunk_predictions(200, seed, score_range)
    line, cuts = fit_rescaling(raw, human), fit_cut_points(raw, human, score_range)
    best = plain_objective(cuts, line, raw, human, score_range)
    start = (score_range.points[:-1] + score_range.step / 2 - line.intercept) / line.slope
    assert best >= plain_objective(CutPoints(score_range, tuple(start)), line, raw, human, score_range) - 1e-9
    for which in range(len(cuts.cuts)):
        for shift in np.linspace(-0.5, 0.5, 21):
            moved = list(cuts.cuts)
            moved[which] = start[which] + shift * score_range.step / line.slope
            if sorted(moved) == moved:
                other = plain_objective(CutPoints(score_range, tuple(moved)), line, raw, human, score_range)
                assert other <= best + 1e-8


def swept_cuts(raw, human, score_range, order):
    """Coordinate search from the definition, the cuts visited in an order."""
    line = fit_rescaling(raw, human)
    start = (score_range.points[:-1] + score_range.step / 2 - line.intercept) / line.slope
    cuts, moved = list(start), True
    while moved:
        moved = False
        for which in order:
            best = plain_objective(CutPoints(score_range, tuple(cuts)), line, raw, human, score_range)
            candidates = [
                [*cuts[:which], start[which] + shift * score_range.step / line.slope, *cuts[which + 1 :]]
                for shift in np.linspace(-0.5, 0.5, 21)
            ]
            tried = [CutPoints(score_range, tuple(one)) for one in candidates]
            values = [plain_objective(one, line, raw, human, score_range) for one in tried]
            if max(values) > best + 1e-9:
                cuts, moved = candidates[int(np.argmax(values))], True
    return cuts


@pytest.mark.parametrize(
    ("raw", "human"),
    [
        ([1.2, 0.5, 2.5, 1.3], [1, 2, 2, 2]),
        ([2.4, 1.8, 1.3, 3.2, 0.8], [3, 2, 2, 1, 2]),
        ([1.2, 0.1, 5.2, 2.0, 2.2, 2.7], [1, 1, 3, 3, 2, 3]),
    ],
)
def test_cuts_are_swept_from_the_lowest_to_the_highest(raw, human):
    """Where the direction matters: moving one cut changes what is best for the next."""
    raw, human, three = np.array(raw), np.array(human), ScoreRange(1, 3)
    upward, downward = swept_cuts(raw, human, three, (0, 1)), swept_cuts(raw, human, three, (1, 0))
    assert not np.allclose(upward, downward)
    np.testing.assert_allclose(fit_cut_points(raw, human, three).cuts, upward)


@pytest.mark.parametrize("resamples", [0, 5])
def test_tuning_is_deterministic_and_blind_to_the_essays_order(resamples):
    raw, human = shrunk_predictions()
    order = np.random.default_rng(1).permutation(len(raw))
    cuts = fit_cut_points(raw, human, RANGE, resamples=resamples)
    assert cuts == fit_cut_points(raw, human, RANGE, resamples=resamples)
    np.testing.assert_allclose(fit_cut_points(raw[order], human[order], RANGE, resamples=resamples).cuts, cuts.cuts)


def test_cut_points_averaged_over_resamples_vary_less_from_dev_to_dev():
    """Bagging takes variance away, not bias; with few essays there is much of it."""
    wide = ScoreRange(0, 12)
    devs = [shrunk_predictions(80, seed, wide) for seed in range(40)]
    found = {
        resamples: np.array(
            [
                fit_rescaling(raw, human).apply(fit_cut_points(raw, human, wide, resamples=resamples).cuts)
                for raw, human in devs
            ]
        )
        for resamples in (1, 30)
    }
    assert (np.diff(found[30]) > 0).all()
    assert found[30].std(0).mean() < found[1].std(0).mean()


def test_both_calibrations_mend_shrunk_predictions_of_other_essays():
    dev_raw, dev_human = shrunk_predictions(300, seed=0)
    raw, human = shrunk_predictions(1000, seed=1)
    plain = float(quadratic_weighted_kappa(human, RANGE.to_point(raw)))
    rescaled = RANGE.to_point(fit_rescaling(dev_raw, dev_human).apply(raw))
    tuned = fit_cut_points(dev_raw, dev_human, RANGE).apply(raw)
    assert float(quadratic_weighted_kappa(human, rescaled)) > plain + 0.1
    assert float(quadratic_weighted_kappa(human, tuned)) > plain + 0.1


def test_few_essays_move_the_cuts_less_than_many():
    moved = {1: 0.0, 50: 0.0}
    for seed in range(5):
        raw, human = shrunk_predictions(40, seed)
        start = RANGE.points[:-1] + 0.5
        for times in moved:
            cuts = fit_cut_points(np.tile(raw, times), np.tile(human, times), RANGE)
            moved[times] += np.square(fit_rescaling(raw, human).apply(np.array(cuts.cuts)) - start).sum()
    assert 0 < 2 * moved[1] < moved[50]


def test_a_value_on_a_cut_belongs_above_it():
    cuts = CutPoints(ScoreRange(0, 2), (0.5, 1.5))
    np.testing.assert_array_equal(cuts.apply([0.5, 1.5, 1.4999, 0.5 - 1e-12]), [1, 2, 1, 1])


@settings(max_examples=20)
@given(st.integers(0, 1000))
def test_stored_and_read_back(seed):
    raw, human = shrunk_predictions(60, seed)
    for fitted in (fit_rescaling(raw, human), fit_cut_points(raw, human, RANGE), fit_rescaling([1], [1])):
        assert type(fitted).from_dict(json.loads(json.dumps(fitted.to_dict(), allow_nan=False))) == fitted


@pytest.mark.parametrize(
    ("kind", "values", "message"),
    [
        (RescalingLine, {"slope": 1}, "needs slope and intercept, found {'slope': 1}"),
        (RescalingLine, {"slope": 0, "intercept": 0}, "needs slope and intercept"),
        (RescalingLine, {"slope": "x", "intercept": 0}, "needs slope and intercept"),
        (CutPoints, {"cuts": [1, 2]}, "need a range and its cuts"),
        (CutPoints, {"range": {"low": 1, "high": 3}, "cuts": [1]}, "need a range and its cuts"),
        (CutPoints, {"range": {"low": 3, "high": 1}, "cuts": [1]}, "need a range and its cuts"),
        (CutPoints, {"range": {"low": 1, "high": 3}, "cuts": 1}, "need a range and its cuts"),
    ],
)
def test_damaged_stores(kind, values, message):
    with pytest.raises(CheckpointError, match=message):
        kind.from_dict(values)


@pytest.mark.parametrize(("slope", "intercept"), [(0, 0), (-1, 0), (math.inf, 0), (1, math.nan)])
def test_lines_that_are_none(slope, intercept):
    with pytest.raises(DataError, match="slope > 0 and finite numbers"):
        RescalingLine(slope, intercept)


@pytest.mark.parametrize(
    ("cuts", "message"),
    [
        ((1.5,), "needs 2 cut points, found 1"),
        ((2.5, 1.5), "finite and ascending"),
        ((1.5, math.inf), "finite and asc"),
    ],
)
def test_cut_points_that_are_none(cuts, message):
    with pytest.raises(DataError, match=message):
        CutPoints(ScoreRange(1, 3), cuts)


@pytest.mark.parametrize(
    ("raw", "human", "message"),
    [
        ([1, 2], [1], r"need one shape, found raw \(2,\), reference \(1,\)"),
        ([], [], "at least one essay"),
        ([[1, 2]], [[1, 2]], r"one prompt, \(n,\), found the shape \(1, 2\)"),
        ([1, math.nan], [1, 2], "infinity in raw"),
        ([1, 2], [1, math.inf], "infinity in reference"),
    ],
)
def test_dev_that_cannot_be_used(raw, human, message):
    with pytest.raises(DataError, match=message):
        fit_rescaling(raw, human)
    with pytest.raises(DataError, match=message):
        fit_cut_points(raw, human, RANGE)


def test_a_human_score_outside_the_range():
    with pytest.raises(DataError, match="reference 7 is no score point of the range 1 to 6"):
        fit_cut_points([1, 2], [1, 7], RANGE)
