from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from toy_runs import EVERYTHING, MIXTURE, assert_same_weights, settings, toy_fit
from toy_student import ToyExamples, ToyStudent

from aes_dynloss.errors import TrainingError
from aes_dynloss.teaching.policies import LossConfig
from aes_dynloss.training.accelerator import build_accelerator
from aes_dynloss.training.batching import steps_left
from aes_dynloss.training.loop import RunContext, fit
from aes_dynloss.training.optimization import learning_rate_factor
from aes_dynloss.training.run_folder import CHECKPOINT, METRICS
from aes_dynloss.training.run_state import read_checkpoint, trained_state


class Spy:
    """A policy that keeps the states it was shown."""

    def __init__(self, policy):
        self.policy, self.states = policy, []

    def coefficients(self, state):
        self.states.append(state)
        return self.policy.coefficients(state)


def spying(spies):
    def wrap(policy):
        spies.append(Spy(policy))
        return spies[-1]

    return wrap


@pytest.mark.parametrize("terms", [{"mse": 1.0}, MIXTURE, EVERYTHING], ids=["mse", "mixture", "everything"])
def test_accumulation_does_not_change_the_run(tmp_path, terms):
    """8 x 1 = 4 x 2 = uneven."""
    whole = toy_fit(tmp_path / "8", terms=terms, batch_size=8)
    assert len(whole.losses) == 15
    for size in (4, 3, 1):
        parts = toy_fit(tmp_path / str(size), terms=terms, batch_size=8, micro_batch_size=size)
        assert parts.losses == pytest.approx(whole.losses, rel=1e-9)
        assert_same_weights(parts.weights, whole.weights, 1e-9)


def test_a_budget_of_tokens_does_not_change_the_run(tmp_path):
    whole = toy_fit(tmp_path / "whole")
    parts = toy_fit(tmp_path / "parts", micro_batch_tokens=70)
    assert parts.losses == pytest.approx(whole.losses, rel=1e-9)
    assert_same_weights(parts.weights, whole.weights, 1e-9)


def test_one_step_by_hand(tmp_path):
    """The loop against plain torch: whole batch, clipped, AdamW at the first step's rate."""
    student, train = ToyStudent(), ToyExamples(6)
    changed = {"epochs": 1, "batch_size": 6, "clip_norm": 0.05, "weight_decay": 0.5, "warmup": 0.0}
    found = toy_fit(tmp_path, student=student, train=train, terms={"mse": 1.0}, **changed)
    plain = ToyStudent()
    (step,) = steps_left(train, settings(**changed), taken=0)
    batch = train.batch(step.rows)
    loss = (torch.sigmoid(plain(**batch.inputs)[:, 0]) - batch.targets).square().mean()
    loss.backward()
    norm = torch.nn.utils.clip_grad_norm_(plain.parameters(), 0.05)
    assert norm > 0.05
    for name, parameter in plain.named_parameters():
        rate = 0.02 if name.startswith("head") else 0.01
        decay = 0.5 if parameter.ndim > 1 else 0.0
        with torch.no_grad():
            parameter.mul_(1 - rate * decay).sub_(rate * parameter.grad / (parameter.grad.abs() + 1e-8))
    assert_same_weights(found.weights, plain.state_dict(), 1e-12)
    assert found.losses == pytest.approx([float(loss.detach())])
    assert found.log[0]["gradient_norm"] == pytest.approx(float(norm))


def test_the_log(tmp_path):
    spies = []
    outcome = toy_fit(tmp_path, policy=spying(spies), epochs=2, evaluations=2, log_every=4)
    steps, measured = ([line for line in outcome.log if kind in line] for kind in ("loss", "dev"))
    assert [line["step"] for line in steps] == list(range(1, 15))
    assert [line["epoch"] for line in steps] == [0] * 7 + [1] * 7
    assert [(line["step"], line["epoch"]) for line in measured] == [(4, 0), (7, 0), (11, 1), (14, 1)]
    assert all(list(line["dev"]) == ["one_minus_mse"] for line in measured)
    config = settings()
    for number, line in enumerate(steps):
        progress = number / 14
        assert line["lr"] == pytest.approx(0.02 * learning_rate_factor(number, 14, config))
        assert line["coefficients"]["stde"] == pytest.approx(0.1 + 0.5 * progress, rel=1e-6)
        assert line["coefficients"]["mse"] == pytest.approx(0.9 - 0.5 * progress, rel=1e-6)
        weighted = sum(line["coefficients"][name] * line["terms"][name] for name in MIXTURE)
        assert line["loss"] == pytest.approx(weighted, rel=1e-9)
        assert line["gradient_norm"] > 0
    assert [state.progress for state in spies[0].states] == pytest.approx([number / 14 for number in range(14)])


def test_the_policy_sees_a_running_error_and_the_newest_measure(tmp_path):
    spies = []
    outcome = toy_fit(tmp_path, policy=spying(spies), epochs=2, log_every=1)
    states = iter(spies[0].states)
    running, newest = 1.0, 0.0
    for line in outcome.log:
        if "dev" in line:
            newest = line["dev"]["one_minus_mse"]
            assert 0 < newest < 1
        else:
            state = next(states)
            assert state.train_error == pytest.approx(running)
            assert state.dev_measure == newest
            running = 0.9 * running + 0.1 * min(1.0, line["error"])
    assert next(states, None) is None


