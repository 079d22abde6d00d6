from __future__ import annotations

import json

import pandas as pd
import pytest
from asap_layout import write_asap
from command_line import MODEL_LIBRARIES, command, judge, output_without
from scored_runs import RANGES, essay_table, grid, scored_run, write_run

from aes_dynloss.essays.data.data_config import DataConfig
from aes_dynloss.essays.data.readers import read_essays
from aes_dynloss.reports.arms import ScoredRun
from aes_dynloss.reports.comparison import compare_arms
from aes_dynloss.reports.predictions import check_predictions
from aes_dynloss.reports.published import write_published
from aes_dynloss.reports.read_runs import read_arms


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
    assert "There is no file or folder none. Name a run's folder" in refused("mse", "none")
    assert "Arm 'one' has scored prompt '10', arm 'mse' has not" in refused("one", "mse")
    assert "at least 1 resample, found 0" in refused("mse", "stde", "--resamples", 0)
    assert "0 < confidence < 1" in refused("mse", "stde", "--confidence", 95)
    assert "seed >= 0" in refused("mse", "stde", "--seed", -1)
    (runs / "stde/fold_0/seed_2/report.json").unlink()
    assert "stde/fold_0/seed_2 has no report.json: it is incomplete" in refused("mse", "stde")


@pytest.fixture
def files(runs):
    """The arms' published predictions, and a table of the human scores of more essays."""
    for arm in ("mse", "stde"):
        write_published(runs / f"g.{arm}.parquet", arm, read_arms([arm])[arm], seeded=True)
    human = pd.concat([essay_table(f"fold_{fold}") for fold in (0, 1, 2)])
    human.rename(columns={"essay_id": "id", "reference": "human"}).to_csv(runs / "human.csv", index=False)
    return ("g.mse.parquet", "g.stde.parquet")


COLUMNS = ("--references", "human.csv", "--id-column", "id", "--reference-column", "human")
SPANS = ("--range", "2=1:6", "--range", "10=0:12")


def test_published_predictions_beside_the_runs_that_made_them(files):
    result = json.loads(command("compare", "mse", *files, *COLUMNS, *SPANS, "--resamples", 50, "--json").out)
    assert result["strata"] == ["fold_0", "fold_1"]
    assert result["arms"]["g.mse.parquet"]["mean"]["qwk"] == result["arms"]["mse"]["mean"]["qwk"]
    assert result["differences"]["qwk"]["arms"]["g.mse.parquet"]["mean"]["difference"] == 0
    assert result["differences"]["qwk"]["arms"]["g.stde.parquet"]["mean"]["difference"] > 0.02


def test_each_file_has_its_own_names_of_columns(runs):
    essays = essay_table("fold_0")
    table = essays.assign(raw=essays["reference"])[["essay_id", "prompt_id", "raw"]]
    table.to_csv(runs / "a.csv", index=False)
    table.rename(columns={"essay_id": "key", "raw": "predicted"}).to_csv(runs / "b.csv", index=False)
    human = essays.rename(columns={"essay_id": "id", "reference": "grade"})
    human.to_csv(runs / "grades.csv", index=False)
    maps = ("essay_id=key", "essay_id=id", "raw=predicted", "reference=grade")
    words = ["a.csv", "b.csv", "--references", "grades.csv", *(word for one in maps for word in ("--map", one))]
    result = json.loads(command("compare", *words, *SPANS, "--resamples", 50, "--json").out)
    assert [result["arms"][name]["mean"]["qwk"] for name in ("a.csv", "b.csv")] == [1, 1]
    assert "no column 'keys'; did you mean 'key'? --map essay_id=keys" in refused(*words, "--map", "essay_id=keys")


def test_without_ranges_they_are_inferred_and_it_is_said(files):
    outcome = command("compare", *files, *COLUMNS, "--resamples", 50)
    assert outcome.code == 0
    assert "Note: g.mse.parquet: No score range was given for g.mse.parquet" in outcome.out.replace("\n", " ")


def beside_humans(folder, human, **arms):
    """What is printed of arms, with predictions in one column each, beside human scores in a file of their own."""
    essays = essay_table("", prompts={"2": RANGES["2"]})
    ids = essays[["essay_id", "prompt_id"]]
    ids.assign(reference=human(essays["reference"])).to_csv(folder / "human.csv", index=False)
    for name, (column, values) in arms.items():
        ids.assign(**{column: values(essays["reference"])}).to_csv(folder / f"{name}.csv", index=False)
    words = (*(f"{name}.csv" for name in arms), "--references", "human.csv", "--resamples", 50)
    outcome = command("compare", *words)
    assert (outcome.code, outcome.error) == (0, "")
    return " ".join(outcome.out.split())


