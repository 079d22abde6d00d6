"""L2T-DLN inside `fit`: what a run under a loss network that is rewritten leaves, window by window."""

from __future__ import annotations

import logging
import os
import subprocess
import sys

import killed_teacher_run
import numpy as np
import pytest
import torch
from toy_runs import Stopped, assert_same_weights, stops_at_measure
from toy_student import ToyStudent
from toy_taught import network_fit, replaying, same_teachers

from aes_dynloss.teaching.teachers.dln import CoordinateFeedForward
from aes_dynloss.training import window_update
from aes_dynloss.training.problem import BilevelProblem
from aes_dynloss.training.run_folder import CHECKPOINT, METRICS

pytestmark = pytest.mark.slow

SGD = {"optimizer": "sgd", "learning_rate": 0.1, "head_learning_rate": 0.2}


class Counting(ToyStudent):
    """With a buffer that training changes, as batch norm's statistics."""

    def __init__(self, **how):
        super().__init__(**how)
        self.register_buffer("passes", torch.zeros((), dtype=torch.float64))
        self.register_buffer("running", torch.zeros((), dtype=torch.float64))

    def forward(self, x):
        if self.training:
            self.passes += 1
            self.running.mul_(0.9).add_(0.1 * self.lower.weight.detach().sum())
        return super().forward(x)


VARIANTS = {
    "adamw": {"weight_decay": 0.1},
    "adamw, no clipping": {"clip_norm": None},
    "clipped": {"clip_norm": 0.05},
    "sgd": SGD,
    "momentum": SGD | {"momentum": 0.8, "weight_decay": 0.1},
    "rates": {"layer_decay": 0.5, "decay": "cosine", "warmup": 0.3},
    "accumulated": {"micro_batch_size": 2, "evaluations": 2},
    "one step a window": {"dln": {"window": 1}, "epochs": 1},
    "distribution": {"form": "distribution"},
    "differences": {"dln": {"smooth": True, "hypergradient": {"estimator": "one_sided", "self_check": False}}},
    "memory span": {"dln": {"window": 1, "memory_span": 2}},
    "bf16": {"dln": {"hypergradient": {"storage": "bf16"}}},
    "snapshots": {"dln": {"hypergradient": {"snapshots": True}}},
    "graphs": {"dln": {"hypergradient": {"graph_budget": 1}}},
    "meta weights": {"mwn": {}, "epochs": 1},
    "meta weights, sgd": SGD | {"mwn": {"optimizer": "sgd"}, "form": "distribution", "epochs": 1},
    "meta weights, windows": {"mwn": {"window": 3, "hypergradient": {"graph_budget": 1}}, "micro_batch_size": 4},
}


@pytest.mark.parametrize("dropout", [0.0, 0.3])
@pytest.mark.parametrize("name", VARIANTS)
def test_the_run_is_plain_training_under_the_second_runs_losses(tmp_path, name, dropout):
    """Weights, buffers, moments, steps, dev measures and the generator's state are those of a run without a teacher
    whose loss is, in every window, the one that its second run had: the first runs leave no trace."""
    how = VARIANTS[name]
    taught = network_fit(tmp_path / "taught", student=Counting(dropout=dropout), **how)
    replayed = replaying(taught.update.history[1:], taught.outcome.result.steps)
    plain = network_fit(tmp_path / "plain", student=Counting(dropout=dropout), policy=replayed, learns=False, **how)
    found, expected = taught.checkpoint, plain.checkpoint
    assert_same_weights(found["student"], expected["student"], 1e-10)
    assert found["optimizer"]["state"].keys() == expected["optimizer"]["state"].keys()
    for number, state in expected["optimizer"]["state"].items():
        for slot, tensor in state.items():
            torch.testing.assert_close(found["optimizer"]["state"][number][slot], tensor, rtol=0, atol=1e-10)
    assert torch.equal(found["random"][0][0], expected["random"][0][0])
    measures = [[line["dev"] for line in run.outcome.log if "dev" in line] for run in (taught, plain)]
    for one, other in zip(*measures, strict=True):
        assert one == pytest.approx(other, abs=1e-10)
    untaught = network_fit(tmp_path / "untaught", student=Counting(dropout=dropout), learns=False, **how)
    moved = found["student"]["head.weight"] - untaught.checkpoint["student"]["head.weight"]
    assert float(moved.abs().max()) > 1e-6


