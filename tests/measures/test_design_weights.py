from __future__ import annotations

import numpy as np
import pytest

from aes_dynloss.errors import DataError
from aes_dynloss.measures.agreement import measures
from aes_dynloss.measures.bootstrap import percentile_interval
from aes_dynloss.measures.design_weights import (
    checked_weights,
    effective_size,
    replicate_weights,
    weighted_agreement,
    weighted_draws,
)
from aes_dynloss.tables.score_range import ScoreRange

POINTS = ScoreRange(1, 6)


def essays(n, seed=0, r=0.85):
    random = np.random.default_rng(seed)
    quality, error = random.standard_normal((2, n))
    raw = 3.6 + 0.95 * (r * quality + np.sqrt(1 - r**2) * error)
    return POINTS.to_point(3.5 + 1.1 * quality), raw, POINTS.to_point(raw)


@pytest.mark.parametrize("step", [1.0, 0.5])
def test_weights_of_one_give_the_unweighted_measures(step):
    span = ScoreRange(1, 6, step)
    reference, raw, score = (one if number == 1 else span.to_point(one) for number, one in enumerate(essays(80)))
    expected = measures(reference, raw, score, span)
    found = weighted_agreement(reference, raw, score, np.ones(80), step)
    assert {name: float(found[name]) for name in expected if name in found} == pytest.approx(
        {name: value for name, value in expected.items() if name in found}, abs=1e-12
    )
    assert float(found["mean_raw"]) == pytest.approx(raw.mean())


def test_a_whole_weight_counts_an_essay_so_often():
    columns, weights = essays(40), np.random.default_rng(1).integers(1, 4, 40)
    weighted = weighted_agreement(*columns, weights)
    repeated = weighted_agreement(*(np.repeat(one, weights) for one in columns), np.ones(weights.sum()))
    for name in ("qwk", "exact_agreement", "adjacent_agreement", "pearson", "rmse", "sd_ratio"):
        assert float(weighted[name]) == pytest.approx(float(repeated[name]), abs=1e-12)


def test_constants_are_undefined_as_without_weights():
    found = weighted_agreement([3, 3, 3], [2.1, 2.1, 2.1], [2, 2, 2], [1, 2, 3.5])
    assert all(np.isnan(found[name]) for name in ("pearson", "smd", "sd_ratio"))
    assert float(weighted_agreement([3, 3], [3, 3], [3, 3], [1, 7])["qwk"]) == 1.0


def test_the_draws_have_the_variance_of_the_design():
    values, weights = essays(60)[0], np.repeat([1.0, 4.0, 1.25], [20, 30, 10])
    drawn = np.concatenate(list(replicate_weights(weights, 20_000, np.random.default_rng(0))))
    assert (drawn >= 0).all()
    assert (drawn[:, :20] == 1).all(), "essays that were read for certain add nothing"
    expected = sum(w**2 * n * (1 - 1 / w) * values[weights == w].var(ddof=1) for w, n in ((4.0, 30), (1.25, 10)))
    assert (drawn @ values).var() == pytest.approx(expected, rel=0.05)
    assert (drawn @ values).mean() == pytest.approx(weights @ values, rel=0.01)


def test_a_census_has_no_width_and_a_weight_of_its_own_is_a_stratum_with_the_others():
    columns = essays(30)
    draws = weighted_draws(*columns, np.ones(30), 50, np.random.default_rng(0))
    assert np.ptp(draws["qwk"]) == 0
    alone = next(replicate_weights([2.0, 3.0, 4.0], 200, np.random.default_rng(0)))
    assert (alone.std(axis=0) > 0).all()


@pytest.mark.parametrize("weights", [[1.0, 0.5], [1.0, np.nan], [-3.0, 2.0]])
def test_no_design_weight_is_refused(weights):
    with pytest.raises(DataError):
        checked_weights(weights)


def test_effective_size():
    assert effective_size([5.0] * 12) == pytest.approx(12)


def test_estimates_are_unbiased_and_intervals_hold():
    """A twentieth is read for certain, two strata at other rates; recipes/benchmarks/double_scoring.py draws more."""
    reference, raw, score = essays(1500, seed=3)
    truth = {name: float(value) for name, value in weighted_agreement(reference, raw, score, np.ones(1500)).items()}
    stratum = np.where(np.argsort(np.argsort(-np.abs(raw - reference))) < 75, 0, np.where(raw > 4.2, 1, 2))
    random, estimates, covered = np.random.default_rng(0), [], []
    for _ in range(300):
        chosen, weights = [np.flatnonzero(stratum == 0)], [np.ones(75)]
        for number, size in ((1, 120), (2, 180)):
            members = np.flatnonzero(stratum == number)
            chosen.append(random.choice(members, size, replace=False))
            weights.append(np.full(size, len(members) / size))
        rows, w = np.concatenate(chosen), np.concatenate(weights)
        sample = reference[rows], raw[rows], score[rows]
        estimates.append([float(weighted_agreement(*sample, w)[name]) for name in ("qwk", "smd")])
        draws = weighted_draws(*sample, w, 300, random)
        ends = [percentile_interval(draws[name], 0.95) for name in ("qwk", "smd")]
        covered.append([low <= truth[name] <= high for name, (low, high) in zip(("qwk", "smd"), ends, strict=True)])
    bias = np.mean(estimates, axis=0) - [truth["qwk"], truth["smd"]]
    # Three standard errors of 300 draws beside the bound of 0.002.
    assert (np.abs(bias) < 0.002 + 3 * np.std(estimates, axis=0) / np.sqrt(300)).all()
    assert ((np.mean(covered, axis=0) > 0.91) & (np.mean(covered, axis=0) < 0.985)).all()
    unweighted = float(weighted_agreement(*sample, np.ones(len(rows)))["qwk"])
    assert abs(unweighted - truth["qwk"]) > 0.02, "without weights the certain essays would bias it"
