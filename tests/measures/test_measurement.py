from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from rated_essays import sample

from aes_dynloss.errors import DataError
from aes_dynloss.measures.agreement import quadratic_weighted_kappa
from aes_dynloss.measures.calibration import fit_rescaling
from aes_dynloss.measures.reliability import (
    disattenuated_correlation,
    length_partialled_pearson,
    qwk_ceiling,
    qwk_of_true_score,
    spearman_brown,
    variance_matched_qwk,
)
from aes_dynloss.tables.score_range import ScoreRange

RANGE = ScoreRange(1, 6)
reliabilities = st.floats(0, 1)
score_and_raw = st.integers(2, 30).flatmap(
    lambda n: st.tuples(
        st.lists(st.integers(1, 6), min_size=n, max_size=n),
        st.lists(st.floats(-9, 9).map(lambda value: round(value, 3)), min_size=n, max_size=n),
    )
)


def correlated(rho, essays=400_000):
    """True scores and human scores of reliability rho, of variance 1."""
    random = np.random.default_rng(round(100 * rho))
    true = np.sqrt(rho) * random.normal(size=essays)
    return true, true + np.sqrt(1 - rho) * random.normal(size=essays)


@pytest.mark.parametrize("rho", [0.2, 0.5, 0.8, 0.95])
def test_the_kappas_of_a_machine_that_knows_the_true_score(rho):
    true, human = correlated(rho)
    assert float(quadratic_weighted_kappa(human, true)) == pytest.approx(float(qwk_of_true_score(rho)), abs=0.005)
    stretched = true / np.sqrt(rho)
    assert float(quadratic_weighted_kappa(human, stretched)) == pytest.approx(float(qwk_ceiling(rho)), abs=0.005)


@given(st.sampled_from([0.3, 0.7]), st.floats(0.05, 5), st.floats(-1, 1), st.floats(0, 1))
def test_no_stretched_shifted_or_noisy_machine_passes_the_ceiling(rho, slope, shift, noise):
    true, human = correlated(rho, 20_000)
    machine = slope * true + shift + noise * np.random.default_rng(5).normal(size=len(true))
    assert float(quadratic_weighted_kappa(human, machine)) < float(qwk_ceiling(rho)) + 0.02
    rounded = np.rint(machine)
    assert float(quadratic_weighted_kappa(human, rounded)) < float(qwk_ceiling(rho)) + 0.02


@given(reliabilities, reliabilities)
def test_ceilings_are_ordered_bounded_and_rise_with_reliability(one, other):
    low, high = sorted((one, other))
    for ceiling in (qwk_of_true_score, qwk_ceiling):
        assert 0 <= ceiling(low) <= ceiling(high) <= 1
    assert float(qwk_of_true_score(one)) <= float(qwk_ceiling(one)) + 1e-12
    # 2 rho / (1 + rho) is Spearman and Brown's reliability of two raters' mean.
    assert float(qwk_of_true_score(one)) == pytest.approx(float(spearman_brown(one, 2)), abs=1e-12)


@pytest.mark.parametrize("function", [qwk_of_true_score, qwk_ceiling, lambda rho: spearman_brown(rho, 2)])
def test_reliabilities_at_their_ends(function):
    np.testing.assert_array_equal(function([[0, 1, -0.2, math.nan]]), [[0, 1, math.nan, math.nan]])
    assert function(1 + 1e-12) == 1
    with pytest.raises(DataError, match=r"reliability is at most 1, found 1\.2"):
        function([0.4, 1.2])


@given(reliabilities, st.integers(1, 9), st.integers(1, 9))
def test_spearman_brown_goes_by_steps(rho, first, second):
    assert float(spearman_brown(rho, 1)) == pytest.approx(rho)
    by_steps = spearman_brown(spearman_brown(rho, first), second)
    assert float(by_steps) == pytest.approx(float(spearman_brown(rho, first * second)), abs=1e-9)


@pytest.mark.parametrize("raters", [0, -1, math.inf, math.nan])
def test_spearman_brown_needs_raters(raters):
    with pytest.raises(DataError, match="number of raters above 0"):
        spearman_brown(0.5, raters)


def test_disattenuated_r_of_rsmtool():
    """By RSMTool 12.0.0 on the seeded sample."""
    ratings, raw, _, _ = sample()
    human_machine = np.corrcoef(ratings[:, 0], raw)[0, 1]
    human_human = np.corrcoef(ratings[:, 0], ratings[:, 1])[0, 1]
    found = disattenuated_correlation(human_machine, human_human)
    assert float(found) == pytest.approx(0.7723089104234462, abs=1e-6)


