"""A teacher's steps whose length does not depend on the hypergradient's."""

from __future__ import annotations

import pytest
import torch
from torch.nn import Parameter

from aes_dynloss.teaching.teachers.config import DlfConfig
from aes_dynloss.teaching.teachers.steps import MOMENTUM, build_teacher_steps, teacher_reach

RATE = 0.1


def walk(kind, gradients, start=None):
    """Weights after each step, (T, P)."""
    weights = Parameter(torch.zeros(len(gradients[0]), dtype=torch.float64) if start is None else start)
    steps, path = build_teacher_steps(kind, [weights], RATE), []
    for gradient in gradients:
        weights.grad = torch.as_tensor(gradient, dtype=torch.float64)
        steps.step()
        path.append(weights.detach().clone())
    return torch.stack(path)


def drawn(count=6, size=5, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(count, size, generator=generator, dtype=torch.float64)


@pytest.mark.parametrize("kind", ["normalised", "sign"])
def test_the_length_of_a_hypergradient_plays_no_part(kind):
    """Nor does one that is a million times as long as the others; Adam's later steps are short."""
    gradients, sizes = drawn(100), torch.ones(100, 1, dtype=torch.float64)
    sizes[1], sizes[3] = 1e6, 1e-6
    torch.testing.assert_close(walk(kind, gradients), walk(kind, gradients * sizes))
    adam, after_long = (walk("adam", gradients * scale).diff(dim=0).norm(dim=1)[-1] for scale in (1, sizes))
    assert after_long < 0.1 * adam


def test_normalised_steps_have_one_length_and_a_memory():
    gradients = drawn()
    path = walk("normalised", gradients)
    lengths = path.diff(dim=0, prepend=torch.zeros(1, 5, dtype=torch.float64)).norm(dim=1)
    torch.testing.assert_close(lengths, torch.full_like(lengths, RATE))
    units = gradients / gradients.norm(dim=1, keepdim=True)
    mean = MOMENTUM * units[0] + units[1]
    torch.testing.assert_close(path[1] - path[0], -RATE * mean / mean.norm())


def test_several_weights_share_the_length():
    one, other = Parameter(torch.zeros(2)), Parameter(torch.zeros(1))
    steps = build_teacher_steps("normalised", [one, other], RATE)
    one.grad, other.grad = torch.tensor([2.0, 3.0]), torch.tensor([6.0])
    steps.step()
    torch.testing.assert_close(torch.cat([one, other]).detach(), -RATE * torch.tensor([2.0, 3.0, 6.0]) / 7)


def test_sign_steps_are_halved_where_the_sign_flips():
    path = walk("sign", [[1.0, 1.0], [2.0, -1.0], [-1.0, 1.0], [-1.0, 1.0]])
    expected = [[-0.1, -0.1], [-0.2, -0.05], [-0.15, -0.075], [-0.1, -0.1]]
    torch.testing.assert_close(path, torch.tensor(expected, dtype=torch.float64))


@pytest.mark.parametrize("kind", ["normalised", "sign"])
def test_without_a_hypergradient_nothing_moves(kind):
    assert not walk(kind, torch.zeros(3, 4)).any()


@pytest.mark.parametrize("kind", ["adam", "normalised", "sign"])
def test_they_go_on_from_their_state(kind):
    gradients = drawn()
    whole = walk(kind, gradients)
    weights = Parameter(torch.zeros(5, dtype=torch.float64))
    first = build_teacher_steps(kind, [weights], RATE)
    for gradient in gradients[:3]:
        weights.grad = gradient
        first.step()
    second = build_teacher_steps(kind, [weights], RATE)
    second.load_state_dict(first.state_dict())
    for gradient in gradients[3:]:
        weights.grad = gradient
        second.step()
    torch.testing.assert_close(weights.detach(), whole[-1], rtol=0, atol=1e-15)


@pytest.mark.parametrize("kind", ["adam", "normalised", "sign"])
def test_the_reach_is_that_of_a_straight_walk(kind):
    weights, updates = Parameter(torch.zeros(16, dtype=torch.float64)), 12
    steps = build_teacher_steps(kind, [weights], RATE)
    for update in range(updates):
        steps.param_groups[0]["lr"] = RATE * 0.8**update
        weights.grad = torch.full_like(weights, 7.0)
        steps.step()
    reach = teacher_reach(kind, RATE, 0.8, updates, 16)
    assert float(weights.detach().square().mean().sqrt()) == pytest.approx(reach, rel=1e-6)


def test_the_reach_of_the_defaults():
    config = DlfConfig(kind="dlf")
    assert teacher_reach(config.optimizer, config.learning_rate, config.decay, config.episodes, 70) >= 3
