"""`aes-dynloss finetune`: its words, its output folder, what it refuses."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from command_line import command
from folder_content import content
from small_run import write_small_run

from aes_dynloss.configfile import parse_yaml, read_mapping


@pytest.fixture(scope="module")
def run_yaml(tmp_path_factory):
    return write_small_run(tmp_path_factory.mktemp("small"))


@pytest.fixture(scope="module")
def finished(run_yaml, tmp_path_factory):
    folder = tmp_path_factory.mktemp("finished") / "run"
    return folder, command("finetune", run_yaml, "training.epochs=1", "-o", folder)


def test_data_on_standard_output_and_words_beside_it(finished):
    folder, outcome = finished
    assert outcome.code == 0
    lines = outcome.out.splitlines()
    assert lines[0].split()[:4] == ["prompt", "n", "range", "QWK"]
    assert [line.split()[0] for line in lines[1:4]] == ["phones", "river", "mean"]
    assert f"Model: {folder / 'model'}\nReport: {folder / 'report.json'}\n" in outcome.err
    assert "Essays: 36 train, 12 dev, 12 test." in outcome.err


def test_a_run_is_not_overwritten(run_yaml, finished):
    folder, _ = finished
    before = content(folder)
    outcome = command("finetune", run_yaml, "training.epochs=1", "-o", folder)
    assert (outcome.code, outcome.out) == (2, "")
    assert "already holds a run" in outcome.error
    assert "--resume" in outcome.error
    assert "--force" in outcome.error
    assert content(folder) == before


def test_resume_of_a_complete_run_says_its_report_again(run_yaml, finished):
    folder, first = finished
    before = content(folder)
    outcome = command("finetune", run_yaml, "training.epochs=1", "-o", folder, "--resume")
    assert (outcome.code, outcome.out) == (0, first.out)
    assert "is complete; nothing is left to do" in outcome.err
    assert content(folder) == before
    outcome = command("finetune", run_yaml, "training.epochs=1", "training.seed=3", "-o", folder, "--resume")
    assert outcome.code == 2
    assert "training.seed was 0, now 3" in outcome.error
    assert content(folder) == before


def test_force_replaces_a_run_and_nothing_else(run_yaml, tmp_path):
    folder = tmp_path / "run"
    assert command("finetune", run_yaml, "-o", folder).code == 0
    (folder / "notes.txt").write_text("mine")
    before = content(folder)
    assert command("finetune", run_yaml, "training.epochs=1", "training.seed=7", "-o", folder, "--force").code == 0
    after = content(folder)
    assert after.keys() == before.keys() - {"plots/learning_curves.svg"}  # of one epoch there is no curve
    assert after["notes.txt"] == b"mine"
    assert after["metrics.jsonl"].count(b"\n") == 6
    assert read_mapping(folder / "config.yaml")["training"]["seed"] == 7


def test_resume_starts_a_run_where_there_is_none(run_yaml, tmp_path):
    assert command("finetune", run_yaml, "training.epochs=1", "-o", tmp_path / "a" / "b", "--resume").code == 0
    assert (tmp_path / "a" / "b" / "report.json").exists()


def test_print_config_means_the_same(run_yaml, tmp_path):
    odd = "data.prompts={" + ", ".join(f'"{name}": {{low: 0, high: 1}}' for name in ("1e5", "007", "no", "1:30")) + "}"
    outcome = command("finetune", run_yaml, odd, "training.learning_rate=1e-5", "--print-config")
    assert (outcome.code, outcome.err) == (0, "")
    assert parse_yaml(outcome.out, "printed")["data"]["prompts"].keys() == {"1e5", "007", "no", "1:30"}
    (tmp_path / "printed.yaml").write_text(outcome.out)
    assert command("finetune", tmp_path / "printed.yaml", "--print-config").out == outcome.out
    assert [path.name for path in tmp_path.iterdir()] == ["printed.yaml"]


def test_all_faults_at_once(run_yaml, tmp_path):
    outcome = command("finetune", run_yaml, "training.epoch=3", "model.head=ordnal", "loss.terms.mes=1", "-o", tmp_path)
    assert (outcome.code, outcome.out) == (2, "")
    assert "3 faults" in outcome.error
    assert "did you mean epochs?" in outcome.error
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "--output-dir is missing"),
        (["-o", "x", "--resume", "--force"], "--resume and --force exclude each other"),
        (["-o", "x", "epochs"], "Override 'epochs': expected key=value"),
        (["-o", "x", "data.source=none.csv"], "There is no file or folder none.csv"),
        (["-o", "x", "model.encoder=./none"], "there is no folder ./none"),
        (["-o", "x", "training.trackers=[none]"], "none is not installed"),
        (["-o", "x", "model.frozen_layers=9"], "model.frozen_layers is 9, but the encoder has 2 layers"),
        (["-o", "x", "model.window=900"], "model.window is 900, but the encoder has positions for 32 tokens"),
        (["-o", "x", "data.split={folds_dir: \"a\\0b\"}"], "cannot be read"),
        (["-o", "x", "training.head_learning_rate=1e38"], "less than or equal to 1000"),
        (["-o", "x", "training.evaluations=1000000000"], "less than or equal to 1000"),
        (["-o", "x", "evaluation.resamples=1000000000"], "less than or equal to 1000000"),
        (["-o", "x", "model.hidden=1000000000000"], "less than or equal to 65536"),
        (["-o", "x", "data.encoding=idna"], "there is no text encoding 'idna'"),
    ],
)  # fmt: skip
def test_what_cannot_be_run(run_yaml, tmp_path, monkeypatch, words, message):
    monkeypatch.chdir(tmp_path)
    outcome = command("finetune", run_yaml, *words)
    assert (outcome.code, outcome.out) == (2, "")
    assert message in outcome.error
    assert not Path("x").exists()


def test_no_configuration(tmp_path):
    assert "There is no file" in command("finetune", tmp_path / "none.yaml", "-o", tmp_path).error
    (tmp_path / "folder.yaml").mkdir()
    assert "cannot be read as UTF-8 text" in command("finetune", tmp_path / "folder.yaml", "-o", tmp_path).error
    for name in ("essays", "essays.txt"):
        error = command("finetune", tmp_path / name, "-o", tmp_path).error
        assert f"{name}: expected a configuration (.yaml, .yml, .json) or a table of scored essays (.csv, " in error


def test_an_output_folder_that_cannot_be_one(run_yaml, tmp_path):
    (tmp_path / "file").touch()
    for place in (tmp_path / "file", tmp_path / "file" / "inner"):
        outcome = command("finetune", run_yaml, "-o", place)
        assert outcome.code == 2
        assert f"The output folder {place} cannot be used" in outcome.error


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_an_output_folder_without_rights(run_yaml, tmp_path):
    tmp_path.chmod(0o500)
    try:
        for place in (tmp_path, tmp_path / "inner"):
            outcome = command("finetune", run_yaml, "-o", place)
            assert outcome.code == 2
            assert "cannot be used: Permission denied" in outcome.error
    finally:
        tmp_path.chmod(0o700)


def test_a_table_is_enough(run_yaml, tmp_path):
    """The columns that its names tell, and KEY=VALUE for the rest."""
    source, values = run_yaml.parent / "essays.jsonl", parse_yaml(run_yaml.read_text("utf-8"), "run.yaml")
    words = [f"{section}.{key}={value}" for section in ("model", "training") for key, value in values[section].items()]
    words += ["training.epochs=1", "evaluation.floors=false", "evaluation.page=false", "evaluation.resamples=100"]
    outcome = command("finetune", source, *words, "-o", tmp_path / "run")
    assert outcome.code == 0, outcome.err
    assert "text: column 'text', by its name\nscore: column 'score', by its name\n" in outcome.err
    written = read_mapping(tmp_path / "run/config.yaml")["data"]
    assert written["source"] == str(source)
    assert written["prompts"]["river"] == {"low": 0.0, "high": 4.0, "step": 1.0, "text": None}


def test_options_of_tables_are_not_for_configurations(run_yaml, tmp_path):
    error = command("finetune", run_yaml, "--score-column", "mark", "-o", tmp_path / "run").error
    assert "run.yaml is a configuration, which says itself what the columns are" in error
    assert not (tmp_path / "run").exists()


def test_a_table_whose_columns_do_not_say_it(tmp_path):
    (tmp_path / "essays.csv").write_text("a,b,c\nx,1,2\n", encoding="utf-8")
    outcome = command("finetune", tmp_path / "essays.csv", "-o", tmp_path / "run")
    assert (outcome.code, outcome.out) == (2, "")
    assert "essays.csv: which column holds the essays?" in outcome.error
    assert not (tmp_path / "run").exists()
    error = command(
        "finetune", tmp_path / "essays.csv", "--text-column", "a", "--range", "1:2", "--range", "1:3", "-o", "x"
    )
    assert "--range names all prompts twice" in error.error