def test_windows_close_where_the_student_is_measured(tmp_path):
    """Seven steps an epoch, measured after the fourth and the last; none is open in a checkpoint."""
    run = network_fit(tmp_path, evaluations=2)
    assert list(run.lines) == [3, 4, 7, 10, 11, 14, 17, 18, 21]
    total = run.outcome.result.steps
    assert [round(progress * total) for progress, _ in run.update.history] == [0, *run.lines]
    assert run.checkpoint["teacher"]["windows"] == len(run.lines)


def test_a_measure_is_of_whole_units(tmp_path, monkeypatch):
    """Scores of several traits of one essay: `dev_batch` counts essays, whose texts go forwards once."""
    units = [np.arange(first, first + 3) for first in (0, 3, 6, 9)]
    read, measure_on = [], BilevelProblem.measure_on

    def recorded(problem, rows):
        read.append(rows.tolist())
        return measure_on(problem, rows)

    monkeypatch.setattr(window_update, "members", lambda _: units)
    monkeypatch.setattr(BilevelProblem, "measure_on", recorded)
    network_fit(tmp_path, dln={"dev_batch": 2}, epochs=1)
    whole = [unit.tolist() for unit in units]
    assert read
    assert all(len(rows) == 6 and rows[:3] in whole and rows[3:] in whole for rows in read)


@pytest.mark.parametrize("how", [{}, SGD, SGD | {"momentum": 0.5}])
def test_the_history_tells_when(tmp_path, how):
    run = network_fit(tmp_path, **how)
    assert [progress for progress, _ in run.update.history] == pytest.approx(
        [0, *(step / 21 for step in run.lines)], abs=1e-12
    )
    assert torch.equal(run.update.history[-1][1], run.teacher.phi)
    steps = [line for line in run.outcome.log if "loss" in line]
    norms = {line["step"]: line["coefficients"]["network_rms"] for line in steps}
    for (progress, phi), (end, _) in zip(run.update.history, run.update.history[1:], strict=False):
        for step in range(round(progress * 21) + 1, round(end * 21) + 1):
            assert norms[step] == pytest.approx(float(phi.square().mean().sqrt()))


def test_a_long_history_is_thinned(tmp_path):
    run = network_fit(
        tmp_path, dln={"window": 1, "smooth": True, "hypergradient": {"estimator": "one_step"}}, epochs=20
    )
    progress = [place for place, _ in run.update.history]
    assert len(run.lines) == 140
    assert 60 <= len(progress) <= 120
    assert (progress[0], progress[-1]) == (0, 1)
    assert progress == sorted(set(progress))


def test_the_teachers_lines(tmp_path):
    run = network_fit(tmp_path)
    for line in run.lines.values():
        assert list(line) == [
            "measure_before", "measure_after", "fresh_before", "fresh_after", "hypergradient_norm", "rewrite_mean",
            "rewrite_sd", "measure_bettered", "fresh_bettered",
        ]  # fmt: skip
        assert line["fresh_before"] != line["measure_before"]
        assert line["rewrite_sd"] > 0
        assert line["measure_before"] != line["measure_after"]
        assert line["hypergradient_norm"] > 0
    # Every window is judged on other essays of teacher_dev.
    still = {"learning_rate": 1e-30, "head_learning_rate": 1e-30, "weight_decay": 0}
    measures = [line["measure_before"] for line in network_fit(tmp_path / "still", **still).lines.values()]
    assert len(set(measures)) == len(measures)
    whole = network_fit(tmp_path / "whole", dln={"dev_batch": 100}, **still).lines.values()
    assert [line["measure_before"] for line in whole] == pytest.approx([next(iter(whole))["measure_before"]] * 9)


def test_the_share_of_windows_bettered(tmp_path):
    """Over the windows so far, on the batch that gave the gradient and on a fresh one."""
    lines = list(network_fit(tmp_path, dln={"window": 1}).lines.values())
    for batch in ("measure", "fresh"):
        better = [line[f"{batch}_after"] < line[f"{batch}_before"] for line in lines]
        assert 0 < sum(better) < len(better)
        assert [line[f"{batch}_bettered"] for line in lines] == pytest.approx(
            [sum(better[:count]) / count for count in range(1, len(better) + 1)]
        )
    assert any(line["measure_bettered"] != line["fresh_bettered"] for line in lines)


BLIND, DRIFT = "The teacher's answer hardly depends on the gradient", "All weights of the loss network drift as one"
IDLE = "Rewriting the loss hardly moves the measure"


