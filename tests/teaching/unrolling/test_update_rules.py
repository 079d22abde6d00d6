"""The rules are torch's optimisers, and their adjoints are what autograd says."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from aes_dynloss.teaching.unrolling.update_rules import AdamW, Point, Rates, Sgd

SIZES = (3, 4, 5)
TOTAL = sum(SIZES)
FACTORS = (0.25, 1.0, 0.7, 0.4, 0.1)


def numbers(seed, *shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def rates(*, rate=0.1, decay=0.0, clip=None):
    """Other rates and decays for the second of three groups."""
    each = torch.tensor([1.0, 0.5, 1.0], dtype=torch.float64).repeat_interleave(torch.tensor(SIZES))
    return Rates(rate * each, decay * (each == 1.0).double(), clip)


def torchs_path(build, gradients, *, rate, decay, clip):
    """Weights after every step of torch.optim."""
    parts = [torch.nn.Parameter(part.clone()) for part in torch.split(numbers(0, TOTAL), SIZES)]
    groups = [
        {"params": [part], "lr": rate * (0.5 if number == 1 else 1.0), "weight_decay": decay * (number != 1)}
        for number, part in enumerate(parts)
    ]
    optimizer = build(groups)
    peaks = [group["lr"] for group in optimizer.param_groups]
    for factor, gradient in zip(FACTORS, gradients, strict=True):
        for group, peak in zip(optimizer.param_groups, peaks, strict=True):
            group["lr"] = factor * peak
        for part, piece in zip(parts, torch.split(gradient, SIZES), strict=True):
            part.grad = piece.clone()
        if clip is not None:
            torch.nn.utils.clip_grad_norm_(parts, clip)
        optimizer.step()
        yield torch.cat([part.detach() for part in parts])


BUILDS = {
    "sgd": (torch.optim.SGD, Sgd),
    "momentum": (lambda groups: torch.optim.SGD(groups, momentum=0.9), lambda given: Sgd(given, momentum=0.9)),
    "adamw": (
        lambda groups: torch.optim.AdamW(groups, betas=(0.8, 0.95), eps=1e-6),
        lambda given: AdamW(given, betas=(0.8, 0.95), eps=1e-6),
    ),
}


@pytest.mark.parametrize("clip", [None, 1.5, 100.0], ids=["free", "clipped", "clipping that never bites"])
@pytest.mark.parametrize("decay", [0.0, 0.3])
@pytest.mark.parametrize("name", BUILDS)
def test_the_same_path_as_torch(name, decay, clip):
    build, build_rule = BUILDS[name]
    gradients = [(step + 1) * 0.3 * numbers(step + 1, TOTAL) for step in range(len(FACTORS))]
    for gradient in gradients[:2]:
        gradient[2] = 0.0  # a weight that is not read at first
    norms = [float(gradient.norm()) for gradient in gradients]
    assert min(norms) < 1.5 < max(norms) < 100
    rule = build_rule(rates(decay=decay, clip=clip))
    point = rule.start(numbers(0, TOTAL))
    path = torchs_path(build, gradients, rate=0.1, decay=decay, clip=clip)
    for factor, gradient, weights in zip(FACTORS, gradients, path, strict=True):
        point = rule.advance(point, gradient, factor)
        torch.testing.assert_close(point.weights, weights, rtol=0, atol=1e-12)
    assert point.step == len(FACTORS)


def test_advance_leaves_its_point_as_it_was():
    for _, build_rule in BUILDS.values():
        rule = build_rule(rates(decay=0.1))
        point = rule.advance(rule.start(numbers(0, TOTAL)), numbers(1, TOTAL), 1.0)
        before = [tensor.clone() for tensor in (point.weights, *point.slots)]
        rule.advance(point, numbers(2, TOTAL), 1.0)
        assert all(map(torch.equal, before, (point.weights, *point.slots)))


def autograds_answer(rule, point, gradient, factor, adjoint):
    """Cotangents of weights, slots and gradient."""
    leaves = [tensor.clone().requires_grad_() for tensor in (point.weights, *point.slots, gradient)]
    after = rule.advance(Point(leaves[0], tuple(leaves[1:-1]), point.step), leaves[-1], factor)
    outputs, cotangents = [after.weights, *after.slots], [adjoint.weights, *adjoint.slots]
    return torch.autograd.grad(outputs, leaves, cotangents, allow_unused=True, materialize_grads=True)


@settings(max_examples=40)
@given(
    name=st.sampled_from(sorted(BUILDS)),
    decay=st.sampled_from([0.0, 0.2]),
    clip=st.sampled_from([None, 0.5, 50.0]),
    factor=st.sampled_from([0.0, 0.3, 1.0]),
    taken=st.integers(0, 3),
    zeros=st.sampled_from(["none", "now", "always", "everywhere"]),
    seed=st.integers(0, 1000),
)
def test_the_adjoint_is_autograds(name, decay, clip, factor, taken, zeros, seed):
    rule = BUILDS[name][1](rates(decay=decay, clip=clip))
    point = rule.start(numbers(seed, TOTAL))
    for step in range(taken + 1):
        gradient = numbers(seed + 1 + step, TOTAL)
        if zeros == "everywhere":
            gradient = torch.zeros_like(gradient)
        if zeros == "always" or (zeros == "now" and step == taken):
            gradient[::3] = 0.0
        if step < taken:
            point = rule.advance(point, gradient, 1.0)
    slots = tuple(numbers(seed + 50 + number, TOTAL) for number in range(len(point.slots)))
    adjoint = Point(numbers(seed + 40, TOTAL), slots, point.step + 1)
    behind, cotangent = rule.vjp(point, gradient, factor, adjoint)
    found = (behind.weights, *behind.slots, cotangent)
    for mine, theirs in zip(found, autograds_answer(rule, point, gradient, factor, adjoint), strict=True):
        assert bool(mine.isfinite().all())
        torch.testing.assert_close(mine, theirs, rtol=1e-10, atol=1e-12)
    assert behind.step == point.step


def test_a_step_without_clipping_needs_no_gradient_to_be_walked_back():
    point, adjoint = Point(numbers(0, TOTAL), (numbers(1, TOTAL),)), Point(numbers(2, TOTAL), (numbers(3, TOTAL),))
    free = Sgd(rates(decay=0.1), momentum=0.9)
    known, unknown = (free.vjp(point, given, 0.5, adjoint) for given in (numbers(4, TOTAL), None))
    assert torch.equal(known[1], unknown[1])
    assert not free.needs_gradient
    assert Sgd(rates(clip=1.0)).needs_gradient
    assert AdamW(rates()).needs_gradient
    adamw = AdamW(rates())
    with pytest.raises(ValueError, match="needs the gradient of its step"):
        adamw.vjp(adamw.start(numbers(0, TOTAL)), None, 1.0, adamw.start(numbers(1, TOTAL)))


def test_clipping_is_part_of_the_map():
    """Holding the norm fixed would leave a cotangent along the gradient, along which nothing moves."""
    gradient = numbers(1, TOTAL)
    cotangent = rates(clip=0.5).clipped_adjoint(gradient, numbers(2, TOTAL))
    along = torch.dot(cotangent, gradient) / (cotangent.norm() * gradient.norm())
    assert abs(float(along)) < 1e-5
    assert float(cotangent.norm()) > 0.01


def test_a_weight_that_was_never_read_has_no_slope():
    """Its slope of rate / eps would be the direction in which finite differences look."""
    rule = AdamW(rates(rate=0.1))
    gradient = numbers(1, TOTAL)
    gradient[4] = 0.0
    start = rule.start(numbers(0, TOTAL))
    adjoint = Point(torch.ones(TOTAL, dtype=torch.float64), (torch.zeros(TOTAL, dtype=torch.float64),) * 2)
    _, cotangent = rule.vjp(start, gradient, 1.0, adjoint)
    assert float(cotangent[4]) == 0.0
    assert float(cotangent.abs().max()) < 1.0


def test_clipping_is_never_forgotten_on_the_way_back():
    point = Point(torch.ones(12, dtype=torch.float64))
    with pytest.raises(ValueError, match=r"The adjoint of clipping needs the gradient of its step\."):
        Sgd(rates(clip=1.0)).vjp(point, None, 1.0, point)
