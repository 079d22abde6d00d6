"""Examples of several raters: halves of the trusted ones, weights by rater, gold loss correction, refusals."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from facts import facts
from rated_runs import BAD, RATERS, RatedExamples, RatedStudent, rated_run
from toy_runs import Stopped, assert_same_weights, stops_at_measure

from aes_dynloss.errors import ConfigError, DataError
from aes_dynloss.teaching.policies import StudentState
from aes_dynloss.training import loss_setup, run
from aes_dynloss.training.episodes import Episodes
from aes_dynloss.training.problem import BilevelProblem
from aes_dynloss.training.run_state import trained_state
from aes_dynloss.training.teacher_folder import read_teacher

BY_RATER = {"by": ["rater"]}
SHORT = {"kind": "dlf", "episodes": 4, "steps": 6}
GLC = {"kind": "glc"}
FORWARD = {"kind": "dlf", "matrix": "forward", "episodes": 8, "steps": 30}
CPU = torch.device("cpu")
NOISY = {"seed": 1, "epochs": 6, "head_learning_rate": 0.1}
SEEDS = 10


def lines(folder: Path, name: str = "metrics.jsonl") -> list[dict]:
    return [json.loads(line) for line in (folder / name).read_text(encoding="utf-8").splitlines()]


def learned(folder: Path) -> list[float]:
    """The weights of the raters in the run's last step."""
    last = [line["coefficients"] for line in lines(folder) if "coefficients" in line][-1]
    return [last[name] for name in RATERS]


def test_an_episode_measures_on_trusted_examples_that_it_does_not_train_on(tmp_path, monkeypatch):
    measured, trained = [], []
    on, parts = BilevelProblem.measure_on, Episodes._parts

    def measure_on(problem, rows):
        measured.append(rows.tolist())
        return on(problem, rows)

    def record(episodes, number):
        found = parts(episodes, number)
        trained.append(found[0].batch(range(len(found[0]))).index.tolist())
        return found

    monkeypatch.setattr(BilevelProblem, "measure_on", measure_on)
    monkeypatch.setattr(Episodes, "_parts", record)
    random = np.random.default_rng(5)
    train = RatedExamples(60, 1, trusted=9).select(random.permutation(60))
    trusted = np.flatnonzero(train.raters == 0)
    rated_run(tmp_path, teacher=SHORT, loss=BY_RATER, train=train, epochs=1)
    assert len(measured) == len(trained) == 4
    for held, rows in zip(measured, trained, strict=True):
        assert sorted([*rows, *trusted[held]]) == list(range(60))
    assert measured[:2] == measured[2:]
    assert sorted([*measured[0], *measured[1]]) == list(range(9))
    assert abs(len(measured[0]) - len(measured[1])) == 1
    final = train.read[-3 - len(lines(tmp_path)) :]
    assert set(trusted) <= set(np.concatenate(final))  # the final student learns from all of them


@pytest.mark.parametrize("keep", ["best", "last"])
def test_which_teacher_is_kept(tmp_path, keep):
    """After two updates: the teacher of the second episode has been judged, what became of it has not."""
    teacher = SHORT | {"episodes": 2, "keep": keep, "pieces": 1}
    rated_run(tmp_path, teacher=teacher, loss=BY_RATER, epochs=1)
    _, line = lines(tmp_path, "teaching.jsonl")
    judged = pytest.approx(list(line["coefficients"].values()), rel=1e-3)
    if keep == "best":
        assert line["held_out"] == line["measure"]
        assert learned(tmp_path) == judged
    else:
        assert "held_out" not in line
        assert learned(tmp_path) != judged


def test_the_best_of_one_episode_has_not_learned(tmp_path):
    """It has been measured on one half alone, but what becomes of it on none."""
    rated_run(tmp_path, teacher=SHORT | {"episodes": 1}, loss=BY_RATER, epochs=1)
    assert learned(tmp_path) == pytest.approx([1.0] * len(RATERS), abs=0.02)  # it starts near 1


