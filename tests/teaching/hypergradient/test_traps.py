"""Known ways to a wrong hypergradient: each gives a clearly different number, and the estimators give the right one.

What each trap is, and how far off it was on a real student: the table in methods/hypergradients.md.
"""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from taught_runs import RULES, error_of, taught_run
from taught_students import SmallConvNet, SmallTransformer, examples
from torch.nn import functional

from aes_dynloss.teaching.hypergradient.differences import Differences
from aes_dynloss.teaching.hypergradient.exact import Exact
from aes_dynloss.teaching.hypergradient.one_step import OneStep
from aes_dynloss.teaching.unrolling import objective
from aes_dynloss.teaching.unrolling import objective as coupled
from aes_dynloss.teaching.unrolling.derivatives import twice_differentiable
from aes_dynloss.teaching.unrolling.update_rules import Point, Rates

CLEARLY = 0.02


@pytest.mark.parametrize("estimator", [Exact(), Differences(), OneStep()])
@pytest.mark.parametrize("loss", ["elements", "batch"])
@pytest.mark.parametrize("micro", [8, 4])
def test_dropout_that_is_not_replayed(micro, loss, estimator):
    run = taught_run(student=SmallTransformer(dropout=0.2), loss=loss, micro=micro)
    right = run.estimate(estimator).coefficients
    with run.live.undisturbed():
        trajectory = run.walk()
        again = estimator(run.objective, run.rule, trajectory, run.measure).coefficients
        for step in trajectory.steps:
            step.plan = replace(step.plan, random=None)
        torch.manual_seed(99)
        trapped = estimator(run.objective, run.rule, trajectory, run.measure).coefficients
    assert error_of(again, right) < 1e-12
    assert error_of(trapped, right) > CLEARLY


def test_one_state_for_all_micro_batches(monkeypatch):
    """The state before the step is not that before its second micro-batch."""
    run = taught_run(student=SmallTransformer(dropout=0.2), loss="batch", micro=4)
    right = run.reference().coefficients
    assert error_of(run.estimate(Exact()).coefficients, right) < 1e-8
    first = run.plans[0].random
    monkeypatch.setattr(coupled, "random_state", lambda device: first)
    assert error_of(run.estimate(Exact()).coefficients, right) > CLEARLY


@pytest.mark.parametrize("estimator", [Exact(), Differences(), OneStep()])
def test_batch_norms_statistics_are_moved_on_the_way_back(estimator):
    """The live module's running statistics, which are the student's answers in eval mode, must not be kept so."""
    student = SmallConvNet()
    run = taught_run(student=student)
    trajectory = run.walk()
    batch = examples(range(4), images=True)

    def answers():
        student.eval()
        return student(**batch.inputs).detach()

    run.live.put(trajectory.end.weights)
    before = answers()
    with run.live.undisturbed():
        estimator(run.objective, run.rule, trajectory, run.measure)
    assert torch.equal(answers(), before)
    assert torch.equal(run.live.weights(), trajectory.end.weights)
    estimator(run.objective, run.rule, trajectory, run.measure)
    run.live.put(trajectory.end.weights)
    assert error_of(answers(), before) > 1e-3


