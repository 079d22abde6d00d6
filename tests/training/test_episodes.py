from __future__ import annotations

import json
import logging
import math
import random

import pytest
import torch
from toy_runs import Stopped, assert_same_weights, stops_at_measure, toy_fit
from toy_student import ToyExamples, ToyStudent
from toy_taught import SPECS, DoubleTeacher, same_teachers, teach

from aes_dynloss.errors import TrainingError
from aes_dynloss.teaching.hypergradient.protocol import Hypergradient
from aes_dynloss.teaching.policies import StudentState
from aes_dynloss.teaching.teachers.dlf import TaughtPolicy
from aes_dynloss.training.episodes import TEACHING_CHECKPOINT, TEACHING_LOG, PiecewisePolicy, in_pieces
from aes_dynloss.training.run_state import trained_state


class Counting(ToyStudent):
    """With a buffer that training changes."""

    def __init__(self, **how):
        super().__init__(**how)
        self.register_buffer("passes", torch.zeros(()))

    def forward(self, x):
        if self.training:
            self.passes += 1
        return super().forward(x)


ONE = {"episodes": 1, "steps": 8}
OPTIMIZERS = {
    "adamw": {},
    "momentum": {"optimizer": "sgd", "momentum": 0.8, "learning_rate": 0.1, "head_learning_rate": 0.2},
}


def finite_differences(folder, teacher, size=1e-5, **how):
    """Of the measure at the end of the episode, in every weight of the teacher; the states are constants."""
    states = list(teacher.seen)

    def measured(parameter, place, shift):
        other = DoubleTeacher(how["loss"])
        other.instead = states
        with torch.no_grad():
            dict(other.named_parameters())[parameter].view(-1)[place] += shift
        return teach(folder, teacher=other, **how).log[0]["measure"]

    found = []
    for name, parameter in DoubleTeacher(how["loss"]).named_parameters():
        for place in range(0, parameter.numel(), 1 if parameter.numel() < 15 else 11):
            slope = (measured(name, place, size) - measured(name, place, -size)) / (2 * size)
            found.append((name, place, slope))
    return found


@pytest.mark.parametrize(
    ("loss", "optimizer", "pieces"),
    [
        ("mixture", "adamw", None),
        ("with stde", "momentum", None),
        ("bilinear", "momentum", None),
        ("mixture", "adamw", 3),
        ("bilinear", "momentum", 1),
    ],
)
def test_the_gradient_through_a_whole_episode(tmp_path, loss, optimizer, pieces):
    """Steps, dropout, clipping, schedule of rates, a measure on the way: against the teacher's weights themselves."""
    how = {"loss": loss, "dlf": ONE | {"pieces": pieces}, "evaluations": 2, "log_every": 2, **OPTIMIZERS[optimizer]}
    teacher = DoubleTeacher(loss)
    lesson = teach(tmp_path, student=ToyStudent(dropout=0.2), teacher=teacher, **how)
    gradients = {name: parameter.grad.reshape(-1) for name, parameter in teacher.named_parameters()}
    with_measures = torch.stack([state[0] for state in teacher.seen])
    assert len(with_measures.unique(dim=0)) == (pieces or 8)
    if pieces is None:
        assert with_measures[:, 1].min() < 1
        assert with_measures[-1, 2] > 0
    scale = float(lesson.gradient.abs().max())
    for name, place, slope in finite_differences(tmp_path, teacher, student=ToyStudent(dropout=0.2), **how):
        assert float(gradients[name][place]) == pytest.approx(slope, abs=1e-5 * scale), (name, place)


