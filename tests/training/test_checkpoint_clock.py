"""Checkpoints by the clock: between evaluations, inside an epoch, and without a trace in what the run ends with."""

from __future__ import annotations

import itertools

import pytest
import torch
from toy_runs import Stopped, assert_same_weights, clock_of_looks, settings, toy_fit
from toy_student import ToyExamples, ToyStudent, VariedExamples
from toy_taught import measure_of, network_fit, same_teachers

from aes_dynloss.teaching.policies import LossConfig
from aes_dynloss.teaching.teachers.config import DlfConfig
from aes_dynloss.training import run_state
from aes_dynloss.training.accelerator import build_accelerator
from aes_dynloss.training.episodes import TEACHING_LOG
from aes_dynloss.training.loop import RunContext
from aes_dynloss.training.run import train_student
from aes_dynloss.training.run_folder import CHECKPOINT, METRICS
from aes_dynloss.training.run_state import CheckpointClock, read_checkpoint, trained_state

pytestmark = pytest.mark.slow

STEPS = 21  # three epochs of seven
# Dropout, averaged weights, accumulation with a replay, patience; errors are shown to the policy every fourth step.
FULL = {"averaging": 0.8, "micro_batch_size": 4, "patience": 3, "log_every": 4, "length_window": 2}


def train(folder, *, stop=None, seen=None, **changed):
    """A run that may end before a step; its policy sees the student's errors, and what it sees is in the log."""

    class Stopping:
        def __init__(self, policy):
            self.policy = policy

        def coefficients(self, state):
            if round(state.progress * STEPS) == stop:
                raise Stopped
            weights = self.policy.coefficients(state)
            return weights * (1 + 0.1 * state.train_error)

    how = {"student": ToyStudent(dropout=0.3), "train": VariedExamples(37), "policy": Stopping}
    return toy_fit(folder, **(how | FULL | changed))


@pytest.fixture(scope="module")
def straight(tmp_path_factory):
    """A run that nobody stops, and that writes no checkpoint but at its evaluations."""
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("straight")
    return train(folder), (folder / METRICS).read_bytes()


def assert_the_same(folder, outcome, straight):
    expected, log = straight
    assert outcome.result == expected.result
    assert_same_weights(outcome.weights, expected.weights)
    assert (folder / METRICS).read_bytes() == log


def saved_step(folder):
    return read_checkpoint(folder / CHECKPOINT)["tracker"]["step"]


@pytest.fixture
def written(monkeypatch):
    """The steps after which a checkpoint is written."""
    steps, write = [], run_state.write_checkpoint

    def noting(path, content):
        steps.append(content["tracker"]["step"])
        write(path, content)

    monkeypatch.setattr(run_state, "write_checkpoint", noting)
    return steps


def test_a_checkpoint_is_written_when_its_minutes_have_passed(tmp_path, written):
    now = [0.0]

    class Slow:
        """A policy under which the sixth step takes half an hour, the others a minute each."""

        def __init__(self, policy):
            self.policy = policy

        def coefficients(self, state):
            now[0] += 60 * (30 if round(state.progress * STEPS) == 5 else 1)
            return self.policy.coefficients(state)

    toy_fit(tmp_path, policy=Slow, clock=lambda: now[0], checkpoint_minutes=3)
    # Those of the evaluations, after each 7 steps, count too.
    assert written == [3, 6, 7, 10, 13, 14, 17, 20, 21]


def test_the_evaluations_alone_write_one_within_ten_minutes(tmp_path, written):
    toy_fit(tmp_path, clock=lambda: 0.0)
    assert written == [7, 14, 21]
    assert settings().checkpoint_minutes == 10


@pytest.mark.parametrize("minutes", [1, 2, 3, 5])
def test_checkpoints_leave_no_trace(tmp_path, straight, written, minutes):
    """Not even in what the policy sees, though numbers are read from the device for them."""
    outcome = train(tmp_path, clock=clock_of_looks(), checkpoint_minutes=minutes)
    assert len(written) > 4
    assert_the_same(tmp_path, outcome, straight)


@pytest.mark.parametrize("step", [1, 2, 5, 6, 9, 13, 18, 20])
def test_stopped_between_evaluations(tmp_path, straight, step):
    with pytest.raises(Stopped):
        train(tmp_path, stop=step, clock=clock_of_looks(), checkpoint_minutes=1)
    assert saved_step(tmp_path) == step
    assert_the_same(tmp_path, train(tmp_path, resume=True), straight)


def test_stopped_again_and_again(tmp_path, straight):
    """At most the steps since the last checkpoint are done again."""
    for stop in (3, 3, 4, 8, 9, 12, 16, 20):
        with pytest.raises(Stopped):
            train(tmp_path, stop=stop, clock=clock_of_looks(), checkpoint_minutes=2, resume=True)
        assert not (tmp_path / CHECKPOINT).exists() or stop - saved_step(tmp_path) <= 2
    assert_the_same(tmp_path, train(tmp_path, resume=True), straight)


