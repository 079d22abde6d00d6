"""Drift between samples: held against scipy and by-hand figures, intervals that hold, p values without drift."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from aes_dynloss.errors import DataError
from aes_dynloss.measures.drift import (
    Agreement,
    Granted,
    bin_counts,
    difference_interval,
    ks_distance,
    look_level,
    rise_above,
    share_rise,
    stability_index,
    standardized_shift,
)


def samples(seed, shift=0.0, sizes=(120, 80)):
    random = np.random.default_rng(seed)
    return random.normal(0, 1, sizes[0]), random.normal(shift, 1.3, sizes[1])


# Of the populations of samples(shift=0.4).
_GRID = np.linspace(-5, 6, 2001)
KS = float(np.abs(stats.norm.cdf(_GRID) - stats.norm.cdf((_GRID - 0.4) / 1.3)).max())


def test_p_values_are_those_of_scipy():
    then, now = samples(0, 0.3)
    assert standardized_shift(then, now).p == pytest.approx(stats.ttest_ind(now, then, equal_var=False).pvalue)
    assert ks_distance(then, now).value == pytest.approx(stats.ks_2samp(then, now).statistic)
    counts = np.array([[30, 40, 5], [20, 60, 9]])
    assert stability_index(*counts).p == pytest.approx(stats.chi2_contingency(counts).pvalue)
    assert share_rise((3, 100), (12, 150)).p == pytest.approx(
        stats.fisher_exact([[12, 138], [3, 97]], alternative="greater").pvalue
    )
    assert rise_above(0.02, 10**9, (6, 100)).p == pytest.approx(stats.binom.sf(5, 100, 0.02), rel=1e-3)


def test_figures_by_hand():
    shift = standardized_shift([0.0, 2.0], [1.0, 3.0, 2.0])
    assert shift.value == pytest.approx(1 / np.sqrt((2 + 1) / 2))
    index = stability_index([49.5, 49.5], [24.5, 74.5])  # half an essay more in each bin: 50, 50 and 25, 75
    assert index.value == pytest.approx(-0.25 * np.log(0.5) + 0.25 * np.log(1.5))
    assert rise_above(0.1, 500, (30, 100)).value == pytest.approx(0.2)


@pytest.mark.parametrize(
    ("measure", "truth", "most"),
    [
        (standardized_shift, 0.4 / np.sqrt((1 + 1.69) / 2), 0.985),
        (ks_distance, KS, 1.0),
    ],
)
def test_intervals_hold(measure, truth, most):
    found = [measure(*samples(seed, 0.4)).interval for seed in range(400)]
    assert 0.92 <= np.mean([low <= truth <= high for low, high in found]) <= most


def test_the_interval_of_the_stability_index_holds():
    then, now = np.array([0.2, 0.5, 0.3]), np.array([0.3, 0.5, 0.2])
    truth = float(((now - then) * np.log(now / then)).sum())
    random = np.random.default_rng(0)
    found = [stability_index(random.multinomial(300, then), random.multinomial(200, now)) for _ in range(400)]
    assert 0.92 <= np.mean([one.interval[0] <= truth <= one.interval[1] for one in found]) <= 0.98


def test_without_drift_few_p_values_are_small():
    random = np.random.default_rng(0)
    p_values = []
    for _ in range(400):
        then, now = random.lognormal(0, 0.8, 60).round(1), random.lognormal(0, 0.8, 45).round(1)
        index = stability_index(*bin_counts(then, now))
        p_values.append([standardized_shift(then, now).p, ks_distance(then, now).p, index.p])
    assert (np.mean(np.array(p_values) < 0.05, axis=0) <= 0.075).all()


def test_bins_hold_every_essay_and_enough_of_them():
    random = np.random.default_rng(0)
    then, now = random.gamma(2, 50, 400).round(), random.gamma(2, 50, 60).round()
    counts = bin_counts(then, now)
    assert [one.sum() for one in counts] == [400, 60]
    assert 8 <= len(counts[0]) <= 10
    assert (sum(counts) * 60 / 460 >= 5).all()
    assert [one.tolist() for one in bin_counts([1, 2] * 10, [1, 2, 2, 2] * 5)] == [[10, 10], [5, 15]]
    assert [one.tolist() for one in bin_counts([3] * 9, [3] * 9)] == [[9], [9]]


def test_what_is_undefined_has_no_figures():
    assert standardized_shift([2, 2], [2, 2, 2]) == (None, None, None)
    assert stability_index([5, 0], [7, 0]) == (None, None, None)
    assert Agreement.of(1.0, [1.0, 1.0]) is None
    assert Agreement.of(0.5, [0.5, 0.5]) is None
    with pytest.raises(DataError, match="two values or more of each sample"):
        ks_distance([1], [1, 2])
    with pytest.raises(DataError, match="with an essay in each sample"):
        stability_index([0, 0], [1, 2])
    with pytest.raises(DataError, match="counted from 1"):
        look_level(0)


def test_levels_of_endless_looks_add_up():
    levels = [look_level(look, 0.05) for look in range(1, 2000)]
    assert levels == sorted(levels, reverse=True)
    assert 0.0499 < sum(levels) < 0.05


def test_an_agreement_is_on_fishers_scale():
    draws = np.tanh(np.random.default_rng(0).normal(1.0, 0.1, 5000))
    found = Agreement.of(float(np.tanh(1.0)), draws)
    assert (found.z, found.error) == pytest.approx((1.0, 0.1), abs=0.003)
    low, high = found.interval(0.05)
    assert found.p_below(high) == pytest.approx(0.025)
    assert found.p_lower_than(Agreement(1.2, 0.1)) == pytest.approx(
        stats.norm.cdf(-0.2 / np.hypot(found.error, 0.1)), abs=0.01
    )
    assert difference_interval((0.5, 0.4, 0.6), (0.5, 0.5, 0.5)) == pytest.approx((-0.1, 0.1))
    assert low < np.tanh(1.0) < high


@pytest.mark.parametrize("learned", [500, 2000])
def test_a_threshold_that_was_learned_of_few_essays_gives_few_false_alarms(learned):
    """The threshold is the order statistic beyond which the share lies of essays that it is learned of."""
    random, share, alarms, beyond_known = np.random.default_rng(0), 0.01, [], []
    for _ in range(800):
        threshold = np.sort(random.standard_normal(learned))[-int(share * learned)]
        found = int((random.standard_normal(1000) >= threshold).sum())
        alarms.append(rise_above(share, learned, (found, 1000)).p < 0.05)
        beyond_known.append(stats.binom.sf(found - 1, 1000, share) < 0.05)
    assert np.mean(alarms) < 0.065
    assert np.mean(beyond_known) > 0.075, "as if the share were known"


def test_what_a_higher_sd_is_granted_is_what_it_makes():
    factor, grid = 1.3, np.linspace(-8, 8, 200_001)
    step = grid[1] - grid[0]
    narrow, wide = stats.norm.pdf(grid), stats.norm.pdf(grid, scale=factor)
    granted = Granted.of_spread(factor)
    assert granted.psi == pytest.approx(((wide - narrow) * np.log(wide / narrow)).sum() * step, rel=1e-4)
    apart = np.abs(stats.norm.cdf(grid) - stats.norm.cdf(grid, scale=factor)).max()
    assert granted.ks == pytest.approx(apart, abs=1e-6)
    assert Granted.of_spread(1.0) == (0.0, 0.0)


def test_a_drift_that_is_granted_gives_few_false_alarms():
    random, granted, found = np.random.default_rng(0), Granted.of_spread(1.15), []
    for _ in range(300):
        then, now = random.standard_normal(1500), 1.15 * random.standard_normal(1500)
        psi, plain = (stability_index(*bin_counts(then, now), granted=one).p for one in (granted, Granted()))
        found.append([psi < 0.05, plain < 0.05, ks_distance(then, now, granted=granted).p < 0.05])
    shares = np.mean(found, axis=0)
    assert max(shares[0], shares[2]) <= 0.05 + 0.03
    assert shares[1] > 0.3
