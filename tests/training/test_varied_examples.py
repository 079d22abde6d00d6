"""Tables that vary their examples anew in every batch, as images are shifted: runs replay and resume to the bit."""

from __future__ import annotations

import pytest
import torch
from toy_runs import Stopped, assert_same_weights, stops_at_measure, toy_fit
from toy_student import ToyExamples, ToyStudent, VariedExamples
from toy_taught import network_fit, replaying, same_teachers, teach

from aes_dynloss.training.episodes import TEACHING_CHECKPOINT, TEACHING_LOG
from aes_dynloss.training.run_folder import METRICS

DROPOUT = 0.3
# Two evaluations an epoch; micro-batches that are made one after the other.
HOW = {"epochs": 3, "evaluations": 2, "micro_batch_size": 4}


def fitted(folder, **changed):
    return toy_fit(folder, student=ToyStudent(dropout=DROPOUT), train=VariedExamples(37), **HOW | changed)


@pytest.mark.parametrize("measure", [1, 2, 5])
def test_fit_resumed(tmp_path, measure):
    straight = fitted(tmp_path / "straight")
    with pytest.raises(Stopped):
        fitted(tmp_path / "stopped", before_measure=stops_at_measure(measure))
    torch.manual_seed(99)
    resumed = fitted(tmp_path / "stopped", resume=True)
    assert resumed.result == straight.result
    assert_same_weights(resumed.weights, straight.weights)
    assert (tmp_path / "stopped" / METRICS).read_bytes() == (tmp_path / "straight" / METRICS).read_bytes()
    plain = toy_fit(tmp_path / "plain", student=ToyStudent(dropout=DROPOUT), train=ToyExamples(37), **HOW)
    assert plain.losses != straight.losses


def taught(folder, **changed):
    dlf = {"episodes": 3, "steps": 9}
    return teach(folder, student=ToyStudent(dropout=DROPOUT), train=VariedExamples(37), dlf=dlf, **changed)


# Each episode measures after its step 7 and at its end.
@pytest.mark.parametrize("measure", [1, 3, 4, 6])
def test_episodes_resumed(tmp_path, measure):
    """Each episode's batches are drawn from that episode's seed."""
    straight = taught(tmp_path / "straight")
    with pytest.raises(Stopped):
        taught(tmp_path / "stopped", before_measure=stops_at_measure(measure))
    assert (tmp_path / "stopped" / TEACHING_CHECKPOINT).exists() == (measure > 2)
    resumed = taught(tmp_path / "stopped", resume=True, change=lambda _: torch.manual_seed(99))
    same_teachers(resumed.teacher, straight.teacher)
    assert torch.equal(resumed.taught.coefficients, straight.taught.coefficients)
    assert (tmp_path / "stopped" / TEACHING_LOG).read_bytes() == (tmp_path / "straight" / TEACHING_LOG).read_bytes()


def test_what_episodes_draw_leaves_no_trace(tmp_path):
    state = {}
    taught(tmp_path, change=lambda _: state.update(before=torch.get_rng_state()))
    assert torch.equal(torch.get_rng_state(), state["before"])


@pytest.mark.parametrize("dln", [{}, {"window": 1}])
def test_the_second_run_of_a_window_reads_what_the_first_did(tmp_path, dln):
    """The run is plain training under the second runs' losses: the same variations, the same draws afterwards."""
    how = {"dln": dln, "epochs": 2, "evaluations": 2, "micro_batch_size": 4}
    found = network_fit(tmp_path / "a", student=ToyStudent(dropout=DROPOUT), train=VariedExamples(37), **how)
    replayed = replaying(found.update.history[1:], found.outcome.result.steps)
    again = {"student": ToyStudent(dropout=DROPOUT), "train": VariedExamples(37), "policy": replayed, "learns": False}
    plain = network_fit(tmp_path / "b", **again, **how)
    assert_same_weights(found.checkpoint["student"], plain.checkpoint["student"], 1e-10)
    assert torch.equal(found.checkpoint["random"][0][0], plain.checkpoint["random"][0][0])


def test_a_loss_network_resumed(tmp_path):
    def run(folder, **changed):
        student = ToyStudent(dropout=DROPOUT)
        return network_fit(folder, student=student, train=VariedExamples(37), evaluations=2, epochs=2, **changed)

    straight = run(tmp_path / "straight")
    with pytest.raises(Stopped):
        run(tmp_path / "stopped", before_measure=stops_at_measure(3))
    resumed = run(tmp_path / "stopped", resume=True)
    assert_same_weights(resumed.outcome.weights, straight.outcome.weights)
    assert torch.equal(resumed.teacher.phi, straight.teacher.phi)
    same_teachers(resumed.teacher.network, straight.teacher.network)
    assert resumed.outcome.log == straight.outcome.log
