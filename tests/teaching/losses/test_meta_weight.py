"""The loss of Meta-Weight-Net, element by element."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from toy_elements import make_elements, random_elements

from aes_dynloss.errors import ConfigError, ShapeError
from aes_dynloss.teaching.losses.components import huber, squared_error
from aes_dynloss.teaching.losses.loss_spec import MetaWeightSpec
from aes_dynloss.teaching.losses.meta_weight import MetaWeightLoss

CLOSE = {"rtol": 0, "atol": 1e-12}


def drawn(loss, seed=0):
    return loss.start(torch.Generator().manual_seed(seed)).double()


def by_loops(coefficients, width, read):
    """The weight of one loss, unit by unit."""
    total = coefficients[3 * width]
    for unit in range(width):
        total = total + coefficients[2 * width + unit] * max(
            0.0, float(coefficients[unit] * read + coefficients[width + unit])
        )
    return float(torch.sigmoid(total))


@pytest.mark.parametrize("standardise", [False, True])
def test_the_weight_is_of_the_standardised_loss_and_multiplies_the_configured_one(standardise):
    loss, elements = MetaWeightLoss({"mse": 1.0, "huber": 0.5}, standardise=standardise, width=7), random_elements()
    coefficients = drawn(loss)
    scaled = elements.standardised()
    read = squared_error(scaled) + 0.5 * huber(scaled)
    plain = read if standardise else squared_error(elements) + 0.5 * huber(elements)
    expected = [by_loops(coefficients, 7, part) * float(value) for part, value in zip(read, plain, strict=True)]
    torch.testing.assert_close(loss(coefficients, elements).tolist(), expected, **CLOSE)
    assert list(loss.terms(elements)) == ["mse", "huber"]
    torch.testing.assert_close(loss.plain(torch.zeros(0), elements), plain, **CLOSE)


def test_a_weight_means_the_same_on_every_scale():
    """One essay in two groups, one of which has twice the spread: errors of one SD weigh the same."""
    narrow = make_elements([0.6, 0.5], [0.5, 0.5], [0, 0], centres=[0.5], spreads=[0.1])
    wide = make_elements([0.7, 0.5], [0.5, 0.5], [0, 0], centres=[0.5], spreads=[0.2])
    loss = MetaWeightLoss({"mse": 1.0}, width=5)
    coefficients = drawn(loss)
    torch.testing.assert_close(4 * loss(coefficients, narrow), loss(coefficients, wide), **CLOSE)


def test_the_gradient_leaves_the_weight_alone_and_its_own_gradient_does_not():
    """w dl, whose derivative is w d2l + w' dl dl; l = x^2 here."""
    x = torch.tensor([0.5, -1.5, 2.0], dtype=torch.float64, requires_grad=True)
    loss = MetaWeightLoss({"mse": 1.0}, width=6)
    coefficients = drawn(loss).requires_grad_()
    elements = make_elements(torch.zeros(3), torch.zeros(3), centres=[0.0], spreads=[1.0])
    value = loss(coefficients, replace(elements, scores=x)).sum()
    slope, to_coefficients = torch.autograd.grad(value, [x, coefficients], create_graph=True)
    read = x.detach().square().requires_grad_()
    weights = loss.weights(coefficients, read)
    torch.testing.assert_close(slope, weights * 2 * x, **CLOSE)
    (expected,) = torch.autograd.grad((weights * read.detach()).sum(), coefficients, retain_graph=True)
    torch.testing.assert_close(to_coefficients, expected, **CLOSE)
    (curvature,) = torch.autograd.grad(slope.sum(), x, retain_graph=True)
    (steepness,) = torch.autograd.grad(weights.sum(), read, retain_graph=True)
    assert float(steepness.abs().min()) > 1e-4
    torch.testing.assert_close(curvature, 2 * weights + steepness * (2 * x).square(), **CLOSE)
    (mixed,) = torch.autograd.grad(slope @ torch.tensor([1.0, 2.0, 3.0], dtype=torch.float64), coefficients)
    fixed = 2 * x.detach() * torch.tensor([1.0, 2.0, 3.0], dtype=torch.float64)
    (expected,) = torch.autograd.grad(weights @ fixed, coefficients)
    torch.testing.assert_close(mixed, expected, **CLOSE)


def test_an_elements_own_weight_stays():
    """It multiplies in the example's loss, and the network does not read it."""
    elements = random_elements(6)
    own = torch.tensor([1.0, 0.0, 2.0, 0.5, 3.0, 1.0], dtype=torch.float64)
    loss = MetaWeightLoss({"mse": 1.0}, width=5)
    values = loss(drawn(loss), elements)
    weighted = replace(elements, weights=own[:, None])
    torch.testing.assert_close(weighted.by_example(loss(drawn(loss), weighted)), own * values, **CLOSE)


def test_it_starts_as_a_linear_layer_does():
    loss = MetaWeightLoss({"mse": 1.0}, width=10_000)
    hidden, last = torch.split(drawn(loss, 3), [20_000, 10_001])
    assert (loss.size, len(drawn(loss))) == (30_001, 30_001)
    assert 0.99 < float(hidden.abs().max()) <= 1
    assert 0.0099 < float(last.abs().max()) <= 0.01
    assert float(hidden.mean()) == pytest.approx(0, abs=0.02)


def test_what_the_log_gets():
    loss = MetaWeightLoss({"mse": 1.0}, width=5)
    logged = loss.logged_values(drawn(loss))
    assert list(logged) == ["weight_at_0", "weight_at_1", "weight_at_4"]
    expected = loss.weights(drawn(loss), torch.tensor([0.0, 1.0, 4.0], dtype=torch.float64))
    assert torch.equal(torch.stack(list(logged.values())), expected)
    assert len({float(weight) for weight in expected}) == 3


def test_what_it_refuses():
    with pytest.raises(ConfigError, match="weights each element by its loss, but stde is one number for a whole batch"):
        MetaWeightLoss({"mse": 1.0, "stde": 0.1})
    with pytest.raises(ConfigError, match="Expected component losses"):
        MetaWeightLoss({})
    loss = MetaWeightLoss({"mse": 1.0}, width=5)
    with pytest.raises(ShapeError, match=r"coefficients of shape \(16,\), found \(15,\)"):
        loss(torch.zeros(15), random_elements())
    with pytest.raises(ShapeError, match="needs a student with a distribution"):
        MetaWeightLoss({"cross_entropy": 1.0}, width=5)(torch.zeros(16), make_elements([0.1], [0.2]))


def test_the_specification_knows_the_student():
    assert MetaWeightSpec(terms={"mse": 1.0}, width=3).form == "scores"
    assert MetaWeightSpec(terms={"cross_entropy": 1.0}, width=3).form == "distribution"
    assert MetaWeightSpec(terms={"mse": 2.0}, width=3).build().size == 10
