"""Fine-tuning on ratings of unequal worth: what a run is told of raters, its treatments, and what it refuses."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from command_line import command
from essay_files import write_rows
from small_run import EVERYTHING, RANGES, check_scores, read_rows, records, report_of, small_essays, tune
from tiny_encoder import write_tiny_encoder

from aes_dynloss.configfile import read_mapping
from aes_dynloss.essays.finetune import encoder_run
from aes_dynloss.measures.agreement import quadratic_weighted_kappa
from aes_dynloss.measures.calibration import fit_rescaling
from aes_dynloss.training import loss_setup, run_state
from aes_dynloss.training import run as training_run

DLF = "teacher={kind: dlf, episodes: 2, steps: 4}"
BY_RATER = "loss.by=[rater]"
GLC = "teacher={kind: glc}"
FORWARD = "teacher={kind: dlf, matrix: forward, episodes: 2, steps: 4}"
SOFTMAX = "model.head=softmax"
COPIES = "data.augmentation={kinds: [repeat_paragraph]}"


def rated_essays(trusted: int = 20) -> list[dict[str, Any]]:
    """30 essays a prompt; the first of each are trusted, the others by two raters, one of them severe."""
    rows = small_essays()
    for number, row in enumerate(rows):
        sure = number % 30 < trusted
        rater = None if sure else "AB"[number % 2]
        low = RANGES[row["prompt_id"]]["low"]
        row |= {"rater": rater, "gold": int(sure), "score": max(low, row["score"] - (rater == "B"))}
        row["part"] = ["train", "train", "dev", "test", "train"][number % 5]
    return rows


@pytest.fixture(scope="module")
def rated(tmp_path_factory):
    """run.yaml of essays with raters."""
    folder = tmp_path_factory.mktemp("rated")
    return write_rated(folder, rated_essays(), write_tiny_encoder(folder / "encoder"))


def write_rated(folder: Path, rows: list[dict[str, Any]], encoder: Path) -> Path:
    values = {
        "data": {
            "source": str(write_rows(folder / "essays.jsonl", rows)),
            "prompts": RANGES,
            "columns": {"rater": "rater"},
            "trusted": "gold",
            "split": {"column": "part"},
        },
        "model": {"encoder": str(encoder), "frozen_layers": "all"},
        "training": {"epochs": 2, "batch_size": 8, "head_learning_rate": 0.05, "device": "cpu", "precision": "float32"},
        "evaluation": {"resamples": 100, "floors": False, "page": False, "screen": False},
    }
    path = folder / "run.yaml"
    path.write_text(yaml.safe_dump(values), encoding="utf-8")
    return path


def refused(path: Path, folder: Path, *words: str) -> str:
    """The one message of a run that ends before it has begun, without a trace in its folder."""
    outcome = tune(path, folder, *words)
    assert (outcome.code, outcome.out) == (2, "")
    assert "Traceback" not in outcome.err
    assert outcome.err.count("Error") <= 1
    assert not folder.exists() or {one.name for one in folder.iterdir()} <= {".lock"}
    return outcome.error


@pytest.mark.parametrize(
    ("by", "raters", "levels"),
    [("[rater]", ["trusted", "A", "B"], 1), ("[score]", ["trusted", "untrusted"], 3), ("[rater, score]", None, 3)],
)
def test_weights_by_rater(rated, tmp_path, monkeypatch, by, raters, levels):
    """What training is told of raters, and what the teacher's folder knows."""
    told: list[Any] = []
    train_student = encoder_run.train_student

    def record(context, student, train, teacher_dev, *rest, **named):
        told.extend([train, teacher_dev, named["raters"], named["shared"]])
        return train_student(context, student, train, teacher_dev, *rest, **named)

    monkeypatch.setattr(encoder_run, "train_student", record)
    folder = tmp_path / "run"
    outcome = tune(rated, folder, DLF, f"loss.by={by}", *(["loss.levels=3"] if levels > 1 else []))
    assert outcome.code == 0, outcome.err
    assert {path.name for path in folder.iterdir()} == EVERYTHING | {"teacher", "teaching.jsonl", "suspects.csv"}
    raters = raters or ["trusted", "A", "B"]
    train, teacher_dev, names, shared = told
    rows = [row for row in rated_essays() if row["part"] == "train"]
    expected = ["trusted" if row["gold"] else row["rater"] if "A" in raters else "untrusted" for row in rows]
    batch = train.batch(range(len(train)))
    assert names == raters
    assert batch.targets.shape == (36, 3)
    assert [names[int(number)] for number in batch.targets[:, 2]] == expected
    assert batch.targets[:, 1].tolist() == [1.0] * 36
    low, high = (np.array([RANGES[row["prompt_id"]][end] for row in rows]) for end in ("low", "high"))
    scores = np.array([row["score"] for row in rows])
    assert batch.targets[:, 0].tolist() == pytest.approx(((scores - low) / (high - low)).tolist())
    assert shared.tolist() == [place for place, row in enumerate(rows) if row["gold"]]
    assert teacher_dev.batch(range(len(teacher_dev))).targets.tolist() == batch.targets[shared].tolist()
    spec = read_mapping(folder / "teacher" / "teacher.json")["loss"]
    assert (spec["raters"], spec["levels"], spec["unit"]) == (raters, levels, "trusted")
    told_lines = [json.loads(line) for line in (folder / "teaching.jsonl").read_text().splitlines()]
    assert all(line["held_out"] == line["measure"] for line in told_lines)
    check_scores(folder, rated.with_name("essays.jsonl"), "test")