def test_ranges_are_inferred_from_human_scores_of_another_file_too(runs):
    halves, whole = ("score", lambda human: human / 2), ("raw", lambda human: human / 2 + 0.1)
    told = beside_humans(runs, lambda human: human / 2, halves=halves, raw=whole)
    for name in ("halves.csv", "raw.csv"):
        assert f"No score range was given for {name}: the grid spans the scores seen (2: 0.5 to 3 in steps of" in told
    inner = ("score", lambda human: human.clip(2, 5))
    told = beside_humans(runs, lambda human: human, inner=inner, same=("score", lambda human: human))
    assert told.count("the grid spans the scores seen (2: 1 to 6)") == 2


def test_withheld_essays_need_no_human_score(runs):
    essays = essay_table("", prompts={"2": RANGES["2"]})
    scored = essays.assign(score=essays["reference"].where(essays.index > 2), withheld=essays.index <= 2)
    for name in ("a.csv", "b.csv"):
        scored.drop(columns="reference").to_csv(runs / name, index=False)
    essays.iloc[3:].to_csv(runs / "human.csv", index=False)
    outcome = command("compare", "a.csv", "b.csv", "--references", "human.csv", "--resamples", 50)
    assert (outcome.code, outcome.error) == (0, "")
    assert f"Test essays: {len(essays) - 3}" in outcome.out


def test_ranges_of_files_that_hold_their_human_scores(runs):
    essays = essay_table("", prompts={"2": RANGES["2"]})
    halves = essays.assign(reference=essays["reference"] / 2, score=essays["reference"] / 2)
    for arm in ("a", "b"):
        halves.to_csv(runs / f"{arm}.csv", index=False)
    files = ("a.csv", "b.csv", "--resamples", 50)
    assert "--range names it" in command("compare", *files).out.replace("\n", " ")
    (runs / "prompts.yaml").write_text("2: {low: 0, high: 3, step: 0.5}", encoding="utf-8")
    for words in (("--range", "0:3:0.5"), ("--prompts", "prompts.yaml")):
        outcome = command("compare", *files, *words)
        assert outcome.code == 0
        assert "No score range was given" not in outcome.out
    assert "is no score point of prompt 2's range 0 to 3." in refused(*files, "--range", "2=0:3")


def test_ranges_are_of_files_alone(runs):
    message = "--prompts and --range are those of RUNs that are files; a run's folder has its own. Leave them out."
    assert message in refused("mse", "stde", *SPANS)
    assert command("compare", "one", "two.csv", *SPANS, "--resamples", 50).code == 0
    assert "Prompt '2' has the range 1 to 6 in arm 'one' and 1 to 7 in" in refused("one", "two.csv", "--range", "2=1:7")


def test_human_scores_of_asap(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    essays = read_essays(DataConfig(source=str(write_asap(tmp_path / "asap.tsv")), format="asap"))
    scored = essays.human_scores.table
    for arm, off in (("a", 0.2), ("b", 0.6)):
        table = check_predictions(scored.assign(raw=scored["reference"] + off), ranges=essays.human_scores.ranges)
        write_published(tmp_path / f"{arm}.parquet", arm, [ScoredRun("fold_0", "", table, None)], seeded=False)
    words = ("a.parquet", "b.parquet", "--references", "asap.tsv", "--format", "asap")
    result = json.loads(command("compare", *words, "--resamples", 50, "--json").out)
    assert result["arms"]["a.parquet"]["mean"]["qwk"] == 1
    assert result["arms"]["b.parquet"]["mean"]["qwk"] < 1
    assert "leave out --range and the like" in refused(*words, "--range", "3=0:3")


def test_options_of_human_scores_that_are_missing_or_wrong(files):
    assert "holds published predictions, without human scores. Name a table" in refused(*files)
    assert "belong to --references, which is missing" in refused(*files, "--format", "asap")
    assert "holds published predictions, without human scores. Name a table" in refused(*files, *SPANS)
    assert "human.csv has no column 'essay_id'" in refused(*files, "--references", "human.csv")
    assert "no column 'points'" in refused(*files, *COLUMNS[:4], "--reference-column", "points")
    assert "There is no file none.csv" in refused(*files, "--references", "none.csv")
    assert "needs low < high" in refused(*files, *COLUMNS, "--range", "2=6:1")


def test_a_comparison_loads_no_model_library():
    output_without("import aes_dynloss.reports.comparison_tables, aes_dynloss.reports.comparison", MODEL_LIBRARIES)
