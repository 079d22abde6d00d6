"""Heads that are trained without a part of train each, and their predictions of it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from command_line import command
from small_run import read_rows, report_of, small_essays, tune, write_rows

WORDS = ["model.frozen_layers=all", "model.cross_fit=3", "model.postprocessing=rescale", "training.epochs=4"]


def raws(run: Path, part: str) -> dict[str, float]:
    return {row["essay_id"]: float(row["raw"]) for row in read_rows(run / f"predictions_{part}.csv")}


def test_train_essays_are_predicted_and_set_the_spread(run_yaml, tmp_path):
    run, plain = tmp_path / "run", tmp_path / "plain"
    assert tune(run_yaml, run, *WORDS).code == 0
    assert tune(run_yaml, plain, *[word for word in WORDS if "cross_fit" not in word]).code == 0
    rows = read_rows(run / "predictions_oof.csv")
    assert len(rows) == 36
    assert raws(run, "test") == raws(plain, "test")  # further heads leave the first as it is
    line = json.loads((run / "model" / "config.json").read_text())["postprocessing"]["prompts"]["river"]
    river = [row for row in rows if row["prompt_id"] == "river"]
    raw, human = (np.array([float(row[key]) for row in river]) for key in ("raw", "reference"))
    assert (line["slope"] * raw + line["intercept"]).mean() == pytest.approx(human.mean())
    assert (line["slope"] * raw).std() == pytest.approx(human.std())
    notes = [" ".join(report_of(one)["notes"]) for one in (run, plain)]
    assert "predictions of train essays, each made without it" in notes[0]
    assert "predictions of dev essays" in notes[1]
    assert not (run / "cross_fit").exists()
    assert tune(run_yaml, run, *WORDS, "--resume").code == 0


def test_no_essay_is_predicted_by_a_head_that_saw_it(run_yaml, tmp_path):
    """Two scores of one part are swapped, which keeps train's mean and spread: that part's predictions stay."""
    assert tune(run_yaml, tmp_path / "before", *WORDS).code == 0
    part = read_rows(tmp_path / "before" / "predictions_oof.csv")[::3]
    first = next(row for row in part if row["prompt_id"] == "river")
    other = next(
        row for row in part if row["prompt_id"] == "river" and float(row["reference"]) != float(first["reference"])
    )
    swapped = {first["essay_id"]: other["reference"], other["essay_id"]: first["reference"]}
    rows = [row | {"score": float(swapped.get(row["essay_id"], row["score"]))} for row in small_essays()]
    source = write_rows(tmp_path / "swapped.jsonl", rows)
    folds = tmp_path / "folds"
    folds.mkdir()
    for name, file in (("train", "oof"), ("dev", "dev"), ("test", "test")):  # the split is stratified by the scores
        ids = [row["essay_id"] for row in read_rows(tmp_path / "before" / f"predictions_{file}.csv")]
        (folds / f"{name}_ids.txt").write_text("\n".join(ids))
    for name, essays in (("again", json.loads(json.dumps(small_essays()))), ("swapped", rows)):
        write_rows(source, essays)
        assert (
            tune(run_yaml, tmp_path / name, *WORDS, f"data.source={source}", f"data.split.folds_dir={folds}").code == 0
        )
    again, after = (raws(tmp_path / name, "oof") for name in ("again", "swapped"))
    same = {essay for essay in again if again[essay] == after[essay]}
    ids = [row["essay_id"] for row in read_rows(tmp_path / "again" / "predictions_oof.csv")]
    assert set(ids[ids.index(first["essay_id"]) % 3 :: 3]) <= same
    assert raws(tmp_path / "again", "test") != raws(tmp_path / "swapped", "test")


def test_no_essay_is_predicted_by_a_head_that_saw_its_writers_others(run_yaml, tmp_path):
    """Two scores of one writer are swapped, which keeps train's mean and spread: the writer's predictions stay."""
    rows = [row | {"writer": f"w{number % 7}"} for number, row in enumerate(small_essays())]
    source = write_rows(tmp_path / "writers.jsonl", rows)
    words = [*WORDS, f"data.source={source}", "data.split.group=writer"]
    assert tune(run_yaml, tmp_path / "before", *words).code == 0
    before = raws(tmp_path / "before", "oof")
    of_writer: dict[tuple[str, str], list[dict]] = {}
    for row in rows:
        if row["essay_id"] in before:
            of_writer.setdefault((row["writer"], row["prompt_id"]), []).append(row)
    first, other = next(
        (own[0], row) for own in of_writer.values() for row in own if float(row["score"]) != float(own[0]["score"])
    )
    swapped = {first["essay_id"]: other["score"], other["essay_id"]: first["score"]}
    write_rows(source, [row | {"score": swapped.get(row["essay_id"], row["score"])} for row in rows])
    assert tune(run_yaml, tmp_path / "after", *words).code == 0
    after = raws(tmp_path / "after", "oof")
    assert before.keys() == after.keys()
    writers = {row["essay_id"]: row["writer"] for row in rows}
    same = {writers[essay] for essay in before if before[essay] == after[essay]}
    changed = {writers[essay] for essay in before if before[essay] != after[essay]}
    assert first["writer"] in same - changed
    assert changed


def test_a_stopped_run_goes_on(run_yaml, tmp_path, monkeypatch):
    """Done parts are not trained again, and predictions are those of a run that nothing stopped."""
    assert tune(run_yaml, tmp_path / "whole", *WORDS, "model.dropout=0.2").code == 0
    run, trained = tmp_path / "run", []
    module = "aes_dynloss.essays.finetune.encoder_run.train_student"
    original = __import__("aes_dynloss.essays.finetune.encoder_run", fromlist=["x"]).train_student

    def stopping(context, *words, **named):
        trained.append(context.folder.name)
        if len(trained) == 3:
            raise KeyboardInterrupt
        return original(context, *words, **named)

    with monkeypatch.context() as patch:
        patch.setattr(module, stopping)
        assert tune(run_yaml, run, *WORDS, "model.dropout=0.2").code != 0
    with monkeypatch.context() as patch:
        patch.setattr(module, stopping)
        assert tune(run_yaml, run, *WORDS, "model.dropout=0.2", "--resume").code == 0
    assert trained == ["run", "0", "1", "run", "1", "2"]
    for part in ("oof", "test"):
        assert raws(run, part) == raws(tmp_path / "whole", part)


def test_a_stack_is_weighted_by_them(run_yaml, tmp_path):
    for name, words in (("sgd", WORDS), ("ridge", ["model.frozen_layers=all", "model.solver=ridge"])):
        assert tune(run_yaml, tmp_path / name, *words).code == 0
    outcome = command("ensemble", tmp_path / "sgd", tmp_path / "ridge", "--weights", "nnls", "-o", tmp_path / "both")
    assert outcome.code == 0, outcome.err
    assert json.loads((tmp_path / "both" / "config.json").read_text())["fitted_on"].startswith("out-of-fold")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["model.cross_fit=3"], "frozen_layers: all"),
        (["model.cross_fit=1", "model.frozen_layers=all"], "cross_fit"),
        (["model.cross_fit=3", "model.frozen_layers=all", "model.solver=ridge"], "leave cross_fit out"),
        (["model.cross_fit=3", "model.frozen_layers=all", "teacher={kind: dlf}"], "a teacher that learns"),
        (["model.cross_fit=3", "model.frozen_layers=all", "data.augmentation={share: 0.2}"], "betray its essay"),
    ],
)
def test_what_makes_no_sense_is_refused(run_yaml, tmp_path, words, message):
    outcome = tune(run_yaml, tmp_path / "run", *words)
    assert outcome.code == 2
    assert message in outcome.err
