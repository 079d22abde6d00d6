from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aes_dynloss.errors import DataError
from aes_dynloss.measures.agreement import fisher_mean, pooled_quadratic_weighted_kappa, quadratic_weighted_kappa
from aes_dynloss.tables.score_range import ScoreRange

kappas = st.lists(st.floats(-1, 1), min_size=1)


@given(st.floats(-0.99, 0.99))
def test_fisher_mean_of_equal_kappas_is_that_kappa(kappa):
    assert fisher_mean([kappa] * 3) == pytest.approx(kappa, abs=1e-12)


@given(kappas)
def test_fisher_mean_lies_among_the_capped_kappas(values):
    capped = [max(-0.999, min(0.999, value)) for value in values]
    assert min(capped) - 1e-9 <= fisher_mean(values) <= max(capped) + 1e-9


def test_fisher_mean_by_hand():
    by_hand = math.tanh((math.atanh(0.5) + math.atanh(0.9)) / 2)
    assert fisher_mean([0.5, 0.9]) == pytest.approx(by_hand)
    assert fisher_mean([1.0]) == pytest.approx(0.999)
    assert fisher_mean([1.0, 0.0]) == pytest.approx(math.tanh(math.atanh(0.999) / 2))


@pytest.mark.parametrize("values", [[], [1.1], [math.nan]])
def test_fisher_mean_refuses_what_is_no_kappa(values):
    with pytest.raises(DataError, match="kappas from -1 to 1"):
        fisher_mean(values)


def test_pooled_kappa_of_prompts_with_one_range():
    reference, score = [1, 2, 3, 4], [1, 3, 3, 4]
    same = {"1": ScoreRange(1, 4), "2": ScoreRange(1, 4)}
    assert pooled_quadratic_weighted_kappa(reference, score, ["1", "1", "2", "2"], same) == float(
        quadratic_weighted_kappa(reference, score)
    )


def test_pooled_kappa_of_prompts_with_different_ranges_is_refused():
    random = np.random.default_rng(0)
    reference = np.concatenate([random.integers(0, 4, 50), random.integers(10, 61, 50)])
    prompts = ["3"] * 50 + ["8"] * 50
    means = np.repeat([2, 35], 50)
    assert quadratic_weighted_kappa(reference, means) > 0.7  # the trap: a prediction that knows the prompt alone
    with pytest.raises(DataError, match=r"3: 0 to 3, 8: 0 to 60.*Take the mean of the prompts' QWKs"):
        pooled_quadratic_weighted_kappa(reference, means, prompts, {"3": ScoreRange(0, 3), "8": ScoreRange(0, 60)})


def test_pooled_kappa_needs_every_range():
    with pytest.raises(DataError, match="none given for 2"):
        pooled_quadratic_weighted_kappa([1, 2], [1, 2], ["1", "2"], {"1": ScoreRange(1, 4)})
