from __future__ import annotations

import numpy as np
import pytest

from aes_dynloss.measures.shrinkage import normal_estimate, shrunken_effects


def dersimonian_laird(values, weights):
    """Q, tau^2 and the shrunken values of one stratum, as the paper has them."""
    mean = (weights * values).sum() / weights.sum()
    q = (weights * (values - mean) ** 2).sum()
    dof = len(values) - 1
    variance = max(0.0, (q - dof) / (weights.sum() - (weights**2).sum() / weights.sum()))
    precision = 1 / (variance + 1 / weights)
    mean = (precision * values).sum() / precision.sum()
    return q, variance, mean + variance * precision * (values - mean)


def test_one_stratum_is_dersimonian_and_laird():
    generator = np.random.default_rng(0)
    values, weights = generator.normal(size=7), generator.uniform(2, 40, size=7)
    estimates, differences = shrunken_effects(values[:, None], weights[:, None], 0.95)
    q, variance, shrunken = dersimonian_laird(values, weights)
    assert (differences.q, differences.dof, differences.sd**2) == (pytest.approx(q), 6, pytest.approx(variance))
    assert [one.value for one in estimates] == pytest.approx(shrunken)


def test_levels_of_strata_take_no_part():
    generator = np.random.default_rng(1)
    values, weights = generator.normal(size=(6, 3)), generator.uniform(2, 40, size=(6, 3))
    weights[0, 1] = weights[4, 2] = 0.0
    estimates, differences = shrunken_effects(values, weights, 0.95)
    moved, same = shrunken_effects(values + np.array([5.0, -3.0, 1.0]), weights, 0.95)
    assert (same.q, same.dof, same.sd) == pytest.approx((differences.q, 5, differences.sd))
    gaps = [other.value - one.value for one, other in zip(estimates, moved, strict=True)]
    assert gaps == pytest.approx([gaps[0]] * 6)
    # What has no weight has no value.
    values[0, 1] = 1e6
    assert shrunken_effects(values, weights, 0.95) == (estimates, differences)


def test_q_is_chi_squared_where_groups_are_alike():
    generator = np.random.default_rng(2)
    weights = generator.uniform(2, 40, size=(5, 4)) * (generator.random((5, 4)) < 0.7)
    q = [
        shrunken_effects(generator.normal(size=(5, 4)) / np.sqrt(np.maximum(weights, 1e-9)), weights, 0.95)[1]
        for _ in range(2000)
    ]
    assert np.mean([one.q for one in q]) == pytest.approx(q[0].dof, rel=0.05)
    assert np.mean([one.p < 0.05 for one in q]) == pytest.approx(0.05, abs=0.02)


def test_groups_without_a_common_stratum():
    estimates, differences = shrunken_effects(np.eye(3), np.diag([9.0, 9.0, 9.0]), 0.95)
    assert estimates == [None, None, None]
    assert differences == (0.0, 0, None, 0.0)
    assert shrunken_effects(np.zeros((2, 1)), np.zeros((2, 1)), 0.95).differences.p is None


def test_intervals_widen_with_confidence():
    wide, narrow = normal_estimate(0.0, 1.0, 0.95), normal_estimate(0.0, 1.0, 0.5)
    assert (wide.high, narrow.high) == pytest.approx((1.96, 0.674), abs=0.001)
