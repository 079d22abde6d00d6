from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from rated_essays import sample, with_gaps

from aes_dynloss.errors import DataError
from aes_dynloss.measures.reliability import prmse, true_score_variance, variance_of_errors

tables = st.integers(2, 12).flatmap(lambda n: arrays(np.int64, (n, 3), elements=st.integers(1, 6)))

# Computed by RSMTool 12.0.0 on the seeded sample: variance of errors, true-score variance, PRMSE, and PRMSE and
# true-score variance where the variance of errors is given as .25.
RSMTOOL = {
    "full": (0.39166666666666666, 1.1716585309158531, 0.5883990165606222, 0.5656030957588314, 1.2188807531380754),
    "gaps": (0.4142857142857143, 1.128951446829289, 0.5846877369772334, 0.5479016077587984, 1.2048075494129884),
}


def ratings_of(name):
    ratings = sample()[0]
    return with_gaps(ratings) if name == "gaps" else ratings


@pytest.mark.parametrize("name", RSMTOOL)
def test_values_of_rsmtool(name):
    ratings, raw = ratings_of(name), sample()[1]
    errors, true, reduction, reduction_given, true_given = RSMTOOL[name]
    assert float(variance_of_errors(ratings)) == pytest.approx(errors, abs=1e-6)
    assert float(true_score_variance(ratings)) == pytest.approx(true, abs=1e-6)
    assert float(prmse(raw, ratings)) == pytest.approx(reduction, abs=1e-6)
    assert float(prmse(raw, ratings, 0.25)) == pytest.approx(reduction_given, abs=1e-6)
    assert float(true_score_variance(ratings, 0.25)) == pytest.approx(true_given, abs=1e-6)


def test_single_ratings_and_a_known_variance_of_errors_by_rsmtool():
    ratings, raw, _, _ = sample()
    assert float(prmse(raw, ratings[:, :1], 0.3)) == pytest.approx(0.5421019574229698, abs=1e-6)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("gaps", [False, True])
def test_they_are_those_of_rsmtool(rsmtool, seed, gaps):
    ratings, raw, _, _ = sample(60, seed)
    if gaps:
        ratings = with_gaps(ratings)
    errors, true = (rsmtool(f"utils.prmse.{name}", ratings) for name in ("variance_of_errors", "true_score_variance"))
    assert float(variance_of_errors(ratings)) == pytest.approx(errors, abs=1e-12)
    assert float(true_score_variance(ratings)) == pytest.approx(true, abs=1e-12)
    theirs = [rsmtool("utils.prmse.prmse_true", raw, ratings, *given) for given in ((), (0.3,))]
    assert float(prmse(raw, ratings)) == pytest.approx(theirs[0], abs=1e-10)
    assert float(prmse(raw, ratings, 0.3)) == pytest.approx(theirs[1], abs=1e-10)


def test_two_ratings_of_every_essay_give_the_textbook_formulas():
    ratings, raw, _, _ = sample()
    pair = ratings[:, :2]
    errors = np.square(pair[:, 0] - pair[:, 1]).mean() / 2
    means = pair.mean(axis=1)
    true = means.var(ddof=1) - errors / 2
    assert float(variance_of_errors(pair)) == pytest.approx(errors)
    assert float(true_score_variance(pair)) == pytest.approx(true)
    mse = np.square(means - raw).mean() - errors / 2
    assert float(prmse(raw, pair)) == pytest.approx(1 - mse / true)


def test_prmse_finds_what_the_simulated_machine_explains():
    """The machine errs by variance .25 about true scores of variance 1; raters by .49, few of whom score twice."""
    random = np.random.default_rng(1)
    true = random.normal(0, 1, 200_000)
    ratings = true[:, None] + random.normal(0, 0.7, (len(true), 3))
    ratings[:100_000, 1:] = np.nan
    ratings[100_000:180_000, 2] = np.nan
    machine = true + random.normal(0, 0.5, len(true))
    assert float(variance_of_errors(ratings)) == pytest.approx(0.49, abs=0.01)
    assert float(true_score_variance(ratings)) == pytest.approx(1, abs=0.02)
    assert float(prmse(machine, ratings)) == pytest.approx(0.75, abs=0.01)
    assert float(prmse(true, ratings)) == pytest.approx(1, abs=0.01)
    assert float(prmse(np.zeros_like(true), ratings)) == pytest.approx(0, abs=0.01)


