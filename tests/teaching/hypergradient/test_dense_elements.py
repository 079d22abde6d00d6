"""Hypergradients where an example has several elements, with weights, and more beside them."""

from __future__ import annotations

import pytest
import torch
from dense_losses import DENSE_LOSSES
from dense_runs import dense_run
from dense_student import DenseStudent
from taught_runs import error_of

from aes_dynloss.teaching.hypergradient.differences import Differences
from aes_dynloss.teaching.hypergradient.exact import Exact

CLEARLY = 0.02


@pytest.mark.parametrize("rule", ["momentum", "adamw"])
@pytest.mark.parametrize("norm", [True, False], ids=["batch norm", "plain"])
@pytest.mark.parametrize("name", DENSE_LOSSES)
def test_three_ways(name, norm, rule):
    run = dense_run(name, student=DenseStudent(norm=norm), rule=rule)
    found, right = run.estimate(Exact()), run.reference()
    assert error_of(found.coefficients, right.coefficients) < 1e-8
    torch.testing.assert_close(found.measure, right.measure, rtol=1e-12, atol=0)
    assert error_of(found.coefficients, run.numeric()) < 1e-5


@pytest.mark.parametrize("micro", [4, 3])
@pytest.mark.parametrize("name", DENSE_LOSSES)
def test_micro_batches(name, micro):
    run = dense_run(name, micro=micro)
    assert error_of(run.estimate(Exact()).coefficients, run.reference().coefficients) < 1e-8


@pytest.mark.parametrize("name", DENSE_LOSSES)
def test_the_layout_of_batches_does_not_matter(name):
    """Without batch norm."""
    how = {"student": DenseStudent(norm=False)}
    whole = dense_run(name, **how).estimate(Exact()).coefficients
    for micro in (4, 2, 1, 5):
        assert error_of(dense_run(name, micro=micro, **how).estimate(Exact()).coefficients, whole) < 1e-9


@pytest.mark.parametrize("memory", [{"snapshots": True}, {"kept_graphs": 2**30}, {"gradients": True}])
@pytest.mark.parametrize("micro", [8, 4])
def test_however_it_is_remembered(memory, micro):
    run = dense_run("bilinear", micro=micro, rule="adamw", steps=4)
    assert error_of(run.estimate(Exact(), **memory).coefficients, run.reference().coefficients) < 1e-8


@pytest.mark.parametrize("name", ["bilinear", "smooth network", "mixture"])
def test_finite_differences(name):
    run = dense_run(name)
    assert error_of(run.estimate(Differences()).coefficients, run.reference().coefficients) < 1e-4


@pytest.mark.parametrize("name", DENSE_LOSSES)
@pytest.mark.parametrize("without", ["number", "kinds"])
def test_every_part_matters(name, without):
    """The number beside the elements bends the path though no coefficient stands at it; kinds do for a network."""
    whole = dense_run(name).estimate(Exact()).coefficients
    part = dense_run(name, student=DenseStudent(**{without: False})).estimate(Exact()).coefficients
    if without == "number" or "network" in name:
        assert error_of(part, whole) > CLEARLY
    else:
        assert torch.equal(part, whole)


@pytest.mark.parametrize("estimator", [Exact(), Differences()])
def test_batch_norms_statistics_are_left_as_they_were(estimator):
    student = DenseStudent()
    run = dense_run("smooth network", student=student)
    before = [buffer.clone() for buffer in student.buffers()]
    run.estimate(estimator)
    assert all(torch.equal(now, then) for now, then in zip(student.buffers(), before, strict=True))
    run.walk()
    assert not torch.equal(student.body[1].running_mean, before[0])
