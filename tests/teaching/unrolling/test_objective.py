"""Gradients and products of one step, beside autograd's own."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from taught_runs import LOSSES, error_of, micro_batches, taught_run
from taught_students import SmallConvNet, SmallTransformer, examples
from torch import nn

from aes_dynloss.teaching.losses.dynamic_loss import Mixture
from aes_dynloss.teaching.student import Batch
from aes_dynloss.teaching.unrolling.live_student import LiveStudent
from aes_dynloss.teaching.unrolling.objective import Objective
from aes_dynloss.teaching.unrolling.step_plan import StepPlan

STUDENTS = {"transformer": SmallTransformer, "conv net": SmallConvNet}
LAYOUTS = (8, 4, 2)


def direction(size, seed=9):
    return torch.randn(size, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def by_one_graph(run, plan, phi):
    """Value, gradient in weights and coefficients, H q and M^T q for the direction q, from one graph over all."""
    weights, phi = run.live.weights().requires_grad_(), phi.clone().requires_grad_()
    value = run.objective.graph(plan, phi, weights)
    slope, to_phi = torch.autograd.grad(value, [weights, phi], create_graph=True)
    hvp, mixed = torch.autograd.grad(slope, [weights, phi], direction(len(weights)))
    return value.detach(), slope.detach(), to_phi.detach(), hvp, mixed


@pytest.mark.parametrize("micro", LAYOUTS)
@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("student", STUDENTS)
def test_first_and_second_derivatives(student, loss, micro):
    run = taught_run(student=STUDENTS[student](), loss=loss, micro=micro)
    plan, phi = run.plans[0], run.phi[0]
    value, slope, to_phi, hvp, mixed = by_one_graph(run, plan, phi)
    found = run.objective.gradient(plan, phi)
    torch.testing.assert_close(found.value, value, rtol=1e-12, atol=0)
    torch.testing.assert_close(run.objective.value(plan, phi), value, rtol=1e-12, atol=0)
    assert error_of(found.weights, slope) < 1e-12
    assert error_of(found.coefficients, to_phi) < 1e-12
    assert error_of(run.objective.coefficient_gradient(plan, phi), to_phi) < 1e-12
    again, product = run.objective.product(plan, phi)
    assert error_of(again.weights, slope) < 1e-12
    assert error_of(again.coefficients, to_phi) < 1e-12
    torch.testing.assert_close(again.error, found.error, rtol=1e-12, atol=0)
    for answer, right in zip(product(direction(len(slope))), (hvp, mixed), strict=True):
        assert error_of(answer, right) < 1e-11


@pytest.mark.parametrize("loss", LOSSES)
def test_the_layout_of_a_batch_does_not_matter(loss):
    """8 x 1, 4 x 2 and 2 x 4, where nothing but the loss could couple them."""
    answers = []
    for micro in (8, 4, 2, 3):
        run = taught_run(student=SmallTransformer(dropout=0.0), loss=loss, micro=micro)
        first, product = run.objective.product(run.plans[0], run.phi[0])
        hvp, mixed = product(direction(len(first.weights)))
        answers.append(torch.cat([first.value[None], first.error[None], first.weights, first.coefficients, hvp, mixed]))
    for answer in answers[1:]:
        torch.testing.assert_close(answer, answers[0], rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("micro", [9, 3])
@pytest.mark.parametrize("loss", LOSSES)
def test_fillers_count_for_nothing(loss, micro):
    run = taught_run(student=SmallTransformer(dropout=0.0), loss=loss)
    rows = list(range(8))
    filled = micro_batches([*rows, 8], micro)
    index = filled.batches[-1].index.clone()
    index[-1] = -1
    filled = replace(filled, batches=(*filled.batches[:-1], replace(filled.batches[-1], index=index)), count=8)
    answers = []
    for plan in (run.plans[0], filled):
        first, product = run.objective.product(plan, run.phi[0])
        hvp, mixed = product(direction(len(first.weights)))
        cheap = run.objective.coefficient_gradient(plan, run.phi[0])
        alone = run.objective.value(plan, run.phi[0])
        answers.append(torch.cat([first.value[None], alone[None], first.error[None], first.weights, hvp, mixed, cheap]))
    torch.testing.assert_close(answers[1], answers[0], rtol=1e-10, atol=1e-12)


def test_a_mean_of_uneven_micro_batches_is_over_elements():
    """Micro-batches of 5 and 3: the mean of their means is another number."""
    run = taught_run(student=SmallTransformer(dropout=0.0))
    phi = run.phi[0]
    whole = run.objective.gradient(run.plans[0], phi)
    uneven = run.objective.gradient(micro_batches(list(range(8)), 5), phi)
    assert error_of(uneven.weights, whole.weights) < 1e-12
    means = [run.objective.gradient(micro_batches(rows, 8), phi).weights for rows in (list(range(5)), [5, 6, 7])]
    assert error_of((means[0] + means[1]) / 2, whole.weights) > 0.02


def test_a_statistic_of_parts_is_another_loss():
    """What would come out if a coupled loss were taken on every micro-batch for itself."""
    run = taught_run(student=SmallTransformer(dropout=0.0), loss="batch", micro=4)
    phi = run.phi[0]
    whole = run.objective.gradient(run.plans[0], phi)
    parts = [run.objective.gradient(micro_batches(rows, 4), phi).weights for rows in ([0, 1, 2, 3], [4, 5, 6, 7])]
    assert error_of((parts[0] + parts[1]) / 2, whole.weights) > 0.02


def test_the_error_for_the_students_state():
    run = taught_run(student=SmallTransformer(dropout=0.0))
    with torch.no_grad():
        batch = run.plans[0].batches[0]
        elements = run.live.student.elements(run.live.module(**batch.inputs), batch.targets, batch.groups)
    expected = ((elements.scores - elements.targets) / elements.spread).square().mean()
    torch.testing.assert_close(run.objective.gradient(run.plans[0], run.phi[0]).error, expected)


def test_random_states_are_replayed_and_go_on():
    run = taught_run(student=SmallTransformer(dropout=0.4))
    plan, phi = run.plans[0], run.phi[0]
    first = run.objective.gradient(plan, phi)
    torch.manual_seed(77)
    assert torch.equal(run.objective.gradient(plan, phi).weights, first.weights)
    loose = replace(plan, random=None)
    assert not torch.equal(run.objective.gradient(loose, phi).weights, run.objective.gradient(loose, phi).weights)


def test_a_kept_product_outlives_other_weights():
    run = taught_run()
    plan, phi, here = run.plans[0], run.phi[0], run.live.weights()
    q = direction(len(here))
    right = run.objective.product(plan, phi)[1](q)
    first, product = run.objective.product(plan, phi, weights=here, gradient=False)
    assert first is None
    run.live.put(here + 1.0)
    for answer, expected in zip(product(q), right, strict=True):
        assert error_of(answer, expected) < 1e-12


def test_one_graph():
    elements, batch = taught_run(), taught_run(loss="batch")
    assert elements.objective.is_one_graph(elements.plans[0])
    assert batch.objective.is_one_graph(batch.plans[0])
    assert not taught_run(micro=4).objective.is_one_graph(taught_run(micro=4).plans[0])


class OneOperation(SmallTransformer):
    """A linear map, an operation, a head."""

    def __init__(self, operation):
        super().__init__()
        self.block = operation
        self.reset(1)


class Pooled(nn.Module):
    """An operation over (B, D, S)."""

    def __init__(self, operation):
        super().__init__()
        self.operation = operation

    def forward(self, x):
        return self.operation(x.transpose(1, 2)).transpose(1, 2)


class Attention(nn.Module):
    def forward(self, x):
        heads = x.unflatten(-1, (2, -1)).transpose(1, 2)
        return nn.functional.scaled_dot_product_attention(heads, 2 * heads, heads.square()).transpose(1, 2).flatten(2)


class FirstOf(nn.Module):
    def __init__(self, operation):
        super().__init__()
        self.operation = operation

    def forward(self, x):
        return self.operation(x)[0]


OPERATIONS = {
    "layer norm": lambda: nn.LayerNorm(4),
    "batch norm": lambda: Pooled(nn.BatchNorm1d(4)),
    "group norm": lambda: Pooled(nn.GroupNorm(2, 4)),
    "attention": Attention,
    "gelu": nn.GELU,
    "tanh gelu": lambda: nn.GELU(approximate="tanh"),
    "silu": nn.SiLU,
    "softmax": lambda: nn.Softmax(dim=-1),
    "convolution": lambda: Pooled(nn.Conv1d(4, 4, 2)),
    "dropout": lambda: nn.Dropout(0.3),
    "gru": lambda: FirstOf(nn.GRU(4, 4, batch_first=True)),
}


@pytest.mark.parametrize("name", OPERATIONS)
def test_the_second_derivative_of_an_operation(name):
    """Differentiating forward-mode products again is silently wrong through the norms; this way is not."""
    live = LiveStudent(OneOperation(OPERATIONS[name]()))
    objective = Objective(live, Mixture(["mse", "cross_entropy"]))
    torch.manual_seed(1)
    plan = replace(micro_batches(list(range(6)), 6), random=taught_run().plans[0].random)
    phi, here = torch.tensor([1.0, 0.5], dtype=torch.float64), live.weights()
    q = direction(len(here))
    hvp, mixed = objective.product(plan, phi)[1](q)
    sides = []
    for sign in (1, -1):
        live.put(here + sign * 1e-5 * q)
        sides.append(objective.gradient(plan, phi))
    assert error_of(hvp, (sides[0].weights - sides[1].weights) / 2e-5) < 1e-7
    assert error_of(mixed, (sides[0].coefficients - sides[1].coefficients) / 2e-5) < 1e-7


def test_tokens_that_are_looked_up():
    """Weights that some steps do not read."""

    class Reader(SmallTransformer):
        def __init__(self):
            super().__init__(dropout=0.0)
            self.embedding = nn.Embedding(6, 4)
            self.reset(2)

    live = LiveStudent(Reader())
    batch = examples(range(4))
    words = Batch({"x": torch.tensor([[0, 1, 1, 2]] * 4)}, batch.targets, batch.groups, batch.index)
    objective = Objective(live, Mixture(["mse"]))
    phi, plan = torch.ones(1, dtype=torch.float64), StepPlan((words,), 4)
    first, product = objective.product(plan, phi)
    hvp, _ = product(direction(len(first.weights)))
    assert live.names[0] == "embedding.weight"
    for found in (first.weights, hvp):
        rows = found[:24].view(6, 4).abs().sum(1)
        assert (rows > 0).tolist() == [True] * 3 + [False] * 3