def test_disattenuated_r_is_that_of_rsmtool(rsmtool):
    compute = "analyzer.Analyzer.compute_disattenuated_correlations"
    machine, human = np.array([0.5, -0.3, 0.9]), np.array([0.7, 0.9, 0.6])
    theirs = rsmtool(compute, pd.Series(machine), pd.Series(human))["corr_disattenuated"]
    np.testing.assert_allclose(disattenuated_correlation(machine, human), theirs, atol=1e-12)


def test_disattenuated_r_finds_the_correlation_with_the_true_score():
    true, human = correlated(0.6)
    second = true + np.sqrt(0.4) * np.random.default_rng(3).normal(size=len(true))
    machine = true + 0.5 * np.random.default_rng(4).normal(size=len(true))
    r = np.corrcoef([human, second, machine, true])
    assert float(disattenuated_correlation(r[0, 2], r[0, 1])) == pytest.approx(r[2, 3], abs=0.01)


@given(st.floats(-1, 1), st.floats(0.01, 1))
def test_disattenuation_keeps_the_sign_and_never_shrinks(machine, human):
    found = float(disattenuated_correlation(machine, human))
    assert abs(found) >= abs(machine) - 1e-12
    assert found * machine >= 0
    assert float(disattenuated_correlation(machine, 1)) == machine


def test_disattenuation_where_raters_do_not_agree():
    found = disattenuated_correlation([0.5, 0.5, 0.5, math.nan], [0, -0.2, math.nan, 0.5])
    assert np.isnan(found).all()
    np.testing.assert_allclose(disattenuated_correlation([0.3, 0.4], 0.25), [0.6, 0.8])


@pytest.mark.parametrize(
    ("machine", "human", "message"),
    [
        ([0.5, 0.4], [0.5], "one shape, found"),
        ([0.5, 1.4], 0.5, "between -1 and 1, found 1.4"),
        (0.5, -3, "between -1 and 1, found -3"),
    ],
)
def test_disattenuation_refuses(machine, human, message):
    with pytest.raises(DataError, match=message):
        disattenuated_correlation(machine, human)


@given(score_and_raw)
def test_variance_matched_kappa_is_that_of_a_line_through_these_essays(pair):
    human, raw = map(np.array, pair)
    assume(np.ptp(human) > 0)
    assume(np.ptp(raw) > 0)
    line = fit_rescaling(raw, human)
    # A value on a half may go either way, for the two ways to it differ in the last bit.
    position = line.apply(raw) + 0.5
    assume(np.abs(position - np.rint(position)).min() > 1e-6)
    expected = float(quadratic_weighted_kappa(human, RANGE.to_point(line.apply(raw))))
    assert float(variance_matched_qwk(human, raw, RANGE)) == pytest.approx(expected, abs=1e-12)
    assert -1 - 1e-12 <= expected <= 1


@given(st.floats(0.01, 50), st.floats(-100, 100))
def test_variance_matched_kappa_does_not_depend_on_level_and_spread(slope, shift):
    ratings, raw, _, _ = sample()
    value = float(variance_matched_qwk(ratings[:, 0], raw, RANGE))
    assert float(variance_matched_qwk(ratings[:, 0], slope * raw + shift, RANGE)) == pytest.approx(value, abs=1e-12)


def test_shrunk_predictions_gain_by_matching():
    ratings, raw, _, _ = sample()
    shrunk = 0.3 * raw + 2
    plain = float(quadratic_weighted_kappa(ratings[:, 0], RANGE.to_point(shrunk)))
    assert float(variance_matched_qwk(ratings[:, 0], shrunk, RANGE)) > plain + 0.2


def test_variance_matched_kappa_where_no_line_is_determined():
    human = [[1, 2, 3], [2, 2, 2], [1, 2, 3], [1, 2, 3]]
    raw = [[1.2, 2.2, 3.2], [1, 2, 3], [0.1, 0.1, 0.1], [1, 1, 1 + 1e-12]]
    np.testing.assert_array_equal(variance_matched_qwk(human, raw, RANGE), [1, math.nan, math.nan, math.nan])
    assert np.isnan(variance_matched_qwk([2], [2.5], RANGE))


