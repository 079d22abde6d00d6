from __future__ import annotations

import pytest
import torch

from aes_dynloss.teaching.policies import StudentState
from aes_dynloss.teaching.teachers.dlf import FixedPolicy, RandomPolicy

ANSWERS = torch.tensor([[1.5, 0.1, 0.0], [0.5, 0.3, 0.0], [1.3, 0.2, 0.0]])
NEUTRAL = torch.tensor([1.0, 0.1, 0.0])


def over_a_run(policy, steps=4000):
    return torch.stack([policy.coefficients(StudentState(step / steps)) for step in range(steps)])


def test_a_frozen_mean_is_the_same_throughout():
    policy = FixedPolicy(ANSWERS.mean(0))
    for progress in (0.0, 0.3, 1.0):
        torch.testing.assert_close(policy.coefficients(StudentState(progress)), torch.tensor([1.1, 0.2, 0.0]))


def test_fixed_coefficients_do_not_follow_their_origin():
    origin = torch.ones(2, requires_grad=True)
    policy = FixedPolicy(origin)
    with torch.no_grad():
        origin.mul_(3)
    assert policy.coefficients(StudentState(0.5)).tolist() == [1.0, 1.0]
    assert not policy.coefficients(StudentState(0.5)).requires_grad


def test_the_same_state_gets_the_same_answer_and_another_one_another():
    policy, again = (RandomPolicy(ANSWERS, NEUTRAL, positive=False, seed=4) for _ in range(2))
    torch.manual_seed(0)
    first = policy.coefficients(StudentState(0.25, 0.9, 0.1))
    policy.coefficients(StudentState(0.5))
    torch.manual_seed(1)
    assert torch.equal(policy.coefficients(StudentState(0.25, 0.3, 0.8)), first)
    assert torch.equal(again.coefficients(StudentState(0.25)), first)
    assert not torch.equal(policy.coefficients(StudentState(0.251)), first)
    assert not torch.equal(RandomPolicy(ANSWERS, NEUTRAL, positive=False).coefficients(StudentState(0.25)), first)


def test_it_leaves_the_generators_alone():
    torch.manual_seed(0)
    before = torch.get_rng_state()
    RandomPolicy(ANSWERS, NEUTRAL, positive=True).coefficients(StudentState(0.5))
    assert torch.equal(torch.get_rng_state(), before)


def test_deviations_are_as_large_as_the_teachers():
    """From the plain loss, not from the teacher's own mean, coefficient by coefficient."""
    found = over_a_run(RandomPolicy(ANSWERS, NEUTRAL, positive=False)) - NEUTRAL
    size = (ANSWERS - NEUTRAL).square().mean(0).sqrt()
    torch.testing.assert_close(found.square().mean(0).sqrt(), size, rtol=0.05, atol=0)
    assert float((found.mean(0) / size.clamp(min=1e-9)).abs().max()) < 0.06
    assert not found[:, 2].any()


@pytest.mark.parametrize("positive", [True, False])
def test_positivity(positive):
    far = torch.tensor([[3.0, 0.9, 0.0]])
    found = over_a_run(RandomPolicy(far, NEUTRAL, positive=positive), 200)
    assert bool((found[:, :2].min(0).values == 0).all()) is positive
    assert bool((found >= 0).all()) is positive
    assert found.dtype == torch.float32
