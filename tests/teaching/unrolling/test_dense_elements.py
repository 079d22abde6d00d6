"""First and second derivatives where an example has several elements, with weights, and more beside them."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from dense_losses import DENSE_LOSSES, SMALL, coefficients_of, dense_plan
from dense_runs import dense_run
from dense_student import DenseStudent, by_loops, dense_examples, with_fillers
from taught_runs import error_of

from aes_dynloss.errors import ShapeError
from aes_dynloss.teaching.losses.dynamic_loss import Mixture
from aes_dynloss.teaching.losses.loss_network import LossNetwork
from aes_dynloss.teaching.unrolling.live_student import LiveStudent
from aes_dynloss.teaching.unrolling.objective import Objective

ROWS = list(range(8))


def plainly(name, phi):
    """The loss of one place, from its formula."""

    def bilinear(log_probs, true, kind):
        matrix, bias = phi[:9].view(3, 3), phi[9:]
        return -0.1 * log_probs[true] - torch.sigmoid(matrix[true] @ log_probs + bias[true])

    def network(log_probs, true, kind):
        signals = torch.sigmoid(log_probs - log_probs.mean())
        layers = phi[: 4 * SMALL["width"]].view(-1, 4), phi[4 * SMALL["width"] :]
        total = -log_probs[true]
        for rival in range(3):
            if rival != true:
                inner = layers[0] @ torch.stack(
                    [signals[true], signals[rival], torch.ones_like(total), kind + 0 * total]
                )
                bent = torch.where(inner > 0, inner, 0.01 * inner)
                if name == "smooth network":
                    bent = 0.01 * inner + 0.99 * (torch.log1p(inner.exp()) - math.log(2))
                total = total + layers[1] @ bent / 3
        return total

    def mixture(log_probs, true, kind):
        p = log_probs[true].exp()
        return -phi[0] * p.log() - phi[1] * (1 - p) ** 2 * p.log() + phi[2] * (1 - p)

    def meta_weights(log_probs, true, kind):
        slope, bias, last = phi[:15].view(3, 5)
        read = -log_probs[true].detach()
        return -torch.sigmoid(last @ (slope * read + bias).clamp(min=0) + phi[15]) * log_probs[true]

    return {"bilinear": bilinear, "mixture": mixture, "meta weights": meta_weights}.get(name, network)


def by_one_graph(run, plan, phi, q):
    """H q and M^T q from one graph over all."""
    weights, phi = run.live.weights().requires_grad_(), phi.clone().requires_grad_()
    value = run.objective.graph(plan, phi, weights)
    (slope,) = torch.autograd.grad(value, weights, create_graph=True)
    return torch.autograd.grad(slope, [weights, phi], q)


@pytest.mark.parametrize("how", [{}, {"number": False}, {"kinds": False}, {"norm": False}])
@pytest.mark.parametrize("name", DENSE_LOSSES)
def test_a_step_place_by_place(name, how):
    student = DenseStudent(**how)
    run = dense_run(name, student=student)
    plan, phi = run.plans[0], run.phi[0].clone().requires_grad_()
    found = run.objective.gradient(plan, phi)
    student.train()
    value = by_loops(student, plainly(name, phi), plan.batches[0])
    *slopes, to_phi = torch.autograd.grad(value, [*run.live.parameters, phi], allow_unused=True)
    torch.testing.assert_close(found.value, value.detach(), rtol=1e-12, atol=0)
    assert error_of(found.weights, run.live.flat(slopes)) < 1e-12
    assert error_of(found.coefficients, to_phi) < 1e-12
    assert error_of(run.objective.coefficient_gradient(plan, phi), to_phi) < 1e-12


@pytest.mark.parametrize("micro", [8, 4, 2])
@pytest.mark.parametrize("name", DENSE_LOSSES)
def test_products(name, micro):
    run = dense_run(name, micro=micro)
    plan, phi = run.plans[0], run.phi[0]
    q = torch.randn(len(run.start.weights), generator=torch.Generator().manual_seed(9), dtype=torch.float64)
    first, product = run.objective.product(plan, phi)
    assert error_of(first.weights, run.objective.gradient(plan, phi).weights) < 1e-12
    for answer, right in zip(product(q), by_one_graph(run, plan, phi, q), strict=True):
        assert error_of(answer, right) < 1e-11


def answers(name, plan):
    """All that a step answers, in one vector."""
    run = dense_run(name, student=DenseStudent(norm=False))
    phi = run.phi[0]
    first, product = run.objective.product(plan, phi)
    bent, mixed = product(torch.linspace(-1, 1, len(first.weights), dtype=torch.float64))
    cheap = run.objective.coefficient_gradient(plan, phi)
    return torch.cat([first.value[None], first.error[None], first.weights, first.coefficients, bent, mixed, cheap])


@pytest.mark.parametrize("name", DENSE_LOSSES)
def test_the_layout_of_a_batch_does_not_matter(name):
    """8 x 1, 4 x 2, 2 x 4 and an uneven one, without batch norm."""
    whole = answers(name, dense_plan(ROWS, 8))
    for micro in (4, 2, 5, 1):
        torch.testing.assert_close(answers(name, dense_plan(ROWS, micro)), whole, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("micro", [8, 3])
@pytest.mark.parametrize("name", DENSE_LOSSES)
def test_fillers_count_for_nothing(name, micro):
    plan = dense_plan(ROWS, micro)
    filled = replace(plan, batches=tuple(with_fillers(batch) for batch in plan.batches))
    torch.testing.assert_close(answers(name, filled), answers(name, plan), rtol=1e-12, atol=1e-12)


def test_the_error_is_weighted():
    """Of each example the weighted part of wrong places, by the chance error; 0 where no place has a truth."""
    student = DenseStudent(norm=False)
    batch = dense_examples(ROWS)
    answered = student(**batch.inputs)[:, :-1].reshape(8, 4, 3).argmax(2)
    errors = []
    for row, truth in zip(answered.tolist(), batch.targets[:, :4].tolist(), strict=True):
        known = [place for place in range(4) if truth[place] >= 0]
        weights = [student.importance[place].item() for place in known]
        wrong = sum(w for w, place in zip(weights, known, strict=True) if row[place] != truth[place])
        errors.append(wrong / sum(weights) / 0.6 if known else 0.0)
    run = dense_run("mixture", student=student)
    for micro in (8, 3):
        found = run.objective.gradient(dense_plan(ROWS, micro), run.phi[0]).error
        assert float(found) == pytest.approx(sum(errors) / 8, rel=1e-12)
    assert errors[3] == 0.0
    assert len(set(errors)) > 3


@pytest.mark.parametrize(("name", "how"), [("weights", {"number": False}), ("other", {})])
@pytest.mark.parametrize("micro", [8, 4])
def test_a_statistic_of_a_batch_is_refused(name, how, micro):
    class Alone(DenseStudent):
        """One element an example, with a number beside it."""

        def elements(self, outputs, targets, groups):
            return replace(super().elements(outputs, targets, groups), weights=None, other=outputs.sum(1).repeat(4))

    student = Alone() if name == "other" else DenseStudent(**how)
    objective = Objective(LiveStudent(student), Mixture(["cross_entropy", "stde"]))
    phi = torch.ones(2, dtype=torch.float64)
    with pytest.raises(ShapeError, match=r"One of cross_entropy, stde is a statistic of a batch, .* single elements"):
        objective.gradient(dense_plan(ROWS, micro), phi)


def test_kinds_reach_the_loss_network_alone():
    """Two kinds against one: other values for the network, the same for losses of classes."""
    for name, loss in DENSE_LOSSES.items():
        batch, values = dense_examples(ROWS), []
        for kinds in (True, False):
            student = DenseStudent(kinds=kinds)
            values.append(
                loss(
                    coefficients_of(name, 1)[0], student.elements(student(**batch.inputs), batch.targets, batch.groups)
                )
            )
        same = bool(torch.equal(*values))
        assert same is not isinstance(loss, LossNetwork), name
