"""Finite differences of gradients beside exact products."""

from __future__ import annotations

import pytest
import torch
from taught_runs import LOSSES, RULES, TaughtRun, error_of, taught_run
from taught_students import SmallConvNet, SmallTransformer

from aes_dynloss.errors import ConfigError
from aes_dynloss.teaching.hypergradient.differences import Differences, difference_product
from aes_dynloss.teaching.hypergradient.exact import Exact
from aes_dynloss.teaching.hypergradient.protocol import Hypergradient

# In float64 hypergradients.md found 6e-6 for central differences and 6e-4 to 3e-2 for one-sided ones. Clipping bends
# a path more than any step of that study did, and cancels: what is left is smaller than what was added.
CENTRAL, ONE_SIDED, ROUGH = 6e-6, 3e-2, 20


@pytest.mark.parametrize("micro", [8, 4])
@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("student", [SmallTransformer, SmallConvNet])
def test_errors_are_as_measured(student, rule, micro):
    run = taught_run(student=student(), rule=rule, micro=micro)
    right = run.reference().coefficients
    room = ROUGH if "clipped" in rule else 1
    assert error_of(run.estimate(Differences(), gradients=True).coefficients, right) < CENTRAL * room
    one_sided = error_of(run.estimate(Differences(one_sided=True), gradients=True).coefficients, right)
    assert 1e-6 < one_sided < ONE_SIDED * room


def test_errors_fall_as_the_theory_says():
    run = taught_run(rule="momentum", student=SmallTransformer(dropout=0.0))
    right = run.reference().coefficients

    def error(size, *, one_sided):
        return error_of(run.estimate(Differences(one_sided, size), gradients=True).coefficients, right)

    central = [error(size, one_sided=False) for size in (3e-2, 3e-3)]
    one_sided = [error(size, one_sided=True) for size in (3e-2, 3e-3)]
    assert 50 < central[0] / central[1] < 200
    assert 5 < one_sided[0] / one_sided[1] < 20


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("micro", [8, 4])
def test_coupled_losses_and_memory(micro, loss):
    """Rankings bend more in float64 than squared errors do; smaller steps answer that."""
    run = taught_run(loss=loss, micro=micro, steps=5)
    right = run.reference().coefficients
    for memory in ({}, {"snapshots": True}, {"storage": "host"}, {"gradients": True, "snapshots": True}):
        assert error_of(run.estimate(Differences(size=1e-4), **memory).coefficients, right) < 1e-5, memory
    for memory in ({"gradients": True}, {"gradients": True, "snapshots": True}):
        one_sided = Differences(one_sided=True, size=1e-4)
        assert error_of(run.estimate(one_sided, **memory).coefficients, right) < 1e-2, memory


def test_recomputed_activations():
    right = taught_run().reference().coefficients
    run = taught_run(student=SmallTransformer(checkpointing=True))
    assert error_of(run.estimate(Differences()).coefficients, right) < CENTRAL


@pytest.mark.parametrize(
    ("estimator", "rule"),
    [
        (Differences(one_sided=True), "momentum"),
        (Differences(one_sided=True), "adamw"),
        (Differences(), "adamw"),
        (Differences(), "clipped"),
    ],
)
def test_gradients_must_have_been_kept(estimator, rule):
    run = taught_run(rule=rule)
    with pytest.raises(ConfigError, match=r"need the forward run's gradients here; remember them \(Memory.gradients\)"):
        run.estimate(estimator)
    assert isinstance(run.estimate(estimator, gradients=True), Hypergradient)


def test_no_direction_no_product():
    run = taught_run()
    here = run.live.weights()
    hvp, mixed = difference_product(run.objective, run.plans[0], run.phi[0], here, torch.zeros_like(here), size=1e-3)
    assert not hvp.any()
    assert not mixed.any()


def in_float32(run):
    """The same run in single precision."""

    def single(plan):
        batches = []
        for batch in plan.batches:
            inputs = {name: tensor.float() for name, tensor in batch.inputs.items()}
            batches.append(type(batch)(inputs, batch.targets.float(), batch.groups, batch.index))
        return type(plan)(tuple(batches), plan.count, plan.factor, plan.random)

    short = taught_run(student=run.live.student.float(), rule="adamw")
    plans = [single(plan) for plan in run.plans]
    measure = type(run.measure)(short.measure.objective, single(run.measure.plan))
    rule = short.rule
    return TaughtRun(short.objective, rule, rule.start(short.live.weights()), plans, run.phi.float(), measure)


def test_weights_that_are_not_read_do_not_drown_the_others():
    """AdamW's slope of rate / eps at weights without a gradient, such as unread words', once made this 1500 % off."""
    run = taught_run(student=SmallTransformer(dropout=0.0), rule="adamw")
    for plan in run.plans:
        plan.batches[0].inputs["x"][..., 0] = 0.0
    right = run.reference().coefficients
    run = in_float32(run)
    assert error_of(run.estimate(Exact()).coefficients, right) < 1e-5
    for estimator in (Differences(), Differences(one_sided=True)):
        assert error_of(run.estimate(estimator, gradients=True).coefficients, right) < 2e-2
