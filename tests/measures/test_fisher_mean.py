from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aes_dynloss.errors import DataError
from aes_dynloss.measures.agreement import fisher_mean

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
