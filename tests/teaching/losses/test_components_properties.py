from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from toy_elements import make_elements

from aes_dynloss.teaching.losses.component_table import COMPONENTS

# Steps of a thousandth, so that an sd is 0 or well above the tiny variance that keeps its root smooth.
thousandths = st.integers(0, 1000).map(lambda number: number / 1000)
pairs = st.integers(2, 9).flatmap(lambda size: arrays(float, (2, size), elements=thousandths))
grouped = pairs.flatmap(
    lambda pair: st.tuples(st.just(pair), arrays("int64", pair.shape[1], elements=st.integers(0, 2)))
)


def value(name, elements):
    return float(COMPONENTS[name].function(elements).mean())


@given(grouped, st.floats(-3, 3))
def test_stde_does_not_see_a_shift(numbers, shift):
    (p, y), groups = numbers
    elements = make_elements(p, y, groups)
    shifted = replace(elements, scores=elements.scores + shift * elements.spread)
    assert value("stde", shifted) == pytest.approx(value("stde", elements), abs=1e-6)


@given(grouped, st.randoms(use_true_random=False))
def test_stde_does_not_see_who_wrote_what(numbers, random):
    (p, y), _ = numbers
    shuffled = list(p)
    random.shuffle(shuffled)
    assert value("stde", make_elements(shuffled, y)) == pytest.approx(value("stde", make_elements(p, y)), abs=1e-9)


@given(grouped)
def test_qwk_is_symmetric_and_bounded(numbers):
    (p, y), groups = numbers
    one_way, other_way = (value("one_minus_qwk", make_elements(*each, groups)) for each in ((p, y), (y, p)))
    assert one_way == pytest.approx(other_way, abs=1e-9)
    assert -1e-9 <= one_way <= 2 + 1e-9


@given(pairs)
def test_full_agreement_costs_nothing(numbers):
    p, _ = numbers
    elements = make_elements(p, p)
    for name in ("mse", "mae", "huber", "one_minus_qwk", "stde"):
        assert value(name, elements) == pytest.approx(0.0, abs=1e-12)


@given(pairs)
def test_opposite_constants_agree_in_nothing(numbers):
    p, y = numbers
    apart = make_elements(p * 0 + 0.25, y * 0 + 0.75)
    assert value("one_minus_qwk", apart) == pytest.approx(1.0, abs=1e-9)


@given(grouped, st.randoms(use_true_random=False))
@pytest.mark.parametrize("name", ["mse", "mae", "huber", "ranking", "one_minus_qwk", "stde", "all_pairs_error"])
def test_the_order_of_elements_does_not_matter(name, numbers, random):
    (p, y), groups = numbers
    order = torch.tensor(random.sample(range(len(p)), len(p)))
    elements = make_elements(p, y, groups)
    mixed = make_elements(p[order], y[order], groups[order])
    # Where all targets are the same, R2 of the all-pairs error is as good as infinite: relative, then.
    assert value(name, mixed) == pytest.approx(value(name, elements), rel=1e-9, abs=1e-9)


@given(grouped, st.floats(-2, 2))
def test_ranking_sees_only_order_of_targets_and_differences_of_scores(numbers, shift):
    (p, y), groups = numbers
    elements = make_elements(p, y, groups)
    moved = make_elements(p + shift, 3 * y + 1, groups)
    assert value("ranking", moved) == pytest.approx(value("ranking", elements), rel=1e-9)


@given(pairs)
def test_all_pairs_error_is_least_at_the_mean_for_all(numbers):
    p, y = numbers
    at_mean = make_elements(p * 0 + y.mean(), y)
    assert value("all_pairs_error", at_mean) <= value("all_pairs_error", make_elements(p, y)) + 1e-9