def test_the_best_is_by_both_halves(tmp_path):
    """Halves are measured by turns; a teacher is judged by its episode and the one before, which measured the other."""
    rated_run(tmp_path, teacher=SHORT | {"episodes": 6, "pieces": 1}, loss=BY_RATER, epochs=1)
    told = lines(tmp_path, "teaching.jsonl")
    pairs = [told[place - 1]["measure"] + told[place]["measure"] for place in range(1, len(told))]
    best = told[1 + pairs.index(min(pairs))]
    assert learned(tmp_path) == pytest.approx(list(best["coefficients"].values()), rel=0.1)
    assert learned(tmp_path) != pytest.approx(list(told[0]["coefficients"].values()), rel=0.1)


def test_both_halves_are_judged_as_often(tmp_path):
    """Three episodes an update measure one half once, the other twice; a fourth, of the update before, evens that."""
    rated_run(tmp_path, teacher=SHORT | {"episodes": 3, "average": 3}, loss=BY_RATER, epochs=1)
    saved = torch.load(tmp_path / "teaching.pt", weights_only=False)["taught"]
    told = [line["held_out"] for line in lines(tmp_path, "teaching.jsonl")]
    means = [np.mean(told[end - 4 : end]) for end in (6, 9)]
    assert saved["best"] == pytest.approx(min(means))


@pytest.mark.parametrize("unit", [None, "trusted"])
def test_trusted_targets_count_1(tmp_path, unit):
    rated_run(tmp_path, teacher=SHORT, loss=BY_RATER, unit=unit, epochs=1)
    trusted, *others = learned(tmp_path)
    assert (trusted == 1) is (unit is not None)
    assert 1 not in others


def test_nothing_to_weigh(tmp_path):
    with pytest.raises(DataError, match=facts("loss.by", "every training example is trusted", "data.trusted")):
        rated_run(tmp_path, teacher=SHORT, loss=BY_RATER, raters=RATERS[:1], train=RatedExamples(60, 1, trusted=60))


@pytest.mark.parametrize(("teacher", "raters"), [(None, RATERS), (GLC, RATERS), (SHORT, [])])
def test_weights_by_rater_without_a_teacher_or_raters(tmp_path, teacher, raters):
    with pytest.raises(ConfigError, match=facts("loss.by", "kind dlf", "raters")):
        rated_run(tmp_path, teacher=teacher, loss=BY_RATER, raters=raters)


def test_a_frozen_teacher_of_the_same_raters(tmp_path):
    rated_run(tmp_path / "one", teacher=SHORT, loss=BY_RATER, epochs=1)
    given = {"kind": "frozen", "from": str(tmp_path / "one" / "teacher")}
    rated_run(tmp_path / "two", teacher=given, loss=BY_RATER, epochs=1)
    found, expected = lines(tmp_path / "two"), lines(tmp_path / "one")
    assert [line.get("coefficients") for line in found] == [line.get("coefficients") for line in expected]


@pytest.mark.parametrize(
    ("loss", "raters", "words"),
    [
        (BY_RATER, [*RATERS[:-1], "Ed"], ["Di", "Ed"]),
        (BY_RATER, RATERS[:-1], ["Di"]),
        (BY_RATER, [RATERS[0], *reversed(RATERS[1:])], ["Di", "Ann"]),
        (BY_RATER, ["unsure", *RATERS[1:]], ["trusted", "unsure", "null"]),
        ({"by": ["rater", "score"]}, RATERS, ["levels"]),
        ({"by": ["rater"], "terms": {"mae": 1.0}}, RATERS, ["mse", "mae"]),
        ({}, RATERS, ["loss.by is not set"]),
    ],
)
def test_a_frozen_teacher_of_others(tmp_path_factory, tmp_path, loss, raters, words):
    folder = tmp_path_factory.getbasetemp() / "of_raters"
    if not folder.exists():
        rated_run(folder, teacher=SHORT | {"episodes": 1}, loss=BY_RATER, epochs=1)
    given = {"kind": "frozen", "from": str(folder / "teacher")}
    unit = RATERS[0] if RATERS[0] in raters else None
    with pytest.raises(ConfigError, match=facts("teacher.from", *words, "same loss and raters")):
        rated_run(tmp_path, teacher=given, loss=loss, raters=raters, unit=unit)


