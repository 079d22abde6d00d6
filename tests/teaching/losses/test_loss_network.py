from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from facts import facts
from toy_distributions import ABSENT, as_head, drawn, drawn_classes, drawn_logits, of_distribution, same_gradients
from toy_elements import make_elements, random_elements

from aes_dynloss.errors import ShapeError
from aes_dynloss.teaching.losses.components import cross_entropy, expected_error, smooth_error, squared_error
from aes_dynloss.teaching.losses.loss_network import LossNetwork


def started(network, *, silent=False, seed=0):
    return network.start(torch.Generator().manual_seed(seed), silent=silent).double()


def plain_network(phi, row, width, hidden):
    """D_phi of one row, number by number."""
    weights, signal = iter(phi.tolist()), row
    for layer in range(hidden + 1):
        out = 1 if layer == hidden else width
        sums = [sum(next(weights) * x for x in signal) for _ in range(out)]
        signal = sums if layer == hidden else [x if x > 0 else 0.01 * x for x in sums]
    assert next(weights, None) is None
    return signal[0]


def plain_distribution(phi, elements, counts, width, hidden):
    losses = []
    kinds = [0] * len(counts) if elements.kinds is None else elements.kinds.tolist()
    for row, y, count, kind in zip(elements.log_probs.tolist(), elements.classes.tolist(), counts, kinds, strict=True):
        centre = sum(row[:count]) / count
        s = [1 / (1 + math.exp(centre - logit)) for logit in row[:count]]
        rows = [[s[y], s[j], 1.0, float(kind)] for j in range(count) if j != y]
        costs = [plain_network(phi, one, width, hidden) for one in rows]
        losses.append(sum(costs) / count)
    return torch.tensor(losses, dtype=torch.float64)


SMALL = {"width": 5, "hidden": 2}