def warned(caplog, folder, **how):
    """The warnings of a run's teacher, in their order."""
    caplog.clear()
    with caplog.at_level(logging.WARNING):
        network_fit(folder, **how)
    return [words for message in caplog.messages for words in (BLIND, DRIFT, IDLE) if message.startswith(words)]


@pytest.mark.parametrize(
    ("teacher", "expected"), [("lstm", [BLIND]), ("memoryless_lstm", [BLIND]), ("odd_lstm", []), ("feed_forward", [])]
)
def test_a_teacher_that_hardly_sees_the_gradient(tmp_path, caplog, teacher, expected):
    """It is said once, in a resumed run too; small steps make no drift."""
    how = {"dln": {"teacher": teacher, "step_size": 1e-3}, "evaluations": 2}
    assert warned(caplog, tmp_path, epochs=2, **how) == expected
    with pytest.raises(Stopped):
        warned(caplog, tmp_path, epochs=4, policy=stops_at_step(16), **how)
    assert warned(caplog, tmp_path, epochs=4, resume=True, **how) == []


@pytest.mark.parametrize(
    ("planted", "learning_rate", "step_size", "expected"),
    [(0.5, 1e-12, 0.05, [DRIFT]), (0.5, 1e-12, 0.005, []), (0.0, 1e-3, 0.05, [])],
    ids=["planted", "too small to matter", "beside as large a spread"],
)
def test_weights_that_drift_as_one(tmp_path, caplog, monkeypatch, planted, learning_rate, step_size, expected):
    answer = CoordinateFeedForward.forward

    def drifting(self, gradient, memory):
        change, memory = answer(self, gradient, memory)
        return change + planted, memory

    monkeypatch.setattr(CoordinateFeedForward, "forward", drifting)
    dln = {"teacher": "feed_forward", "learning_rate": learning_rate, "step_size": step_size}
    assert warned(caplog, tmp_path, dln=dln) == expected


EACH_STEP = {"window": 1, "teacher": "odd_lstm"}


class TestATeacherThatMovesNothing:
    """Steps of a length that rounding drowns: the measure rises as often as it falls."""

    @pytest.mark.parametrize(("epochs", "expected"), [(3, [IDLE]), (2, [])], ids=["21 windows", "14 windows"])
    def test_is_told_so(self, tmp_path, caplog, epochs, expected):
        assert warned(caplog, tmp_path, epochs=epochs, dln=EACH_STEP | {"step_size": 1e-30}) == expected

    def test_once_in_a_resumed_run_too(self, tmp_path, caplog):
        how = {"evaluations": 2, "dln": EACH_STEP | {"step_size": 1e-30}}
        with pytest.raises(Stopped):
            warned(caplog, tmp_path, epochs=4, policy=stops_at_step(16), **how)
        assert warned(caplog, tmp_path, epochs=4, resume=True, **how) == [IDLE]
        assert warned(caplog, tmp_path / "whole", epochs=4, **how) == [IDLE]

    def test_not_one_whose_steps_are_downhill_however_short(self, tmp_path, caplog):
        assert warned(caplog, tmp_path, epochs=4, dln=EACH_STEP | {"step_size": 1e-6}) == []


def test_exact_and_one_sided_nearly_agree(tmp_path):
    exact = network_fit(tmp_path / "exact", dln={"smooth": True})
    config = {"estimator": "one_sided", "difference_size": 1e-6, "self_check": False}
    near = network_fit(tmp_path / "near", dln={"smooth": True, "hypergradient": config})
    first, other = (next(iter(run.lines.values())) for run in (exact, near))
    assert other["measure_before"] == pytest.approx(first["measure_before"], rel=1e-12)
    assert other["hypergradient_norm"] == pytest.approx(first["hypergradient_norm"], rel=1e-3)
    # The teacher's input, a logarithm, magnifies what differences lose where gradients are small.
    change = exact.update.history[1][1] - exact.update.history[0][1]
    missed = near.update.history[1][1] - exact.update.history[1][1]
    assert float(missed.norm()) < 0.1 * float(change.norm())


def test_a_student_with_a_weight_that_the_loss_never_reads(tmp_path):
    class Spare(ToyStudent):
        def __init__(self):
            super().__init__()
            self.spare = torch.nn.Linear(2, 2, dtype=torch.float64)

        def parameter_stack(self):
            lower, *others = super().parameter_stack()
            return [lower + list(self.spare.named_parameters("spare")), *others]

    spare, plain = (network_fit(tmp_path / cls.__name__, student=cls()) for cls in (Spare, ToyStudent))
    assert spare.lines.keys() == plain.lines.keys()
    found = {name: spare.outcome.weights[name] for name in plain.outcome.weights}
    assert_same_weights(found, plain.outcome.weights, 1e-10)