class TestGoldLossCorrection:
    def train(self) -> RatedExamples:
        return RatedExamples(400, 11, trusted=60, lowest=0.4)

    def student(self, **how) -> RatedStudent:
        return RatedStudent(points=5, seed=1, **how)

    def test_it_learns_how_targets_come_about(self, tmp_path):
        _, _, found = rated_run(tmp_path / "glc", teacher=GLC, student=self.student(), train=self.train(), **NOISY)
        plain = {"terms": {"cross_entropy": 1.0}}
        _, _, without = rated_run(
            tmp_path / "plain", teacher=None, loss=plain, student=self.student(), train=self.train(), **NOISY
        )
        assert found > without + 0.05
        spec, policy = read_teacher(tmp_path / "glc" / "teacher", CPU)
        matrix = policy.coefficients(None).view(5, 5)
        assert (spec.groups, spec.classes) == (1, 5)
        assert 0.3 < float(matrix[1:, 0].mean()) < 0.6  # the first student is not yet sure

    def test_a_teacher_learns_it_by_its_gradient(self, tmp_path):
        """Of L2T-DLF: what is read as the lowest score may be any; no other score is mistaken for another."""
        how = {"train": self.train(), **NOISY}
        _, _, found = rated_run(tmp_path / "dlf", teacher=FORWARD, student=self.student(), **how)
        plain = {"terms": {"cross_entropy": 1.0}}
        _, _, without = rated_run(tmp_path / "plain", teacher=None, loss=plain, student=self.student(), **how)
        assert found > without + 0.05
        spec, policy = read_teacher(tmp_path / "dlf" / "teacher", CPU)
        matrix = spec.build().matrices(policy.coefficients(StudentState(0.5, 0.5, 0.9)))[0]
        called = matrix - torch.diag(matrix.diagonal())
        assert (spec.family, spec.groups, spec.logits) == ("forward", 1, True)
        assert float(called[1:, 0].mean()) > 3 * float(called[1:, 1:].mean())

    def test_the_second_student_starts_where_the_first_did(self, tmp_path, monkeypatch):
        seen, fit = [], run.fit

        def record(context, student, train, *rest):
            raters = {int(rater) for rater in train.batch(range(len(train))).targets[:, 2]}
            seen.append((context.folder.name, trained_state(student), raters))
            return fit(context, student, train, *rest)

        monkeypatch.setattr(loss_setup, "fit", record)
        monkeypatch.setattr(run, "fit", record)
        rated_run(tmp_path / "run", teacher=GLC, student=self.student(), train=self.train(), epochs=1)
        (first, begun, cheap), (second, again, everybody) = seen
        assert (first, second) == ("first_stage", "run")
        assert_same_weights(again, begun)
        assert (cheap, everybody) == ({1, 2, 3, 4}, {0, 1, 2, 3, 4})

    @pytest.mark.parametrize(("chosen", "kept"), [({}, "last"), ({"first_student": "best"}, "best")])
    def test_the_first_student_tells_at_its_end_or_at_its_best(self, tmp_path, monkeypatch, chosen, kept):
        """The second is always the best on dev."""
        seen, fit = [], run.fit

        def record(context, *rest):
            seen.append(context.keep)
            return fit(context, *rest)

        monkeypatch.setattr(loss_setup, "fit", record)
        monkeypatch.setattr(run, "fit", record)
        rated_run(tmp_path / "run", teacher=GLC | chosen, student=self.student(), train=self.train(), epochs=1)
        assert seen == [kept, "best"]

    @pytest.mark.parametrize("measure", [1, 2, 3, 4, 5, 6])
    def test_a_run_that_stopped_goes_on_exactly(self, tmp_path, measure):
        """In the first stage at 1 to 3, before the second has a checkpoint at 4, in it at 5 and 6."""

        def go(folder, **how):
            torch.manual_seed(1)
            student = self.student(dropout=0.3)
            result, student, _ = rated_run(
                folder, teacher=GLC, student=student, train=self.train(), epochs=3, seed=1, **how
            )
            return result, trained_state(student), lines(folder), (folder / "teacher/teacher.safetensors").read_bytes()

        expected = go(tmp_path / "whole")
        with pytest.raises(Stopped):
            go(tmp_path / "run", before_measure=stops_at_measure(measure))
        found = go(tmp_path / "run", resume=True)
        assert found[0] == expected[0]
        assert_same_weights(found[1], expected[1])
        assert found[2:] == expected[2:]

    def test_refused(self, tmp_path):
        with pytest.raises(ConfigError, match=facts("teacher.kind glc", "model.head softmax", "data.trusted")):
            rated_run(tmp_path, teacher=GLC)
        with pytest.raises(ConfigError, match=facts("teacher.kind glc", "data.trusted")):
            rated_run(tmp_path, teacher=GLC, student=self.student(), shared=False)
        for teacher in (GLC, FORWARD):
            with pytest.raises(DataError, match=facts("every training example is trusted")):
                rated_run(tmp_path, teacher=teacher, student=self.student(), train=RatedExamples(40, 0, trusted=40))
        with pytest.raises(ConfigError, match=facts("teacher.matrix forward", "model.head softmax", "data.trusted")):
            rated_run(tmp_path, teacher=FORWARD)
        with pytest.raises(ConfigError, match=facts("teacher.matrix forward", "leave loss.by out")):
            rated_run(tmp_path, teacher=FORWARD, student=self.student(), loss=BY_RATER)
        with pytest.raises(ConfigError, match=facts("teacher.matrix forward", "data.trusted")):
            rated_run(tmp_path, teacher=FORWARD, student=self.student(), shared=False)

    @pytest.mark.parametrize("teacher", [GLC, FORWARD])
    def test_a_frozen_matrix(self, tmp_path, teacher):
        rated_run(tmp_path / "one", teacher=teacher, student=self.student(), train=self.train(), epochs=1)
        given = {"kind": "frozen", "from": str(tmp_path / "one" / "teacher")}
        how = {"teacher": given, "epochs": 1}
        rated_run(tmp_path / "two", student=self.student(), train=self.train(), **how)
        assert lines(tmp_path / "two") == lines(tmp_path / "one")
        with pytest.raises(ConfigError, match=facts("teacher.from", "data.trusted")):
            rated_run(tmp_path / "three", student=self.student(), train=self.train(), raters=[], **how)
        with pytest.raises(ConfigError, match=facts("teacher.from", "5 score points", "3")):
            rated_run(tmp_path / "four", student=RatedStudent(points=3), **how)

        class TwoGroups(RatedExamples):
            def batch(self, rows):
                plain = super().batch(rows)
                return type(plain)(plain.inputs, plain.targets, plain.index % 2, plain.index)

        with pytest.raises(ConfigError, match=facts("teacher.from", "1 groups", "2")):
            rated_run(tmp_path / "five", student=self.student(), train=TwoGroups(50, 0, trusted=9), **how)
        two = {"student": self.student(), "epochs": 1, "teacher": GLC}
        rated_run(tmp_path / "six", train=TwoGroups(50, 0, trusted=9), **two)
        given["from"] = str(tmp_path / "six" / "teacher")
        with pytest.raises(ConfigError, match=facts("teacher.from", "2 groups", "1")):  # the one could be the other
            rated_run(tmp_path / "seven", student=self.student(), train=self.train(), **how)