def test_a_student_that_was_put_to_evaluation_is_trained_all_the_same(tmp_path):
    """With its dropout, in every step."""
    asleep = toy_fit(tmp_path / "asleep", student=ToyStudent(dropout=0.3).eval())
    awake = toy_fit(tmp_path / "awake", student=ToyStudent(dropout=0.3).train())
    assert asleep.log == awake.log
    assert_same_weights(asleep.weights, awake.weights)


def test_how_often_numbers_are_read_does_not_change_a_scheduled_run(tmp_path):
    often, seldom = (toy_fit(tmp_path / str(n), log_every=n) for n in (1, 100))
    # The state that policies see is as old as the last look; schedules read its progress alone.
    for line in often.log + seldom.log:
        line.pop("state", None)
    assert often.log == seldom.log
    assert_same_weights(often.weights, seldom.weights)


def test_the_best_weights_come_back(tmp_path):
    """At the end the student holds the weights of its best measure, not the last."""
    outcome = toy_fit(tmp_path, epochs=8, head_learning_rate=0.5, learning_rate=0.5, decay="constant")
    measures = [line["dev"]["one_minus_mse"] for line in outcome.log if "dev" in line]
    assert outcome.result.best_measure == max(measures) != measures[-1]
    assert outcome.result.best_step == 7 * (1 + measures.index(max(measures)))
    student = ToyStudent()
    student.load_state_dict(outcome.weights)
    dev = ToyExamples(11, seed=1)
    with torch.no_grad():
        scores = torch.sigmoid(student(dev.batch(range(11)).inputs["x"])[:, 0])
    assert 1.0 - float((scores - torch.from_numpy(dev.targets)).square().mean()) == pytest.approx(max(measures))


def test_of_two_equal_best_measures_the_earlier_checkpoint_is_kept(tmp_path):
    config, student = settings(), ToyStudent()
    measures, weights = iter([0.2, 0.5, 0.5]), []

    def measure():
        weights.append(trained_state(student))
        return {"good": next(measures)}

    context = RunContext(build_accelerator(config), config, tmp_path, measure, "good")
    result = fit(context, student, ToyExamples(37), *LossConfig(terms={"mse": 1.0}).build())
    assert (result.best_measure, result.best_step) == (0.5, 14)
    assert_same_weights(trained_state(student), weights[1])


def test_the_last_weights_are_kept_where_that_is_asked_for(tmp_path):
    """However good earlier ones were, and without an end before its time."""
    config, student = settings(patience=1), ToyStudent()
    measures, weights = iter([0.5, 0.4, 0.3]), []

    def measure():
        weights.append(trained_state(student))
        return {"good": next(measures)}

    context = RunContext(build_accelerator(config), config, tmp_path, measure, "good", keep="last")
    result = fit(context, student, ToyExamples(37), *LossConfig(terms={"mse": 1.0}).build())
    assert (result.best_measure, result.best_step, result.stopped_early) == (0.3, 21, False)
    assert_same_weights(trained_state(student), weights[2])


def test_a_run_that_has_ended_holds_neither_student_nor_optimiser(tmp_path):
    """Cross-fitting trains many, one after the other, in one process."""
    config, student = settings(), ToyStudent()
    accelerator = build_accelerator(config)
    context = RunContext(accelerator, config, tmp_path, lambda: {"good": 0.0}, "good")
    fit(context, student, ToyExamples(37), *LossConfig(terms={"mse": 1.0}).build())
    assert (accelerator._models, accelerator._optimizers) == ([], [])


def test_patience(tmp_path):
    changed = {"head_learning_rate": 0.5, "learning_rate": 0.5, "decay": "constant"}
    patient = toy_fit(tmp_path / "patient", epochs=12, **changed)
    measures = [line["dev"]["one_minus_mse"] for line in patient.log if "dev" in line]
    stop = next(
        number
        for number in range(2, 13)
        if max(measures[: number - 2], default=-math.inf) >= max(measures[number - 2 : number])
    )
    assert stop < 12
    outcome = toy_fit(tmp_path / "impatient", epochs=12, patience=2, **changed)
    assert outcome.result.stopped_early
    assert not patient.result.stopped_early
    assert outcome.result.steps == 7 * stop
    assert outcome.result.best_measure == max(measures[:stop])


def test_averaged_weights_are_what_is_measured_and_kept(tmp_path):
    live, kept = [], []
    averaged = ToyStudent()
    outcome = toy_fit(
        tmp_path / "averaged",
        student=averaged,
        epochs=1,
        averaging=0.7,
        before_measure=lambda: kept.append({name: t.clone() for name, t in averaged.state_dict().items()}),
    )
    plain = ToyStudent()

    class Watch(Spy):
        def coefficients(self, state):
            live.append({name: t.clone() for name, t in plain.state_dict().items()})
            return super().coefficients(state)

    live.append(toy_fit(tmp_path / "plain", student=plain, epochs=1, policy=Watch).weights)
    expected = live[0]
    for step, weights in enumerate(live[1:], start=1):
        decay = min(0.7, (1 + step) / (10 + step))
        expected = {name: decay * expected[name] + (1 - decay) * weights[name] for name in weights}
    assert_same_weights(kept[0], expected, 1e-12)
    assert_same_weights(outcome.weights, kept[0])


