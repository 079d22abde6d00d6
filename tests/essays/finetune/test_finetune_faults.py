"""Runs that cannot be: what is wrong shows before training, and a run that was stopped goes on only as what it was."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from small_run import EVERYTHING, check_scores, records, small_essays, tune, write_rows

from aes_dynloss.configfile import read_mapping, validate
from aes_dynloss.essays.finetune import products as run_products
from aes_dynloss.essays.finetune import run as module
from aes_dynloss.essays.finetune.config import FinetuneConfig


class TestFaultsThatShowBeforeTraining:
    """What would otherwise end a run that has trained for hours."""

    def check(self, run_yaml, folder, words, message):
        outcome = tune(run_yaml, folder, *words)
        assert (outcome.code, outcome.out) == (2, "")
        assert message in outcome.error
        assert not [path.name for path in folder.glob("*") if path.name != ".lock"]  # the corrected command can start

    def test_a_wrong_encoder_path_does_not_block_the_corrected_command(self, run_yaml, tmp_path):
        self.check(run_yaml, tmp_path / "run", ["model.encoder=./nowhere"], "there is no folder ./nowhere")
        assert tune(run_yaml, tmp_path / "run").code == 0

    def test_a_wrong_teacher_path_does_not_block_the_corrected_command(self, run_yaml, tmp_path):
        words = ["teacher={from: nowhere}", "loss={terms: {mse: 1.0}}"]
        self.check(run_yaml, tmp_path / "run", words, "nowhere holds no teacher.json")
        assert tune(run_yaml, tmp_path / "run").code == 0

    @pytest.mark.parametrize("column", ["essay_id", "prompt_id"])
    def test_ids_that_predictions_cannot_hold(self, run_yaml, tmp_path, column):
        rows = [row | {column: f"{row[column]}\nb"} for row in small_essays()]
        words = [f"data.source={write_rows(tmp_path / 'essays.csv', rows)}", "data.prompts=null"]
        self.check(run_yaml, tmp_path / "run", words, f"{column} 'phones")

    def test_floors_without_dev_essays_of_a_prompt(self, run_yaml, tmp_path):
        parts = {"phones": ["train", "dev", "test"], "river": ["train", "test", "test"]}
        rows = [row | {"part": parts[row["prompt_id"]][place % 3]} for place, row in enumerate(small_essays())]
        words = [f"data.source={write_rows(tmp_path / 'essays.csv', rows)}", "data.split.column=part"]
        message = "prompt river has no dev essays. Change data.split, or leave floors out by evaluation.floors: false."
        self.check(run_yaml, tmp_path / "run", [*words, "evaluation.floors=true"], message)
        assert tune(run_yaml, tmp_path / "run", *words).code == 0
        check_scores(tmp_path / "run", tmp_path / "essays.csv", "test")

    def test_a_vocabulary_that_the_encoder_does_not_know(self, run_yaml, tmp_path):
        encoder = Path(str(run_yaml.parent / "encoder"))
        (tmp_path / "encoder").mkdir()
        for path in encoder.iterdir():
            (tmp_path / "encoder" / path.name).write_bytes(path.read_bytes())
        tokenizer = json.loads((encoder / "tokenizer.json").read_text())
        tokenizer["model"]["vocab"]["the"] = 9000
        (tmp_path / "encoder" / "tokenizer.json").write_text(json.dumps(tokenizer))
        words = [f"model.encoder={tmp_path / 'encoder'}"]
        self.check(run_yaml, tmp_path / "run", words, "The tokenizer has ids up to 9000, but the encoder knows 124")

    @pytest.mark.parametrize(
        "prompts", ["{phones: {low: 1, high: 1.0e9}}", "{phones: {low: 0, high: 1e308, step: 1e-9}}"]
    )
    def test_ranges_without_end(self, run_yaml, tmp_path, prompts):
        self.check(run_yaml, tmp_path / "run", [f"data.prompts={prompts}"], "has more than 10000 score points")

    @pytest.mark.parametrize(("fraction", "message"), [("0.9999999", "train without essays"), ("1e-7", "is none")])
    def test_a_part_that_is_none(self, run_yaml, tmp_path, fraction, message):
        self.check(run_yaml, tmp_path / "run", [f"data.split.teacher_dev_fraction={fraction}"], message)

    def test_standard_input_for_two(self, run_yaml, tmp_path, monkeypatch):
        accelerator = module.build_accelerator(validate(FinetuneConfig, read_mapping(run_yaml), "here").training)
        monkeypatch.setattr(type(accelerator), "num_processes", 2)
        self.check(run_yaml, tmp_path / "run", ["data.source='-'"], "standard input reaches one process only")


def test_a_steep_schedule(run_yaml, tmp_path):
    """exp(5000) is no number; before the plateau's end none is needed."""
    words = ["loss.terms={stde: {schedule: morris, a: 0.4, b: 1, c: 5000}, mse: rest}", "training.epochs=1"]
    assert tune(run_yaml, tmp_path / "run", *words).code == 0
    assert {round(r["coefficients"]["stde"], 6) for r in records(tmp_path / "run") if "loss" in r} == {0.4}


def test_a_run_whose_loss_is_no_number_keeps_its_checkpoint(run_yaml, tmp_path):
    """The weight is too great for float32 from step 2 on; the first checkpoint is from step 1."""
    words = ["loss.terms={mse: {schedule: linear, start: 1, end: 1.0e300}}", "training.evaluations=5"]
    outcome = tune(run_yaml, tmp_path / "run", *words)
    assert (outcome.code, outcome.out) == (2, "")
    assert "After step 2 the loss is inf, expected a finite number" in outcome.error
    assert "its last checkpoint is kept" in outcome.error
    assert (tmp_path / "run" / "checkpoint.pt").exists()
    assert records(tmp_path / "run")[-1]["loss"] is None


