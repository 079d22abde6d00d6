from __future__ import annotations

import pytest
import torch
from torch.nn import functional

from aes_dynloss.teaching.losses.loss_spec import BilinearSpec, MixtureSpec
from aes_dynloss.teaching.policies import StudentState
from aes_dynloss.teaching.teachers.dlf import AttentionTeacher, TaughtPolicy

SPECS = {
    "mixture": MixtureSpec(terms={"mse": 1.0, "stde": 0.1, "mae": 0.0}),
    "bilinear": BilinearSpec(classes=5, floor=0.1, bins=4),
}
STATES = torch.tensor([[0.0, 1.0, 0.0], [0.5, 0.4, 0.7], [1.0, 0.1, 0.9], [0.3, 0.9, 0.2]])


def teacher_of(name, **changed):
    spec = SPECS[name]
    return AttentionTeacher(spec.neutral(), spec.blocks, positive=spec.positive, **changed)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("name", SPECS)
def test_it_starts_near_the_plain_loss(name, seed):
    """The mean of ten keys' values of sd .01; a weight of 0 starts at .01, where a softplus can still move it."""
    found = teacher_of(name, seed=seed)(STATES).detach()
    expected = SPECS[name].neutral()
    if SPECS[name].positive:
        expected = expected.clamp(min=0.01)
    assert found.shape == (4, len(expected))
    assert float((found - expected).abs().max()) < 0.03
    assert float((found - expected).abs().max()) > 0


def test_positive_weights_stay_positive():
    teacher = teacher_of("mixture")
    with torch.no_grad():
        teacher.values.sub_(30.0)
    found = teacher(STATES)
    assert bool((found > 0).all())
    assert bool((found < 1e-9).all())
    free = teacher_of("bilinear")
    with torch.no_grad():
        free.values.sub_(30.0)
    assert bool((free(STATES) < -20).all())


@pytest.mark.parametrize("name", SPECS)
def test_as_the_formula_says(name):
    """phi = V softmax(P s), block by block, with keys that matter."""
    teacher = teacher_of(name, keys=7, seed=3).double()
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in teacher.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator, dtype=torch.float64))
    start, expected = 0, []
    for number, size in enumerate(SPECS[name].blocks):
        scores = torch.einsum("ns,ts->tn", teacher.keys[number], STATES.double())
        weights = scores.exp() / scores.exp().sum(1, keepdim=True)
        values = teacher.values[start : start + size]
        expected.append(torch.einsum("kn,tn->tk", values, weights))
        start += size
    answer = torch.cat(expected, dim=1)
    answer = functional.softplus(answer) if SPECS[name].positive else answer
    torch.testing.assert_close(teacher(STATES.double()), answer, rtol=1e-12, atol=0)


def test_blocks_have_keys_of_their_own():
    teacher = teacher_of("bilinear")
    assert teacher.keys.shape == (2, 10, StudentState.SIZE)
    before = teacher(STATES)
    with torch.no_grad():
        teacher.keys[1] += 3 * torch.randn(10, 3, generator=torch.Generator().manual_seed(0))
    after = teacher(STATES)
    assert torch.equal(after[:, :16], before[:, :16])
    assert not torch.equal(after[:, 16:], before[:, 16:])


@pytest.mark.parametrize("name", SPECS)
def test_every_parameter_has_a_gradient_at_the_start(name):
    """No dead saddle: with all values of a coefficient equal, its keys would never learn."""
    teacher = teacher_of(name)
    answers = teacher(STATES)
    answers.backward(torch.randn(answers.shape, generator=torch.Generator().manual_seed(0)))
    assert float(teacher.values.grad.abs().min()) > 0
    assert float(teacher.keys.grad.abs().min()) > 0


def test_the_seed_is_all_that_is_random():
    torch.manual_seed(5)
    one = teacher_of("bilinear", seed=2).state_dict()
    torch.manual_seed(6)
    two, other = teacher_of("bilinear", seed=2).state_dict(), teacher_of("bilinear", seed=3).state_dict()
    for name in one:
        assert torch.equal(one[name], two[name])
        assert not torch.equal(one[name], other[name])


def test_a_policy_answers_without_a_graph():
    teacher = teacher_of("mixture")
    state = StudentState(0.5, 0.4, 0.7)
    found = TaughtPolicy(teacher).coefficients(state)
    assert not found.requires_grad
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, teacher(STATES[1:2])[0].detach())
    other = TaughtPolicy(teacher).coefficients(StudentState(0.0))
    assert not torch.equal(found, other)
