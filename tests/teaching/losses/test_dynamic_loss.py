from __future__ import annotations

from dataclasses import fields, replace

import pytest
import torch
from toy_elements import random_elements

from aes_dynloss.errors import ConfigError, ShapeError
from aes_dynloss.teaching.losses.component_table import COMPONENTS, OF_CLASSES, those_that_need
from aes_dynloss.teaching.losses.dynamic_loss import Mixture
from aes_dynloss.teaching.student import Elements

ALL = list(COMPONENTS)


def test_names_stay_in_their_order():
    assert Mixture(["stde", "mse"]).coefficient_names == ("stde", "mse")


def test_a_mixture_over_elements_answers_each_element():
    elements = random_elements()
    mixture = Mixture(["mse", "mae", "cross_entropy"])
    assert not mixture.over_batch
    terms = mixture.terms(elements)
    loss = mixture(torch.tensor([0.5, 2.0, 0.0], dtype=torch.float64), elements)
    torch.testing.assert_close(loss, 0.5 * terms["mse"] + 2.0 * terms["mae"], rtol=1e-12, atol=0)


def test_a_mixture_over_the_batch_answers_one_number():
    elements = random_elements()
    mixture = Mixture(ALL)
    assert mixture.over_batch
    weights = torch.arange(1.0, 1.0 + len(ALL), dtype=torch.float64)
    expected = sum(w * COMPONENTS[name].function(elements).mean() for w, name in zip(weights, ALL, strict=True))
    torch.testing.assert_close(mixture(weights, elements), expected, rtol=1e-12, atol=0)


def test_the_gradient_reaches_the_coefficients():
    """What a teacher learns from: dL / dphi_k is the k-th term."""
    elements = random_elements()
    mixture = Mixture(["mse", "stde"])
    weights = torch.tensor([0.7, 0.3], dtype=torch.float64, requires_grad=True)
    mixture(weights, elements).backward()
    terms = mixture.terms(elements)
    torch.testing.assert_close(weights.grad, torch.stack([terms["mse"].mean(), terms["stde"]]))


def test_standardising_touches_components_in_score_units_alone():
    elements = random_elements()
    plain, scaled = (Mixture(ALL, standardise=each).terms(elements) for each in (False, True))
    changed = {name for name in ALL if not torch.allclose(plain[name], scaled[name], rtol=1e-6, atol=0)}
    assert changed == {"mse", "mae", "huber", "stde", "all_pairs_error"}
    torch.testing.assert_close(scaled["mse"], plain["mse"] / elements.spread.square())
    torch.testing.assert_close(scaled["huber"], plain["huber"] / elements.spread.square())
    torch.testing.assert_close(scaled["stde"] * elements.spread.square().mean().sqrt(), plain["stde"])


@pytest.mark.parametrize("names", [[], ["mse", "mes"]])
def test_components_that_do_not_exist(names):
    with pytest.raises(ConfigError, match=r"Expected component losses out of mse, .*; found \["):
        Mixture(names)


@pytest.mark.parametrize("shape", [(3,), (2, 1), ()])
def test_coefficients_of_another_shape(shape):
    with pytest.raises(ShapeError, match=r"mixture of mse, stde expects coefficients of shape \(2,\), found"):
        Mixture(["mse", "stde"])(torch.ones(shape), random_elements())


def test_those_that_need():
    assert those_that_need("logits", ALL) == ["binary_cross_entropy"]
    assert set(those_that_need("log_probs", ALL)) == set(OF_CLASSES)
    assert those_that_need("log_probs", ["mse", "stde", "ranking"]) == []


@pytest.mark.parametrize("name", ALL)
def test_a_weight_counts_as_repetition(name):
    """Of an example of one element: three of weight 1 are one of weight 3, in the value and in the gradient."""
    elements, repeats = random_elements(), torch.tensor([1, 3, 2, 1, 1, 4, 1, 2, 1, 1, 2, 1])
    rows = torch.repeat_interleave(torch.arange(12), repeats)
    scores, outputs = elements.scores.clone().requires_grad_(), elements.log_probs.clone().requires_grad_()
    logits = elements.logits.clone().requires_grad_()
    whole = replace(elements, scores=scores, log_probs=outputs, logits=logits)
    repeated = replace(
        whole,
        **{
            each.name: getattr(whole, each.name)[rows]
            for each in fields(whole)
            if each.name not in {"weights", "other", "kinds", "raters", "parts"}
        },
    )
    weighted = replace(whole, weights=(repeats / repeats.double().mean())[:, None])
    mixture, one = Mixture([name]), torch.ones(1, dtype=torch.float64)

    def answer(each: Elements) -> torch.Tensor:
        loss = mixture(one, each)
        return loss if mixture.over_batch else each.by_example(loss).mean()

    expected, found = answer(repeated), answer(weighted)
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-12)
    assert not torch.isclose(found, answer(whole), rtol=1e-6)
    leaves = [scores, outputs, logits]
    gradients = [torch.autograd.grad(loss, leaves, allow_unused=True) for loss in (found, expected)]
    for one_side, other in zip(*gradients, strict=True):
        assert (one_side is None) == (other is None)
        if one_side is not None:
            torch.testing.assert_close(one_side, other, rtol=1e-8, atol=1e-12)


def test_a_statistic_of_a_batch_needs_examples_of_one_element():
    elements = replace(random_elements(), weights=torch.ones(6, 2, dtype=torch.float64))
    with pytest.raises(ShapeError, match="each example is one element"):
        Mixture(["stde"])(torch.ones(1, dtype=torch.float64), elements)