def test_functional_call_around_recomputed_activations():
    """Recomputed with the live module's weights, which are others by then: wrong without an error."""
    student = SmallTransformer(dropout=0.0, checkpointing=True)
    run = taught_run(student=student)
    plan, phi, here = run.plans[0], run.phi[0], run.live.weights()
    q = torch.randn(len(here), generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    right = run.objective.product(plan, phi)[1](q)
    run.live.put(1.3 * here)
    leaves = [view.clone().requires_grad_() for view in run.live.views(here)]
    with twice_differentiable():
        outputs = run.live.outputs(plan.batches[0], run.objective.processes.autocast(), leaves)
        elements = student.elements(outputs, plan.batches[0].targets, plan.batches[0].groups)
        value = run.objective.loss(phi, elements).mean()
        trapped = run.live.flat(torch.autograd.grad(value, leaves, allow_unused=True))
    run.live.put(here)
    assert error_of(trapped, run.objective.gradient(plan, phi).weights) > CLEARLY
    for answer, other in zip(run.objective.product(plan, phi)[1](q), right, strict=True):
        assert error_of(answer, other) < 1e-12


def attended():
    leaf = torch.randn(2, 2, 4, 2, dtype=torch.float64, requires_grad=True)
    answer = functional.scaled_dot_product_attention(leaf, leaf, leaf)
    (slope,) = torch.autograd.grad(answer.square().sum(), leaf, create_graph=True)
    return torch.autograd.grad(slope.sum(), leaf)[0]


def test_the_fast_attention_kernel_has_no_second_derivative():
    with twice_differentiable():
        assert bool(attended().isfinite().all())
    with pytest.raises(RuntimeError, match="not implemented"):
        attended()


@pytest.mark.parametrize("place", [objective, coupled])
def test_products_ask_for_the_other_kernel(place, monkeypatch):
    loss = "batch" if place is coupled else "elements"
    run = taught_run(student=SmallTransformer(dropout=0.0), loss=loss, micro=4 if place is coupled else 8)
    right = run.reference().coefficients
    assert error_of(run.estimate(Exact()).coefficients, right) < 1e-8
    asked = []

    def noted():
        asked.append(True)
        return twice_differentiable()

    monkeypatch.setattr(place, "twice_differentiable", noted)
    run.estimate(Exact())
    assert len(asked) >= 3


def test_kernels_of_ordinary_passes_stay_fast():
    run, seen = taught_run(student=SmallTransformer(dropout=0.0)), []
    run.live.module.register_forward_hook(lambda *_: seen.append(torch.backends.cuda.flash_sdp_enabled()))
    run.objective.gradient(run.plans[0], run.phi[0])
    _, product = run.objective.product(run.plans[0], run.phi[0])
    product(run.live.weights())
    assert seen == [True, False]


def test_a_mean_of_means_over_uneven_parts():
    """5 + 3 elements: the hypergradient of the mean of the two means is another one."""
    how = {"student": SmallTransformer(dropout=0.0), "micro": 5}
    right = taught_run(**{**how, "micro": 8}).estimate(Exact()).coefficients
    run = taught_run(**how)
    assert error_of(run.estimate(Exact()).coefficients, right) < 1e-10

    class MeanOfMeans(type(run.objective)):
        def _value(self, elements, coefficients, count):
            return super()._value(elements, coefficients, 2 * len(elements))

    wrong = replace(run, objective=MeanOfMeans(run.live, run.objective.loss))
    assert error_of(wrong.estimate(Exact()).coefficients, right) > CLEARLY


def test_a_coupled_loss_on_each_part():
    how = {"student": SmallTransformer(dropout=0.0), "loss": "batch"}
    run = taught_run(**how, micro=4)
    right = taught_run(**how).estimate(Exact()).coefficients

    class Apart(type(run.objective)):
        def _is_coupled(self, plan):
            return False

        def _value(self, elements, coefficients, count):
            return super()._value(elements, coefficients, count) / 2

    wrong = replace(run, objective=Apart(run.live, run.objective.loss))
    assert error_of(run.estimate(Exact()).coefficients, right) < 1e-9
    assert error_of(wrong.estimate(Exact()).coefficients, right) > CLEARLY


def without_momentum(vjp):
    def trapped(self, point, gradient, factor, adjoint):
        behind, cotangent = vjp(self, point, gradient, factor, adjoint)
        return Point(behind.weights, tuple(0.0 * slot for slot in behind.slots), behind.step), cotangent

    return trapped


@pytest.mark.parametrize("rule", ["momentum", "adamw"])
def test_the_optimisers_memory_is_walked_back(rule, monkeypatch):
    run = taught_run(rule=rule)
    right = run.reference().coefficients
    kind = type(run.rule)
    monkeypatch.setattr(kind, "vjp", without_momentum(kind.vjp))
    found = run.estimate(Exact()).coefficients
    assert error_of(found[-1], right[-1]) < 1e-8
    assert error_of(found, right) > CLEARLY


@pytest.mark.parametrize("rule", [name for name in RULES if "clipped" in name])
def test_clipping_is_walked_back(rule, monkeypatch):
    run = taught_run(rule=rule)
    right = run.reference().coefficients

    def held(self, gradient, adjoint):
        """The norm taken for a number."""
        return adjoint * (self.clip / gradient.norm()).clamp(max=1.0)

    monkeypatch.setattr(Rates, "clipped_adjoint", held)
    assert error_of(run.estimate(Exact()).coefficients, right) > CLEARLY


def test_the_measure_is_taken_in_its_own_mode():
    """Dropout in the measure would make it another function at every look."""
    run = taught_run(student=SmallTransformer(dropout=0.3))
    looks = [run.measure.gradient(run.start.weights) for _ in range(2)]
    assert torch.equal(looks[0][1], looks[1][1])
    run.measure.objective._measuring = False
    looks = [run.measure.gradient(run.start.weights) for _ in range(2)]
    assert error_of(looks[0][1], looks[1][1]) > CLEARLY


def test_steps_are_in_train_mode_after_a_measure():
    run = taught_run(student=SmallTransformer(dropout=0.3))
    right = run.walk().end.weights
    run.live.measure_mode()
    assert torch.equal(run.walk().end.weights, right)