class TestWhatItIsFor:
    """The default teacher on simulated ratings."""

    @pytest.mark.slow
    def test_a_bad_rater_is_found(self, tmp_path):
        """In 9 of 10 seeds the weight of the one who scores upside down is below a third of any other's."""
        found = []
        for seed in range(SEEDS):
            rated_run(tmp_path / str(seed), teacher={"kind": "dlf"}, loss=BY_RATER, seed=seed, epochs=2)
            weights = learned(tmp_path / str(seed))
            found.append(weights[BAD] < min(weights[1:BAD] + weights[BAD + 1 :]) / 3)
        assert sum(found) >= 0.9 * SEEDS

    @pytest.mark.slow
    def test_sound_raters_are_no_loss(self, tmp_path):
        differences = []
        for seed in range(SEEDS):
            kappas = [
                rated_run(
                    tmp_path / f"{seed}-{name}",
                    teacher=teacher,
                    loss=loss,
                    seed=seed,
                    train=RatedExamples(200, 10 * seed + 1, trusted=40),
                    epochs=2,
                )[2]
                for name, teacher, loss in (("taught", {"kind": "dlf"}, BY_RATER), ("plain", None, {}))
            ]
            differences.append(kappas[0] - kappas[1])
        assert np.mean(differences) >= -0.003