def test_variance_matched_kappa_refuses_what_is_no_score_point():
    with pytest.raises(DataError, match="The reference 7 is no score point of the range 1 to 6"):
        variance_matched_qwk([1, 7], [1, 2], RANGE)
    with pytest.raises(DataError, match="one shape"):
        variance_matched_qwk([1, 2], [1], RANGE)


def test_length_partialled_r_of_rsmtool_and_statsmodels():
    """By RSMTool 12.0.0's partial_correlations, and the residuals of statsmodels 0.15.0's regressions on length."""
    ratings, raw, words, _ = sample()
    found = float(length_partialled_pearson(ratings[:, 0], raw, words))
    assert found == pytest.approx(0.47009670509957024, abs=1e-6)


@pytest.mark.parametrize("seed", range(3))
def test_length_partialled_r_is_that_of_rsmtool(rsmtool, seed):
    ratings, raw, words, _ = sample(80, seed)
    table = pd.DataFrame({"raw": raw, "sc1": ratings[:, 0], "length": words})
    found = float(length_partialled_pearson(ratings[:, 0], raw, words))
    theirs = rsmtool("utils.metrics.partial_correlations", table)
    assert found == pytest.approx(theirs.loc["raw", "sc1"], abs=1e-9)


@given(
    st.integers(4, 30).flatmap(
        lambda n: st.tuples(*[st.lists(st.integers(0, 60), min_size=n, max_size=n) for _ in range(3)])
    )
)
def test_length_partialled_r_is_that_of_its_formula(columns):
    human, raw, words = map(np.array, columns)
    assume(all(np.ptp(column) > 0 for column in (human, raw, words)))
    r = np.corrcoef([human, raw, words])
    assume(max(abs(r[0, 2]), abs(r[1, 2])) < 0.9999)
    expected = (r[0, 1] - r[0, 2] * r[1, 2]) / math.sqrt((1 - r[0, 2] ** 2) * (1 - r[1, 2] ** 2))
    found = float(length_partialled_pearson(human, raw, words))
    assert found == pytest.approx(expected, abs=1e-7)
    assert -1 <= found <= 1
    assert float(length_partialled_pearson(raw, human, words)) == pytest.approx(found, abs=1e-9)
    # Length may be added to either score: among essays of one length nothing changes.
    assert float(length_partialled_pearson(human, raw + 2 * words, words)) == pytest.approx(found, abs=1e-6)


def test_a_machine_that_counts_words_has_no_length_partialled_r():
    words = np.array([[100.0, 200, 300, 500]] * 3)
    human = np.array([[1, 3, 2, 6], [1, 3, 2, 6], [2, 2, 2, 2]])
    raw = np.array([[2.0, 3, 4, 6], [1, 2, 2, 5], [1, 2, 2, 5]])
    found = length_partialled_pearson(human, raw, words)
    assert np.isnan(found[[0, 2]]).all()
    assert np.isfinite(found[1])
    assert np.isnan(length_partialled_pearson([1, 2], [2, 1], [3, 4]))
    assert np.isnan(length_partialled_pearson([1.1, 2.3], [2.2, 1.7], [30, 47]))
    many = np.random.default_rng(0).integers(100, 900, 50)
    noisy = 0.1 * many + 0.3  # linear up to the last bit
    assert np.isnan(length_partialled_pearson(np.arange(50) % 6, noisy, many))
    assert np.isnan(length_partialled_pearson([1, 2, 4], [2, 1, 3], [3, 3, 3]))


def test_length_partialled_r_refuses():
    with pytest.raises(DataError, match=r"one shape, found reference \(2,\), raw \(2,\), words \(1,\)"):
        length_partialled_pearson([1, 2], [1, 2], [1])
    with pytest.raises(DataError, match="NaN or infinity in words"):
        length_partialled_pearson([1, 2], [1, 2], [1, math.nan])


def test_stacked_columns_are_measured_one_by_one():
    parts = [sample(40, seed) for seed in range(6)]
    human = np.stack([part[0][:, 0] for part in parts]).reshape(2, 3, 40)
    raw, words = (np.stack([part[place] for part in parts]).reshape(2, 3, 40) for place in (1, 2))
    for place in np.ndindex(2, 3):
        one = human[place], raw[place]
        assert variance_matched_qwk(human, raw, RANGE)[place] == pytest.approx(float(variance_matched_qwk(*one, RANGE)))
        partialled = float(length_partialled_pearson(*one, words[place]))
        assert length_partialled_pearson(human, raw, words)[place] == pytest.approx(partialled)
