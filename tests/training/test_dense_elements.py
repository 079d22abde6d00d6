"""The gradient of an effective batch whose examples have several elements, with weights, and more beside them."""

from __future__ import annotations

import pytest
import torch
from dense_losses import DENSE_LOSSES, coefficients_of, dense_plan
from dense_student import DenseStudent, with_fillers
from torch import Tensor

from aes_dynloss.errors import ShapeError
from aes_dynloss.teaching.losses.dynamic_loss import Mixture
from aes_dynloss.teaching.unrolling.live_student import LiveStudent
from aes_dynloss.teaching.unrolling.objective import Objective
from aes_dynloss.training.effective_batch import StepRecord, backward

ROWS = [17, 3, 11, 0, 8, 19, 5, 2]


def stepped(accelerator, name, batches, **how) -> tuple[Tensor, StepRecord]:
    """All gradients as one vector, and the record."""
    student = DenseStudent(**{"norm": False, **how})
    count = sum(int((batch.index >= 0).sum()) for batch in batches)
    phi = coefficients_of(name, 1)[0]
    record = backward(accelerator, student, student, DENSE_LOSSES[name], phi, batches, count)
    return torch.cat([parameter.grad.reshape(-1) for parameter in student.parameters()]), record


def expected_of(name, plan, **how):
    """What one process's objective answers."""
    live = LiveStudent(DenseStudent(**{"norm": False, **how}))
    return Objective(live, DENSE_LOSSES[name]).gradient(plan, coefficients_of(name, 1)[0])


@pytest.mark.parametrize("micro", [8, 4, 3, 1])
@pytest.mark.parametrize("name", DENSE_LOSSES)
def test_the_gradient_is_that_of_one_objective(accelerator, name, micro):
    """8 x 1, 4 x 2, uneven, and each example alone."""
    right = expected_of(name, dense_plan(ROWS, 8))
    gradient, record = stepped(accelerator, name, dense_plan(ROWS, micro).batches)
    torch.testing.assert_close(gradient, right.weights, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(record.loss, right.value, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(record.error, right.error, rtol=1e-12, atol=1e-12)
    assert float(gradient.norm()) > 0.01


@pytest.mark.parametrize("name", DENSE_LOSSES)
def test_with_batch_norm(accelerator, name):
    """Over whole batches, and over the same parts."""
    for micro in (8, 4):
        plan = dense_plan(ROWS, micro)
        gradient, _ = stepped(accelerator, name, plan.batches, norm=True)
        torch.testing.assert_close(gradient, expected_of(name, plan, norm=True).weights, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("micro", [8, 3])
@pytest.mark.parametrize("name", DENSE_LOSSES)
def test_fillers_count_for_nothing(accelerator, name, micro):
    plain = dense_plan(ROWS, micro).batches
    expected, record = stepped(accelerator, name, plain)
    gradient, filled = stepped(accelerator, name, [with_fillers(batch) for batch in plain])
    torch.testing.assert_close(gradient, expected, rtol=1e-12, atol=1e-12)
    for found, right in (
        (filled.loss, record.loss),
        (filled.error, record.error),
        *zip(filled.terms.values(), record.terms.values(), strict=True),
    ):
        torch.testing.assert_close(found, right, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", DENSE_LOSSES)
def test_the_record_is_weighted(accelerator, name):
    """Terms by loops over examples and places; places without a truth are in none of its numbers."""
    student, (batch,) = DenseStudent(norm=False, number=False), dense_plan(ROWS, 8).batches
    with torch.no_grad():
        elements = student.elements(student(**batch.inputs), batch.targets, batch.groups)
    known = (batch.targets[:, :4] >= 0).double()
    weights = known * student.importance
    _, record = stepped(accelerator, name, [batch], number=False)
    terms = DENSE_LOSSES[name].terms(elements)
    assert list(record.terms) == list(terms)
    for term, losses in terms.items():
        torch.testing.assert_close(record.terms[term], (losses.view(8, 4) * weights).sum() / 8, rtol=1e-12, atol=0)
    wrong = (elements.log_probs.argmax(1) != elements.classes).double().view(8, 4)
    errors = (wrong * weights).sum(1) / weights.sum(1).clamp(min=1e-9) / student.chance_error
    torch.testing.assert_close(record.error, errors.mean(), rtol=1e-12, atol=0)
    assert 0 < int((known == 0).sum()) < 32
    assert bool((known.sum(1) == 0).any())


def test_what_stands_beside_the_elements(accelerator):
    """The loss has it once, whatever the weights of the mixture; no term of the record has it."""
    batches = dense_plan(ROWS, 4).batches
    _, whole = stepped(accelerator, "mixture", batches)
    _, alone = stepped(accelerator, "mixture", batches, number=False)
    student = DenseStudent(norm=False)
    with torch.no_grad():
        beside = torch.cat([0.5 * (student(**b.inputs)[:, -1] - b.targets[:, -1]).square() for b in batches]).mean()
    torch.testing.assert_close(whole.loss - alone.loss, beside, rtol=1e-10, atol=0)
    assert whole.terms == alone.terms
    weighted = sum(
        weight * term for weight, term in zip(coefficients_of("mixture", 1)[0], whole.terms.values(), strict=True)
    )
    torch.testing.assert_close(whole.loss, weighted + beside, rtol=1e-12, atol=0)


@pytest.mark.parametrize("number", [False, True])
@pytest.mark.parametrize("micro", [8, 4])
def test_a_statistic_of_a_batch_is_refused(accelerator, micro, number):
    student = DenseStudent(number=number)
    loss, phi = Mixture(["cross_entropy", "stde"]), torch.ones(2, dtype=torch.float64)
    with pytest.raises(ShapeError, match=r"One of cross_entropy, stde is a statistic of a batch, .* single elements"):
        backward(accelerator, student, student, loss, phi, dense_plan(ROWS, micro).batches, 8)
