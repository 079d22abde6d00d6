"""Weights by rater and level, number by number, and what they refuse."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from facts import facts
from toy_elements import make_elements, random_elements

from aes_dynloss.errors import ShapeError
from aes_dynloss.teaching.losses.loss_spec import RaterWeightsSpec
from aes_dynloss.teaching.losses.rater_weights import weighted_by_rater

RATERS = torch.tensor([0, 1, 2, 1, 0, 2, 2, 1, 0, 1, 2, 0])
NAMES = ["trusted", "r1", "r2"]
OVER_BATCH = {"stde": 1.0, "one_minus_qwk": 0.5}


def rated(**changed):
    return replace(random_elements(), raters=RATERS, **changed)


def drawn(size):
    return torch.rand(size, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


@pytest.mark.parametrize("levels", [1, 3])
@pytest.mark.parametrize("standardise", [False, True])
def test_number_by_number(levels, standardise):
    elements, weights = rated(), drawn(3 * levels)
    loss = weighted_by_rater({"mse": 2.0, "mae": 0.5}, NAMES[:3], levels, standardise=standardise)
    expected = []
    for place, rater in enumerate(RATERS.tolist()):
        score, target, spread = (float(v[place]) for v in (elements.scores, elements.targets, elements.spread))
        error = abs(score - target) / (spread if standardise else 1)
        level = min(int(target * levels), levels - 1)
        expected.append(float(weights[rater * levels + level]) * (2 * error**2 + 0.5 * error))
    torch.testing.assert_close(loss(weights, elements), torch.tensor(expected, dtype=torch.float64))


def test_targets_at_the_borders_of_levels():
    targets = [0.0, 1 / 3, 2 / 3, 1.0, 0.33, -0.2, 1.4]
    elements = make_elements(targets, targets, raters=torch.ones(7, dtype=torch.int64))
    loss = weighted_by_rater({"mse": 1.0}, NAMES[:2], 3, standardise=False)
    assert (loss.places(elements) - 3).tolist() == [0, 1, 2, 2, 0, 0, 2]
    single = make_elements(torch.tensor([1 / 3]), torch.tensor([1 / 3]), dtype=torch.float32, raters=torch.tensor([0]))
    assert loss.places(single).tolist() == [1]


@pytest.mark.parametrize("terms", [{"mse": 1.0}, OVER_BATCH])
def test_ones_leave_the_loss_as_it_is(terms):
    plain = weighted_by_rater(terms, NAMES[:1], 1, standardise=False)
    loss = weighted_by_rater(terms, NAMES[:3], 2, standardise=False)
    alone = replace(random_elements(), raters=0 * RATERS)
    found, expected = loss(torch.ones(6).double(), rated()), plain(torch.ones(1).double(), alone)
    torch.testing.assert_close(found, expected)
    assert loss.over_batch is (terms is OVER_BATCH)


@pytest.mark.parametrize("weights", [None, 1.0 + torch.arange(12.0)[:, None].double()])
def test_what_weighs_nothing_might_as_well_not_be_there(weights):
    """Of a loss over the batch; weights of the data stay."""
    loss = weighted_by_rater(OVER_BATCH, NAMES[:3], 1, standardise=False)
    kept = RATERS != 1
    elements = rated(weights=weights)
    columns = ("scores", "targets", "groups", "centre", "spread", "logits", "log_probs", "classes", "weights", "raters")
    rest = {name: value[kept] for name in columns if (value := getattr(elements, name)) is not None}
    found = loss(torch.tensor([2.0, 0.0, 2.0]).double(), elements)
    torch.testing.assert_close(found, loss(torch.tensor([2.0, 0.0, 2.0]).double(), replace(elements, **rest)))


@pytest.mark.parametrize("unit", NAMES)
def test_the_unit_counts_1(unit):
    """As if its coefficients, which it has none of, were 1."""
    place, weights = NAMES.index(unit), drawn(4)
    loss = weighted_by_rater({"mse": 1.0}, NAMES, 2, standardise=False, unit=unit)
    whole = torch.cat([weights[: 2 * place], torch.ones(2).double(), weights[2 * place :]])
    expected = weighted_by_rater({"mse": 1.0}, NAMES, 2, standardise=False)
    torch.testing.assert_close(loss(weights, rated()), expected(whole, rated()))
    assert loss.logged_values(weights) == expected.logged_values(whole)
    with pytest.raises(ShapeError, match=facts("3 raters at 2 levels", "(4,)", "(6,)")):
        loss(whole, rated())


@pytest.mark.parametrize("unit", [None, "r1"])
@pytest.mark.parametrize("terms", [{"mse": 1.0}, OVER_BATCH])
def test_gradients(terms, unit):
    loss, elements = weighted_by_rater(terms, NAMES[:3], 2, standardise=False, unit=unit), rated()

    def value(weights, scores):
        return loss(weights, replace(elements, scores=scores)).sum()

    given = drawn(loss.size).requires_grad_(), elements.scores.clone().requires_grad_()
    assert torch.autograd.gradcheck(value, given)
    assert torch.autograd.gradgradcheck(value, given)


def test_refused():
    loss = weighted_by_rater({"mse": 1.0}, NAMES[:3], 2, standardise=False)
    with pytest.raises(ShapeError, match=facts("Elements.raters")):
        loss(torch.ones(6), random_elements())
    with pytest.raises(ShapeError, match=facts("3 raters at 2 levels", "(6,)", "(3,)")):
        loss(torch.ones(3), rated())
    with pytest.raises(ShapeError, match=facts("Elements.raters", "expected (12,)")):
        replace(random_elements(), raters=RATERS[:5])


def test_spec():
    spec = RaterWeightsSpec(raters=["trusted", "Ann"], levels=3, terms={"mse": 1.0})
    loss = spec.build()
    assert (loss.size, spec.neutral().tolist(), spec.blocks) == (6, [1.0] * 6, (6,))
    watched = loss.logged_values(torch.tensor([1.0, 2.0, 3.0, 0.0, 0.0, 3.0]))
    assert {name: float(value) for name, value in watched.items()} == {"trusted": 2.0, "Ann": 1.0}
    beside = spec.model_copy(update={"unit": "trusted"})
    assert (beside.build().size, beside.neutral().tolist(), beside.blocks) == (3, [1.0] * 3, (3,))
