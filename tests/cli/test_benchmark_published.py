"""``aes-dynloss benchmark``: predictions that it publishes, and published arms beside its own."""

from __future__ import annotations

import json
import shutil

import pandas as pd
import pytest
from command_line import command
from small_grid import write_small_grid
from small_run import RANGES

from aes_dynloss.essays.benchmark.published_arms import publish_arms
from aes_dynloss.measures.agreement import quadratic_weighted_kappa
from aes_dynloss.reports import published

pytestmark = pytest.mark.slow

EXACT = {"model.solver": "ridge", "model.frozen_layers": "all", "model.postprocessing": "rescale"}
GRID = {
    "arms": {
        "mse": {"set": {"model.postprocessing": "none"}},
        "ridge": {"set": EXACT},
        "ridge_after": {"after": "mse", "set": dict(EXACT)},
        "ridge_of_fewer": {"set": EXACT | {"data.split.teacher_dev_fraction": 0.4}},
    },
    "seeds": 2,
    "mixtures": {"both of them": ["mse", "ridge"]},
}
MSE_ALONE = "arms={mse: {set: {model.postprocessing: none}}}"
FLOORS = ["length", "length_rescaled", "mean_score", "tfidf_ridge", "tfidf_ridge_rescaled"]
FLOORS += ["words_and_ngrams", "words_and_ngrams_rescaled"]


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("published")
    write_small_grid(folder, **GRID)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        outcome = command("benchmark", "grid.yaml", "-o", "g")
    assert outcome.code == 0, outcome.error
    return folder


@pytest.fixture
def inside(place, monkeypatch):
    monkeypatch.chdir(place)
    return place


def predictions(folder, arm):
    return pd.read_parquet(folder / "g/predictions" / f"g.{arm}.parquet")


def kappas(table, essays):
    """QWK by prompt, the mean over folds of that over seeds."""
    scores = {row["essay_id"]: row["score"] for row in essays}
    kappas = (
        table.assign(human=table["essay_id"].map(scores))
        .groupby(["prompt_id", "fold", "seed"], dropna=False)[["human", "score"]]
        .apply(lambda rows: float(quadratic_weighted_kappa(rows["human"], rows["score"])))
    )
    return kappas.groupby(["prompt_id", "fold"]).mean().groupby("prompt_id").mean().to_dict()


def rows_of(path):
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def report_of(folder):
    return json.loads((folder / "benchmark.json").read_text())


def test_each_arm_and_floor_has_a_file(place):
    arms = [*GRID["arms"], "both_of_them", *(f"{arm}_mean_of_2_seeds" for arm in GRID["arms"])]
    names = {f"g.{arm}.parquet" for arm in (*arms, *(f"floor_{name}" for name in FLOORS))}
    assert {path.name for path in (place / "g/predictions").iterdir()} == names
    for path in (place / "g/predictions").iterdir():
        assert not {"text", "reference"} & set(pd.read_parquet(path).columns)


def test_exact_arms_ensembles_and_floors_have_no_seed(place):
    for arm in ("mse", "ridge_after", "ridge_of_fewer"):  # seeds draw what the last two learn from
        assert sorted(predictions(place, arm)["seed"].unique()) == [0, 1]
    for arm in ("ridge", "both_of_them", "mse_mean_of_2_seeds", "floor_length"):
        table = predictions(place, arm)
        assert table["seed"].isna().all()
        assert not table.duplicated(["essay_id"]).any()


def test_files_give_the_figures_of_the_report(place):
    report = report_of(place / "g")
    names = {
        name: {prompt: one["qwk"] for prompt, one in arm["prompts"].items()} for name, arm in report["arms"].items()
    }
    names |= {f"floor: {name}": floor["prompts"] for name, floor in report["floors"].items()}
    for name, figures in names.items():
        table = pd.read_parquet(place / "g/predictions" / published.published_name("g", name))
        assert set(table["arm"]) == {name}
        assert kappas(table, rows_of(place / "essays.jsonl")) == pytest.approx(figures, abs=1e-9), name


def test_a_mixture_with_a_rescaled_member_is_rescaled(place):
    """So that what it publishes is its rescaled figure; seeds of rounded scores stay rounded."""
    figures = {name: arm["mean"] for name, arm in report_of(place / "g")["arms"].items()}
    assert figures["both of them"]["qwk"] == figures["both of them"]["qwk_rescaled"]
    assert figures["mse, mean of 2 seeds"]["qwk"] != figures["mse, mean of 2 seeds"]["qwk_rescaled"]


def test_floors_are_kept_with_their_predictions(inside):
    kept = {path: path.stat().st_mtime_ns for path in (inside / "g/floors").rglob("*.*")}
    assert len(kept) == 2 * (1 + len(FLOORS))
    before = {path: path.read_bytes() for path in (inside / "g/predictions").iterdir()}
    assert command("benchmark", "grid.yaml", "-o", "g").code == 0
    assert {path: path.stat().st_mtime_ns for path in kept} == kept
    assert {path: path.read_bytes() for path in (inside / "g/predictions").iterdir()} == before


@pytest.mark.parametrize("damage", ["gone", "a score"])
def test_damaged_predictions_of_floors_are_made_anew(inside, damage):
    path = inside / "g/floors/fold_1/length.csv"
    before = path.read_bytes()
    if damage == "gone":
        path.unlink()
    else:
        table = pd.read_csv(path)
        table.loc[0, "score"] = {1.0: 2.0}.get(table["score"][0], 1.0)
        table.to_csv(path, index=False)
    assert command("benchmark", "grid.yaml", "-o", "g").code == 0
    assert path.read_bytes() == before


