"""Weights of stacked scorers: what is fitted, how it is shrunk, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import minimize

from aes_dynloss.errors import ConfigError, DataError
from aes_dynloss.measures.stacking import LEAST_ESSAYS, SHRINKAGES, fit_weights


def ids(count: int) -> list[str]:
    return [f"essay {number}" for number in range(count)]


def scorers(count: int, noises: list[float], seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Human scores 0 to 10, and predictions that shrink to the mean, each with a noise of its own."""
    random = np.random.default_rng(seed)
    human = random.integers(0, 11, count).astype(np.float64)
    raw = [5 + 0.8 * (human - 5) + noise * random.normal(size=count) for noise in noises]
    return np.column_stack(raw), human


def correlation(weights: np.ndarray, predictions: np.ndarray, human: np.ndarray) -> float:
    return float(np.corrcoef(predictions @ weights, human)[0, 1])


@given(st.integers(0, 10_000), st.integers(0, 200), st.integers(1, 7), st.sampled_from([-1.0, 0.0, 0.3]))
def test_weights_are_not_negative_and_sum_to_one(seed, count, members, sense):
    """Whatever the scorers say, even the opposite of the human scores."""
    predictions, human = scorers(count or 1, [1.0] * members, seed)
    weights = fit_weights(sense * predictions, human, ids(len(human)))
    assert weights.shape == (members,)
    assert weights.min() >= 0
    assert weights.sum() == pytest.approx(1, abs=1e-9)


def test_no_other_weights_correlate_more():
    """Four thousand essays need no shrinkage, and then an independent search finds the same correlation."""
    predictions, human = scorers(4000, [1.0, 2.0, 4.0])
    found = fit_weights(predictions, human, ids(4000))
    searched = minimize(
        lambda weights: -correlation(np.abs(weights) / np.abs(weights).sum(), predictions, human),
        np.ones(3),
        method="Nelder-Mead",
        options={"xatol": 1e-9, "fatol": 1e-12, "maxiter": 5000},
    )
    expected = np.abs(searched.x) / np.abs(searched.x).sum()
    np.testing.assert_allclose(found, expected, atol=1e-4)
    np.testing.assert_allclose(found, np.array([1, 1 / 4, 1 / 16]) / (21 / 16), atol=0.05)  # by their variances


def test_a_scorer_that_turns_the_scores_round_gets_nothing():
    predictions, human = scorers(400, [1.0, 1.0])
    predictions[:, 1] = 10 - predictions[:, 1]
    assert fit_weights(predictions, human, ids(400))[1] == 0


def test_shrinkage_is_chosen_by_essays_that_were_left_out():
    """Fifteen scorers alike: whatever distinguishes them on 60 essays is chance, and equal weights are best."""
    chosen = [fit_weights(*scorers(60, [3.0] * 15, seed), ids(60)) for seed in range(30)]
    assert np.median([np.ptp(weights) for weights in chosen]) < 0.1


@pytest.mark.parametrize("least", SHRINKAGES)
def test_the_least_shrinkage_bounds_the_distance_from_equal_weights(least):
    predictions, human = scorers(400, [0.5, 5.0])
    weights = fit_weights(predictions, human, ids(400), least_shrinkage=least)
    assert weights.min() >= least / 2 - 1e-12
    assert weights[1] == pytest.approx(least / 2, abs=0.02)  # the noise is worth no more than it must have


def test_units_and_means_do_not_matter():
    predictions, human = scorers(200, [1.0, 1.5, 2.0])
    expected = fit_weights(predictions, human, ids(200))
    assert np.ptp(expected) > 0.05
    np.testing.assert_allclose(fit_weights(7 * predictions + 3, 7 * human - 40, ids(200)), expected, atol=1e-9)
    np.testing.assert_allclose(fit_weights(predictions + np.array([1, 0, -5]), human, ids(200)), expected, atol=1e-9)


@pytest.mark.parametrize("seed", range(20))
def test_the_order_of_essays_does_not_matter(seed):
    """Nor for the shrinkage, which is close between equal scorers of few essays."""
    predictions, human = scorers(60, [2.0] * 4, seed)
    order = np.random.default_rng(seed).permutation(60)
    shuffled = fit_weights(predictions[order], human[order], [ids(60)[row] for row in order])
    np.testing.assert_allclose(shuffled, fit_weights(predictions, human, ids(60)), atol=1e-9)


@pytest.mark.parametrize("count", [1, LEAST_ESSAYS - 1, LEAST_ESSAYS])
def test_few_essays_keep_equal_weights(count):
    predictions, human = scorers(count, [0.1, 9.0])
    equal = fit_weights(predictions, human, ids(count)).tolist() == [0.5, 0.5]
    assert equal == (count < LEAST_ESSAYS)


@pytest.mark.parametrize("what", ["human", "all scorers"])
def test_what_does_not_vary_gives_equal_weights(what):
    predictions, human = scorers(50, [1.0, 2.0])
    constant = np.full(50, 0.1)
    if what == "human":
        assert fit_weights(predictions, constant, ids(50)).tolist() == [0.5, 0.5]
    else:
        assert fit_weights(np.column_stack([constant] * 2), human, ids(50)).tolist() == [0.5, 0.5]


def test_equal_scorers_together_weigh_what_one_does():
    predictions, human = scorers(400, [1.0, 1.0])
    twice = fit_weights(predictions[:, [0, 0, 1]], human, ids(400))
    once = fit_weights(predictions, human, ids(400))
    assert correlation(twice, predictions[:, [0, 0, 1]], human) == pytest.approx(
        correlation(once, predictions, human), abs=2e-3
    )


@pytest.mark.parametrize(
    ("predictions", "human", "essays", "words"),
    [
        (np.ones((3, 0)), np.ones(3), 3, r"found \(3, 0\)"),
        (np.ones(3), np.ones(3), 3, r"found \(3,\)"),
        (np.ones((3, 2)), np.ones(4), 3, r"found \(3, 2\), \(4,\) and 3 ids"),
        (np.ones((3, 2)), np.ones(3), 4, "and 4 ids"),
        (np.ones((0, 2)), np.ones(0), 0, "at least one essay"),
        (np.full((3, 2), np.nan), np.ones(3), 3, "predictions"),
        (np.ones((3, 2)), np.array([1, np.inf, 1]), 3, "reference"),
    ],
)
def test_refusals(predictions, human, essays, words):
    with pytest.raises(DataError, match=words):
        fit_weights(predictions, human, ids(essays))


@pytest.mark.parametrize("least", [-0.1, 1.1, np.nan])
def test_a_shrinkage_out_of_bounds(least):
    with pytest.raises(ConfigError, match="expected a number from 0 to 1"):
        fit_weights(*scorers(50, [1.0]), ids(50), least_shrinkage=least)