class Teacher:
    """A teacher's update that only keeps what it was shown."""

    def __init__(self, student):
        self.student = student
        self.seen = []

    def record_step(self, plan, coefficients, optimizer):
        assert coefficients.tolist() == pytest.approx([1 - coefficients[1].item(), coefficients[1].item()])
        bias = self.student.head.bias
        rows = sorted(int(row) for batch in plan.batches for row in batch.index)
        self.seen.append([rows, plan.count, plan.factor, float(bias.detach()[0]), float(bias.grad[0])])

    def update(self, optimizer, *, last):
        self.seen[-1] += [float(self.student.head.bias.detach()[0]), last]
        return {"steps": float(len(self.seen))}

    def state_dict(self):
        return {"seen": self.seen}

    def load_state_dict(self, state):
        self.seen = state["seen"]


def test_the_teacher_learns_after_each_step(tmp_path):
    student = ToyStudent()
    teacher = Teacher(student)
    spoken = toy_fit(tmp_path / "a", student=student, teacher=teacher, micro_batch_size=2)
    steps = list(steps_left(ToyExamples(37), settings(), taken=0))
    rows, counts, factors, before, gradients, after, last = zip(*teacher.seen, strict=True)
    assert list(rows) == [sorted(step.rows.tolist()) for step in steps]
    assert list(counts) == [len(step.rows) for step in steps]
    assert list(factors) == [learning_rate_factor(step, 21, settings()) for step in range(21)]
    # Each step is seen with its gradient before it is taken, and the teacher is asked after it.
    assert before[0] == float(ToyStudent().head.bias.detach()[0])
    assert list(before[1:]) == list(after[:-1])
    assert all(gradient != 0 for gradient in gradients)
    assert list(last) == [step.measured for step in steps]
    assert [line["teacher"]["steps"] for line in spoken.log if "loss" in line] == list(range(1, 22))
    assert read_checkpoint(tmp_path / "a" / CHECKPOINT)["teacher"] == {"seen": teacher.seen}
    assert_same_weights(spoken.weights, toy_fit(tmp_path / "b", micro_batch_size=2).weights)


def test_frozen_weights_stay_and_are_not_saved(tmp_path):
    student = ToyStudent()
    for parameter in student.lower.parameters():
        parameter.requires_grad_(False)
    before = student.lower.weight.clone()

    def stack():
        return [list(student.upper.named_parameters()), list(student.head.named_parameters())]

    student.parameter_stack = stack
    toy_fit(tmp_path, student=student)
    assert torch.equal(student.lower.weight, before)
    assert "lower.weight" not in read_checkpoint(tmp_path / CHECKPOINT)["student"]


class Spoiled(Spy):
    """Coefficients that are no numbers from a step on."""

    def coefficients(self, state):
        return super().coefficients(state) * (math.nan if len(self.states) >= 9 else 1.0)


def test_a_loss_that_is_no_number(tmp_path):
    with pytest.raises(
        TrainingError, match=r"After step 9 the loss is nan, expected a finite number.*checkpoint is kept"
    ):
        toy_fit(tmp_path, policy=Spoiled)
    saved = read_checkpoint(tmp_path / CHECKPOINT)
    assert saved["tracker"]["step"] == 7
    assert all(tensor.isfinite().all() for tensor in saved["student"].values())
    # Mended, the run goes on from there as if nothing had happened.
    mended = toy_fit(tmp_path, resume=True)
    straight = toy_fit(tmp_path / "straight")
    assert_same_weights(mended.weights, straight.weights)
    assert mended.log == straight.log


def test_a_gradient_that_is_no_number(tmp_path):
    class Cliff(ToyStudent):
        def elements(self, outputs, targets, groups):
            found = super().elements(outputs, targets, groups)
            return type(found)(**{**vars(found), "scores": found.scores + (outputs[:, 1] * 0).sqrt()})

    with pytest.raises(TrainingError, match=r"After step 1 the gradient_norm is nan"):
        toy_fit(tmp_path, student=Cliff(), terms={"mse": 1.0}, log_every=1)


def test_a_measure_that_is_no_number(tmp_path, monkeypatch):
    monkeypatch.setattr("toy_runs.predict", lambda *_: torch.full((11, 5), math.nan, dtype=torch.float64))
    with pytest.raises(TrainingError, match=r"After step 7 the one_minus_mse is nan, .* check loss.terms"):
        toy_fit(tmp_path)
    assert not (tmp_path / CHECKPOINT).exists()


def test_a_run_leaves_two_files(tmp_path):
    toy_fit(tmp_path)
    assert {path.name for path in Path(tmp_path).iterdir()} == {CHECKPOINT, METRICS}