@pytest.mark.parametrize("how", [{"dln": {"window": 3}}, {"mwn": {"window": 1}}, {"mwn": {"window": 5}}], ids=str)
def test_no_window_of_a_teacher_is_open_in_a_checkpoint(tmp_path, written, how):
    """It is written as soon as one has ended, and the run goes on from there as if it had not been stopped."""
    full = {"epochs": 3, "micro_batch_size": 4, "averaging": 0.8, "log_every": 4} | how

    def run(folder, stop=None, **changed):
        class Stopping:
            def __init__(self, teacher):
                self.teacher = teacher

            def coefficients(self, state):
                if round(state.progress * STEPS) == stop:
                    raise Stopped
                return self.teacher.coefficients(state)

        return network_fit(folder, student=ToyStudent(dropout=0.3), policy=Stopping, **full, **changed)

    expected = run(tmp_path / "straight")
    written.clear()
    for stop in (4, 6, 11, 13, 20):
        with pytest.raises(Stopped):
            run(tmp_path / "stopped", stop, clock=clock_of_looks(), checkpoint_minutes=1, resume=True)
    (window,) = (part["window"] for part in how.values())
    assert {step % 7 % window for step in written} == {0}
    assert {step for step in written if step % 7} >= {step for step in (5, 12) if step % 7 % window == 0}
    assert any(step % 7 for step in written)
    found = run(tmp_path / "stopped", resume=True)
    assert found.outcome.result == expected.outcome.result
    assert_same_weights(found.outcome.weights, expected.outcome.weights)
    assert torch.equal(found.teacher.phi, expected.teacher.phi)
    if "dln" in how:
        same_teachers(found.teacher.network, expected.teacher.network)
    logs = [(tmp_path / name / METRICS).read_bytes() for name in ("stopped", "straight")]
    assert logs[0] == logs[1]


@pytest.mark.parametrize("pieces", [None, 2])
def test_the_second_stage_of_episodes(tmp_path, pieces):
    """L2T-DLF: the student is stopped under the teacher that its episodes left."""
    teacher = DlfConfig.model_validate({"kind": "dlf", "episodes": 2, "steps": 5, "pieces": pieces})
    terms = {"mse": 1.0, "cross_entropy": 0.2}

    def run(folder, stops=0, *, resume=False):
        """Ended at a look at the clock, which is taken at each step but those that end an epoch."""
        looks = itertools.count(0, 60)

        def clock():
            now = next(looks)
            if stops and now == 60 * stops:
                raise Stopped
            return now

        folder.mkdir(exist_ok=True)
        training = settings(checkpoint_minutes=1.5, log_every=2)
        accelerator = build_accelerator(training)
        student = ToyStudent(dropout=0.3)
        measure = measure_of(accelerator, student)
        context = RunContext(accelerator, training, folder, measure, "one_minus_mse", resume, clock)
        loss = LossConfig.model_validate({"terms": terms})
        train_student(context, student, ToyExamples(37), ToyExamples(13, seed=2), loss, teacher, classes=None)
        return trained_state(student), *((folder / name).read_bytes() for name in (METRICS, TEACHING_LOG))

    weights, *logs = run(tmp_path / "straight")
    for stops in (8, 12, 13):
        with pytest.raises(Stopped):
            run(tmp_path / "stopped", stops, resume=True)
        assert saved_step(tmp_path / "stopped") % 7 != 0
    again, *others = run(tmp_path / "stopped", resume=True)
    assert others == logs
    assert_same_weights(again, weights)


class ManyProcesses:
    """An accelerator of several processes, as far as a clock sees it."""

    num_processes = 2


def test_several_processes_ask_the_main_one_only_where_they_wait_anyway(monkeypatch):
    asked, main = [], [False]

    def broadcast(objects):
        asked.append(objects[0])
        return [main[0]]

    monkeypatch.setattr(run_state, "broadcast_object_list", broadcast)
    now = [0.0]
    clock = CheckpointClock(ManyProcesses(), 10, lambda: now[0])
    assert not clock.is_due(waiting=False)
    now[0] = 601.0  # of this process's clock, which does not count
    assert not clock.is_due(waiting=False)
    assert asked == []
    assert not clock.is_due(waiting=True)
    main[0] = True
    assert not clock.is_due(waiting=False)
    assert clock.is_due(waiting=True)
    main[0] = False
    # What was answered stands until the checkpoint is written, such as while a window is open.
    assert clock.is_due(waiting=False)
    assert clock.is_due(waiting=True)
    assert asked == [True, True]
    clock.restart()
    assert not clock.is_due(waiting=True)
    assert asked == [True, True, False]


def test_a_checkpoint_of_before_there_was_a_clock(tmp_path, straight):
    """Its processes had no statistics of their own, and no error was unseen."""
    with pytest.raises(Stopped):
        train(tmp_path, stop=9)
    content = read_checkpoint(tmp_path / CHECKPOINT)
    del content["format"], content["buffers"], content["tracker"]["unseen"]
    run_state.write_checkpoint(tmp_path / CHECKPOINT, content)
    assert_the_same(tmp_path, train(tmp_path, resume=True), straight)