def test_files_of_arms_that_are_gone_go(inside):
    shutil.copytree(inside / "g", inside / "fewer/g")
    assert command("benchmark", "grid.yaml", "-o", "fewer/g", MSE_ALONE, "mixtures={}", "floors=false").code == 0
    names = {path.name for path in (inside / "fewer/g/predictions").iterdir()}
    assert names == {"g.mse.parquet", "g.mse_mean_of_2_seeds.parquet"}


@pytest.mark.parametrize(("grid", "own"), [("g", "g"), ("my grid [2]", "my_grid_2_")])
def test_files_of_others_stay(tmp_path, grid, own):
    folder = tmp_path / grid / "predictions"
    folder.mkdir(parents=True)
    others = {"other.mse.parquet", f"{own}2.mse.parquet", f"{own}.parquet.md", "mine.parquet"}
    for name in {*others, f"{own}.gone.parquet", f"{own}.floor_gone.parquet"}:
        (folder / name).touch()
    publish_arms(tmp_path / grid, {}, {})
    assert {path.name for path in folder.iterdir()} == others


def test_a_file_that_is_too_large_is_said_and_left_out(inside, monkeypatch):
    monkeypatch.setattr(published, "MOST_BYTES", (inside / "g/predictions/g.mse.parquet").stat().st_size - 1)
    shutil.copytree(inside / "g", inside / "large/g")
    outcome = command("benchmark", "grid.yaml", "-o", "large/g")
    assert outcome.code == 0
    assert "g.mse.parquet is not written: the predictions of mse take" in outcome.err
    assert not (inside / "large/g/predictions/g.mse.parquet").exists()
    assert (inside / "large/g/predictions/g.floor_length.parquet").exists()
    assert (inside / "large/g/benchmark.json").exists()


def test_two_arms_of_one_file_name_are_refused(inside):
    shutil.copytree(inside / "g", inside / "same/g")
    outcome = command("benchmark", "grid.yaml", "-o", "same/g", "mixtures={a b: [mse, ridge], a+b: [mse, ridge]}")
    assert outcome.code == 2
    assert "Arms 'a b' and 'a+b' would both be g.a_b.parquet. Rename one." in outcome.error


def test_published_arms_stand_beside_the_grids_own(inside):
    files = ("g.ridge.parquet", "g.mse.parquet", "g.floor_length_rescaled.parquet")
    words = [word for file in files for word in ("--against", f"g/predictions/{file}")]
    outcome = command("benchmark", "grid.yaml", "-o", "beside", MSE_ALONE, "seeds=1", "mixtures={}", *words)
    assert outcome.code == 0, outcome.error
    report, alone = report_of(inside / "beside"), report_of(inside / "g")
    assert set(report["arms"]) == {"mse", *files}
    for file, arm in zip(files, ("ridge", "mse"), strict=False):
        found, expected = report["arms"][file], alone["arms"][arm]
        assert found["mean"]["qwk"] == pytest.approx(expected["mean"]["qwk"], abs=1e-12)
        assert found["mean"]["pearson"] == pytest.approx(expected["mean"]["pearson"], abs=1e-6)
        assert (found["members"], found["ensemble_of"], found["cost"]) == (None, None, None)
        assert found["mean"]["qwk_rescaled"] is None
    assert report["arms"][files[2]]["mean"]["qwk"] == pytest.approx(report["floors"]["length_rescaled"]["mean"])
    assert set(report["differences"]["qwk"]["arms"]) == set(files)
    assert files[0] in (inside / "beside/benchmark.md").read_text(encoding="utf-8")
    assert "1 seed." in (inside / "beside/benchmark.md").read_text(encoding="utf-8")
    assert files[0] in (inside / "beside/report.html").read_text(encoding="utf-8")
    # What stands beside is no arm of the grid, which publishes its own.
    names = {path.name for path in (inside / "beside/predictions").iterdir()}
    assert names == {"beside.mse.parquet", *(f"beside.floor_{name}.parquet" for name in FLOORS)}


def test_arms_of_other_folds_or_essays_are_refused_before_any_run(inside):
    words = ["grid.yaml", "-o", "x", "--against"]
    other = "has other folds or essays than this grid"
    outcome = command("benchmark", *words, "g/predictions/g.mse.parquet", "--folds", "0")
    assert outcome.code == 2
    assert f"--against g.mse.parquet {other}: 0 test essays of fold_1 are expected, and 12 are found" in outcome.error
    table = predictions(inside, "mse")
    table.iloc[1:].to_parquet(inside / "few.parquet", index=False)
    outcome = command("benchmark", *words, "few.parquet")
    assert outcome.code == 2
    assert f"few.parquet {other}: 12 test essays of fold_0 are expected, and 11 are found, 11 of them" in outcome.error
    prompt = next(iter(RANGES))
    table[(table["prompt_id"] != prompt) | (table["fold"] == 0)].to_parquet(inside / "part.parquet", index=False)
    assert f"part.parquet {other}" in command("benchmark", *words, "part.parquet").error
    table.assign(essay_id="new " + table["essay_id"]).to_parquet(inside / "new.parquet", index=False)
    assert "The data set has no human score for essay 'new " in command("benchmark", *words, "new.parquet").error
    outcome = command("benchmark", *words, "g/predictions/g.mse.parquet", "measured_on=dev")
    assert "expected protocol: folds and measured_on: test, found folds and dev" in outcome.error
    assert "none.parquet" in command("benchmark", *words, "none.parquet").error
    assert "expected columns" in command("benchmark", *words, "essays.jsonl").error
    assert not (inside / "x").exists()
