"""Gold loss correction: the matrix that is estimated, and the loss through it; generalised cross-entropy."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from facts import facts
from toy_distributions import drawn, drawn_logits, of_distribution
from toy_elements import random_elements

from aes_dynloss.errors import ShapeError
from aes_dynloss.teaching.losses.components import cross_entropy, generalised_cross_entropy
from aes_dynloss.teaching.losses.forward_correction import ForwardCorrection

BOTH = torch.tensor([0, 1, 1, 0, 1, 1])


def elements_of(points: int = 4):
    elements = drawn([points] * 6, points, 0)
    return replace(elements, raters=BOTH, groups=torch.tensor([0, 0, 1, 1, 1, 0]))


def matrices(groups: int, bins: int, seed: int = 0):
    generator = torch.Generator().manual_seed(seed)
    return torch.rand((groups, bins, bins), generator=generator, dtype=torch.float64).softmax(2)


def test_number_by_number():
    elements, given = elements_of(), matrices(2, 4)
    expected = []
    for place in range(6):
        probabilities, y = elements.log_probs[place].exp().tolist(), int(elements.classes[place])
        if BOTH[place] == 0:
            expected.append(-math.log(probabilities[y]))
        else:
            rows = given[int(elements.groups[place])]
            expected.append(-math.log(sum(p * float(rows[i, y]) for i, p in enumerate(probabilities))))
    found = ForwardCorrection(2, 4)(given.reshape(-1), elements)
    torch.testing.assert_close(found, torch.tensor(expected, dtype=torch.float64))


@pytest.mark.parametrize("raters", [BOTH, 0 * BOTH, 1 + 0 * BOTH])
def test_without_noise_it_is_cross_entropy(raters):
    loss, elements = ForwardCorrection(2, 4), replace(elements_of(), raters=raters)
    torch.testing.assert_close(loss(loss.neutral(), elements), cross_entropy(elements))


def test_by_logits():
    """The same loss, of matrices whose rows are distributions wherever a teacher moves them."""
    elements, logits = elements_of(), matrices(2, 4).log() + 3.0
    loss = ForwardCorrection(2, 4, logits=True)
    expected = ForwardCorrection(2, 4)(matrices(2, 4).reshape(-1), elements)
    torch.testing.assert_close(loss(logits.reshape(-1), elements), expected)
    told = ForwardCorrection(2, 4).probability_true(matrices(2, 4).reshape(-1), elements)
    torch.testing.assert_close(loss.probability_true(logits.reshape(-1), elements), told)
    first = loss.matrices(loss.neutral())
    torch.testing.assert_close(first, torch.full((2, 4, 4), 0.1) + 0.6 * torch.eye(4))
    start = logits.reshape(-1).clone().requires_grad_()
    assert torch.autograd.gradcheck(lambda given: loss(given, elements).sum(), (start,))


def test_the_matrix_is_what_a_first_student_says_of_trusted_elements():
    elements = elements_of()
    elements = replace(elements, classes=torch.tensor([0, 0, 3, 3, 0, 2]))
    found = ForwardCorrection(2, 4).estimated(elements).view(2, 4, 4)
    said = elements.log_probs.exp()
    torch.testing.assert_close(found[0, 0], said[:2].mean(0))
    torch.testing.assert_close(found[0, 2], said[5])
    torch.testing.assert_close(found[1, 3], said[2:4].mean(0))
    torch.testing.assert_close(found[1, 0], said[4])
    untold = [(0, 1), (0, 3), (1, 1), (1, 2)]
    for group, row in untold:
        assert found[group, row].tolist() == torch.eye(4)[row].tolist()
    torch.testing.assert_close(found.sum(2), torch.ones(2, 4, dtype=torch.float64))


def test_the_true_matrix_leads_to_the_truth():
    """Where 40 % of all targets are called the lowest, the least expected loss is that of the true distribution."""
    truth, noise = torch.tensor([0.2, 0.3, 0.5]).double(), torch.eye(3).double() * 0.6
    noise[:, 0] += 0.4
    called = truth @ noise
    logits = torch.zeros(3, dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.LBFGS([logits], max_iter=200, tolerance_grad=1e-10)
    one = torch.ones(3, dtype=torch.int64)

    def closure():
        optimizer.zero_grad()
        log_probs = logits.log_softmax(0).expand(3, 3)
        elements = replace(random_elements(3), log_probs=log_probs, classes=torch.arange(3), raters=one, groups=0 * one)
        value = (called * ForwardCorrection(1, 3)(noise.reshape(-1), elements)).sum()
        value.backward()
        return value

    optimizer.step(closure)
    torch.testing.assert_close(logits.detach().softmax(0), truth, rtol=0, atol=1e-4)


def test_wide_and_narrow_scales():
    """A scale with more points than bins is binned; points that a prompt does not have tell nothing."""
    elements = drawn([61, 4, 61, 4, 4, 61], 61, 0)
    elements = replace(elements, raters=1 + 0 * BOTH, groups=torch.tensor([0, 1, 0, 1, 1, 0]))
    loss = ForwardCorrection(2, 61, bins=12)
    assert loss.size == 2 * 144
    found = loss.estimated(elements).view(2, 12, 12)
    assert float(found[1, :4, 4:].abs().max()) == 0
    torch.testing.assert_close(found.sum(2), torch.ones(2, 12, dtype=torch.float64))
    assert bool((loss(found.reshape(-1), elements) >= 0).all())


def test_refused():
    loss, elements = ForwardCorrection(2, 4), elements_of()
    with pytest.raises(ShapeError, match=facts("(32,)", "(16,)")):
        loss(torch.ones(16), elements)
    with pytest.raises(ShapeError, match=facts("no raters")):
        loss(loss.neutral(), replace(elements, raters=None))


def test_generalised_cross_entropy():
    elements = drawn([2, 5, 3, 4], 5, 0)
    right = elements.log_probs.gather(1, elements.classes[:, None]).squeeze(1).exp()
    torch.testing.assert_close(generalised_cross_entropy(elements), (1 - right**0.7) / 0.7)
    logits = drawn_logits(5, 4)
    logits = logits.clone().requires_grad_()
    classes = torch.tensor([0, 1, 2, 3, 0])
    assert torch.autograd.gradcheck(
        lambda given: generalised_cross_entropy(of_distribution(given.log_softmax(1), classes)).sum(), (logits,)
    )
