"""How much a learned loss makes of each target, where that is known by hand."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn
from toy_elements import random_elements

from aes_dynloss.teaching.losses.learned_loss import LearnedLoss
from aes_dynloss.teaching.losses.loss_spec import (
    BilinearSpec,
    ForwardSpec,
    MetaWeightSpec,
    MixtureSpec,
    NetworkSpec,
    RaterWeightsSpec,
)

SIZE = 12
ELEMENTS = replace(random_elements(SIZE), raters=torch.arange(SIZE) % 3)


class Answering(nn.Module):
    """A student whose outputs are scores, or log-probabilities or logits of three classes."""

    def __init__(self, form):
        super().__init__()
        self.form = form

    def elements(self, outputs, targets, groups):
        del targets, groups  # those of ELEMENTS
        if self.form == "scores":
            return replace(ELEMENTS, scores=outputs[:, 0], logits=None, log_probs=None, classes=None)
        log_probs = outputs if self.form == "log_probs" else torch.log_softmax(outputs, dim=1)
        expected = log_probs.exp() @ torch.tensor([0.0, 0.5, 1.0], dtype=outputs.dtype)
        return replace(ELEMENTS, scores=expected, log_probs=log_probs)


def weights_of(spec, coefficients, form="scores", outputs=None):
    if outputs is None:
        outputs = ELEMENTS.scores[:, None] if form == "scores" else ELEMENTS.log_probs
    learned = LearnedLoss(spec.build(), coefficients, spec.plain_loss())
    return learned.weights(Answering(form), outputs, ELEMENTS.targets, ELEMENTS.groups)


@pytest.mark.parametrize("terms", [{"mse": 1.0}, {"mse": 0.5, "huber": 2.0}])
@pytest.mark.parametrize("standardise", [False, True])
def test_weights_by_rater_are_found_as_they_are(terms, standardise):
    spec = RaterWeightsSpec(raters=["trusted", "a", "b"], levels=2, terms=terms, standardise=standardise)
    coefficients = torch.rand(6, generator=torch.Generator().manual_seed(0))
    expected = coefficients[spec.build().places(ELEMENTS)]
    assert torch.allclose(weights_of(spec, coefficients), expected.double())
    # The same of a student with a distribution, of whose expectation the loss is.
    assert torch.allclose(weights_of(spec, coefficients, "log_probs"), expected.double())


def test_weights_over_the_batch_rank_raters():
    spec = RaterWeightsSpec(raters=["trusted", "a", "b"], levels=1, terms={"mse": 1.0, "stde": 0.0}, standardise=False)
    found = weights_of(spec, torch.tensor([1.0, 0.5, 0.1]))
    assert torch.allclose(found / found[0], torch.tensor([1.0, 0.5, 0.1])[ELEMENTS.raters].double())


@pytest.mark.parametrize("form", ["log_probs", "logits"])
def test_pulls_are_on_logits(form):
    """By log-probabilities all plain gradients would be equal; W = 2 I, b = 0 has the slope s(1 - s) 2."""
    spec = BilinearSpec(classes=3, floor=0.25, bins=3)
    coefficients = torch.cat([2 * torch.eye(3).reshape(-1), torch.zeros(3)])
    s = torch.sigmoid(2 * ELEMENTS.log_probs.gather(1, ELEMENTS.classes[:, None]).squeeze(1))
    assert torch.allclose(weights_of(spec, coefficients, form), 0.25 + 2 * s * (1 - s))
    matrix = torch.rand(12, generator=torch.Generator().manual_seed(0))
    assert torch.allclose(weights_of(spec, matrix, form), weights_of(spec, matrix, "logits"))


def test_a_flat_row_says_little():
    """The bilinear loss of a class whose row of W is flat does not pull to that class where it is unlikely."""
    spec = BilinearSpec(classes=3, floor=0.0, bins=3)
    matrix = torch.eye(3, dtype=torch.float64)
    matrix[0] = 0.05
    found = weights_of(spec, torch.cat([matrix.reshape(-1), torch.zeros(3)]), "log_probs")
    first = ELEMENTS.classes == 0
    assert first.any()
    assert found[first].max() < found[~first].max() / 3


def test_a_loss_that_pushes_away_weighs_less_than_nothing():
    spec = MixtureSpec(terms={"mse": 1.0, "huber": 0.5})
    assert (weights_of(spec, torch.tensor([-1.0, 0.0])) < 0).all()
    assert torch.allclose(weights_of(spec, spec.neutral()), torch.ones(SIZE).double())


def test_meta_weights_are_those_of_the_network():
    spec = MetaWeightSpec(terms={"mse": 1.0}, width=4)
    loss = spec.build()
    coefficients = loss.start(torch.Generator().manual_seed(0))
    read = (ELEMENTS.scores - ELEMENTS.targets).square() / ELEMENTS.spread.square()
    assert torch.allclose(weights_of(spec, coefficients), loss.weights(coefficients, read))


@pytest.mark.parametrize("form", ["scores", "distribution"])
def test_a_silent_network_leaves_the_plain_loss(form):
    spec = NetworkSpec(form=form, width=4, hidden=2, plain=0.5)
    silent = spec.build().start(torch.Generator().manual_seed(0), silent=True)
    own = "scores" if form == "scores" else "log_probs"
    assert torch.allclose(weights_of(spec, silent, own), torch.full((SIZE,), 0.5).double())


def test_a_forward_correction_says_how_probable_a_target_is():
    spec = ForwardSpec(groups=3, classes=3, bins=3)
    matrices = torch.rand(3, 3, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    matrices /= matrices.sum(2, keepdim=True)
    found = weights_of(spec, matrices.reshape(-1), "log_probs")
    for row in range(SIZE):
        p, c, y = ELEMENTS.log_probs[row].exp(), matrices[ELEMENTS.groups[row]], ELEMENTS.classes[row]
        bayes = p[y] * c[y, y] / (p * c[:, y]).sum()
        assert float(found[row]) == pytest.approx(1.0 if ELEMENTS.raters[row] == 0 else float(bayes))


def test_nothing_to_weigh():
    """Where a prediction is its target, nothing pulls, and the student's own outputs are left as they are."""
    spec = MixtureSpec(terms={"mse": 1.0})
    outputs = ELEMENTS.scores[:, None].clone()
    outputs[3] = ELEMENTS.targets[3]
    found = weights_of(spec, torch.tensor([0.5]), outputs=outputs)
    assert np.flatnonzero(found.isnan()).tolist() == [3]
    assert not outputs.requires_grad
