"""What learned losses make of training essays' scores, and the list of those that they distrust."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
from datasets import Dataset
from essay_files import write_rows
from small_run import RANGES, small_essays, tune

from aes_dynloss.essays.data.essay_table import EssayTable, Prompt
from aes_dynloss.essays.finetune.suspects import believed_ratings, suspects
from aes_dynloss.tables.score_range import ScoreRange

COLUMNS = ["essay_id", "prompt_id", "rater", "trusted", "score", "raw", "weight", "suspicion"]
DLF = "teacher={kind: dlf, episodes: 2, steps: 4}"
KINDS = {
    "rater": ["loss={by: [rater], terms: {mse: 1.0}}", DLF, "teacher.keep=last", "teacher.episodes=4"],
    "standardised": ["data.untrusted=standardise", "loss={by: [rater], terms: {mse: 1.0}}", DLF],
    "level": ["loss={by: [score], levels: 3, terms: {mse: 1.0}}", DLF],
    "batch": ["loss={by: [rater], terms: {mse: 1.0, stde: 0.1}}", DLF],
    "bilinear": ["model.head=softmax", DLF],
    "mixture": ["loss.terms={mse: 1.0, huber: 0.5}", DLF],
    "mwn": ["teacher={kind: mwn, dev_batch: 6, width: 5, learning_rate: 0.01}"],
    "dln": ["teacher={kind: dln, window: 3, dev_batch: 6}", "model.head=softmax"],
    "glc": ["teacher={kind: glc}", "model.head=softmax"],
}


def essay_table(**columns):
    values = {"essay_id": list("abcdef"), "prompt_id": ["1"] * 4 + ["2"] * 2, "text": ["x"] * 6, **columns}
    return EssayTable(Dataset.from_dict(values), {name: Prompt(name, ScoreRange(0, 8)) for name in ("1", "2")})


def test_weights_are_told_beside_those_of_trusted_essays():
    table = essay_table(
        score=[1.0, 3.0, 5.0, 7.0, 2.0, 2.0], trusted=[True, True, True, False, False, False], rater=["r"] * 6
    )
    raw, weights = np.array([1.0, 4.0, 5.0, 3.0, 4.0, 2.0]), np.array([9.0, 2.0, 1.0, 0.5, -3.0, np.nan])
    found = believed_ratings(table, raw, weights)
    # The trusted median is 2; d pushes away, and e is as predicted. The sd of prompt 1 is that of 1, 3, 5, 7.
    assert found["weight"].tolist() == [1.0, 1.0, 0.5, 0.25, 0.0, 1.0]
    assert found["suspicion"].tolist() == pytest.approx([0, 0, 0, 0.75 * 4 / 5**0.5, 0, 0])
    listed = suspects(found)
    assert listed["essay_id"].tolist() == ["d", "e", "f"]  # of equal suspicion, e is farther from its prediction
    assert list(listed.columns) == COLUMNS


def test_without_trusted_essays_weights_are_told_beside_high_ones():
    table = essay_table(score=[1.0, 3.0, 5.0, 7.0, 2.0, 3.0])
    found = believed_ratings(table, np.zeros(6), np.array([4.0, 4.0, 4.0, 4.0, 4.0, 1.0]))
    assert found["weight"].tolist() == [1.0] * 5 + [0.25]
    assert found["rater"].isna().all()
    assert (found["trusted"] == 0).all()


def test_where_no_trusted_essay_has_a_weight_it_is_as_if_there_were_none():
    """As where all of them are as predicted."""
    table = essay_table(score=[1.0, 3.0, 5.0, 7.0, 2.0, 3.0], trusted=[False] * 5 + [True])
    found = believed_ratings(table, np.zeros(6), np.array([1.0, 1.0, 1.0, 4.0, 4.0, np.nan]))
    assert found["weight"].tolist() == [0.25] * 3 + [1.0] * 3


@pytest.fixture(scope="module")
def rated(run_yaml):
    """The configuration's essays with raters, a third of them trusted; r2 gives the lowest score."""
    rows = small_essays()
    for number, row in enumerate(rows):
        row |= {"rater": ["gold", "r1", "r2"][number % 3], "trusted": int(number % 3 == 0)}
        row["score"] = RANGES[row["prompt_id"]]["low"] if row["rater"] == "r2" else row["score"]
    source = write_rows(run_yaml.with_name("rated.jsonl"), rows)
    return [f"data.source={source}", "data.columns.rater=rater", "data.trusted=trusted", "model.frozen_layers=all"]


@pytest.fixture(scope="module")
def ran(run_yaml, rated, tmp_path_factory):
    """Runs by kind, each made when it is first asked for."""
    made = {}

    def run(kind):
        if kind not in made:
            made[kind] = tmp_path_factory.mktemp("suspects") / "run"
            outcome = tune(run_yaml, made[kind], *rated, *KINDS[kind])
            assert outcome.code == 0, outcome.err
        return made[kind]

    return run


def suspects_of(folder):
    return pd.read_csv(folder / "suspects.csv", dtype={"essay_id": str})


@pytest.mark.parametrize("kind", KINDS)
def test_the_list_of_suspects(run_yaml, ran, kind):
    table = suspects_of(ran(kind))
    essays = pd.read_json(run_yaml.with_name("rated.jsonl"), lines=True, dtype={"essay_id": str}).set_index("essay_id")
    manifest = json.loads((ran(kind) / "manifest.json").read_text())
    assert list(table.columns) == COLUMNS
    assert 0 < len(table) < manifest["split"]["essays"]["train"]
    assert (table["trusted"] == 0).all()
    own = essays.loc[table["essay_id"]]
    assert own["trusted"].eq(0).all()
    assert own["rater"].tolist() == table["rater"].tolist()
    assert own["score"].tolist() == table["score"].tolist()
    assert table["weight"].between(0, 1).all()
    assert table["suspicion"].is_monotonic_decreasing


def test_weights_are_those_of_the_teacher(ran):
    """By rater, each rater has one weight, the teacher's beside that of the trusted."""
    folder = ran("rater")
    weights = suspects_of(folder).groupby("rater")["weight"].agg(["min", "max"])
    assert weights["min"].to_dict() == pytest.approx(weights["max"].to_dict(), rel=1e-4)
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    last = [line["coefficients"] for line in lines if "coefficients" in line][-1]
    assert last.keys() == {"trusted", "r1", "r2"}
    expected = {rater: min(1.0, last[rater] / last["trusted"]) for rater in ("r1", "r2")}
    assert expected["r2"] < 0.9
    assert weights["min"].to_dict() == pytest.approx(expected, rel=0.05)


@pytest.mark.parametrize("kind", ["bilinear", "glc"])
def test_a_teacher_of_another_run_has_suspects_too(run_yaml, rated, ran, tmp_path, kind):
    words = ["model.head=softmax", f"teacher.from={ran(kind) / 'teacher'}"]
    assert tune(run_yaml, tmp_path / "run", *rated, *words).code == 0
    assert list(suspects_of(tmp_path / "run").columns) == COLUMNS
