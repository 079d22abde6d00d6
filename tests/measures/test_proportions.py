import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest

from aes_dynloss.errors import ShapeError
from aes_dynloss.measures.differences import clustered_interval, wilson_interval


@given(n=st.integers(1, 500), part=st.floats(0, 1), confidence=st.sampled_from([0.5, 0.9, 0.95, 0.99]))
def test_wilson_is_scipys(n, part, confidence):
    count = round(part * n)
    expected = binomtest(count, n).proportion_ci(confidence, method="wilson")
    assert wilson_interval(count / n, n, confidence) == pytest.approx((expected.low, expected.high), abs=1e-12)


def test_one_judgement_an_essay_is_wilson():
    counts = np.array([1, 0, 0, 1, 0, 0, 0, 1])
    assert clustered_interval(counts, np.ones(8, dtype=int)) == pytest.approx(wilson_interval(3 / 8, 8), abs=1e-12)


def test_essays_that_always_repeat_themselves_count_once():
    counts = np.array([5, 0, 0, 5, 0, 0, 0, 5])
    assert clustered_interval(counts, np.full(8, 5)) == pytest.approx(wilson_interval(3 / 8, 8), abs=1e-12)
    assert clustered_interval(np.zeros(8, dtype=int), np.full(8, 5)) == wilson_interval(0, 8)
    assert clustered_interval(np.full(8, 5), np.full(8, 5)) == wilson_interval(1, 8)


def test_essays_without_a_judgement_are_left_out():
    one = clustered_interval(np.array([1, 0, 0]), np.array([2, 0, 2]))
    assert one == clustered_interval(np.array([1, 0]), np.array([2, 2]))


@pytest.mark.parametrize("within", [0.0, 0.5])
def test_intervals_hold_the_true_share_as_often_as_they_say(within):
    """Judgements of an essay share a part of their cause."""
    generator = np.random.default_rng(0)
    held = 0
    for _ in range(400):
        own = generator.random(60) < 0.2
        drawn = generator.random((60, 10)) < 0.2
        judged = np.where(generator.random((60, 10)) < within, own[:, None], drawn)
        low, high = clustered_interval(judged.sum(1), np.full(60, 10))
        held += low <= 0.2 <= high
    assert 0.92 <= held / 400 <= 0.98


def test_nothing_to_judge_is_refused():
    with pytest.raises(ShapeError, match="one judgement at least"):
        clustered_interval(np.zeros(2, dtype=int), np.zeros(2, dtype=int))