@pytest.mark.parametrize("plain", [0.0, 0.5])
@pytest.mark.parametrize(("counts", "points"), [([4] * 5, 4), ([3, 6, 2, 6], 6)])
def test_a_distribution_number_by_number(counts, points, plain):
    network = LossNetwork("distribution", **SMALL, plain=plain)
    elements, phi = drawn(counts, points), started(network)
    expected = plain_distribution(phi, elements, counts, **SMALL) + plain * cross_entropy(elements)
    torch.testing.assert_close(network(phi, elements), expected, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("dtype", [torch.int64, torch.float32, torch.bool])
@pytest.mark.parametrize("smooth", [False, True])
def test_elements_of_two_kinds(smooth, dtype):
    """The kind stands in the fourth place: none is zeros, ones are another loss, and each element has its own."""
    network = LossNetwork("distribution", **SMALL, smooth=smooth)
    counts, phi = [3, 6, 2, 6], started(network)
    elements = drawn(counts, 6)
    plain, zeros, ones, mixed = (
        network(phi, replace(elements, kinds=kinds if kinds is None else torch.tensor(kinds).to(dtype)))
        for kinds in (None, [0] * 4, [1] * 4, [0, 1, 1, 0])
    )
    assert torch.equal(zeros, plain)
    assert bool(((ones - zeros).abs() > 1e-4).all())
    assert torch.equal(mixed, torch.where(torch.tensor([True, False, False, True]), zeros, ones))
    if not smooth:
        expected = plain_distribution(phi, replace(elements, kinds=torch.tensor([0, 1, 1, 0])), counts, **SMALL)
        torch.testing.assert_close(mixed, expected, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("smooth", [False, True])
def test_the_true_class_of_either_kind_costs_nothing(smooth):
    """An element with one class has no rival, so that what is left is the true class's row."""
    network = LossNetwork("distribution", smooth=smooth)
    alone = of_distribution(as_head(torch.ones(2, 3, dtype=torch.float64), [1, 1]), torch.tensor([0, 0]))
    found = network(started(network), replace(alone, kinds=torch.tensor([0, 1])))
    assert found.abs().max().item() < 1e-12
    assert smooth or found.tolist() == [0.0, 0.0]


@pytest.mark.parametrize("plain", [0.0, 0.5])
def test_scores_number_by_number(plain):
    network, elements = LossNetwork("scores", **SMALL, plain=plain), random_elements()
    phi = started(network)
    scaled = elements.standardised()
    rows = zip(scaled.scores.tolist(), scaled.targets.tolist(), strict=True)
    expected = [plain_network(phi, [p, y, 1.0, 0.0], **SMALL) + plain * (p - y) ** 2 for p, y in rows]
    torch.testing.assert_close(network(phi, elements), torch.tensor(expected, dtype=torch.float64), rtol=1e-10, atol=0)


def test_the_published_size():
    for form in ("distribution", "scores"):
        network = LossNetwork(form)
        assert network.size == 5000
        assert network.start(torch.Generator().manual_seed(0), silent=False).shape == (5000,)


def test_the_true_class_costs_nothing():
    """A row of zeros, through layers without biases; and the loss is blind to the order of the rivals."""
    network = LossNetwork("distribution")
    phi = started(network)
    assert float(network.network(phi, torch.zeros(4, dtype=torch.float64))) == 0.0
    sure = torch.full((1, 3), 1.0, dtype=torch.float64)
    alone = of_distribution(as_head(sure, [1]), torch.tensor([0]))
    assert network(phi, alone).tolist() == [0.0]
    elements = drawn([5] * 4, 5)
    moved = torch.tensor([3, 0, 4, 1, 2])
    other = of_distribution(elements.log_probs[:, moved], moved.argsort()[elements.classes])
    torch.testing.assert_close(network(phi, other), network(phi, elements), rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("form", ["distribution", "scores"])
def test_a_silent_start_is_the_plain_loss(form):
    elements = random_elements()
    for plain in (1.0, 0.3):
        network = LossNetwork(form, plain=plain)
        phi = started(network, silent=True)
        expected = cross_entropy(elements) if form == "distribution" else squared_error(elements.standardised())
        assert torch.equal(network(phi, elements), plain * expected)
        (term,) = network.terms(elements).values()
        assert torch.equal(term, expected)


def test_a_silent_network_still_has_slopes():
    """Only the last layer is 0, so that the teacher's first change speaks."""
    network, elements = LossNetwork("scores"), random_elements()
    phi = started(network, silent=True).requires_grad_()
    (slope,) = torch.autograd.grad(network(phi, elements).sum(), phi)
    assert float(slope[-40:].norm()) > 0
    assert int((phi == 0).sum()) == 40
    assert torch.equal(phi[:-40], started(network)[:-40])


def test_kaiming_start():
    phi = LossNetwork("scores", width=200, hidden=2).start(torch.Generator().manual_seed(0), silent=False)
    gain = math.sqrt(2 / (1 + 0.01**2))
    first, second = phi[:800], phi[800:40800]
    assert float(first.std()) == pytest.approx(gain / 2, rel=0.1)
    assert float(second.std()) == pytest.approx(gain / math.sqrt(200), rel=0.02)
    same, other = (torch.Generator().manual_seed(seed) for seed in (0, 1))
    wide = LossNetwork("scores", width=200, hidden=2)
    assert torch.equal(wide.start(same, silent=False), phi)
    assert not torch.equal(wide.start(other, silent=False), phi)


@pytest.mark.parametrize("counts", [[4, 4, 4], [4, 2, 3]])
def test_gradients_of_a_distribution(counts):
    network = LossNetwork("distribution", **SMALL, plain=0.5)
    classes = drawn_classes(counts)

    def value(logits, phi):
        return network(phi, of_distribution(as_head(logits, counts), classes))

    inputs = (drawn_logits(3, 4).requires_grad_(), started(network).requires_grad_())
    assert torch.autograd.gradcheck(value, inputs)


def test_gradients_of_scores():
    network, elements = LossNetwork("scores", **SMALL, plain=0.5), random_elements(5)

    def value(scores, phi):
        return network(phi, replace(elements, scores=scores))

    assert torch.autograd.gradcheck(
        value, (elements.scores.clone().requires_grad_(), started(network).requires_grad_())
    )


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_absent_score_points_play_no_part(dtype):
    network, counts, classes = LossNetwork("distribution"), [4, 4], torch.tensor([3, 1])
    phi = started(network).to(dtype).requires_grad_()
    logits = drawn_logits(2, 9).to(dtype).requires_grad_()
    wide = network(phi, of_distribution(as_head(logits, counts), classes)).sum()
    narrow = network(phi, of_distribution(as_head(logits[:, :4], counts), classes)).sum()
    same_gradients(wide, narrow, logits, phi)


def test_what_it_says_of_itself():
    assert float(LossNetwork("scores").logged_values(torch.tensor([3.0, 4.0]))["network_rms"]) == pytest.approx(
        12.5**0.5
    )


def test_what_is_refused():
    network, elements = LossNetwork("distribution"), drawn([3] * 4, 3)
    for wrong in (torch.zeros(4999), torch.zeros(5000, 1)):
        with pytest.raises(ShapeError, match=r"The loss network expects coefficients of shape \(5000,\), found \("):
            network(wrong, elements)
    scores = make_elements([0.1], [0.2])
    with pytest.raises(ShapeError, match=r"needs a student with a distribution; set model.head=softmax or ordinal"):
        network(started(network), scores)
    with pytest.raises(ShapeError, match=facts("loss network", "distribution", "model.head=softmax", "ordinal")):
        network._pairs(started(network), scores)


def test_smooth_error_number_by_number():
    elements = drawn([5, 3, 5, 2] * 3, 5)
    expected = []
    for row, y in zip(elements.log_probs.exp().tolist(), elements.classes.tolist(), strict=True):
        expected.append(2 / (1 + math.exp(-50 * (max(row) - row[y]))) - 1)
    torch.testing.assert_close(smooth_error(elements), torch.tensor(expected, dtype=torch.float64), rtol=1e-10, atol=0)
    right = replace(elements, classes=elements.log_probs.argmax(1))
    assert smooth_error(right).tolist() == [0.0] * 12


def test_expected_error_number_by_number():
    elements = drawn([5, 3, 5, 2] * 3, 5)
    rows = zip(elements.log_probs.tolist(), elements.classes.tolist(), strict=True)
    expected = torch.tensor([1 - math.exp(row[y]) for row, y in rows], dtype=torch.float64)
    torch.testing.assert_close(expected_error(elements), expected, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("measure", [smooth_error, expected_error])
def test_slopes_of_the_errors(measure):
    counts, classes = [4, 3, 4], torch.tensor([1, 2, 0])

    def value(logits):
        return measure(of_distribution(as_head(logits, counts), classes))

    assert torch.autograd.gradcheck(value, (drawn_logits(3, 4).requires_grad_(),))
    assert drawn([3], 4).log_probs[0, 3] == ABSENT
    with pytest.raises(ShapeError, match=r"This loss needs a student with a distribution; set model.head=softmax"):
        measure(make_elements([0.1], [0.2]))


def test_a_smooth_network_has_no_kink_and_costs_nothing_at_zero():
    """Across a kink a finite difference finds curvature that is not there; a smooth network has true second ones."""
    values = torch.linspace(-3, 3, 61, dtype=torch.float64, requires_grad=True)
    kinked, smooth = LossNetwork("scores", width=3, hidden=2), LossNetwork("scores", width=3, hidden=2, smooth=True)
    nothing = torch.zeros_like(values)
    rows = torch.stack([values, nothing, nothing, nothing], dim=1)
    phi = started(smooth)
    assert abs(smooth.network(phi, rows)[30].item()) < 1e-12
    (slope,) = torch.autograd.grad(smooth.network(phi, rows).sum(), values, create_graph=True)
    (bend,) = torch.autograd.grad(slope.sum(), values)
    by_differences = (slope[2:] - slope[:-2]).detach() / (2 * 0.1)
    torch.testing.assert_close(bend[1:-1], by_differences, rtol=0.05, atol=1e-3)
    assert bend.abs().max().item() > 1e-2
    (slope,) = torch.autograd.grad(kinked.network(phi, rows).sum(), values)
    assert slope.diff().abs().max().item() > 0.1 * slope.abs().max().item()


def test_pairs_that_count_nothing_are_left_out():
    """With weights an element's loss is what it is without, but 0 where its weight is: D_phi does not see those."""
    network = LossNetwork("distribution", **SMALL)
    phi = started(network)
    elements = replace(random_elements(6), kinds=torch.tensor([0, 1, 0, 1, 0, 1]))
    logits = torch.randn(6, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(3)).requires_grad_()
    weights = torch.tensor([[0.5, 0.0, 1.0], [2.0, 0.0, 0.25]])
    seen = []

    def spied(coefficients, rows):
        seen.append(rows.shape[0])
        return LossNetwork.network(network, coefficients, rows)

    whole = network(phi, replace(elements, log_probs=logits.log_softmax(1)))
    network.network = spied
    part = network(phi, replace(elements, log_probs=logits.log_softmax(1), weights=weights))
    assert seen == [4 * 2]  # four elements count, each with two rivals
    counts = weights.reshape(-1) > 0
    torch.testing.assert_close(part, torch.where(counts, whole, 0.0))
    slopes = [torch.autograd.grad(loss[counts].square().sum(), logits, create_graph=True)[0] for loss in (whole, part)]
    torch.testing.assert_close(*slopes)
    bends = [torch.autograd.grad(slope.square().sum(), logits)[0] for slope in slopes]
    torch.testing.assert_close(*bends)
