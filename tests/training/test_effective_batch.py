from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from toy_runs import EVERYTHING
from toy_student import ToyExamples, ToyStudent

from aes_dynloss.teaching.losses.component_table import COMPONENTS
from aes_dynloss.teaching.losses.dynamic_loss import Mixture
from aes_dynloss.teaching.student import Batch, random_state
from aes_dynloss.training.effective_batch import backward

MIXTURES = {**{name: {name: 1.0} for name in COMPONENTS}, "elementwise": {"mse": 0.7, "mae": 0.3}, "all": EVERYTHING}
# 8 x 1, 4 x 2, uneven, and every element alone.
SPLITS = {"8": [8], "4+4": [4, 4], "5+1+2": [5, 1, 2], "1*8": [1] * 8}
EXAMPLES = ToyExamples(20, seed=5)


def split_batches(sizes):
    # Rows in no order: what holds the elements together is their index, not where they stand.
    rows = [17, 3, 11, 0, 8, 19, 5, 2]
    return [EXAMPLES.batch(part.tolist()) for part in torch.tensor(rows).split(sizes)]


def gradients(student):
    return {name: parameter.grad for name, parameter in student.named_parameters()}


def stepped(accelerator, student, weights, batches, standardise=False):
    """Gradient and record of the code under test, from a fixed seed."""
    mixture = Mixture(list(weights), standardise=standardise)
    coefficients = torch.tensor(list(weights.values()), dtype=torch.float64)
    torch.manual_seed(1)
    count = int(sum((batch.index >= 0).sum() for batch in batches))
    record = backward(accelerator, student, student, mixture, coefficients, batches, count)
    return gradients(student), record


def plainly(student, weights, batches, standardise=False):
    """One autograd pass over everything; the parts go forwards in turn only for the same dropout."""
    torch.manual_seed(1)
    outputs = torch.cat([student(**batch.inputs) for batch in batches])
    targets, groups = (torch.cat([getattr(batch, name) for batch in batches]) for name in ("targets", "groups"))
    elements = student.elements(outputs, targets, groups)
    terms = Mixture(list(weights), standardise=standardise).terms(elements)
    loss = sum(weight * terms[name].mean() for name, weight in weights.items())
    loss.backward()
    return gradients(student), loss


def assert_same(found, expected):
    for name, gradient in expected.items():
        assert gradient is not None
        torch.testing.assert_close(found[name], gradient, rtol=1e-10, atol=1e-10, msg=lambda m, n=name: f"{n}: {m}")


@pytest.mark.parametrize("dropout", [0.0, 0.4])
@pytest.mark.parametrize("sizes", SPLITS.values(), ids=SPLITS)
@pytest.mark.parametrize("weights", MIXTURES.values(), ids=MIXTURES)
def test_the_gradient_is_that_of_one_pass_over_the_whole_batch(accelerator, weights, sizes, dropout):
    batches = split_batches(sizes)
    found, record = stepped(accelerator, ToyStudent(dropout=dropout), weights, batches)
    expected, loss = plainly(ToyStudent(dropout=dropout), weights, batches)
    assert_same(found, expected)
    torch.testing.assert_close(record.loss, loss.detach(), rtol=1e-10, atol=0)
    assert max(float(gradient.abs().max()) for gradient in expected.values()) > 1e-4


def test_one_pass_without_dropout_does_not_depend_on_the_split(accelerator):
    whole, _ = stepped(accelerator, ToyStudent(), EVERYTHING, split_batches([8]))
    for sizes in SPLITS.values():
        assert_same(stepped(accelerator, ToyStudent(), EVERYTHING, split_batches(sizes))[0], whole)


def test_standardised_components(accelerator):
    batches = split_batches([5, 1, 2])
    found, _ = stepped(accelerator, ToyStudent(), EVERYTHING, batches, standardise=True)
    assert_same(found, plainly(ToyStudent(), EVERYTHING, batches, standardise=True)[0])