@given(tables, st.randoms(), st.integers(-20, 20), st.sampled_from([-2.0, 0.1, 3.0]), st.integers(1, 6))
def test_order_and_scale_of_scores_do_not_matter(ratings, random, shift, slope, apart):
    ratings = ratings + apart * np.arange(len(ratings))[:, None]  # essays that differ: few draws are in vain
    machine = ratings[:, 0] * 0.7 + np.arange(len(ratings)) * 0.1
    assume(float(true_score_variance(ratings)) > 0.05)
    value = float(prmse(machine, ratings))
    essays = random.sample(range(len(ratings)), len(ratings))
    raters = random.sample(range(3), 3)
    assert float(prmse(machine[essays], ratings[essays][:, raters])) == pytest.approx(value, abs=1e-9)
    assert float(prmse(slope * machine + shift, slope * ratings + shift)) == pytest.approx(value, abs=1e-8)
    assert float(variance_of_errors(slope * ratings)) == pytest.approx(slope**2 * float(variance_of_errors(ratings)))


@given(tables)
def test_the_variance_of_errors_is_never_below_zero_and_a_missing_rater_changes_nothing(ratings):
    value = float(variance_of_errors(ratings))
    assert value >= 0
    wider = np.column_stack([ratings.astype(float), np.full(len(ratings), np.nan)])
    assert float(variance_of_errors(wider)) == pytest.approx(value, abs=1e-12)


@given(tables)
def test_without_errors_prmse_is_the_machines_r_squared(ratings):
    human = ratings[:, 0].astype(float)
    assume(np.ptp(human) > 0)
    machine = human * 0.5 + ratings[:, 1] * 0.3
    spread = human.var(ddof=1)
    expected = 1 - np.square(human - machine).mean() / spread
    assert float(prmse(machine, human[:, None], 0)) == pytest.approx(expected, abs=1e-9)


def test_what_is_undefined_is_nan():
    once = [[1.0], [2.0]]
    assert np.isnan(variance_of_errors(once))
    assert np.isnan(prmse([1, 2], once))
    assert np.isnan(true_score_variance([[1.0, 2.0]]))
    assert np.isnan(prmse([1], [[1.0, 2.0]]))
    disagreeing = [[1.0, 2.0], [2.0, 1.0]]
    assert float(true_score_variance(disagreeing)) == pytest.approx(-0.25)
    assert np.isnan(prmse([1, 2], disagreeing))


@pytest.mark.parametrize("constant", [3, 0.1])
def test_equal_ratings_have_no_true_variance(constant):
    ratings = np.full((7, 3), constant)
    assert true_score_variance(ratings) == 0
    assert np.isnan(prmse(np.arange(7), ratings))


def test_stacked_ratings_are_measured_one_by_one():
    parts = [sample(50, seed) for seed in range(6)]
    ratings = np.stack([with_gaps(part[0]) for part in parts]).reshape(2, 3, 50, 3)
    raw = np.stack([part[1] for part in parts]).reshape(2, 3, 50)
    errors = np.full((2, 3), 0.3)
    for place in np.ndindex(2, 3):
        one = ratings[place]
        assert variance_of_errors(ratings)[place] == pytest.approx(float(variance_of_errors(one)))
        assert true_score_variance(ratings)[place] == pytest.approx(float(true_score_variance(one)))
        assert prmse(raw, ratings)[place] == pytest.approx(float(prmse(raw[place], one)))
        assert prmse(raw, ratings, errors)[place] == pytest.approx(float(prmse(raw[place], one, 0.3)))


@pytest.mark.parametrize(
    ("machine", "ratings", "errors", "message"),
    [
        ([1, 2], [1, 2], None, r"shape \(..., n, raters\) with n, raters >= 1, found \(2,\)"),
        ([1, 2], [[], []], None, r"found \(2, 0\)"),
        ([1], [[1, 2], [1, 2]], None, r"machine scores \(..., n\) and ratings \(..., n, raters\), found \(1,\)"),
        ([1, 2], [[1, 2], [math.nan, math.nan]], None, "an essay without any"),
        ([1, 2], [[1, 2], [math.inf, 1]], None, "an infinite one"),
        ([1, math.nan], [[1, 2], [1, 2]], None, "NaN or infinity in machine"),
        ([1, 2], [[1, 2], [1, 2]], -0.1, "number >= 0"),
        ([1, 2], [[1, 2], [1, 2]], math.nan, "number >= 0"),
        ([1, 2], [[1, 2], [1, 2]], [0.1, 0.2], "number >= 0"),
    ],
)
def test_what_cannot_be_measured(machine, ratings, errors, message):
    with pytest.raises(DataError, match=message):
        prmse(machine, ratings, errors)
