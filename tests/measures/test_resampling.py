from __future__ import annotations

import numpy as np
import pytest

from aes_dynloss.errors import ConfigError, DataError
from aes_dynloss.measures import bootstrap as resampling
from aes_dynloss.measures.agreement import pearson, quadratic_weighted_kappa
from aes_dynloss.measures.bootstrap import Paired, bootstrap_draws, percentile_interval, prompt_generator

RANDOM = np.random.default_rng(5)
HUMAN = RANDOM.integers(1, 7, 80).astype(float)
MACHINE = np.clip(HUMAN + RANDOM.integers(-1, 2, 80), 1, 6)
PAIRS = {"qwk": Paired(quadratic_weighted_kappa, HUMAN, MACHINE)}


def test_draws_are_those_of_a_loop_over_resamples():
    draws = bootstrap_draws(PAIRS, 50, np.random.default_rng(3))["qwk"]
    index = np.random.default_rng(3).integers(0, 80, size=(50, 80))
    np.testing.assert_allclose(draws, [float(quadratic_weighted_kappa(HUMAN[rows], MACHINE[rows])) for rows in index])


def test_chunks_do_not_change_the_draws(monkeypatch):
    whole = bootstrap_draws(PAIRS, 37, np.random.default_rng(3))["qwk"]
    monkeypatch.setattr(resampling, "CHUNK_VALUES", 5 * 80)
    np.testing.assert_array_equal(bootstrap_draws(PAIRS, 37, np.random.default_rng(3))["qwk"], whole)


def test_all_measures_see_the_same_resamples():
    twice = {**PAIRS, "again": Paired(quadratic_weighted_kappa, MACHINE, HUMAN)}
    draws = bootstrap_draws(twice, 40, np.random.default_rng(0))
    np.testing.assert_allclose(draws["qwk"], draws["again"])


def test_interval_has_its_coverage():
    """Of 200 samples of 120 essays, about 95 % of the intervals hold the kappa of the population."""
    random = np.random.default_rng(11)
    population = random.integers(0, 5, 200_000)
    machine = np.clip(population + random.choice([-1, 0, 0, 1], 200_000), 0, 4)
    true_kappa = float(quadratic_weighted_kappa(population, machine))
    inside = 0
    for _ in range(200):
        rows = random.integers(0, 200_000, 120)
        pair = {"qwk": Paired(quadratic_weighted_kappa, population[rows], machine[rows])}
        low, high = percentile_interval(bootstrap_draws(pair, 200, random)["qwk"], 0.95)
        inside += low <= true_kappa <= high
    assert 178 <= inside <= 199


def test_a_prompt_has_a_stream_of_its_own():
    first = prompt_generator(0, "1").integers(0, 10**9, 5)
    np.testing.assert_array_equal(first, prompt_generator(0, "1").integers(0, 10**9, 5))
    assert (first != prompt_generator(0, "2").integers(0, 10**9, 5)).any()
    assert (first != prompt_generator(1, "1").integers(0, 10**9, 5)).any()


def test_interval_is_that_of_numpy():
    draws = np.random.default_rng(0).normal(size=1000)
    assert percentile_interval(draws, 0.9) == pytest.approx(list(np.percentile(draws, [5, 95])))
    low, high = percentile_interval(draws, 0.99)
    assert low < np.percentile(draws, 5) < np.percentile(draws, 95) < high


def test_undefined_draws():
    assert percentile_interval([np.nan, 1.0, 3.0], 0.5) == [1.5, 2.5]
    assert percentile_interval([np.nan, np.nan, 1.0], 0.5) is None
    assert percentile_interval([np.nan], 0.5) is None
    constant = {"r": Paired(pearson, HUMAN, np.ones(80))}
    assert np.isnan(bootstrap_draws(constant, 5, np.random.default_rng(0))["r"]).all()


@pytest.mark.parametrize("confidence", [0, 1, 95, float("nan")])
def test_confidence_must_be_a_share(confidence):
    with pytest.raises(ConfigError, match=r"between 0 and 1, such as .95"):
        percentile_interval([1.0], confidence)


def test_settings_that_cannot_be():
    with pytest.raises(ConfigError, match="at least 1 resample, found 0"):
        bootstrap_draws(PAIRS, 0, np.random.default_rng(0))
    with pytest.raises(ConfigError, match="seed must be a whole number >= 0, found -1"):
        prompt_generator(-1, "1")


@pytest.mark.parametrize("lengths", [(3, 2), (0, 0)])
def test_columns_must_be_of_one_length(lengths):
    pair = Paired(quadratic_weighted_kappa, np.ones(lengths[0]), np.ones(lengths[1]))
    with pytest.raises(DataError, match="one length >= 1, found lengths"):
        bootstrap_draws({"qwk": pair}, 5, np.random.default_rng(0))