@pytest.mark.parametrize("pieces", [None, 4])
def test_an_episode_is_what_fit_does(tmp_path, pieces):
    """The same states, answers and dev measures as a run under the teacher as it is."""
    how = {"evaluations": 2, "log_every": 3, "micro_batch_size": 4, "length_window": 2}
    lesson = teach(tmp_path / "episode", student=ToyStudent(dropout=0.3), dlf={"episodes": 1, "pieces": pieces}, **how)
    untaught = DoubleTeacher("mixture")
    outcome = toy_fit(
        tmp_path / "fit", student=ToyStudent(dropout=0.3), terms=SPECS["mixture"].terms, seed=1000,
        policy=lambda _: in_pieces(TaughtPolicy(untaught), pieces), **how,
    )  # fmt: skip
    answers = [list(line["coefficients"].values()) for line in outcome.log if "loss" in line]
    expected = torch.tensor(answers, dtype=torch.float64)
    torch.testing.assert_close(lesson.taught.coefficients, expected, rtol=0, atol=1e-9)
    assert len(expected) == 21
    torch.testing.assert_close(torch.stack(lesson.teacher.seen), torch.stack(untaught.seen), rtol=0, atol=1e-7)
    dev = [line["dev"] for line in outcome.log if "dev" in line][-1]
    assert lesson.log[0]["dev"] == pytest.approx(dev, abs=1e-9)


@pytest.mark.parametrize(
    ("pieces", "lengths"), [(None, [1] * 9), (9, [1] * 9), (40, [1] * 9), (1, [9]), (2, [5, 4]), (4, [3, 2, 2, 2])]
)
def test_coefficients_stay_the_same_over_a_stretch(tmp_path, pieces, lengths):
    """As the teacher sets them in the state at its first step; the hypergradients of its steps add up."""
    found = []

    def record(episodes):
        original = episodes._episode
        episodes._episode = lambda number: found.append(original(number)) or found[0]

    dlf = {"episodes": 1, "steps": 9, "pieces": pieces}
    lesson = teach(tmp_path, dlf=dlf, evaluations=2, log_every=2, change=record)
    (episode,) = found
    assert torch.unique_consecutive(episode.states, dim=0, return_counts=True)[1].tolist() == lengths
    starts = [sum(lengths[:number]) for number in range(len(lengths))]
    assert episode.states[starts, 0].tolist() == pytest.approx([start / 9 for start in starts])
    # The plain steps: the trajectory's own coefficients, differentiated through one graph over all of them.
    plain = teach(
        tmp_path / "graph", dlf=dlf | {"hypergradient": {"estimator": "unrolled_graph"}}, evaluations=2, log_every=2
    )
    torch.testing.assert_close(lesson.gradient, plain.gradient, rtol=1e-8, atol=1e-12)
    teacher = DoubleTeacher("mixture")
    by_step = episode.hypergradient.coefficients
    sums = torch.stack([part.sum(0) for part in torch.split(by_step, lengths)])
    teacher(episode.states[starts]).backward(sums)
    expected = torch.cat([parameter.grad.reshape(-1) for parameter in teacher.parameters()])
    torch.testing.assert_close(lesson.gradient, expected, rtol=1e-9, atol=1e-14)


@pytest.mark.parametrize("steps", [3, 7, 49, 98, 1000])
def test_as_many_stretches_as_asked_for(steps):
    policy = PiecewisePolicy(TaughtPolicy(DoubleTeacher("mixture")), steps)
    for step in range(steps):
        policy.coefficients(StudentState(step / steps))
    assert len(policy.state_dict()["asked"]) == steps


# The second of two stretches begins at step 11 of 21; the last checkpoint before step 16 is that after step 14.
@pytest.mark.parametrize("stop", [4, 9, 16])
def test_a_run_that_stopped_within_a_stretch_goes_on(tmp_path, stop):
    def train(folder, stops=-1, *, resume=False):
        policy = PiecewisePolicy(TaughtPolicy(DoubleTeacher("mixture")), 2)

        class Stopping:
            def coefficients(self, state):
                if round(state.progress * 21) == stops:
                    raise Stopped
                return policy.coefficients(state)

        how = {"log_every": 2, "terms": SPECS["mixture"].terms, "policy": lambda _: Stopping(), "teacher": policy}
        return toy_fit(folder, student=ToyStudent(dropout=0.3), resume=resume, **how)

    whole = train(tmp_path / "whole")
    with pytest.raises(Stopped):
        train(tmp_path / "run", stop)
    resumed = train(tmp_path / "run", resume=True)
    assert resumed.log == whole.log
    assert_same_weights(resumed.weights, whole.weights)
    weights = [line["coefficients"]["mse"] for line in whole.log if "loss" in line]
    assert len(set(weights)) == 2
    assert len(set(weights[:11])) == len(set(weights[11:])) == 1


