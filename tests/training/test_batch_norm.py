"""Batch norm's statistics move once with each forward pass of a step, whatever is computed again or undone."""

from __future__ import annotations

import copy

import pytest
import torch
from toy_runs import assert_same_weights, toy_fit
from toy_student import NormedStudent, ToyExamples
from toy_taught import network_fit, replaying, teach

from aes_dynloss.teaching.losses.dynamic_loss import Mixture
from aes_dynloss.teaching.unrolling.live_student import LiveStudent
from aes_dynloss.teaching.unrolling.objective import Objective
from aes_dynloss.teaching.unrolling.step_plan import StepPlan
from aes_dynloss.training.effective_batch import backward

EXAMPLES = ToyExamples(20, seed=5)
MIXTURES = {"elements": ("mse", "mae"), "over the batch": ("mse", "stde")}
PHI = torch.tensor([0.7, 0.3], dtype=torch.float64)


def parts_of(sizes):
    return [EXAMPLES.batch(part.tolist()) for part in torch.arange(8).split(sizes)]


def moved_plainly(batches):
    """The statistics after each batch went through once, and the gradient of all."""
    student = NormedStudent()
    torch.cat([student(**batch.inputs) for batch in batches])
    return student.statistics


@pytest.mark.parametrize("sizes", [[8], [5, 3], [2, 4, 2]], ids=str)
@pytest.mark.parametrize("names", MIXTURES.values(), ids=MIXTURES)
def test_a_step_of_fit(accelerator, names, sizes):
    """Where a loss couples micro-batches they go forwards twice, and count once."""
    student, batches = NormedStudent(), parts_of(sizes)
    backward(accelerator, student, student, Mixture(names), PHI, batches, 8)
    assert student.statistics == moved_plainly(batches)
    assert student.statistics[0] == len(sizes)


@pytest.mark.parametrize("sizes", [[8], [5, 3], [2, 4, 2]], ids=str)
@pytest.mark.parametrize("names", MIXTURES.values(), ids=MIXTURES)
def test_a_step_of_an_objective(accelerator, names, sizes):
    """The step that episodes and second runs take; and its gradient is that of fit's step."""
    student, other, batches = NormedStudent(), NormedStudent(), parts_of(sizes)
    live = LiveStudent(student)
    found = Objective(live, Mixture(names)).gradient(StepPlan(tuple(batches), 8), PHI)
    assert student.statistics == moved_plainly(batches)
    backward(accelerator, other, other, Mixture(names), PHI, batches, 8)
    expected = LiveStudent(other).flat([parameter.grad for parameter in LiveStudent(other).parameters])
    torch.testing.assert_close(found.weights, expected, rtol=1e-12, atol=1e-12)


def test_the_coefficients_slope_alone_leaves_them(accelerator):
    """Over parts no graph is needed, but still a forward pass."""
    student = NormedStudent()
    objective = Objective(LiveStudent(student), Mixture(MIXTURES["over the batch"]))
    objective.coefficient_gradient(StepPlan(tuple(parts_of([5, 3])), 8), PHI)
    assert student.statistics == NormedStudent().statistics


@pytest.mark.parametrize("terms", [{"mse": 1.0}, {"mse": 0.7, "stde": 0.3}], ids=MIXTURES)
def test_the_passes_of_a_run(tmp_path, terms):
    """Seven steps an epoch, six of five examples and one of seven; two micro-batches each; measures move nothing."""
    student = NormedStudent()
    how = {"micro_batch_size": 3, "epochs": 2, "evaluations": 2}
    outcome = toy_fit(tmp_path, student=student, terms=terms, **how)
    assert outcome.result.steps == 14
    assert student.statistics[0] == 2 * outcome.result.best_step


class Reversing:
    """A policy under which the second half of a run makes the student worse."""

    def __init__(self, policy):
        pass

    def coefficients(self, state):
        return torch.tensor([1.0 if state.progress < 0.5 else -1.0], dtype=torch.float64)


@pytest.mark.parametrize("averaging", [None, 0.5])
def test_the_best_weights_bring_their_statistics(tmp_path, averaging):
    """After fit the student answers what it answered when its best measure was taken."""
    student, batch, seen = NormedStudent(), ToyExamples(11, seed=1).batch(range(11)), []

    def look():
        student.eval()
        with torch.no_grad():
            seen.append((student.statistics, student(**batch.inputs)))
        student.train()

    how = {"terms": {"mse": 1.0}, "policy": Reversing, "epochs": 4, "averaging": averaging, "optimizer": "sgd"}
    how |= {"learning_rate": 0.5, "head_learning_rate": 0.5, "decay": "constant"}
    result = toy_fit(tmp_path, student=student, before_measure=look, **how).result
    assert result.best_step == 14
    assert student.statistics == seen[1][0]
    assert student.statistics != seen[3][0]
    student.eval()
    assert torch.equal(student(**batch.inputs), seen[1][1])


NETWORK = {
    "elements": {},
    "accumulated": {"micro_batch_size": 3, "evaluations": 2},
    "one step a window": {"dln": {"window": 1}, "epochs": 1},
    "graphs": {"dln": {"hypergradient": {"graph_budget": 1}}},
    "snapshots": {"dln": {"hypergradient": {"snapshots": True}}},
    "distribution": {"form": "distribution"},
}


@pytest.mark.parametrize("name", NETWORK)
def test_a_loss_network_leaves_the_statistics_of_the_second_run(tmp_path, name):
    """Those of plain training under the losses that the second runs had; the first runs leave no trace."""
    student, how = NormedStudent(dropout=0.2), NETWORK[name]
    taught = network_fit(tmp_path / "taught", student=student, **how)
    replayed = replaying(taught.update.history[1:], taught.outcome.result.steps)
    plain = network_fit(tmp_path / "plain", student=NormedStudent(dropout=0.2), policy=replayed, learns=False, **how)
    found, expected = taught.checkpoint["student"], plain.checkpoint["student"]
    assert_same_weights(found, expected, 1e-10)
    untaught = network_fit(tmp_path / "untaught", student=NormedStudent(dropout=0.2), learns=False, **how)
    difference = found["norm.running_mean"] - untaught.checkpoint["student"]["norm.running_mean"]
    assert float(difference.abs().max()) > 1e-6


@pytest.mark.parametrize("loss", ["mixture", "with stde", "bilinear"])
def test_episodes_leave_them_as_they_were(tmp_path, loss):
    student = NormedStudent()
    before = copy.deepcopy(student.state_dict())
    teach(tmp_path, loss=loss, student=student, batch_size=8, micro_batch_size=5, dlf={"episodes": 2, "steps": 4})
    assert_same_weights(student.state_dict(), before)


@pytest.mark.parametrize("hypergradient", [{"graph_budget": 1}, {"snapshots": True}, {"estimator": "unrolled_graph"}])
@pytest.mark.parametrize("micro", [None, 7])
def test_an_episode_however_it_is_remembered(tmp_path, hypergradient, micro):
    """A measure over several micro-batches moves the statistics while graphs of earlier steps are kept."""
    how = {"student": None, "batch_size": 6, "micro_batch_size": micro}
    gradients = [
        teach(
            tmp_path / str(number),
            **how | {"student": NormedStudent()},
            dlf={"episodes": 1, "steps": 5, "measure": "one_minus_qwk", "hypergradient": given},
        ).gradient
        for number, given in enumerate(({}, hypergradient))
    ]
    torch.testing.assert_close(*gradients, rtol=1e-8, atol=1e-10)