def test_gradients_are_added_to_those_that_are_there(accelerator):
    student = ToyStudent()
    once = {
        name: grad.clone() for name, grad in stepped(accelerator, student, EVERYTHING, split_batches([8]))[0].items()
    }
    twice, _ = stepped(accelerator, student, EVERYTHING, split_batches([4, 4]))
    assert_same(twice, {name: 2 * grad for name, grad in once.items()})


@pytest.mark.parametrize("weights", [{"mse": 1.0}, {"mse": 0.7, "stde": 0.3}], ids=["elementwise", "over the batch"])
def test_dropout_goes_on_as_if_nothing_had_been_replayed(accelerator, weights):
    """The next step's masks are the same whether or not a forward pass was done twice."""
    student = ToyStudent(dropout=0.4)
    batches = split_batches([5, 1, 2])
    stepped(accelerator, student, weights, batches)
    found = random_state(torch.device("cpu")).cpu
    torch.manual_seed(1)
    for batch in batches:
        student(**batch.inputs)
    assert torch.equal(found, random_state(torch.device("cpu")).cpu)


def filled(batch, fillers):
    """The batch with rows between its own that count for nothing, and would matter if they did."""
    inputs = {"x": torch.cat([batch.inputs["x"], torch.full((fillers, 5), 3.0, dtype=torch.float64)])}
    targets = torch.cat([batch.targets, torch.ones(fillers, dtype=torch.float64)])
    groups = torch.cat([batch.groups, torch.zeros(fillers, dtype=torch.int64)])
    index = torch.cat([batch.index, torch.full((fillers,), -1)])
    order = torch.randperm(len(index), generator=torch.Generator().manual_seed(0))
    return Batch({"x": inputs["x"][order]}, targets[order], groups[order], index[order])


@pytest.mark.parametrize("weights", MIXTURES.values(), ids=MIXTURES)
def test_fillers_count_for_nothing(accelerator, weights):
    plain = split_batches([5, 1, 2])
    alone = filled(plain[0], 2)
    alone = replace(alone, index=torch.full_like(alone.index, -1))
    with_fillers = [filled(plain[0], 3), alone, filled(plain[1], 1), plain[2]]
    found, record = stepped(accelerator, ToyStudent(), weights, with_fillers)
    expected, expected_record = stepped(accelerator, ToyStudent(), weights, plain)
    assert_same(found, expected)
    torch.testing.assert_close(record.loss, expected_record.loss)
    torch.testing.assert_close(record.error, expected_record.error)


def test_record(accelerator):
    student = ToyStudent()
    batches = split_batches([5, 1, 2])
    _, record = stepped(accelerator, student, {"mse": 0.7, "stde": 0.3}, batches)
    whole = split_batches([8])[0]
    with torch.no_grad():
        elements = student.elements(student(**whole.inputs), whole.targets, whole.groups)
    error = ((elements.scores - elements.targets) / elements.spread).square().mean()
    assert list(record.terms) == ["mse", "stde"]
    torch.testing.assert_close(record.loss, 0.7 * record.terms["mse"] + 0.3 * record.terms["stde"])
    torch.testing.assert_close(record.terms["mse"], (elements.scores - elements.targets).square().mean())
    torch.testing.assert_close(record.error, error)
    assert not record.loss.requires_grad


def test_error_is_1_for_a_student_that_answers_the_mean(accelerator):
    """In units of each group's variance."""
    student = ToyStudent(link="identity")
    batch = EXAMPLES.batch(list(range(20)))
    with torch.no_grad():
        student.head.weight.zero_()
        student.head.bias.zero_()
        student.centres.zero_()
    groups = torch.zeros(20, dtype=torch.int64)
    targets = student.spreads[0] * (batch.targets - batch.targets.mean()) / batch.targets.std(unbiased=False)
    _, record = stepped(accelerator, student, {"mse": 1.0}, [replace(batch, groups=groups, targets=targets)])
    assert float(record.error) == pytest.approx(1.0)
