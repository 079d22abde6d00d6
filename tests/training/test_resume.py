"""A run that was stopped and resumed is the run that never stopped, bit for bit."""

from __future__ import annotations

import os
import subprocess
import sys

import killed_run
import pytest
import torch
from toy_runs import Stopped, assert_same_weights, stops_at_measure, toy_fit
from toy_student import ToyExamples, ToyStudent

from aes_dynloss.errors import CheckpointError
from aes_dynloss.training.loop import TeacherUpdate
from aes_dynloss.training.run_folder import CHECKPOINT, METRICS
from aes_dynloss.training.run_state import read_checkpoint, write_checkpoint

pytestmark = pytest.mark.slow

# Dropout, averaged weights, patience, accumulation with a replay, numbers that are read between the measures.
FULL = {"epochs": 5, "evaluations": 2, "averaging": 0.8, "patience": 4, "micro_batch_size": 4, "length_window": 2}


def train(folder, **changed):
    return toy_fit(folder, student=ToyStudent(dropout=0.3), **(FULL | changed))


@pytest.fixture(scope="module")
def straight(tmp_path_factory):
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("straight")
    return train(folder), (folder / METRICS).read_bytes()


def assert_the_same(folder, outcome, straight):
    expected, log = straight
    assert outcome.result == expected.result
    assert_same_weights(outcome.weights, expected.weights)
    assert (folder / METRICS).read_bytes() == log


def watching(seen, stop=None):
    """A policy that keeps the states it is shown, and ends the run before a step."""

    class Watching:
        def __init__(self, policy):
            self.policy = policy

        def coefficients(self, state):
            if round(state.progress * 35) == stop:
                raise Stopped
            seen.append(state)
            return self.policy.coefficients(state)

    return Watching


def stops_at_step(step):
    return watching([], step)


@pytest.mark.parametrize("step", [0, 3, 4, 6, 20, 34])
def test_stopped_before_a_step(tmp_path, straight, step):
    with pytest.raises(Stopped):
        train(tmp_path, policy=stops_at_step(step))
    # A checkpoint is never ahead of its log.
    assert (tmp_path / CHECKPOINT).exists() == (step >= 4)
    assert_the_same(tmp_path, train(tmp_path, resume=True), straight)


@pytest.mark.parametrize("measure", [1, 2, 7])
def test_stopped_while_measuring(tmp_path, straight, measure):
    with pytest.raises(Stopped):
        train(tmp_path, before_measure=stops_at_measure(measure))
    assert_the_same(tmp_path, train(tmp_path, resume=True), straight)


def test_stopped_again_and_again(tmp_path, straight):
    for step in (2, 9, 9, 17, 30):
        with pytest.raises(Stopped):
            train(tmp_path, policy=stops_at_step(step), resume=True)
    assert_the_same(tmp_path, train(tmp_path, resume=True), straight)


def test_the_policy_goes_on_seeing_the_same_student(tmp_path):
    straight, resumed = [], []
    train(tmp_path / "straight", policy=watching(straight))
    with pytest.raises(Stopped):
        train(tmp_path / "stopped", policy=stops_at_step(20))
    train(tmp_path / "stopped", policy=watching(resumed), resume=True)
    assert resumed == straight[18:]


def test_a_run_that_is_over_stays_over(tmp_path, straight):
    train(tmp_path)

    def measured():
        raise Stopped

    assert_the_same(tmp_path, train(tmp_path, resume=True, before_measure=measured), straight)


