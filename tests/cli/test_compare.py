from __future__ import annotations

import json

import pytest
from command_line import MODEL_LIBRARIES, command, judge, output_without
from scored_runs import grid, scored_run, write_run

from aes_dynloss.reports.comparison import compare_arms, read_arms


@pytest.fixture
def runs(tmp_path, monkeypatch):
    """Two arms of four runs, a single run, and its predictions as a file."""
    monkeypatch.chdir(tmp_path)
    for arm, noise in (("mse", 0.15), ("stde", 0.05)):
        for run in grid(arm, noise):
            write_run(tmp_path / arm / run.stratum / f"seed_{run.seed}", run)
    write_run(tmp_path / "one", scored_run("one"))
    scored_run("two").test.table.to_csv(tmp_path / "two.csv", index=False)
    return tmp_path


def refused(*words):
    outcome = command("compare", *words)
    assert judge(outcome) == 2
    assert outcome.out == ""
    return outcome.error


def test_json_is_what_the_function_returns(runs):
    outcome = command("compare", "mse", "stde", "--json", "--resamples", 300, "--confidence", 0.9, "--seed", 3)
    expected = compare_arms(read_arms(["mse", "stde"]), "mse", resamples=300, confidence=0.9, seed=3)
    assert (outcome.code, outcome.err) == (0, "")
    assert json.loads(outcome.out) == expected


def test_tables_and_the_default_control(runs):
    outcome = command("compare", "mse", "stde", "--resamples", 300)
    assert (outcome.code, outcome.err) == (0, "")
    assert outcome.out.startswith("Test essays: 160, mean over 2 prompts. Control: mse\narm ")
    assert "QWK minus that of mse" in outcome.out
    assert outcome.out.endswith("\n")


def test_another_control(runs):
    result = json.loads(command("compare", "mse", "stde", "--control", "stde", "--json").out)
    assert result["control"] == "stde"
    assert result["differences"]["qwk"]["arms"]["mse"]["mean"]["difference"] < 0
    assert "the control 'sgd' is none of the arms: mse, stde" in refused("mse", "stde", "--control", "sgd").lower()


def test_a_single_run_and_a_file(runs):
    result = json.loads(command("compare", "one", "two.csv", "--json").out)
    assert list(result["arms"]) == ["one", "two.csv"]
    assert result["strata"] == [""]
    assert result["arms"]["two.csv"]["mean"]["qwk_rescaled"] is None


def test_the_comparison_is_written_and_not_replaced_without_force(runs):
    words = ["one", "two.csv", "--output-dir", "out/here", "--resamples"]
    outcome = command("compare", *words, 50)
    path = runs / "out/here/comparison.json"
    assert (outcome.code, outcome.err) == (0, "Wrote out/here/comparison.json and out/here/comparison.html\n")
    assert path.with_suffix(".html").read_text(encoding="utf-8").startswith("<!DOCTYPE html>")
    assert json.loads(path.read_text())["settings"]["resamples"] == 50
    assert "comparison.json is there already. Choose another --output-dir, or give --force" in refused(*words, 60)
    assert json.loads(path.read_text())["settings"]["resamples"] == 50
    assert command("compare", *words, 60, "--force").code == 0
    assert json.loads(path.read_text())["settings"]["resamples"] == 60


def test_errors_are_one_message(runs):
    assert "Missing argument 'RUN RUN [RUN ...]'" in refused()
    assert "needs two arms or more" in refused("mse")
    assert "mse is given twice" in refused("mse", "./mse")
    assert "none is not there" in refused("mse", "none")
    assert "Arm 'one' has scored prompt '10', arm 'mse' has not" in refused("one", "mse")
    assert "at least 1 resample, found 0" in refused("mse", "stde", "--resamples", 0)
    assert "0 < confidence < 1" in refused("mse", "stde", "--confidence", 95)
    assert "seed >= 0" in refused("mse", "stde", "--seed", -1)
    (runs / "stde/fold_0/seed_2/report.json").unlink()
    assert "stde/fold_0/seed_2 has no report.json: it is incomplete" in refused("mse", "stde")


def test_a_comparison_loads_no_model_library():
    output_without("import aes_dynloss.reports.comparison_tables, aes_dynloss.reports.comparison", MODEL_LIBRARIES)
