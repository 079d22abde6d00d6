from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from toy_distributions import as_head, drawn, drawn_classes, drawn_logits, of_distribution, same_gradients

from aes_dynloss.errors import ConfigError, ShapeError
from aes_dynloss.teaching.losses.bilinear_loss import BilinearLogLoss, binned
from aes_dynloss.teaching.losses.components import cross_entropy


def coefficients_of(loss, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(sum(loss.blocks), generator=generator, dtype=torch.float64)


def bins_of(count, bins):
    """The bin of each of a prompt's points."""
    return [point * bins // count for point in range(count)] if count > bins else list(range(count))


def plain_loss(matrix, bias, elements, counts, *, floor, bins):
    """Number by number, over lists."""
    losses = []
    for row, y, count in zip(elements.log_probs.tolist(), elements.classes.tolist(), counts, strict=True):
        place = bins_of(count, bins)
        mass = [0.0] * (max(place) + 1)
        for point in range(count):
            mass[place[point]] += math.exp(row[point])
        answer = bias[place[y]] + sum(matrix[place[y]][b] * math.log(p) for b, p in enumerate(mass))
        losses.append(-floor * row[y] - 1 / (1 + math.exp(-answer)))
    return torch.tensor(losses, dtype=torch.float64)


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize(
    ("counts", "points", "bins"),
    [([4] * 6, 4, 12), ([2, 5, 3, 4], 5, None), ([61, 4, 61, 4], 61, 12), ([13, 12, 5], 13, 12), ([7, 2], 7, 3)],
)
def test_number_by_number(counts, points, bins, seed):
    loss = BilinearLogLoss(points, floor=0.3, bins=bins)
    elements, phi = drawn(counts, points, seed), coefficients_of(loss, seed)
    k = loss.bins
    matrix, bias = [phi[k * row : k * row + k].tolist() for row in range(k)], phi[k * k :].tolist()
    expected = plain_loss(matrix, bias, elements, counts, floor=0.3, bins=k)
    torch.testing.assert_close(loss(phi, elements), expected, rtol=1e-10, atol=1e-12)


def test_neutral_coefficients_are_a_monotone_transform_of_cross_entropy():
    """- sigmoid(log p) = - p / (1 + p)."""
    loss = BilinearLogLoss(5, floor=0.0)
    elements = drawn([5] * 40, 5)
    plain, found = cross_entropy(elements), loss(loss.neutral(), elements)
    p = (-plain).exp()
    torch.testing.assert_close(found, -p / (1 + p), rtol=1e-12, atol=0)
    assert bool((found[plain.argsort()].diff() > 0).all())


def test_the_floor_is_cross_entropy():
    elements = drawn([5] * 7, 5)
    phi = coefficients_of(BilinearLogLoss(5))
    difference = BilinearLogLoss(5, floor=0.25)(phi, elements) - BilinearLogLoss(5, floor=0.0)(phi, elements)
    torch.testing.assert_close(difference, 0.25 * cross_entropy(elements), rtol=1e-12, atol=1e-14)


def test_the_row_of_w_is_that_of_the_true_class():
    """W[y, j] weighs the answer j where y is true, not the other way round."""
    loss = BilinearLogLoss(3, floor=0.0)
    elements = of_distribution(torch.log(torch.tensor([[0.2, 0.5, 0.3]], dtype=torch.float64)), torch.tensor([0]))
    phi = torch.zeros(12, dtype=torch.float64)
    phi[1] = 2.0
    assert float(loss(phi, elements)) == pytest.approx(-1 / (1 + 0.5**-2))
    phi = torch.zeros(12, dtype=torch.float64)
    phi[3] = 2.0
    assert float(loss(phi, elements)) == pytest.approx(-0.5)


@pytest.mark.parametrize(("counts", "points", "bins"), [([4, 3, 4], 4, 12), ([9, 4, 9], 9, 4)])
def test_gradients(counts, points, bins):
    loss = BilinearLogLoss(points, bins=bins)
    classes = drawn_classes(counts)

    def value(logits, phi):
        return loss(phi, of_distribution(as_head(logits, counts), classes))

    inputs = (drawn_logits(len(counts), points).requires_grad_(), coefficients_of(loss).requires_grad_())
    assert torch.autograd.gradcheck(value, inputs)
    assert torch.autograd.gradgradcheck(value, inputs)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("points", [6, 61])
def test_absent_score_points_play_no_part(points, dtype):
    """A prompt with 4 points, alone and beside one with many: the same loss, the same slopes, no NaN."""
    counts = [4, 4, 4]
    few, many = BilinearLogLoss(4, bins=12), BilinearLogLoss(points, bins=12)
    phi = coefficients_of(many).to(dtype).requires_grad_()
    matrix, bias = many.unpacked(phi)
    small = torch.cat([matrix[:4, :4].reshape(-1), bias[:4]])
    logits = drawn_logits(3, points).to(dtype).requires_grad_()
    classes = torch.tensor([3, 0, 2])
    wide = many(phi, of_distribution(as_head(logits, counts), classes)).sum()
    narrow = few(small, of_distribution(as_head(logits[:, :4], counts), classes)).sum()
    _, slopes = same_gradients(wide, narrow, logits, phi)
    assert bool((slopes[: many.bins**2].view(many.bins, many.bins)[:4, 4:] == 0).all())


def test_sixty_one_points_in_twelve_bins():
    """Even bins, whose probabilities add up to 1; a prompt of 4 points beside it keeps its points."""
    elements = drawn([61, 4, 61], 61)
    log_probs, classes, present = binned(elements, 12)
    assert present.sum(1).tolist() == [12, 4, 12]
    assert log_probs.shape == (3, 12)
    torch.testing.assert_close(log_probs[[0, 2]].exp().sum(1), torch.ones(2, dtype=torch.float64), rtol=0, atol=1e-12)
    sizes = [bins_of(61, 12).count(number) for number in range(12)]
    assert set(sizes) == {5, 6}
    mass = torch.stack([part.exp().sum() for part in elements.log_probs[0].split(sizes)])
    torch.testing.assert_close(log_probs[0].exp(), mass, rtol=1e-12, atol=0)
    torch.testing.assert_close(log_probs[1, :4], elements.log_probs[1, :4], rtol=1e-12, atol=0)
    assert log_probs[1, 4:].tolist() == [0.0] * 8
    assert classes[1] == elements.classes[1]
    assert classes[0] == bins_of(61, 12)[elements.classes[0]]


def test_every_point_has_a_bin_and_none_is_empty():
    for count in (13, 25, 61, 100):
        elements = of_distribution(
            as_head(drawn_logits(count, 100), [count] * count), torch.arange(count, dtype=torch.int64)
        )
        _, classes, _ = binned(elements, 12)
        assert classes.tolist() == bins_of(count, 12)
        assert set(classes.tolist()) == set(range(12))


def test_the_floor_keeps_a_gradient_on_a_confident_mistake():
    logits = torch.tensor([[0.0, 60.0]], dtype=torch.float64, requires_grad=True)
    elements = of_distribution(torch.log_softmax(logits, dim=1), torch.tensor([0]))
    slopes = {}
    for floor in (0.0, 0.1):
        loss = BilinearLogLoss(2, floor=floor)
        (slope,) = torch.autograd.grad(loss(loss.neutral(), elements).sum(), logits, retain_graph=True)
        slopes[floor] = float(slope[0, 0])
    assert abs(slopes[0.0]) < 1e-20
    assert slopes[0.1] == pytest.approx(-0.1)


def test_float32_coefficients_of_a_float64_student():
    loss = BilinearLogLoss(3)
    assert loss(loss.neutral(), drawn([3] * 4, 3)).dtype == torch.float64
    assert loss.neutral().dtype == torch.float32


def test_what_it_says_of_itself():
    loss = BilinearLogLoss(3)
    assert loss.blocks == (9, 3)
    phi = torch.tensor([1.0, 2, 3, 4, 5, 6, 7, 8, 9, 0.5, 1.0, 3.0])
    watched = {name: float(value) for name, value in loss.logged_values(phi).items()}
    assert watched == pytest.approx({"diagonal": 5.0, "off_diagonal": 5.0, "bias": 1.5})
    phi[1] = 8.0
    assert float(loss.logged_values(phi)["off_diagonal"]) == pytest.approx(6.0)
    elements = drawn([3] * 4, 3)
    assert torch.equal(loss.terms(elements)["cross_entropy"], cross_entropy(elements))


def test_what_is_refused():
    for classes, bins in ((1, 12), (5, 1)):
        with pytest.raises(ConfigError, match=f"needs at least 2 classes and bins, found {classes} and {bins}"):
            BilinearLogLoss(classes, bins=bins)
    loss, elements = BilinearLogLoss(3), drawn([3] * 4, 3)
    for wrong in (torch.zeros(11), torch.zeros(12, 1), torch.zeros(3, 4)):
        words = r"over 3 bins expects coefficients of shape \(12,\), found \(" + str(wrong.shape[0])
        with pytest.raises(ShapeError, match=words):
            loss(wrong, elements)
    with pytest.raises(ShapeError, match=r"needs a student with a distribution; set model.head=softmax or ordinal"):
        loss(loss.neutral(), replace(elements, log_probs=None))
    with pytest.raises(ShapeError, match="A loss over bins needs a student with a distribution"):
        binned(replace(elements, log_probs=None), 3)