def test_a_frozen_teacher_meets_other_raters(rated, tmp_path):
    assert tune(rated, tmp_path / "one", DLF, BY_RATER).code == 0
    given = [f"teacher.from={tmp_path / 'one' / 'teacher'}", BY_RATER]
    assert tune(rated, tmp_path / "two", *given).code == 0
    rows = [row | {"rater": "C" if row["rater"] == "B" else row["rater"]} for row in rated_essays()]
    (tmp_path / "other").mkdir()
    encoder = rated.with_name("encoder")
    other = write_rated(tmp_path / "other", rows, encoder)
    error = refused(other, tmp_path / "three", *given)
    assert error.startswith("teacher.from: that teacher knows ")
    assert "same loss and raters" in error
    assert "loss.by is not set" in refused(rated, tmp_path / "four", given[0])


class Stopped(Exception):
    """Stands for whatever ends a run."""


KEPT = ("metrics.jsonl", "teacher/teacher.safetensors", "model/head.safetensors", "predictions_test.csv")


def test_gold_loss_correction(rated, tmp_path, monkeypatch):
    """Resumed in its first stage and in its second it is what it is uninterrupted; a frozen one repeats it."""
    folder = tmp_path / "whole"
    words = [GLC, SOFTMAX, "model.frozen_layers=0", "model.encoder_dropout=0.1"]
    outcome = tune(rated, folder, *words)
    assert outcome.code == 0, outcome.err
    assert {path.name for path in folder.iterdir()} == EVERYTHING | {"teacher", "suspects.csv"}
    assert " Loss: steered by a teacher of kind glc. " in (folder / "model" / "README.md").read_text(encoding="utf-8")
    write = run_state.write_checkpoint
    for after in (1, 2, 3):
        count: list[Path] = []

        def write_and_stop(path, content, after=after, count=count):
            write(path, content)
            count.append(path.parent)
            if len(count) == after:
                raise Stopped

        with monkeypatch.context() as patch:
            patch.setattr(run_state, "write_checkpoint", write_and_stop)
            with pytest.raises(Stopped):
                tune(rated, tmp_path / str(after), *words)
        assert (count[-1].name == "first_stage") is (after < 3)
        assert tune(rated, tmp_path / str(after), *words, "--resume").code == 0
        for name in KEPT:
            assert (tmp_path / str(after) / name).read_bytes() == (folder / name).read_bytes(), (after, name)
        assert not (tmp_path / str(after) / "first_stage").exists()
    given = f"teacher.from={folder / 'teacher'}"
    again = [SOFTMAX, "model.frozen_layers=0", "model.encoder_dropout=0.1"]
    assert tune(rated, tmp_path / "again", given, *again).code == 0
    assert (tmp_path / "again" / "model" / "model.safetensors").exists()
    (folder / "teacher" / "teacher.json").unlink()
    (folder / "teacher" / "teacher.safetensors").unlink()
    (folder / "teacher").rmdir()
    outcome = tune(rated, folder, *words, "--resume")
    assert outcome.code == 2
    assert "lacks teacher" in outcome.err


def test_a_first_stage_goes_on_with_the_same_essays_alone(rated, tmp_path, monkeypatch):
    rows = rated_essays()
    path = write_rated(tmp_path, rows, rated.with_name("encoder"))
    write = run_state.write_checkpoint

    def write_and_stop(*what):
        write(*what)
        raise Stopped

    with monkeypatch.context() as patch:
        patch.setattr(run_state, "write_checkpoint", write_and_stop)
        with pytest.raises(Stopped):
            tune(path, tmp_path / "run", GLC, SOFTMAX)
    write_rated(tmp_path, [row | {"text": f"{row['text']} more"} for row in rows], rated.with_name("encoder"))
    outcome = tune(path, tmp_path / "run", GLC, SOFTMAX, "--resume")
    assert outcome.code == 2
    assert "--resume: the data differ from those that the run began with" in outcome.error