def test_the_student_and_all_generators_are_left_as_they_were(tmp_path):
    student = Counting(dropout=0.3)
    student.passes.fill_(5.0)
    student.eval()
    weights, before = trained_state(student), {}
    teach(tmp_path, student=student, change=lambda _: before.update(torch=torch.get_rng_state(), own=random.getstate()))
    assert_same_weights(trained_state(student), weights)
    assert not student.training
    assert all(parameter.grad is None for parameter in student.parameters())
    assert torch.equal(torch.get_rng_state(), before["torch"])
    assert random.getstate() == before["own"]


def test_what_an_episode_leaves(tmp_path):
    lesson = teach(tmp_path, dlf={"episodes": 3, "steps": 5})
    assert [line["step"] for line in lesson.log] == [1, 2, 3]
    assert list(lesson.log[0]) == ["step", "measure", "hypergradient_norm", "coefficients", "dev"]
    mean = lesson.taught.coefficients.mean(0)
    assert list(lesson.log[2]["coefficients"].values()) == pytest.approx(mean.tolist(), rel=1e-6)
    assert list(lesson.log[2]["coefficients"]) == ["mse", "cross_entropy"]
    assert lesson.taught.episodes == 3
    assert 0 < lesson.log[0]["dev"]["one_minus_mse"] < 1


@pytest.mark.parametrize(("steps", "expected"), [(None, 21), (4, 4), (24, 24)])
def test_how_long_an_episode_is(tmp_path, steps, expected):
    """As long as the final training, or as asked, beyond its epochs too; progress goes over the episode."""
    lesson = teach(tmp_path, dlf={"episodes": 1, "steps": steps})
    assert lesson.taught.coefficients.shape == (expected, 2)
    progress = torch.cat(lesson.teacher.seen)[:, 0]
    torch.testing.assert_close(progress, torch.arange(expected) / expected)


def test_every_episode_has_an_order_and_dropout_of_its_own(tmp_path):
    still = {"episodes": 3, "steps": 5, "learning_rate": 1e-30}
    measures = {line["measure"] for line in teach(tmp_path / "a", dlf=still).log}
    assert len(measures) == 3
    # One step over all examples: dropout is all that differs.
    whole = {"student": ToyStudent(dropout=0.3), "batch_size": 37, "dlf": still | {"steps": 1}}
    assert len({line["measure"] for line in teach(tmp_path / "b", **whole).log}) == 3
    assert teach(tmp_path / "c", **whole).log == teach(tmp_path / "d", **whole).log


def test_the_teacher_steps_by_adam(tmp_path):
    start, lesson = DoubleTeacher("mixture"), teach(tmp_path, dlf=ONE | {"learning_rate": 0.03})
    for then, now in zip(start.parameters(), lesson.teacher.parameters(), strict=True):
        expected = then - 0.03 * now.grad / (now.grad.abs() + 1e-8)
        torch.testing.assert_close(now, expected, rtol=0, atol=1e-12)


LONG = {"episodes": 4, "steps": 9}


@pytest.fixture(scope="module")
def straight(tmp_path_factory):
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("straight")
    lesson = teach(folder, student=ToyStudent(dropout=0.3), dlf=LONG)
    return lesson, (folder / TEACHING_LOG).read_bytes()