@pytest.mark.parametrize("storage", ["device", "bf16"])
def test_the_student_is_not_rounded(tmp_path, storage):
    """Points kept with eight bits serve the hypergradient alone: a student that cannot move stays where it is."""
    still = {"learning_rate": 1e-14, "head_learning_rate": 1e-14, "weight_decay": 0}
    run = network_fit(tmp_path, dln={"hypergradient": {"storage": storage}}, **still)
    expected = {name: parameter.detach() for name, parameter in ToyStudent().named_parameters()}
    found = {name: run.checkpoint["student"][name] for name in expected}
    assert_same_weights(found, expected, 1e-10)


FULL = {"student": None, "evaluations": 2, "epochs": 4, "micro_batch_size": 4}


def train(folder, **changed):
    return network_fit(folder, **FULL | {"student": Counting(dropout=0.3)} | changed)


@pytest.fixture(scope="module")
def straight(tmp_path_factory):
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("straight")
    return train(folder), (folder / METRICS).read_bytes()


def assert_the_same(folder, run, straight):
    expected, log = straight
    assert run.outcome.result == expected.outcome.result
    assert_same_weights(run.outcome.weights, expected.outcome.weights)
    assert (folder / METRICS).read_bytes() == log
    assert torch.equal(run.teacher.phi, expected.teacher.phi)
    same_teachers(run.teacher.network, expected.teacher.network)
    for one, two in zip(run.update.history, expected.update.history, strict=True):
        assert one[0] == two[0]
        assert torch.equal(one[1], two[1])


def stops_at_step(stop):
    class Stopping:
        def __init__(self, teacher):
            self.teacher = teacher

        def coefficients(self, state):
            if round(state.progress * 28) == stop:
                raise Stopped
            return self.teacher.coefficients(state)

    return Stopping


@pytest.mark.parametrize("step", [2, 4, 6, 13, 27])
def test_stopped_and_resumed(tmp_path, straight, step):
    with pytest.raises(Stopped):
        train(tmp_path, policy=stops_at_step(step))
    assert (tmp_path / CHECKPOINT).exists() == (step >= 4)
    assert_the_same(tmp_path, train(tmp_path, resume=True), straight)


def test_stopped_again_and_again(tmp_path, straight):
    for step in (5, 9, 17, 22):
        with pytest.raises(Stopped):
            train(tmp_path, policy=stops_at_step(step), resume=True)
    assert_the_same(tmp_path, train(tmp_path, resume=True), straight)


def test_stopped_while_measuring(tmp_path, straight):
    with pytest.raises(Stopped):
        train(tmp_path, before_measure=stops_at_measure(3))
    assert_the_same(tmp_path, train(tmp_path, resume=True), straight)


@pytest.mark.parametrize("window", [1, 3])
@pytest.mark.parametrize("stops", [(3,), (7,), (5, 9, 17, 22)])
def test_meta_weights_stopped_and_resumed(tmp_path, stops, window):
    how = {"mwn": {"window": window}}
    expected = train(tmp_path / "straight", **how)
    for step in stops:
        with pytest.raises(Stopped):
            train(tmp_path / "stopped", policy=stops_at_step(step), resume=True, **how)
    run = train(tmp_path / "stopped", resume=True, **how)
    assert_same_weights(run.outcome.weights, expected.outcome.weights)
    assert torch.equal(run.teacher.phi, expected.teacher.phi)
    logs = [(tmp_path / name / METRICS).read_bytes() for name in ("stopped", "straight")]
    assert logs[0] == logs[1]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="forks, which this system does not have")
def test_killed_without_warning(tmp_path):
    arguments = [sys.executable, killed_teacher_run.__file__, str(tmp_path / "killed")]
    done = subprocess.run(arguments, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) >= 1
    killed_teacher_run.train(tmp_path, pause=0.0)
    found, expected = (torch.load(folder / "left.pt") for folder in (tmp_path / "killed", tmp_path))
    assert_same_weights(found, expected)
    assert (tmp_path / "killed" / METRICS).read_bytes() == (tmp_path / METRICS).read_bytes()
