"""Essays with several scores from a user's table to a report: every command knows traits."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from command_line import command
from facts import facts
from small_run import read_rows, report_of, small_essays, write_rows
from tiny_encoder import write_tiny_encoder

from aes_dynloss.configfile import read_mapping

SCORES = ["--score-column", "overall", "--score-column", "style=st"]
SPANS = ["--range", "0:6:0.5"]
QUICK = ["evaluation.resamples=100", "evaluation.floors=false", "evaluation.page=false", "training.device=cpu"]


def essays() -> list[dict[str, Any]]:
    """Made-up essays with a score of two traits; a blank, and half points."""
    random = np.random.default_rng(0)
    rows = []
    for number, row in enumerate(small_essays()):
        style = float(np.clip(row["score"] + random.integers(-1, 2) / 2, 0, 6))
        st = "" if number == 2 else style
        rows.append({"prompt": row["prompt_id"], "full_text": row["text"], "overall": row["score"], "st": st})
    return rows


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("traits")
    write_rows(folder / "essays.csv", essays())
    write_rows(folder / "new.csv", [{"prompt": row["prompt"], "full_text": row["full_text"]} for row in essays()[:12]])
    encoder = write_tiny_encoder(folder / "encoder")
    runs = {
        "encoder": [f"model.encoder={encoder}", "training.epochs=1", "data.split={fractions: {}}"],
        "exact": [
            f"model.encoder={encoder}",
            "model.frozen_layers=all",
            "model.solver=ridge",
            "data.split.cross_fit=3",
        ],
        "strings": ["model.kind=strings", "model.linguistic=[counts]", "data.split.cross_fit=3"],
        "more": ["model.kind=strings", "model.linguistic=[spelling]", "data.split.cross_fit=3"],
    }
    for name, words in runs.items():
        outcome = command(
            "finetune", folder / "essays.csv", *SCORES, *SPANS, "--preset", "none", *QUICK, *words, "-o", folder / name
        )
        assert outcome.code == 0, outcome.err
    return folder


@pytest.mark.parametrize("name", ["encoder", "exact", "strings"])
def test_a_run_has_each_trait(place, name):
    report = report_of(place / name)
    assert list(report["traits"]) in (["overall", "style"], ["style", "overall"])
    assert set(report["traits"]["style"]["prompts"]) == {"phones", "river"}
    assert report["prompts"] == report["traits"]["overall"]["prompts"]
    assert set(report["trait_means"]) == {"over_prompts_first", "over_traits_first", "mcrmse", "correlations"}
    rows = read_rows(place / name / "predictions_test.csv")
    assert {row["trait"] for row in rows} == {"overall", "style"}
    assert {row["prompt_id"] for row in rows} == {"phones", "river"}
    keys = [(row["essay_id"], row["trait"]) for row in rows]
    assert len(set(keys)) == len(keys)
    assert read_mapping(place / name / "manifest.json")["data"]["essays"] == 60
    assert "columns:" in (place / name / "config.yaml").read_text()


@pytest.mark.parametrize("name", ["encoder", "exact", "strings"])
def test_the_model_gives_the_scores_of_the_run(place, tmp_path, name):
    """Those of essays that nothing was cross-fitted for; else the same columns."""
    path = tmp_path / "s.csv"
    words = [
        "score",
        place / name / "model",
        place / "essays.csv",
        "--text-column",
        "full_text",
        "--prompt-column",
        "prompt",
    ]
    assert (
        command(*words, "-o", path, *(f"--policy={kind}=off" for kind in ("empty", "too_short", "too_long"))).code == 0
    )
    rows = read_rows(path)
    assert list(rows[0])[:12] == [
        "essay_id", "prompt_id", "overall", "overall_raw", "overall_low", "overall_high", "overall_certainty",
        "style", "style_raw", "style_low", "style_high", "style_certainty",
    ]  # fmt: skip
    assert command(*words, "-o", tmp_path / "l.csv", "--long").code == 0
    long = read_rows(tmp_path / "l.csv")
    assert len(long) == 2 * len(rows) == 120
    assert {row["trait"] for row in long} == {"overall", "style"}
    by_key = {(row["essay_id"], row["trait"]): row for row in long}
    for row in rows:
        for trait in ("overall", "style"):
            assert row[trait] == by_key[row["essay_id"], trait]["score"] or row["withheld"] == "true"
    if name == "encoder":
        for row in read_rows(place / name / "predictions_test.csv"):
            again = by_key[row["essay_id"], row["trait"]]["raw"]
            assert again == "" or float(again) == pytest.approx(float(row["raw"]), abs=2e-4)


def test_evaluate_takes_the_users_own_table(place, tmp_path):
    scores, human = tmp_path / "s.csv", tmp_path / "human.csv"
    words = ["--text-column", "full_text", "--prompt-column", "prompt"]
    assert command("score", place / "strings" / "model", place / "essays.csv", *words, "-o", scores).code == 0
    rows = [{"essay_id": str(number), **row} for number, row in enumerate(essays(), start=2)]
    write_rows(
        human, [{key: value for key, value in row.items() if key not in {"full_text", "prompt"}} for row in rows]
    )
    outcome = command("evaluate", scores, "--references", human, "--reference-column", "style=st", *SPANS, "--json")
    assert outcome.code == 0, outcome.err
    report = json.loads(outcome.out)
    assert set(report["traits"]) == {"overall", "style"}
    assert any("no human score" in note for note in report["notes"])
    outcome = command("evaluate", scores, "--references", human, *SPANS)
    assert outcome.code == 2
    assert "--reference-column style=COLUMN" in outcome.error
    outcome = command("evaluate", scores, "--references", human, "--reference-column", "a", "--reference-column", "b")
    assert (outcome.code, "name one column" in outcome.error) == (2, True)
    for words in (["style="], ["style=st", "--reference-column", "style=st"]):
        outcome = command("evaluate", scores, "--references", human, "--reference-column", *words)
        assert (outcome.code, "each trait once" in outcome.error) == (2, True)


def test_runs_are_compared_calibrated_and_put_together(place, tmp_path):
    outcome = command("compare", place / "strings", place / "more", "--resamples", "20")
    assert outcome.code == 0, outcome.err
    assert "phones/overall" in outcome.out
    assert command("calibrate", place / "more", "--postprocessing", "none").code == 0
    assert read_mapping(place / "more" / "report.json")["traits"]["style"]["mean"]["qwk"] is not None
    assert command("calibrate", place / "more", "--postprocessing", "rescale").code == 0
    made = tmp_path / "both"
    outcome = command("ensemble", place / "strings" / "model", place / "more" / "model", "-o", made)
    assert outcome.code == 0, outcome.err
    words = ["--text-column", "full_text", "--prompt-column", "prompt"]
    assert command("score", made, place / "new.csv", *words, "-o", tmp_path / "s.csv").code == 0
    assert "style_raw" in read_rows(tmp_path / "s.csv")[0]


def test_data_check_init_and_split(place, tmp_path):
    outcome = command("data", "check", place / "essays.csv", *SCORES, *SPANS)
    assert outcome.code == 0, outcome.err
    assert "60 essays usable" in outcome.out
    assert "river/style" in outcome.out
    outcome = command("init", place / "essays.csv", *SCORES, *SPANS, "-o", tmp_path / "run.yaml")
    assert outcome.code == 0, outcome.err
    columns = read_mapping(tmp_path / "run.yaml")["data"]["columns"]
    assert columns["score"] == {"overall": "overall", "style": "st"}
    outcome = command("data", "split", place / "essays.csv", *SCORES, *SPANS, "-o", tmp_path / "folds")
    assert outcome.code == 0, outcome.err
    ids = [line for path in (tmp_path / "folds" / "fold_0").glob("*.txt") for line in path.read_text().split()]
    assert len(ids) == len(set(ids)) == 60


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--score-column", "a=overall", "--score-column", "a=st"], ["--score-column a=st", "each trait once"]),
        (["--score-column", "overall", "--score-column", "styl"], ["no column 'styl'", "--score-column"]),
        (["--score-column", "a=", "--score-column", "st"], ["--score-column a="]),
        (["--score-column", "a=overall", "--score-column", "a_raw=st"], ["trait 'a_raw'"]),
        ([*SCORES, "loss.traits.tone=2"], ["loss.traits names tone", "overall, style"]),
    ],
)
def test_what_is_refused(place, tmp_path, words, told):
    outcome = command("finetune", place / "essays.csv", *words, "--preset", "none", "-o", tmp_path / "run")
    assert outcome.code == 2
    assert re.search(facts(*told), outcome.error), outcome.error
    assert not (tmp_path / "run").exists()


def test_losses_know_traits(place, tmp_path):
    encoder = f"model.encoder={place / 'encoder'}"
    base = ["finetune", place / "essays.csv", *SCORES, *SPANS, "--preset", "none", *QUICK, encoder, "training.epochs=1"]
    base += ["data.split={fractions: {train: 0.6, dev: 0.2, test: 0.2}, teacher_dev_fraction: 0.4}"]
    outcome = command(
        *base, "loss.terms={mse: 1.0, one_minus_qwk: 0.5}", "loss.traits.style=2", "-o", tmp_path / "static"
    )
    assert outcome.code == 0, outcome.err
    teacher = "teacher={kind: dlf, episodes: 1, learning_rate: 0.1, keep: last}"
    outcome = command(*base, "loss.by=trait", teacher, "-o", tmp_path / "taught")
    assert outcome.code == 0, outcome.err
    with (tmp_path / "taught" / "metrics.jsonl").open() as file:
        logged = [json.loads(line) for line in file]
    weights = [line["coefficients"] for line in logged if "coefficients" in line]
    assert weights
    assert set(weights[0]) == {"overall", "style"}


def test_the_frame_of_a_scorer(place):
    from aes_dynloss.essays.ensembles.ensemble import open_scorer

    scorer = open_scorer(place / "strings" / "model", None)
    texts = [row["full_text"] for row in essays()[:3]]
    found = scorer.score(texts, ["phones"] * 3)
    assert isinstance(found.to_frame(), pd.DataFrame)
    assert set(found.traits) == {"overall", "style"}
    np.testing.assert_array_equal(found.score, found["overall"].score)


def test_humans_decide_trait_by_trait(place, tmp_path):
    scores, sheet, human = tmp_path / "s.csv", tmp_path / "review.csv", tmp_path / "human.csv"
    words = ["--text-column", "full_text", "--prompt-column", "prompt", "--review", sheet, "--uncertain", "0.5"]
    assert command("score", place / "strings" / "model", place / "essays.csv", *words, "-o", scores).code == 0
    rows = read_rows(sheet)
    assert list(rows[0]) == ["essay_id", "prompt_id", "because", "reasons", "text", "overall", "style"]
    assert any(" of style than" in row["reasons"] for row in rows)
    decided = [row | {"overall": "3"} for row in rows]
    write_rows(sheet, decided)
    own = {str(number): row for number, row in enumerate(essays(), start=2)}
    known = [{"essay_id": key, "overall": row["overall"], "style": row["st"]} for key, row in own.items()]
    write_rows(human, known)
    arguments = ["evaluate", scores, "--references", human, *SPANS, "--adjudicated", sheet]
    outcome = command(*arguments, "-o", tmp_path / "report", "--export", "rsmeval", tmp_path / "rsm")
    assert outcome.code == 0, outcome.err
    review = report_of(tmp_path / "report")["adjudicated"]
    assert review["decided"] == len(rows)
    assert sum(prompt["decided"] for name, prompt in review["prompts"].items() if name.endswith("overall")) == len(rows)
    assert len(list((tmp_path / "rsm").glob("prompt_*"))) == 4


@pytest.mark.parametrize("parts", [False, True], ids=["a table", "a folder of tables"])
def test_an_essay_that_has_a_row_for_each_trait_is_no_repeat(place, tmp_path, parts):
    for name, ids, repeats in (("apart", "12", False), ("alike", "11", True)):
        folder = tmp_path / name
        folder.mkdir()
        rows = [{"essay_id": one, "prompt": "phones", "full_text": ""} for one in ids]
        path, output = write_rows(folder / "blank.csv", rows), tmp_path / f"{name}_scores"
        words = ["--text-column", "full_text", "--prompt-column", "prompt", "--review", tmp_path / f"{name}.csv"]
        given = (folder, "-o", output) if parts else (path, "-o", f"{output}.csv")
        outcome = command("score", place / "strings" / "model", *given, "--long", *words)
        assert outcome.code == 0, outcome.err
        assert ("same prompt, of those for review: 1." in outcome.err) is repeats
        assert ("of those for review" in outcome.err) is repeats


def test_robustness_of_each_trait(place, tmp_path):
    words = ["--text-column", "full_text", "--prompt-column", "prompt", "--kinds", "shuffle_words,typos", "--most", "5"]
    outcome = command("robustness", place / "strings" / "model", place / "essays.csv", *words, "-o", tmp_path / "r")
    assert outcome.code == 0, outcome.err
    found = json.loads((tmp_path / "r" / "robustness.json").read_text())
    scales = {f"{prompt}/{trait}" for prompt in ("phones", "river") for trait in ("overall", "style")}
    assert set(found["essays"]) == set(found["kinds"]["shuffle_words"]["prompts"]) == scales
    assert found["kinds"]["shuffle_words"]["total"]["n"] == 20


def test_a_grid_of_arms(place, tmp_path):
    import yaml

    assert command("data", "split", place / "essays.csv", *SCORES, *SPANS, "-o", tmp_path / "folds").code == 0
    columns = {
        "essay_id": None,
        "prompt_id": "prompt",
        "text": "full_text",
        "score": {"overall": "overall", "style": "st"},
    }
    data = {"source": str(place / "essays.csv"), "columns": columns}
    data["prompts"] = {prompt: {"low": 0, "high": 6, "step": 0.5} for prompt in ("phones", "river")}
    grid = {
        "finetune": {"data": data, "model": {"kind": "strings", "linguistic": ["counts"]}},
        "arms": {"counts": {}, "spelling": {"set": {"model.linguistic": ["spelling"]}}},
        "folds": [0, 1],
        "splits_dir": str(tmp_path / "folds"),
        "floors": False,
    }
    (tmp_path / "grid.yaml").write_text(yaml.safe_dump(grid), encoding="utf-8")
    outcome = command("benchmark", tmp_path / "grid.yaml", "-o", tmp_path / "grid")
    assert outcome.code == 0, outcome.err
    found = json.loads((tmp_path / "grid" / "benchmark.json").read_text())
    traits = found["arms"]["counts"]["traits"]
    prompts = found["arms"]["counts"]["prompts"]
    mean = np.mean([prompts[f"{prompt}/style"]["qwk"] for prompt in ("phones", "river")])
    assert traits["by_trait"]["style"]["qwk"] == pytest.approx(mean)
    assert traits["mcrmse"] > 0
    assert "## Traits" in (tmp_path / "grid" / "benchmark.md").read_text()
    assert found["distinct_essays"] < 60


def test_a_monitor_of_a_run_reads_both_forms_of_scores(place, tmp_path):
    words = ["score", place / "strings" / "model", place / "essays.csv", "--keep-columns"]
    words += ["--text-column", "full_text", "--prompt-column", "prompt"]
    words += [f"--policy={kind}=off" for kind in ("empty", "too_short", "too_long")]
    found = {}
    for name, form in (("wide", []), ("long", ["--long"])):
        scores = tmp_path / f"{name}.csv"
        assert command(*words, *form, "-o", scores).code == 0
        outcome = command("monitor", place / "strings", scores, "--map", "text=full_text", "-o", tmp_path / name)
        assert outcome.code == 0, outcome.err
        found[name] = json.loads((tmp_path / name / "monitor.json").read_text())
    (wide,), (long,) = (one["administrations"] for one in found.values())
    assert wide["compared"] == long["compared"]
    assert wide["essays"] == long["essays"] == found["wide"]["baseline_essays"] == 60
    scored = [(one["prompt"], one["trait"]) for one in wide["compared"] if one["kind"] == "score"]
    # One essay on phones has no human score of style, so that the run tested 29.
    assert sorted(scored) == [("phones", "overall"), ("river", "overall"), ("river", "style")]
    assert any("Scores of prompt phones/style are not compared: 29" in note for note in found["wide"]["notes"])
    assert [one["prompt"] for one in wide["compared"] if one["kind"] == "length"] == ["phones", "river"]