def test_a_frozen_matrix_needs_to_know_what_is_trusted(rated, tmp_path):
    assert tune(rated, tmp_path / "one", GLC, SOFTMAX).code == 0
    given = [f"teacher.from={tmp_path / 'one' / 'teacher'}", SOFTMAX]
    assert "nobody rated changed copies of essays; leave data.augmentation out." in refused(
        rated, tmp_path / "copies", *given, COPIES
    )
    without = ["data.trusted=null", "data.columns.rater=null"]
    assert "that teacher corrects targets that are not trusted. Name those in data.trusted." in refused(
        rated, tmp_path / "two", *given, *without
    )


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([BY_RATER], "loss.by: a teacher learns those weights"),
        ([BY_RATER, "teacher={kind: mwn}"], "loss.by: a teacher learns those weights"),
        ([BY_RATER, "teacher={kind: dln}"], "loss.by: a teacher learns those weights"),
        ([BY_RATER, GLC, SOFTMAX], "loss.by: a teacher learns those weights"),
        ([BY_RATER, DLF, "data.columns.rater=null"], "name the column in data.columns.rater"),
        ([BY_RATER, DLF, "loss.levels=4"], "loss.levels are those of scores"),
        ([BY_RATER, DLF, "data.augmentation={}"], "nobody rated changed copies"),
        ([BY_RATER, DLF, "loss.terms={mse: 0.0}"], "a teacher starts from weights above 0"),
        ([BY_RATER, DLF, "model.cross_fit=3"], "model.cross_fit: a teacher that learns"),
        ([GLC], "teacher.kind glc needs adjudicated essays (data.trusted) and a distribution"),
        ([GLC, SOFTMAX, "data.trusted=null"], "teacher.kind glc needs adjudicated essays"),
        ([FORWARD], "teacher.matrix forward needs adjudicated essays (data.trusted) and a distribution"),
        ([FORWARD, SOFTMAX, "data.trusted=null"], "teacher.matrix forward needs adjudicated essays"),
        ([FORWARD, SOFTMAX, BY_RATER], "teacher.matrix forward is a loss of its own; leave loss.by out"),
        ([FORWARD, SOFTMAX, "data.augmentation={}"], "teacher.matrix forward: nobody rated changed copies"),
        ([GLC, SOFTMAX, "model.cross_fit=3"], "model.cross_fit: a teacher that learns"),
        ([GLC, SOFTMAX, "data.augmentation={}"], "teacher.kind glc: nobody rated changed copies"),
        ([GLC, SOFTMAX, "data.untrusted=leave_out"], "leave out data.untrusted leave_out"),
        ([GLC, SOFTMAX, "loss.terms={focal: 1.0}"], "this teacher brings its own loss"),
        (["data.untrusted=weigh", "data.trusted=null"], "name them in trusted"),
        ([BY_RATER, "model.solver=ridge"], "leave the sections loss and teacher out"),
        (
            ["data.untrusted=standardise", "model.solver=ridge", "model.postprocessing=cut_points"],
            "no score points after data.untrusted standardise; set it to rescale",
        ),
        ([GLC, SOFTMAX, "data.keep_prompts=[phones]", "data.trusted=part"], "trusted names 'part'"),
    ],
)
def test_combinations_that_are_refused(rated, tmp_path, words, message):
    assert message in refused(rated, tmp_path / "run", *words)


@pytest.mark.parametrize(
    ("trusted", "words", "message"),
    [
        (0, [DLF], "A teacher learns on essays that others are judged by, and there are none. Name adjudicated ones"),
        (0, [GLC, SOFTMAX], "of 36 training essays 0 are trusted"),
        (30, [GLC, SOFTMAX], "of 36 training essays 36 are trusted"),
        (0, ["data.untrusted=leave_out"], "no training essay is trusted"),
        (0, ["data.untrusted=weigh"], "prompt phones has 0 trusted training essays, expected at least 3"),
        (1, [DLF, "data.keep_prompts=[phones]"], "halves the essays that it learns on, and there is one"),
        (20, [DLF, COPIES], "changed copies of them would be trained on. Leave data.augmentation out"),
    ],
)
def test_trusted_essays_on_which_no_teacher_can_learn(rated, tmp_path, trusted, words, message):
    rows = [row | {"rater": row["rater"] or "A"} for row in rated_essays(trusted)]
    path = write_rated(tmp_path, rows, rated.with_name("encoder"))
    assert message in refused(path, tmp_path / "run", *words)


