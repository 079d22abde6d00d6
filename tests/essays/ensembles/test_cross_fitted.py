"""Ensembles of cross-fitted runs: no essay of a part has a say in how that part is scored."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from command_line import command
from facts import facts
from folder_content import content
from small_run import RANGES, report_of, small_essays, tune, write_rows, write_small_run

from aes_dynloss.errors import ConfigError, DataError
from aes_dynloss.essays.ensembles.ensemble import open_scorer
from aes_dynloss.essays.ensembles.ensembling import ensemble_runs
from aes_dynloss.measures.calibration import fit_rescaling
from aes_dynloss.measures.stacking import fit_weights
from aes_dynloss.tables.score_range import ScoreRange

pytestmark = pytest.mark.slow

PARTS = 3
KINDS = {
    "strings": ["model.kind=strings", "evaluation.floors=true"],
    "trees": ["model.kind=boosting", "model.linguistic=true"],
}
SPLIT = [f"data.split.cross_fit={PARTS}", "data.split.group=writer"]
STACK = ["--weights", "nnls", "--postprocessing", "rescale"]
# Each essay has a writer of its own, so that parts do not hang on scores.
ESSAYS = [row | {"writer": f"w{row['essay_id']}"} for row in small_essays(60)]


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    """Runs on the same parts, one of other parts, one that is not cross-fitted, and a stack."""
    folder = tmp_path_factory.mktemp("stacked")
    run_yaml = write_small_run(folder)
    encoder = json.dumps(str(folder / "encoder"))
    text = run_yaml.read_text().replace(f"encoder: {folder / 'encoder'}", "postprocessing: rescale")
    (folder / "run.yaml").write_text(text)
    source = f"data.source={write_rows(folder / 'more.jsonl', ESSAYS)}"
    plans = {name: [*words, *SPLIT] for name, words in KINDS.items()}
    plans |= {"other": [*plans["strings"], "data.split.seed=1"], "plain": KINDS["strings"]}
    plans["trained"] = [f"model.encoder={encoder}", "model.frozen_layers=all", "training.epochs=1", *SPLIT]
    for name, words in plans.items():
        outcome = tune(folder / "run.yaml", folder / name, source, *words)
        assert outcome.code == 0, outcome.err
    outcome = command("ensemble", folder / "strings", folder / "trees", *STACK, "-o", folder / "stack")
    assert outcome.code == 0, outcome.err
    assert f"Out of fold, its mean QWK is {report_of(folder / 'stack')['mean']['qwk']:.3f}: " in outcome.err
    return folder


def predicted(run: Path, part: str = "test") -> pd.DataFrame:
    table = pd.read_csv(run / f"predictions_{part}.csv").astype({"part": str})
    return table.sort_values(["part", "prompt_id", "essay_id"], ignore_index=True)


def by_hand(runs: list[Path], least_shrinkage: float = 0.0) -> pd.DataFrame:
    """Raw and score of each part's essays by what is fitted on its scorers' predictions of the others."""
    tests, inners = ([predicted(run, part) for run in runs] for part in ("test", "inner"))
    keys = ["part", "prompt_id", "essay_id"]
    inner = inners[0].merge(inners[1], on=keys, suffixes=("", "_2")).sort_values(keys)
    made = tests[0][[*keys, "reference"]].assign(raw=np.nan, score=np.nan)
    for (part, prompt), others in inner.groupby(["part", "prompt_id"]):
        rows = (made["part"] == part) & (made["prompt_id"] == prompt)
        raws = others[["raw", "raw_2"]].to_numpy()
        weights = np.array([0.5, 0.5])
        if len(others) >= 30:
            ids = others["essay_id"].tolist()
            weights = fit_weights(raws, others["reference"], ids, least_shrinkage=least_shrinkage)
        line = fit_rescaling(raws @ weights, others["reference"])
        raw = np.column_stack([test.loc[rows, "raw"] for test in tests]) @ weights
        made.loc[rows, "raw"] = raw
        made.loc[rows, "score"] = ScoreRange(**RANGES[prompt]).to_point(line.apply(raw))
    return made


@pytest.mark.parametrize(("second", "shrinkage"), [("trees", 0.0), ("trained", 0.5)])
def test_each_part_is_scored_by_what_is_fitted_on_the_others(place, tmp_path, second, shrinkage):
    runs = [place / "strings", place / second]
    assert command("ensemble", *runs, *STACK, "-o", tmp_path / "stack").code == 0
    found, expected = predicted(tmp_path / "stack"), by_hand(runs, shrinkage)
    assert found["essay_id"].tolist() == expected["essay_id"].tolist()
    np.testing.assert_allclose(found["raw"], expected["raw"], atol=1e-9)
    assert found["score"].tolist() == expected["score"].tolist()
    ensemble = open_scorer(tmp_path / "stack")
    assert ensemble.fitted_on == "out-of-fold predictions of all essays"
    tests = [predicted(run) for run in runs]
    for prompt, rows in tests[0].groupby("prompt_id"):
        raws = np.column_stack([test.loc[rows.index, "raw"] for test in tests])
        weights = fit_weights(raws, rows["reference"], rows["essay_id"].tolist())
        assert ensemble.weights[prompt] == pytest.approx(weights, abs=1e-9)
        line = fit_rescaling(found.loc[rows.index, "raw"], rows["reference"])
        assert ensemble.postprocessing.fitted[prompt].slope == pytest.approx(line.slope)


def test_other_human_scores_of_a_part_leave_its_own_scores_as_they_are(place, tmp_path):
    """Everything is done again, from the essays on: members, weights, rescaling."""
    before = predicted(place / "stack")
    part = set(before.loc[before["part"] == "1", "essay_id"])
    turned = {
        prompt: {score: span["low"] + span["high"] - score for score in range(span["low"], span["high"] + 1)}
        for prompt, span in RANGES.items()
    }
    rows = [
        row | {"score": turned[row["prompt_id"]][row["score"]]} if row["essay_id"] in part else row for row in ESSAYS
    ]
    source = f"data.source={write_rows(tmp_path / 'turned.jsonl', rows)}"
    for name, words in KINDS.items():
        assert tune(place / "run.yaml", tmp_path / name, source, *words, *SPLIT).code == 0
    assert command("ensemble", tmp_path / "strings", tmp_path / "trees", *STACK, "-o", tmp_path / "stack").code == 0
    after = predicted(tmp_path / "stack")
    mine = (before["part"] == "1").to_numpy()
    for column in ("essay_id", "raw", "score"):
        assert after.loc[mine, column].tolist() == before.loc[mine, column].tolist()
        assert column == "essay_id" or after.loc[~mine, column].tolist() != before.loc[~mine, column].tolist()


@pytest.mark.parametrize(
    ("second", "message"),
    [
        ("other", facts("other/model", "strings/model", "has other parts", "cross_fit, group, seed")),
        ("plain", facts("plain/model is not of a cross-fitted run")),
    ],
)
def test_members_of_other_parts_are_refused(place, tmp_path, second, message):
    for order in ([place / "strings", place / second], [place / second, place / "strings"]):
        for weights in ("equal", "nnls"):
            with pytest.raises(ConfigError, match=message):
                ensemble_runs(order, weights=weights)
    outcome = command("ensemble", *order, "-o", tmp_path / "both")
    assert (outcome.code, list(tmp_path.iterdir())) == (2, [])


def test_a_file_of_another_run_is_refused(place, tmp_path):
    for part in ("inner", "test"):
        run = Path(shutil.copytree(place / "strings", tmp_path / part))
        shutil.copy(place / "other" / f"predictions_{part}.csv", run)
        with pytest.raises(DataError, match=facts(f"predictions_{part}.csv is not what the run wrote")):
            ensemble_runs([run, place / "trees"])


def test_it_scores_and_is_compared(place, tmp_path):
    write_rows(tmp_path / "new.csv", [{"essay_id": 1, "prompt_id": "river", "text": "The otter by the river."}])
    assert command("score", place / "stack", tmp_path / "new.csv").code == 0
    outcome = command("compare", place / "strings", place / "trained", place / "stack", "--json", "--resamples", 100)
    assert outcome.code == 0, outcome.err
    arms = json.loads(outcome.out)["arms"]
    for name in ("strings", "trained", "stack"):
        assert arms[name]["mean"]["qwk"] == pytest.approx(report_of(place / name)["mean"]["qwk"])
    report = report_of(place / "stack")
    assert set(report["floors"]) == set(report_of(place / "strings")["floors"]) != set()
    assert sum(entry["n"] for entry in report["prompts"].values()) == len(ESSAYS)


def test_it_is_calibrated_as_if_it_had_been_made_so(place, tmp_path):
    stack = Path(shutil.copytree(place / "stack", tmp_path / "stack"))
    for rule in ("none", "rescale"):
        words = ["--weights", "nnls", "--postprocessing", rule, "-o", tmp_path / rule / "stack"]
        assert command("ensemble", place / "strings", place / "trees", *words).code == 0
        assert command("calibrate", stack, "--postprocessing", rule).code == 0
        found, expected = content(stack), content(tmp_path / rule / "stack")
        same = [name for name in expected if name.startswith("members/") or "predictions" in name]
        assert len(same) > 6
        assert [name for name in same if found[name] != expected[name]] == []
        one, two = open_scorer(stack), open_scorer(tmp_path / rule / "stack")
        for name in ("postprocessing", "intervals", "certainty", "weights"):
            assert getattr(one, name) == getattr(two, name)
        assert report_of(stack)["mean"] == report_of(tmp_path / rule / "stack")["mean"]
    assert [record["postprocessing"] for record in open_scorer(stack).calibrated] == ["none", "rescale"]


def test_an_ensemble_of_other_runs_is_calibrated_on_a_table(place, tmp_path):
    both = tmp_path / "both"
    shutil.copytree(place / "plain", tmp_path / "again")
    assert command("ensemble", place / "plain", tmp_path / "again", "-o", both).code == 0
    outcome = command("calibrate", both, "--postprocessing", "rescale")
    assert outcome.code == 2
    assert "with --on, or make it again by `aes-dynloss ensemble" in outcome.error
    outcome = command("calibrate", both, "--postprocessing", "rescale", "--on", place / "plain/predictions_dev.csv")
    assert (outcome.code, outcome.out) == (0, ""), outcome.err
    dev = pd.read_csv(place / "plain/predictions_dev.csv")
    river = dev[dev["prompt_id"] == "river"]
    ensemble = open_scorer(both)
    assert ensemble.postprocessing.fitted["river"] == fit_rescaling(river["raw"], river["reference"])
    assert f"rescale (fitted on {len(dev)} essays of predictions_dev.csv)" in (both / "README.md").read_text()
    assert ensemble.calibrated[0]["sha256"]