# Each episode measures after its step 7 and at its end.
@pytest.mark.parametrize("measure", [1, 3, 4, 8])
def test_stopped_and_resumed(tmp_path, straight, measure):
    def train(**how):
        return teach(tmp_path, student=ToyStudent(dropout=0.3), dlf=LONG, **how)

    with pytest.raises(Stopped):
        train(before_measure=stops_at_measure(measure))
    assert (tmp_path / TEACHING_CHECKPOINT).exists() == (measure > 2)
    resumed, log = train(resume=True), (tmp_path / TEACHING_LOG).read_bytes()
    same_teachers(resumed.teacher, straight[0].teacher)
    assert torch.equal(resumed.taught.coefficients, straight[0].taught.coefficients)
    assert log == straight[1]
    seen = len(resumed.teacher.seen)
    assert seen == 9 * (4 - (measure - 1) // 2)


def test_episodes_that_are_over_stay_over(tmp_path, straight):
    how = {"student": ToyStudent(dropout=0.3), "dlf": LONG}
    teach(tmp_path, **how)

    def measured():
        raise Stopped

    again = teach(tmp_path, resume=True, before_measure=measured, **how)
    same_teachers(again.teacher, straight[0].teacher)
    assert torch.equal(again.taught.coefficients, straight[0].taught.coefficients)
    assert (tmp_path / TEACHING_LOG).read_bytes() == straight[1]
    # Without resume they start again.
    with pytest.raises(Stopped):
        teach(tmp_path, before_measure=measured, **how)


OTHERS = {
    "normalised": {"optimizer": "normalised", "decay": 0.5},
    "sign": {"optimizer": "sign", "clip_norm": 1e-3},
    "best": {"keep": "best", "learning_rate": 0.5},
    "in pieces": {"pieces": 4},
    "averaged": {"episodes": 2, "average": 3, "keep": "best", "learning_rate": 0.5},
}


@pytest.mark.parametrize("name", OTHERS)
def test_other_ways_are_resumed_too(tmp_path, name):
    how = {"student": ToyStudent(dropout=0.3), "dlf": LONG | OTHERS[name]}
    whole = teach(tmp_path / "whole", **how)
    with pytest.raises(Stopped):
        teach(tmp_path / "run", before_measure=stops_at_measure(5), **how)
    resumed = teach(tmp_path / "run", resume=True, **how)
    same_teachers(resumed.teacher, whole.teacher)
    assert resumed.log == whole.log


def test_the_rate_falls_from_episode_to_episode(tmp_path):
    """Steps of one length show it."""
    lengths = []
    for episodes in (1, 2, 3):
        dlf = {"episodes": episodes, "steps": 4, "optimizer": "normalised", "learning_rate": 0.2, "decay": 0.5}
        weights = teach(tmp_path / str(episodes), dlf=dlf).teacher.parameters()
        lengths.append(torch.cat([weight.detach().reshape(-1) for weight in weights]))
    start = torch.cat([weight.detach().reshape(-1) for weight in DoubleTeacher("mixture").parameters()])
    steps = torch.stack([start, *lengths]).diff(dim=0).norm(dim=1)
    torch.testing.assert_close(steps, torch.tensor([0.2, 0.1, 0.05], dtype=torch.float64))


def test_the_hypergradients_of_some_episodes_are_averaged(tmp_path):
    """An update is along the mean of what each of its episodes says; the student's runs differ."""
    still = {"steps": 7, "learning_rate": 1e-30}
    how = {"student": ToyStudent(dropout=0.3)}
    single = [teach(tmp_path / str(n), dlf=still | {"episodes": n}, **how) for n in (1, 2, 3, 4)]
    one, two, three, four = (lesson.gradient for lesson in single)
    both = teach(tmp_path / "both", dlf=still | {"episodes": 1, "average": 2}, **how)
    torch.testing.assert_close(both.gradient, (one + two) / 2, rtol=1e-12, atol=0)
    assert float((one - two).norm()) > 0.1 * float(one.norm())
    again = teach(tmp_path / "again", dlf=still | {"episodes": 2, "average": 2}, **how)
    torch.testing.assert_close(again.gradient, (three + four) / 2, rtol=1e-12, atol=0)
    assert again.log == single[3].log
    assert (both.taught.episodes, again.taught.episodes) == (2, 4)


def test_an_update_of_some_episodes_is_one_step(tmp_path):
    """Of a rate that falls from update to update; the best by the mean of what is held out."""
    dlf = {"steps": 4, "optimizer": "normalised", "learning_rate": 0.2, "decay": 0.5, "average": 2}
    path = [teach(tmp_path / str(updates), dlf=dlf | {"episodes": updates}).teacher for updates in (1, 2)]
    vectors = [
        torch.cat([weight.detach().reshape(-1) for weight in teacher.parameters()])
        for teacher in [DoubleTeacher("mixture"), *path]
    ]
    steps = torch.stack(vectors).diff(dim=0).norm(dim=1)
    torch.testing.assert_close(steps, torch.tensor([0.2, 0.1], dtype=torch.float64))
    best = teach(tmp_path / "best", dlf=dlf | {"episodes": 3, "keep": "best", "learning_rate": 3.0})
    held_out = torch.tensor([line["held_out"] for line in best.log], dtype=torch.float64).view(3, 2).mean(1)
    assert best.taught.best == pytest.approx(float(held_out.min()))
    kept = teach(
        tmp_path / "kept", dlf=dlf | {"episodes": 1 + int(held_out.argmin()), "learning_rate": 3.0, "keep": "best"}
    )
    assert best.taught.best == kept.taught.best
    same_teachers(best.teacher, kept.teacher)


@pytest.mark.parametrize(
    ("dlf", "loss", "far"),
    [
        ({"learning_rate": 0.3}, "mixture", False),
        ({"learning_rate": 0.8}, "mixture", True),  # ln(e^0.2 - 1) = -1.51 is the largest
        ({"learning_rate": 0.8, "decay": 0.5}, "mixture", False),
        ({"learning_rate": 0.8}, "bilinear", True),
        ({"learning_rate": 0.8, "optimizer": "normalised"}, "mixture", False),
        ({"learning_rate": 3.5, "optimizer": "normalised"}, "mixture", True),  # over 2 * 3 + 3 * 3 weights
    ],
    ids=str,
)
def test_a_teacher_that_cannot_move_far(tmp_path, caplog, dlf, loss, far):
    with caplog.at_level(logging.WARNING):
        teach(tmp_path, loss=loss, dlf={"episodes": 2, "steps": 1} | dlf)
        teach(tmp_path, loss=loss, dlf={"episodes": 2, "steps": 1} | dlf, resume=True)
    warned = [message for message in caplog.messages if message.startswith("The teacher cannot move far: 2 updates")]
    assert len(warned) == (not far)


def test_a_long_hypergradient_is_scaled_down(tmp_path):
    lesson = teach(tmp_path, dlf=ONE | {"clip_norm": 1e-4})
    assert float(lesson.gradient.norm()) == pytest.approx(1e-4, rel=1e-3)
    assert lesson.log[0]["hypergradient_norm"] > 1e-4


def test_the_best_teacher_is_kept(tmp_path):
    """As it was in the episode that ended best on essays that gave no hypergradient."""
    dlf = {"episodes": 4, "steps": 9, "optimizer": "normalised", "learning_rate": 3.0}
    teachers = []

    def record(episodes):
        original = episodes._episode

        def recording(number):
            teachers.append({name: tensor.clone() for name, tensor in episodes._teacher.state_dict().items()})
            return original(number)

        episodes._episode = recording

    lesson = teach(tmp_path / "best", dlf=dlf | {"keep": "best"}, change=record)
    held_out = [line["held_out"] for line in lesson.log]
    assert lesson.taught.best == min(held_out)
    assert all(line["held_out"] != line["measure"] for line in lesson.log)
    for name, tensor in lesson.teacher.state_dict().items():
        assert torch.equal(tensor, teachers[held_out.index(min(held_out))][name])
    assert "held_out" not in teach(tmp_path / "last", dlf=dlf).log[0]


@pytest.mark.parametrize(
    ("found", "words"),
    [
        ((math.nan, 0.1), "In the teacher's episode the measure is nan, expected a finite number"),
        ((math.inf, 0.1), "the measure is inf, expected"),
        ((0.5, math.nan), "the hypergradient is nan, expected a finite number. Lower the student's learning rate or"),
        ((0.5, math.inf), r"the hypergradient is inf, .* or shorten the episode by teacher\.steps"),
    ],
)
def test_numbers_that_are_none(tmp_path, found, words):
    """The teacher keeps its weights, and the log the episodes before."""
    teacher = DoubleTeacher("mixture")
    before = [parameter.detach().clone() for parameter in teacher.parameters()]

    def change(episodes):
        def estimator(objective, rule, trajectory, measure):
            return Hypergradient(torch.tensor(found[0]), torch.full_like(trajectory.coefficients, found[1]))

        episodes._problem.estimator = estimator

    with pytest.raises(TrainingError, match=words):
        teach(tmp_path, teacher=teacher, change=change, dlf=ONE)
    assert all(torch.equal(now, then) for now, then in zip(teacher.parameters(), before, strict=True))
    assert (tmp_path / TEACHING_LOG).read_bytes() == b""
    assert not (tmp_path / TEACHING_CHECKPOINT).exists()


def test_a_student_that_runs_away(tmp_path):
    how = {"optimizer": "sgd", "clip_norm": None, "learning_rate": 1e3, "head_learning_rate": 1e3, "warmup": 0}
    student = ToyStudent(link="identity")
    with pytest.raises(TrainingError, match=r"episode.*weights.*\b(nan|inf)\b"):
        teach(tmp_path, student=student, dlf={"episodes": 1, "steps": 200, "measure": "mse"}, **how)


ESTIMATORS = {
    "unrolled_graph": ({"estimator": "unrolled_graph"}, 1e-9),
    "truncated to all": ({"estimator": "truncated", "last": 8}, 1e-12),
    "central": ({"estimator": "central"}, 1e-3),
    "one_sided": ({"estimator": "one_sided", "difference_size": 1e-5}, 1e-2),
    "snapshots": ({"snapshots": True}, 1e-9),
    "graphs": ({"graph_budget": 1}, 1e-9),
    "host": ({"storage": "host"}, 1e-12),
    "bf16": ({"storage": "bf16"}, 0.1),
}


@pytest.fixture(scope="module")
def exact(tmp_path_factory):
    torch.set_num_threads(1)
    return {
        name: teach(tmp_path_factory.mktemp("exact"), dlf=ONE, **changed).gradient
        for name, changed in OPTIMIZERS.items()
    }


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("name", ESTIMATORS)
def test_estimators_by_configuration(tmp_path, exact, name, optimizer):
    hypergradient, room = ESTIMATORS[name]
    found = teach(tmp_path, dlf=ONE | {"hypergradient": hypergradient}, **OPTIMIZERS[optimizer]).gradient
    expected = exact[optimizer]
    assert float((found - expected).norm() / expected.norm()) < room


@pytest.mark.parametrize("hypergradient", [{"estimator": "truncated", "last": 2}, {"estimator": "one_step"}])
def test_biased_estimators(tmp_path, exact, hypergradient):
    found = teach(tmp_path, dlf=ONE | {"hypergradient": hypergradient}).gradient
    cosine = torch.dot(found, exact["adamw"]) / found.norm() / exact["adamw"].norm()
    assert 0 < float(cosine) < 0.9999


@pytest.mark.parametrize(("check", "warnings"), [(True, 1), (False, 0)])
def test_differences_are_checked_in_the_first_episode(tmp_path, caplog, check, warnings):
    far = {"estimator": "central", "difference_size": 50.0, "self_check": check}
    with caplog.at_level(logging.WARNING):
        teach(tmp_path, dlf={"episodes": 2, "steps": 3, "hypergradient": far})
    assert sum("Finite differences are off by" in message for message in caplog.messages) == warnings


def test_the_measure_is_taken_without_dropout_on_teacher_dev(tmp_path):
    """One step that goes nowhere: the measure is that of the start on the 13 essays of teacher_dev."""
    still = {"learning_rate": 1e-30, "head_learning_rate": 1e-30, "weight_decay": 0}
    student = ToyStudent(dropout=0.5)
    lesson = teach(tmp_path, student=student, dlf={"episodes": 1, "steps": 1, "measure": "mse"}, **still)
    student.eval()
    batch = ToyExamples(13, seed=2).batch(range(13))
    scaled = student.elements(student(**batch.inputs), batch.targets, batch.groups).standardised()
    expected = float((scaled.scores - scaled.targets).square().mean().detach())
    assert lesson.log[0]["measure"] == pytest.approx(expected, rel=1e-12)
    assert json.loads((tmp_path / TEACHING_LOG).read_text())["step"] == 1