@pytest.mark.parametrize("untrusted", ["leave_out", "standardise", "weigh"])
@pytest.mark.parametrize("model", ["model.solver=sgd", "model.solver=ridge", "model={kind: strings}"])
def test_treatments(rated, tmp_path, untrusted, model):
    """They change training alone; what is judged, and the truth in out-of-fold predictions, stays as it was read."""
    folder = tmp_path / "run"
    words = [f"data.untrusted={untrusted}", "data.trusted_weight=3", "data.balance=inverse_frequency"]
    words += ["model.postprocessing=rescale"] if "strings" not in model else []
    outcome = tune(rated, folder, model, *words)
    assert outcome.code == 0, outcome.err
    scores = {row["essay_id"]: row["score"] for row in rated_essays()}
    for name in ("dev", "test") if "sgd" in model else ("dev", "test", "oof"):
        rows = read_rows(folder / f"predictions_{name}.csv")
        expected = 24 if (name, untrusted) == ("oof", "leave_out") else 36 if name == "oof" else 12
        assert len(rows) == expected
        assert {row["essay_id"]: float(row["reference"]) for row in rows} == {
            row["essay_id"]: scores[row["essay_id"]] for row in rows
        }, name
    assert read_mapping(folder / "config.yaml")["data"]["untrusted"] == untrusted
    learned = 24 if untrusted == "leave_out" else 36
    assert f"| training essays | {learned} |" in (folder / "model" / "README.md").read_text(encoding="utf-8")


def test_kept_floors_are_of_the_essays_that_were_trained_on(rated, tmp_path):
    figures = []
    for untrusted in ("keep", "leave_out", "keep"):
        words = ["evaluation.floors=true", f"evaluation.floors_cache={tmp_path / 'floors'}"]
        folder = tmp_path / str(len(figures))
        outcome = tune(rated, folder, *words, f"data.untrusted={untrusted}", "training.epochs=1")
        assert outcome.code == 0, outcome.err
        figures.append(report_of(folder)["floors"])
    assert figures[0] == figures[2] != figures[1]
    assert len(list((tmp_path / "floors").iterdir())) == 2


@pytest.mark.parametrize("postprocessing", ["none", "rescale", "cut_points"])
def test_the_measure_that_selects_is_of_scores_as_they_will_be(rated, tmp_path, postprocessing):
    """Rescaled where they will be; also where all predictions are alike."""
    words = [f"model.postprocessing={postprocessing}", "training.epochs=1"]
    assert tune(rated, tmp_path / "run", *words).code == 0
    (found,) = [record["dev"] for record in records(tmp_path / "run") if "dev" in record]
    rows = read_rows(tmp_path / "run" / "predictions_dev.csv")
    for prompt, ends in RANGES.items():
        own = [row for row in rows if row["prompt_id"] == prompt]
        raw, human = (np.array([float(row[key]) for row in own]) for key in ("raw", "reference"))
        if postprocessing != "none":
            raw = fit_rescaling(raw, human).apply(raw)
        points = np.clip(np.floor(raw + 0.5), ends["low"], ends["high"])
        assert found[f"qwk_{prompt}"] == pytest.approx(float(quadratic_weighted_kappa(human, points)))
    words += ["training.learning_rate=1e-12", "training.head_learning_rate=1e-12", "model.log_length=false"]
    assert tune(rated, tmp_path / "still", *words).code == 0


def test_without_a_screen(rated, tmp_path):
    folder = tmp_path / "run"
    assert tune(rated, folder, "training.epochs=1").code == 0
    assert not (folder / "model" / "screening.safetensors").exists()
    assert tune(rated, folder, "training.epochs=1", "--resume").code == 0
    essays = write_rows(tmp_path / "odd.jsonl", [{"essay_id": "odd", "prompt_id": "phones", "text": "x " * 300}])
    assert command("score", folder / "model", essays, "-o", tmp_path / "scores.csv").code == 0
    (row,) = read_rows(tmp_path / "scores.csv")
    assert not any("unlike" in value for value in row.values())
    assert tune(rated, tmp_path / "with", "training.epochs=1", "evaluation.screen=true").code == 0
    assert (tmp_path / "with" / "model" / "screening.safetensors").exists()
    same = [(one / "predictions_test.csv").read_bytes() for one in (folder, tmp_path / "with")]
    assert same[0] == same[1]


def test_first_stage_is_of_untrusted_essays(rated, tmp_path, monkeypatch):
    seen, fit = [], training_run.fit

    def record(context, student, train, *rest):
        seen.append(sorted(train.batch(range(len(train))).targets[:, 2].unique().tolist()))
        return fit(context, student, train, *rest)

    monkeypatch.setattr(loss_setup, "fit", record)
    monkeypatch.setattr(training_run, "fit", record)
    assert tune(rated, tmp_path / "run", GLC, SOFTMAX).code == 0
    assert seen == [[1.0], [0.0, 1.0]]
