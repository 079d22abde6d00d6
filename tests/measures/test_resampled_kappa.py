from __future__ import annotations

import numpy as np
import pytest

from aes_dynloss.errors import ConfigError, DataError
from aes_dynloss.measures import bootstrap as resampling
from aes_dynloss.measures.agreement import quadratic_weighted_kappa
from aes_dynloss.measures.bootstrap import Paired, bootstrap_draws, kappa_on_resamples, resample_counts


def all_counts(essays, resamples, seed):
    return np.concatenate(list(resample_counts(essays, resamples, np.random.default_rng(seed))))


@pytest.mark.parametrize(("points", "essays"), [(2, 3), (4, 7), (6, 80), (61, 250)])
def test_it_is_the_house_kappa_on_the_same_resamples(points, essays):
    """Few essays of few points make resamples whose scores are all equal: the convention of 0/0 is tested too."""
    random = np.random.default_rng(points)
    human = random.integers(0, points, essays)
    machines = np.clip(human[:, None] + random.integers(-2, 3, (essays, 5)), 0, points - 1)
    machines[:, 4] = human[0]
    counts = all_counts(essays, 200, 3)
    found = kappa_on_resamples(counts, human, machines)
    for column in range(5):
        pair = {"qwk": Paired(quadratic_weighted_kappa, human, machines[:, column])}
        draws = bootstrap_draws(pair, 200, np.random.default_rng(3))["qwk"]
        np.testing.assert_allclose(found[:, column], draws, rtol=0, atol=1e-12)


def test_identical_constants_have_kappa_one_and_different_ones_zero():
    counts = all_counts(5, 20, 0)
    human = np.full(5, 40)
    found = kappa_on_resamples(counts, human, np.column_stack([human, human - 1]))
    np.testing.assert_array_equal(found, np.tile([1.0, 0.0], (20, 1)))


def test_a_value_by_hand():
    """Essays 0, 1, 1 against 0, 1, 0; then the second essay twice in place of the third."""
    counts = np.array([[1.0, 1, 1], [1, 2, 0]])
    found = kappa_on_resamples(counts, np.array([0, 1, 1]), np.array([[0], [1], [0]]))
    # mean((h - m)^2) = 1/3; var = 2/9 each, gap = 1/3: 1 - (1/3) / (2/9 + 2/9 + 1/9) = .4
    np.testing.assert_allclose(found, [[0.4], [1.0]], rtol=0, atol=1e-15)


def test_chunks_do_not_change_the_counts(monkeypatch):
    whole = all_counts(30, 17, 3)
    monkeypatch.setattr(resampling, "CHUNK_VALUES", 4 * 30)
    assert len(list(resample_counts(30, 17, np.random.default_rng(3)))) == 5
    np.testing.assert_array_equal(all_counts(30, 17, 3), whole)
    np.testing.assert_array_equal(whole.sum(axis=1), 30)


def test_settings_that_cannot_be():
    with pytest.raises(ConfigError, match="at least 1 resample, found 0"):
        all_counts(3, 0, 0)
    with pytest.raises(DataError, match="at least one essay, found 0"):
        all_counts(0, 3, 0)


@pytest.mark.parametrize(("human", "machines"), [((3,), (2, 1)), ((2,), (2, 1)), ((3,), (3,)), ((0,), (0, 1))])
def test_shapes_must_fit(human, machines):
    counts = np.ones((4, 3 if human[0] else 0))
    with pytest.raises(DataError, match=r"needs counts \(resamples, n\).* found"):
        kappa_on_resamples(counts, np.ones(human, dtype=int), np.ones(machines, dtype=int))
