"""Numeric columns of the user's own, and essays that count differently, from the table to the scores."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
import yaml
from command_line import command
from datasets import Dataset
from facts import facts
from small_run import RANGES, check_scores, read_rows, report_of, small_essays, tune
from tiny_encoder import write_tiny_encoder

from aes_dynloss.errors import DataError
from aes_dynloss.essays.data.essay_table import EssayTable
from aes_dynloss.essays.data.splits import data_hash
from aes_dynloss.essays.ensembles.ensemble import open_scorer

MODELS = {
    "sgd": {"frozen_layers": "all"},
    "ridge": {"frozen_layers": "all", "solver": "ridge", "linguistic": ["counts"]},
    "kernel, strings": {"frozen_layers": "all", "solver": "kernel_ridge", "strings": True},
    "strings": {"kind": "strings"},
    "boosting": {"kind": "boosting", "linguistic": False},
}


def write_table(path: Path, rows: list[dict[str, object]]) -> Path:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    return path


def essays(per_prompt: int = 30) -> list[dict[str, object]]:
    """Scores that a column tells, but for a little noise, and texts do not."""
    random = np.random.default_rng(0)
    rows = small_essays(per_prompt)
    for row in rows:
        low, high = RANGES[row["prompt_id"]].values()
        row["score"] = int(random.integers(low, high + 1))
        row["told"] = round(100 * row["score"] + random.normal(0, 5), 2)
        row["age"] = 12
        row["counts"] = 1.5
    return rows


@pytest.fixture
def config(tmp_path):
    """Writes a configuration of a model with columns."""

    def write(columns: dict[str, object], table: list[dict[str, object]] | None = None, **model: object) -> Path:
        if "kind" not in model:
            model["encoder"] = str(write_tiny_encoder(tmp_path / "encoder"))
        values = {
            "data": {
                "source": str(write_table(tmp_path / "essays.csv", essays() if table is None else table)),
                "prompts": RANGES,
                "columns": columns,
            },
            "model": model,
            "training": {
                "epochs": 20,
                "batch_size": 8,
                "head_learning_rate": 0.3,
                "device": "cpu",
                "precision": "float32",
            }
            if model.get("solver") is None and "kind" not in model
            else {},
            "evaluation": {"resamples": 100, "floors": False, "page": False},
        }
        (tmp_path / "run.yaml").write_text(yaml.safe_dump(values), encoding="utf-8")
        return tmp_path / "run.yaml"

    return write


@pytest.mark.parametrize("name", MODELS)
def test_every_model_sees_them(config, tmp_path, name):
    """In training, in the model folder, in scoring, in the report; without them nothing is known of the scores."""
    run = tmp_path / "run"
    outcome = tune(config({"features": ["told", "age"]}, **MODELS[name]), run)
    assert outcome.code == 0, outcome.err
    assert report_of(run)["mean"]["pearson"] > 0.85
    for part in ("dev", "test"):
        check_scores(run, tmp_path / "essays.csv", part)
    told = [row for row in read_rows(run / "features.csv") if row["feature"] == "told"]
    assert all(float(row["r"]) > 0.95 for row in told)
    card = (run / "model" / "README.md").read_text(encoding="utf-8")
    assert "needs numeric columns beside the text, in scoring too: told, age." in card
    assert ("linguistic features" in card) == (name == "strings")
    scorer = open_scorer(run / "model")
    assert scorer.own_features == ("told", "age")
    own = [{"told": told, "age": 12, "unused": 0} for told in (100.0, 500.0)]
    low, high = scorer.score([str(essays()[0]["text"])] * 2, ["phones"] * 2, features=own).raw
    assert high - low > 1


def test_a_column_that_is_missing_when_scoring(config, tmp_path):
    assert tune(config({"features": ["told"]}, kind="boosting", linguistic=False), tmp_path / "run").code == 0
    without = [{key: value for key, value in row.items() if key != "told"} for row in essays()]
    outcome = command("score", tmp_path / "run" / "model", write_table(tmp_path / "new.csv", without), "-o", "-")
    assert outcome.code == 2
    assert outcome.err.count("Error") == 1
    assert "'told'" in outcome.err
    gaps = [row | {"told": "" if number == 3 else row["told"]} for number, row in enumerate(essays())]
    outcome = command("score", tmp_path / "run" / "model", write_table(tmp_path / "new.csv", gaps), "-o", "-")
    assert outcome.code == 2
    assert "told" in outcome.err
    scorer = open_scorer(tmp_path / "run" / "model")
    for features in (None, [{"age": 1.0}], [{"told": float("nan")}], [{"told": 1e31}], [{"told": "x"}], []):
        with pytest.raises(DataError, match=facts("told")):
            scorer.score(["An essay."], ["phones"], features=features)


def test_members_of_an_ensemble_see_their_own(config, tmp_path):
    for name, columns in (("one", ["told"]), ("other", ["age", "counts"])):
        assert tune(config({"features": columns}, kind="strings"), tmp_path / name).code == 0
    assert command("ensemble", tmp_path / "one", tmp_path / "other", "-o", tmp_path / "both").code == 0
    ensemble = open_scorer(tmp_path / "both")
    assert ensemble.own_features == ("told", "age", "counts")
    features = [{"told": 300.0, "age": 12.0, "counts": 1.5}]
    members = [open_scorer(tmp_path / name / "model") for name in ("one", "other")]
    raw = [member.score(["Tea."], ["river"], features=features).raw[0] for member in members]
    assert ensemble.score(["Tea."], ["river"], features=features).raw[0] == pytest.approx(np.mean(raw))


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"features": ["nowhere"]}, "no column 'nowhere'"),
        ({"features": "told"}, "has 1 fault"),
        ({"features": ["told", "told"]}, "one name"),
        ({"features": ["score"]}, "one name"),
        ({"features": ["commas"]}, "meaning of its own"),
        ({"features": ["weight"]}, "meaning of its own"),
        ({"features": ["text_id"], "text": "text_id"}, "one name"),
        ({"weight": "told", "features": ["told"]}, "one name"),
        ({"features": ["essay_words"]}, "essay_words"),
        ({"weight": "prompt_id"}, "one name"),
    ],
)
def test_columns_that_cannot_be_used(config, tmp_path, columns, message):
    outcome = tune(config(columns, kind="strings"), tmp_path / "run")
    assert outcome.code == 2
    assert message in outcome.err
    assert not (tmp_path / "run" / "model").exists()


@pytest.mark.parametrize("name", MODELS)
def test_large_values_are_clamped(config, tmp_path, name):
    """Up to the largest that may be: no figure overflows."""
    rows = [row | {"age": 1e30 if number % 3 else -1e30} for number, row in enumerate(essays())]
    outcome = tune(config({"features": ["told", "age"]}, rows, **MODELS[name]), tmp_path / "run")
    assert outcome.code == 0, outcome.err
    assert "RuntimeWarning" not in outcome.err
    assert report_of(tmp_path / "run")["mean"]["pearson"] > 0.8


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("features", "many"),
        ("features", "1e31"),
        ("features", "-1e308"),
        ("weight", "0"),
        ("weight", "-1"),
        ("weight", ""),
        ("weight", "1e7"),
        ("weight", "1e-320"),
    ],
)
def test_values_that_cannot_be_used(config, tmp_path, column, value):
    rows = [row | {"own": value if number == 7 else 1.0} for number, row in enumerate(essays())]
    outcome = tune(config({column: ["own"] if column == "features" else "own"}, rows, kind="strings"), tmp_path / "run")
    assert outcome.code == 2
    assert "Row 9" in outcome.err
    assert "own" in outcome.err


def test_own_columns_belong_to_the_data(config, tmp_path):
    outcome = tune(config({}, kind="strings"), tmp_path / "run", "model.own_features=[told]")
    assert outcome.code == 2
    assert "data.columns.features" in outcome.err


def predictions(run: Path) -> list[str]:
    return [row["raw"] for row in read_rows(run / "predictions_test.csv")]


@pytest.mark.parametrize("name", MODELS)
def test_equal_weights_are_none(config, tmp_path, name):
    """Whatever their size."""
    model = MODELS[name] if name != "boosting" else {"kind": "boosting", "linguistic": True}
    rows = [row | {"counts": 8} for row in essays()]
    for run, columns in (("without", {}), ("with", {"weight": "counts"})):
        assert tune(config(columns, rows, **model), tmp_path / run).code == 0
    one, other = (np.array(predictions(tmp_path / run), dtype=float) for run in ("without", "with"))
    np.testing.assert_allclose(one, other, rtol=1e-4)


@pytest.mark.parametrize("terms", ["{mse: 1.0}", "{mse: 1.0, one_minus_qwk: 0.5}"])
@pytest.mark.parametrize("name", MODELS)
def test_heavy_essays_are_believed(config, tmp_path, name, terms):
    """Every second essay says the opposite; the others weigh a hundred times as much."""
    if terms != "{mse: 1.0}" and name != "sgd":
        pytest.skip("there is no loss")
    rows = essays(100)
    for number, row in enumerate(rows):
        row["w"] = 100.0
        if number % 2:
            low, high = RANGES[row["prompt_id"]].values()
            row["w"], row["score"] = 1.0, low + high - row["score"]
    words = [f"loss.terms={terms}"] if name == "sgd" else []
    for run, columns in (("believed", {"weight": "w"}), ("plain", {})):
        assert tune(config({"features": ["told"]} | columns, rows, **MODELS[name]), tmp_path / run, *words).code == 0
    held_out = {row["essay_id"]: number for number, row in enumerate(rows)}
    for run, least, most in (("believed", 0.8, 1.0), ("plain", -0.9, 0.7)):
        test = [row for row in read_rows(tmp_path / run / "predictions_test.csv") if not held_out[row["essay_id"]] % 2]
        rs = []
        for prompt in RANGES:
            pairs = [(float(row["raw"]), float(row["reference"])) for row in test if row["prompt_id"] == prompt]
            rs.append(np.corrcoef(np.array(pairs).T)[0, 1])
        assert least < np.mean(rs) <= most, (run, rs)


def test_members_with_other_columns_are_stacked(config, tmp_path):
    """They have the same essays."""
    for name, columns in (("one", {"features": ["told"]}), ("other", {})):
        assert tune(config(columns, kind="strings"), tmp_path / name).code == 0
    outcome = command("ensemble", tmp_path / "one", tmp_path / "other", "--weights", "nnls", "-o", tmp_path / "both")
    assert outcome.code == 0, outcome.err


def test_many_columns_are_read_at_once(monkeypatch):
    """Each access to a data set copies the types of all its columns: one for each of K would cost K squared."""
    names = [f"c{number}" for number in range(50)]
    rows = small_essays(3)
    table = EssayTable(Dataset.from_list([row | dict.fromkeys(names, 1.5) for row in rows]), {})
    accesses = []
    read = Dataset.__getitem__
    monkeypatch.setattr(Dataset, "__getitem__", lambda self, key: accesses.append(key) or read(self, key))
    assert table.select([4, 1]).numbers(names).shape == (2, 50)
    assert table.select([4, 1]).all_values()["essay_id"] == [rows[4]["essay_id"], rows[1]["essay_id"]]
    data_hash(table)
    assert len(accesses) < 10
