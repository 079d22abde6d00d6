"""The exact estimator beside one graph over the whole run, and beside finite differences of whole runs."""

from __future__ import annotations

import pytest
import torch
from taught_runs import LOSSES, RULES, error_of, taught_run
from taught_students import SmallConvNet, SmallTransformer

from aes_dynloss.teaching.hypergradient.exact import Exact

STUDENTS = {"transformer": SmallTransformer, "conv net": SmallConvNet}
MUCH = 2**30


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("student", STUDENTS)
def test_whole_batches(student, rule, loss):
    run = taught_run(student=STUDENTS[student](), rule=rule, loss=loss)
    found, right = run.estimate(Exact()), run.reference()
    assert error_of(found.coefficients, right.coefficients) < 1e-8
    torch.testing.assert_close(found.measure, right.measure, rtol=1e-12, atol=0)
    assert found.measure == run.measured(run.phi)
    assert bool((found.coefficients != 0).all())
    numeric = run.numeric()
    assert error_of(found.coefficients, numeric) < 2e-6
    assert float(found.norm) == pytest.approx(float(found.coefficients.square().sum().sqrt()))


@pytest.mark.parametrize("micro", [4, 2])
@pytest.mark.parametrize("rule", ["momentum", "clipped adamw"])
@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("student", STUDENTS)
def test_micro_batches(student, loss, rule, micro):
    run = taught_run(student=STUDENTS[student](), loss=loss, rule=rule, micro=micro)
    found = run.estimate(Exact()).coefficients
    assert error_of(found, run.reference().coefficients) < 1e-8
    assert error_of(found, run.numeric()) < 2e-6


@pytest.mark.parametrize("loss", LOSSES)
def test_the_layout_of_batches_does_not_matter(loss):
    """8 x 1, 4 x 2, 2 x 4 and an uneven one, without dropout."""
    found = [
        taught_run(student=SmallTransformer(dropout=0.0), loss=loss, micro=micro).estimate(Exact()).coefficients
        for micro in (8, 4, 2, 5)
    ]
    for other in found[1:]:
        assert error_of(other, found[0]) < 1e-9


@pytest.mark.parametrize(("micro", "rule"), [(8, "momentum"), (8, "clipped"), (8, "adamw"), (4, "clipped adamw")])
@pytest.mark.parametrize("loss", LOSSES)
def test_however_it_is_remembered(micro, loss, rule):
    run = taught_run(student=SmallTransformer(dropout=0.2), loss=loss, rule=rule, micro=micro // 2, steps=4, size=4)
    right = run.reference().coefficients
    for memory in (
        {"storage": "host"},
        {"snapshots": True},
        {"snapshots": True, "storage": "host"},
        {"gradients": True},
        {"kept_graphs": MUCH},
        {"kept_graphs": 70_000},
        {"kept_graphs": MUCH, "snapshots": True},
    ):
        assert error_of(run.estimate(Exact(), **memory).coefficients, right) < 1e-8, memory
    rounded = error_of(run.estimate(Exact(), storage="bf16").coefficients, right)
    assert 1e-6 < rounded < 0.15


def passes(run, **memory):
    """Forward passes of the student in a run and its hypergradient."""
    count = 0

    def note(*_):
        nonlocal count
        count += 1

    handle = run.live.module.register_forward_hook(note)
    run.estimate(Exact(), **memory)
    handle.remove()
    return count


@pytest.mark.parametrize("rule", ["momentum", "adamw"])
def test_what_memory_buys(rule):
    """A kept graph saves its step's second forward pass, whether the rule reads gradients or not."""
    run = taught_run(rule=rule, steps=5)
    assert passes(run) == 5 + 5 + 1
    assert passes(run, kept_graphs=MUCH) == 5 + 1 + 1
    assert passes(run, snapshots=True) == 5 + 5 + 1 + 3


@pytest.mark.parametrize("dropout", [0.0, 0.2])
@pytest.mark.parametrize("rule", ["momentum", "adamw"])
@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("micro", [8, 4])
def test_recomputed_activations(micro, loss, rule, dropout):
    """A student that checkpoints its activations has the same hypergradient; it is walked in the live module."""
    how = {"loss": loss, "rule": rule, "micro": micro}
    right = taught_run(student=SmallTransformer(dropout=dropout), **how)
    run = taught_run(student=SmallTransformer(dropout=dropout, checkpointing=True), **how)
    for memory in ({}, {"snapshots": True}):
        assert error_of(run.estimate(Exact(), **memory).coefficients, right.reference().coefficients) < 1e-8


def test_the_last_steps_alone():
    run = taught_run(steps=5, rule="adamw", student=SmallTransformer(dropout=0.2))
    whole = run.reference().coefficients
    for last in (5, 9):
        assert error_of(run.estimate(Exact(last=last)).coefficients, whole) < 1e-8
    for memory in ({}, {"snapshots": True}, {"kept_graphs": MUCH}):
        found = run.estimate(Exact(last=2), **memory)
        assert bool((found.coefficients[:3] == 0).all())
        assert error_of(found.coefficients[3:], whole[3:]) < 1e-8
        torch.testing.assert_close(found.measure, run.measured(run.phi))


class MeasureOfRun(torch.autograd.Function):
    """The measure at a run's end as a function of all its coefficients, with the hypergradient for a derivative."""

    @staticmethod
    def forward(ctx, phi, run, estimator):
        ctx.save_for_backward(phi)
        ctx.answer = estimator, run
        with torch.enable_grad():
            return run.measured(phi)

    @staticmethod
    def backward(ctx, slope):
        (phi,) = ctx.saved_tensors
        estimator, run = ctx.answer
        with run.live.undisturbed(), torch.enable_grad():
            found = estimator(run.objective, run.rule, run.walk(phi), run.measure)
        return slope * found.coefficients, None, None


@pytest.mark.parametrize("rule", ["momentum", "adamw"])
@pytest.mark.parametrize("loss", LOSSES)
def test_gradcheck(loss, rule):
    run = taught_run(loss=loss, rule=rule, micro=4, student=SmallTransformer(dropout=0.2))
    phi, how = run.phi.clone().requires_grad_(), {"eps": 1e-5, "atol": 1e-7, "rtol": 1e-5, "raise_exception": False}
    assert torch.autograd.gradcheck(lambda given: MeasureOfRun.apply(given, run, Exact()), (phi,), **how)
    assert not torch.autograd.gradcheck(lambda given: MeasureOfRun.apply(given, run, Exact(last=1)), (phi,), **how)


def test_a_run_goes_on_from_any_point():
    """The second half of a run, momentum and all, as a run of its own."""
    run = taught_run(steps=4)
    middle = run.points()[2]
    whole = run.reference().coefficients
    rest = type(run)(run.objective, run.rule, middle, run.plans[2:], run.phi[2:], run.measure)
    assert float(middle.slots[0].norm()) > 0
    assert error_of(rest.estimate(Exact()).coefficients, whole[2:]) < 1e-8
    assert error_of(rest.reference().coefficients, whole[2:]) < 1e-8
