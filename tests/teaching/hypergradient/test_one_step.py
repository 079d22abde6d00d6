"""The short horizon: every step judged by itself."""

from __future__ import annotations

import pytest
import torch
from taught_runs import LOSSES, RULES, error_of, taught_run
from taught_students import SmallConvNet, SmallTransformer

from aes_dynloss.errors import ConfigError
from aes_dynloss.teaching.hypergradient.exact import Exact
from aes_dynloss.teaching.hypergradient.one_step import OneStep


def step_by_step(run):
    """Exact hypergradients of runs of one step, from each point of the run."""
    rows = []
    for number, point in enumerate(run.points()):
        part = slice(number, number + 1)
        alone = type(run)(run.objective, run.rule, point, run.plans[part], run.phi[part], run.measure)
        rows.append(alone.estimate(Exact()).coefficients)
    return torch.cat(rows)


@pytest.mark.parametrize("micro", [8, 4])
@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("rule", RULES)
def test_each_step_is_a_run_of_one(rule, loss, micro):
    run = taught_run(rule=rule, loss=loss, micro=micro, student=SmallTransformer(dropout=0.2))
    found = run.estimate(OneStep(size=1e-4), gradients=True)
    assert error_of(found.coefficients, step_by_step(run)) < 1e-5
    torch.testing.assert_close(found.measure, run.measured(run.phi))


def test_snapshots_and_batch_norm():
    run = taught_run(student=SmallConvNet(), steps=5)
    right = step_by_step(run)
    for memory in ({}, {"snapshots": True}, {"storage": "host"}):
        assert error_of(run.estimate(OneStep(), **memory).coefficients, right) < 1e-5


def test_it_is_biased_but_for_the_last_step():
    run = taught_run()
    found, right = run.estimate(OneStep()).coefficients, run.reference().coefficients
    assert error_of(found[-1], right[-1]) < 1e-5
    assert error_of(found[0], right[0]) > 0.1


def test_no_backward_pass_of_the_student_in_a_step():
    """What makes it cheap: only the measure's gradient goes back through the student."""
    run = taught_run()
    with run.live.undisturbed():
        trajectory = run.walk()
        graphs = []
        run.live.module.register_forward_hook(lambda module, given, answer: graphs.append(answer.requires_grad))
        OneStep()(run.objective, run.rule, trajectory, run.measure)
    assert graphs == [True, False, False] * 3


@pytest.mark.parametrize("rule", ["adamw", "clipped"])
def test_gradients_must_have_been_kept(rule):
    with pytest.raises(ConfigError, match=r"needs the run's gradients here \(Memory.gradients\)"):
        taught_run(rule=rule).estimate(OneStep())


def test_a_measure_that_does_not_move():
    """Without a slope there is no direction to look in."""
    run = taught_run()
    measure = run.measure
    measure.plan.batches[0].targets.copy_(torch.zeros(8))

    class Constant(type(measure.objective.loss)):
        def __call__(self, coefficients, elements):
            return 0.0 * super().__call__(coefficients, elements)

    measure.objective.loss = Constant()
    assert not run.estimate(OneStep()).coefficients.any()