def test_patience_goes_on_counting(tmp_path):
    """Rates this high get no better: the evaluations before the stop count, and those of the best too."""
    hasty = {"learning_rate": 0.5, "head_learning_rate": 0.5, "decay": "constant", "patience": 2, "averaging": None}
    hasty |= {"epochs": 12, "evaluations": 1}
    expected = train(tmp_path / "straight", **hasty)
    assert expected.result.stopped_early
    for number in range(1, expected.result.steps // 7 + 1):
        count = []

        def stop(count=count, number=number):
            count.append(None)
            if len(count) > number:
                raise Stopped

        folder = tmp_path / str(number)
        if number < expected.result.steps // 7:
            with pytest.raises(Stopped):
                train(folder, before_measure=stop, **hasty)
        else:
            train(folder, before_measure=stop, **hasty)
        resumed = train(folder, resume=True, **hasty)
        assert resumed.result == expected.result
        assert resumed.log == expected.log
        assert_same_weights(resumed.weights, expected.weights)


class Counting(TeacherUpdate):
    """A teacher's update with a state of its own that reaches the loss."""

    def __init__(self):
        self.steps = 0

    def record_step(self, plan, coefficients, optimizer):
        self.steps += 1

    def update(self, optimizer, *, last):
        return {}

    def state_dict(self):
        return {"steps": self.steps}

    def load_state_dict(self, state):
        self.steps = state["steps"]


def test_the_teacher_goes_on(tmp_path):
    straight = Counting()
    train(tmp_path / "straight", teacher=straight)
    with pytest.raises(Stopped):
        train(tmp_path / "stopped", policy=stops_at_step(20), teacher=Counting())
    resumed = Counting()
    train(tmp_path / "stopped", resume=True, teacher=resumed)
    assert resumed.steps == straight.steps == 35


@pytest.mark.skipif(not hasattr(os, "fork"), reason="forks, which this system does not have")
def test_killed_without_warning(tmp_path):
    folders = [tmp_path / name for name in ("a", "b")]
    arguments = [sys.executable, killed_run.__file__, *map(str, folders)]
    done = subprocess.run(arguments, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    # The first attempt is always too slow; the later ones may have little left to do.
    assert all(int(killed) >= 1 for killed in done.stdout.splitlines())
    killed_run.train(tmp_path, pause=0.0)
    expected = torch.load(tmp_path / "weights.pt")
    for folder in folders:
        assert_same_weights(torch.load(folder / "weights.pt"), expected)
        assert (folder / METRICS).read_bytes() == (tmp_path / METRICS).read_bytes()


@pytest.fixture
def stopped(tmp_path):
    with pytest.raises(Stopped):
        train(tmp_path, policy=stops_at_step(20))
    return tmp_path


def test_a_damaged_checkpoint(stopped):
    path = stopped / CHECKPOINT
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(CheckpointError, match=r"checkpoint.pt is no readable checkpoint .* Remove it and start again"):
        train(stopped, resume=True)


def test_a_log_that_was_cut(stopped):
    (stopped / METRICS).write_bytes(b"")
    with pytest.raises(
        CheckpointError, match=r"metrics.jsonl holds less than the \d+ bytes that the checkpoint knows of"
    ):
        train(stopped, resume=True)


def test_the_checkpoint_of_another_student(stopped):
    with pytest.raises(
        CheckpointError, match=r"belongs to another student: \d+ weights do not fit, such as head.weight"
    ):
        toy_fit(stopped, student=ToyStudent(width=9), resume=True, **FULL)


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"epochs": 6}, r"of a run of 35 steps, this one has 42: the training examples or the settings have changed"),
        ({"train": ToyExamples(50)}, r"of a run of 35 steps, this one has 45"),
        ({"averaging": None}, r"The checkpoint and this run differ in training.averaging"),
    ],
)
def test_the_checkpoint_of_another_run(stopped, changed, words):
    with pytest.raises(CheckpointError, match=words):
        train(stopped, resume=True, **changed)


@pytest.mark.parametrize("missing", ["student", "optimizer", "tracker", "random", "best", "log_bytes"])
def test_a_checkpoint_with_a_part_missing(stopped, missing):
    content = read_checkpoint(stopped / CHECKPOINT)
    del content[missing]
    del content["format"]
    write_checkpoint(stopped / CHECKPOINT, content)
    with pytest.raises(CheckpointError, match=rf"belongs to a run with other settings \(KeyError: '{missing}'\)"):
        train(stopped, resume=True)


def test_an_optimizer_with_other_groups(stopped):
    content = read_checkpoint(stopped / CHECKPOINT)
    content["optimizer"]["param_groups"].pop()
    del content["format"]
    write_checkpoint(stopped / CHECKPOINT, content)
    with pytest.raises(CheckpointError, match=r"belongs to a run with other settings \(ValueError: .*parameter groups"):
        train(stopped, resume=True)


def test_without_resume_the_run_starts_again(stopped, straight):
    assert_the_same(stopped, train(stopped), straight)