class TestResume:
    """A run that is stopped after training, while it writes what it leaves behind."""

    @pytest.fixture
    def stopped(self, run_yaml, tmp_path, monkeypatch):
        with monkeypatch.context() as patch:

            def interrupt(*_):
                raise KeyboardInterrupt

            patch.setattr(run_products, "write_predictions", interrupt)
            outcome = tune(run_yaml, tmp_path / "run")
        assert outcome.code == 130
        assert "--help says how to go on" in outcome.err
        assert (tmp_path / "run" / "checkpoint.pt").exists()
        return tmp_path / "run"

    def test_goes_on(self, run_yaml, stopped, tmp_path):
        (stopped / ".model.left").mkdir()
        assert tune(run_yaml, stopped, "--resume").code == 0
        assert {path.name for path in stopped.iterdir()} == EVERYTHING
        tune(run_yaml, tmp_path / "straight")
        for name in (
            "metrics.jsonl",
            "predictions_test.csv",
            "predictions_dev.csv",
            "report.json",
            "model/config.json",
        ):
            assert (stopped / name).read_bytes() == (tmp_path / "straight" / name).read_bytes()

    def test_other_essays(self, run_yaml, stopped, tmp_path):
        essays = run_yaml.with_name("essays.jsonl")
        before = essays.read_text(encoding="utf-8")
        try:
            essays.write_text(before.replace(" phone", " telephone"), encoding="utf-8")
            outcome = tune(run_yaml, stopped, "--resume")
        finally:
            essays.write_text(before, encoding="utf-8")
        assert outcome.code == 2
        assert "--resume: the data differ from those that the run began with" in outcome.error
        assert "Bring them back, or start again with --force" in outcome.error
        assert tune(run_yaml, stopped, "--resume").code == 0

    def test_other_split(self, run_yaml, tmp_path, monkeypatch):
        rows = small_essays()
        ids = [row["essay_id"] for row in rows]
        for name, part in (("train", ids[::2]), ("dev", ids[1::4]), ("test", ids[3::4])):
            (tmp_path / f"{name}_ids.txt").write_text("\n".join(part))
        split = f"data.split.folds_dir={tmp_path}"
        with monkeypatch.context() as patch:
            patch.setattr(run_products, "write_predictions", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
            assert tune(run_yaml, tmp_path / "run", split).code == 130
        (tmp_path / "dev_ids.txt").write_text("\n".join(ids[3::4]))
        (tmp_path / "test_ids.txt").write_text("\n".join(ids[1::4]))
        assert "the split differ" in tune(run_yaml, tmp_path / "run", split, "--resume").error

    def test_damaged_checkpoint(self, run_yaml, stopped):
        (stopped / "checkpoint.pt").write_bytes((stopped / "checkpoint.pt").read_bytes()[:-100])
        outcome = tune(run_yaml, stopped, "--resume")
        assert outcome.code == 2
        assert "checkpoint.pt is no readable checkpoint" in outcome.error
        assert tune(run_yaml, stopped, "--force").code == 0

    def test_other_configuration(self, run_yaml, stopped):
        outcome = tune(run_yaml, stopped, "--resume", "training.epochs=3", "model.hidden=4")
        assert outcome.code == 2
        assert "training.epochs was 2, now 3" in outcome.error
        assert "model.hidden was None, now 4" in outcome.error

    def test_a_manifest_that_is_gone(self, run_yaml, stopped):
        (stopped / "manifest.json").unlink()
        outcome = tune(run_yaml, stopped, "--resume")
        assert outcome.code == 2
        assert "manifest.json is gone, so it cannot be known whether the essays are those" in outcome.error
        assert (stopped / "checkpoint.pt").exists()


class TestACompleteRun:
    """What becomes of it between its end and a --resume."""

    @pytest.mark.parametrize("lost", ["model", "plots", "predictions_test.csv", "manifest.json"])
    def test_that_lost_something(self, run_yaml, tmp_path, lost):
        assert tune(run_yaml, tmp_path / "run", "training.epochs=1").code == 0
        (tmp_path / "run" / lost).rename(tmp_path / lost)
        outcome = tune(run_yaml, tmp_path / "run", "training.epochs=1", "--resume")
        assert (outcome.code, outcome.out) == (2, "")
        assert f"was complete, but lacks {lost} now. Bring back what was removed, or train again" in outcome.error
        (tmp_path / lost).rename(tmp_path / "run" / lost)
        assert tune(run_yaml, tmp_path / "run", "training.epochs=1", "--resume").code == 0

    def test_without_a_test_part(self, run_yaml, tmp_path):
        words = ["training.epochs=1", "data.split.fractions={train: .8, dev: .2, test: 0}"]
        assert tune(run_yaml, tmp_path / "run", *words).code == 0
        assert not (tmp_path / "run" / "predictions_test.csv").exists()
        assert tune(run_yaml, tmp_path / "run", *words, "--resume").code == 0

    def test_with_a_damaged_report(self, run_yaml, tmp_path):
        assert tune(run_yaml, tmp_path / "run", "training.epochs=1").code == 0
        (tmp_path / "run" / "report.json").write_text("{")
        outcome = tune(run_yaml, tmp_path / "run", "training.epochs=1", "--resume")
        assert outcome.code == 2
        assert "report.json cannot be read as a report" in outcome.error
