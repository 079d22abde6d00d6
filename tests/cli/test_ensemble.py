"""`aes-dynloss ensemble`: several runs' models as one that `score` takes like any other."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from command_line import command
from forked import finish_together
from small_run import read_rows, small_essays, tune, write_rows, write_small_run

from aes_dynloss.essays.ensembles import ensemble as ensemble_folder
from aes_dynloss.measures.calibration import fit_rescaling

pytestmark = pytest.mark.slow

RANGE = {"phones": (1, 6), "river": (0, 4)}


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    """Two seeds on one split, one on another split, one that knows a single prompt, and essays in a random order."""
    folder = tmp_path_factory.mktemp("ensemble")
    run_yaml = write_small_run(folder)
    for name, words in {
        "seed_1": ["training.seed=1"],
        "seed_2": ["training.seed=2"],
        "fold_1": ["data.split.seed=5"],
        "river": ["training.seed=3", "data.keep_prompts=[river]"],
    }.items():
        outcome = tune(run_yaml, folder / name, "training.learning_rate=0.01", *words)
        assert outcome.code == 0, outcome.err
    rows = [{key: row[key] for key in ("essay_id", "prompt_id", "text")} for row in small_essays()]
    order = np.random.default_rng(0).permutation(len(rows))
    write_rows(folder / "unscored.csv", [rows[number] for number in order])
    assert command("ensemble", folder / "seed_1", folder / "seed_2", "-o", folder / "seeds").code == 0
    return folder


def scored(place: Path, model: str, *words: object) -> list[dict[str, str]]:
    outcome = command("score", place / model, place / "unscored.csv", *words, "-o", place / "scores.csv", "--force")
    assert outcome.code == 0, outcome.err
    return read_rows(place / "scores.csv")


def raw_of(rows: list[dict[str, str]]) -> list[float]:
    return [float(row["raw"]) for row in rows]


def test_scores_are_those_of_the_mean(place):
    rows, one, two = (scored(place, model) for model in ("seeds", "seed_1/model", "seed_2/model"))
    essays = read_rows(place / "unscored.csv")
    for key in ("essay_id", "prompt_id"):
        assert [row[key] for row in rows] == [essay[key] for essay in essays]
    names = ["essay_id", "prompt_id", "raw", "score", "low", "high", "certainty", "withheld", "advisories", "reasons"]
    assert list(rows[0]) == names
    np.testing.assert_allclose(raw_of(rows), np.mean([raw_of(one), raw_of(two)], axis=0), rtol=0, atol=1e-6)
    assert np.abs(np.subtract(raw_of(one), raw_of(two))).max() > 0.01
    assert all(
        float(row["score"]) == np.clip(np.floor(float(row["raw"]) + 0.5), *RANGE[row["prompt_id"]]) for row in rows
    )


def test_how_sure_it_is_comes_from_its_own_errors_whatever_the_heads(tmp_path):
    run_yaml = write_small_run(tmp_path)
    for seed in (1, 2):
        words = ["model.head=ordinal", "training.epochs=1", f"training.seed={seed}"]
        assert tune(run_yaml, tmp_path / f"run_{seed}", *words).code == 0
    assert command("ensemble", tmp_path / "run_1", tmp_path / "run_2", "-o", tmp_path / "both").code == 0
    stored = json.loads((tmp_path / "both/config.json").read_text())["certainty"]
    assert set(stored) == set(RANGE)
    write_rows(tmp_path / "e.csv", [{"essay_id": 1, "prompt_id": "river", "text": "The otter by the river."}])
    words = ["-o", tmp_path / "s.jsonl", "--probabilities", "--review", tmp_path / "review.csv"]
    outcome = command("score", tmp_path / "both", tmp_path / "e.csv", *words, "--policy", "too_short=off")
    assert (outcome.code, "does not know" in outcome.err) == (0, False), outcome.err
    row = json.loads((tmp_path / "s.jsonl").read_text())
    assert 0 < row["certainty"] < 1
    assert row["probabilities"] is not None


def test_words(place, tmp_path):
    outcome = command("ensemble", place / "seed_1", place / "seed_2/model", "-o", tmp_path / "new" / "both")
    assert (outcome.code, outcome.out) == (0, "")
    assert outcome.err == f"Ensemble: {tmp_path / 'new' / 'both'}, 2 members, for the prompts phones, river.\n"
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["both"]


def test_rescaled_on_the_mean_of_the_dev_predictions(place):
    words = [place / "seed_1", place / "seed_2", "--postprocessing", "rescale", "-o", place / "rescaled"]
    assert command("ensemble", *words).code == 0
    tables = [read_rows(place / seed / "predictions_dev.csv") for seed in ("seed_1", "seed_2")]
    rows, plain = scored(place, "rescaled"), scored(place, "seeds")
    assert raw_of(rows) == raw_of(plain)
    assert [row["score"] for row in rows] != [row["score"] for row in plain]
    for prompt, (low, high) in RANGE.items():
        dev = [(one, two) for one, two in zip(*tables, strict=True) if one["prompt_id"] == prompt]
        assert [one["essay_id"] for one, _ in dev] == [two["essay_id"] for _, two in dev]
        raw = [(float(one["raw"]) + float(two["raw"])) / 2 for one, two in dev]
        line = fit_rescaling(raw, [float(one["reference"]) for one, _ in dev])
        stored = json.loads((place / "rescaled" / "config.json").read_text())["postprocessing"]["prompts"][prompt]
        assert (stored["slope"], stored["intercept"]) == pytest.approx((line.slope, line.intercept), abs=1e-9)
        mine = [row for row in rows if row["prompt_id"] == prompt]
        expected = np.clip(np.floor(line.apply(raw_of(mine)) + 0.5 + 1e-9), low, high)
        assert [float(row["score"]) for row in mine] == expected.tolist()


def test_folds(place, tmp_path):
    """An essay that is dev in both is no leak, but of six a prompt there are too few of them."""
    folds = [place / "seed_1", place / "fold_1"]
    dev = [{(row["prompt_id"], row["essay_id"]) for row in read_rows(fold / "predictions_dev.csv")} for fold in folds]
    left = [prompt for prompt, _ in dev[0] & dev[1]]
    assert min(left.count(prompt) for prompt in RANGE) < 2
    outcome = command("ensemble", *folds, "--postprocessing", "cut_points", "-o", tmp_path / "folds")
    assert outcome.code == 2
    for prompt in RANGE:
        assert (f"prompt {prompt} has {left.count(prompt)}" in outcome.error) == (left.count(prompt) < 2)
    assert outcome.error.endswith("Use --postprocessing none, or members of one fold.")
    assert list(tmp_path.iterdir()) == []
    assert command("ensemble", *folds, "-o", tmp_path / "folds").code == 0


def test_prompts_that_not_all_know(place, tmp_path):
    outcome = command("ensemble", place / "seed_1", place / "river", "-o", tmp_path / "river")
    assert outcome.code == 0
    assert "cannot score prompts that not all members know alike: phones (known to 1 of 2 members)." in outcome.err
    assert outcome.err.endswith("2 members, for the prompt river.\n")
    outcome = command("score", tmp_path / "river", place / "unscored.csv")
    assert (outcome.code, outcome.out) == (2, "")
    assert "not trained on prompt 'phones'; it knows river." in outcome.error
    texts = write_rows(tmp_path / "texts.csv", [{"text": "The river."}])
    assert command("score", tmp_path / "river", texts).out.splitlines()[1].split(",")[1] == "river"


@pytest.fixture(scope="module")
def stackable(tmp_path_factory) -> Path:
    """Exact heads and a trained one on one split, an exact head on another split, and essays."""
    folder = tmp_path_factory.mktemp("stackable")
    run_yaml = write_small_run(folder)
    source = write_rows(folder / "more.jsonl", small_essays(60))
    exact = ["model.frozen_layers=all", "model.postprocessing=rescale"]
    for name, words in {
        "ridge": [*exact, "model.solver=ridge", "model.linguistic=true"],
        "kernel": [*exact, "model.solver=kernel_ridge"],
        "trained": ["training.learning_rate=0.01"],
        "fold_1": [*exact, "model.solver=kernel_ridge", "data.split.seed=5"],
    }.items():
        outcome = tune(run_yaml, folder / name, f"data.source={source}", *words)
        assert outcome.code == 0, outcome.err
    write_rows(
        folder / "unscored.csv",
        [{key: row[key] for key in ("essay_id", "prompt_id", "text")} for row in small_essays()],
    )
    return folder


class TestWeights:
    @pytest.mark.parametrize(
        ("runs", "fitted_on"),
        [(("ridge", "kernel"), "out-of-fold predictions of train essays"), (("ridge", "trained"), "dev essays")],
    )
    def test_scores_are_those_of_the_weighted_mean(self, stackable, tmp_path, runs, fitted_on):
        words = ["--weights", "nnls", "--postprocessing", "rescale", "-o", tmp_path / "stack"]
        outcome = command("ensemble", *(stackable / run for run in runs), *words)
        assert (outcome.code, outcome.out) == (0, ""), outcome.err
        assert f"Weights fitted on {fitted_on}" in outcome.err
        values = json.loads((tmp_path / "stack" / "config.json").read_text())
        assert values["fitted_on"] == fitted_on
        if fitted_on == "dev essays":
            for prompt in RANGE:
                assert f"Prompt {prompt}: 12 essays to fit weights on, not 30: they stay equal." in outcome.err
            assert values["weights"] == {}
            return
        for prompt, weights in values["weights"].items():
            assert sum(weights) == pytest.approx(1)
            assert f"Prompt {prompt}: {weights[0]:.3f}, {weights[1]:.3f} (36 essays).\n" in outcome.err
        rows = scored(stackable, str(tmp_path / "stack"))
        members = [raw_of(scored(stackable, f"{run}/model")) for run in runs]
        expected = [np.dot(values["weights"][row["prompt_id"]], raw) for row, *raw in zip(rows, *members, strict=True)]
        np.testing.assert_allclose(raw_of(rows), expected, atol=1e-6)
        lines = values["postprocessing"]["prompts"]
        for row in rows:
            line, (low, high) = lines[row["prompt_id"]], RANGE[row["prompt_id"]]
            rescaled = line["slope"] * float(row["raw"]) + line["intercept"]
            assert float(row["score"]) == np.clip(np.floor(rescaled + 0.5), low, high)

    def test_what_another_run_has_predicted_is_refused(self, stackable, tmp_path):
        words = ["--weights", "nnls", "-o", tmp_path / "stack"]
        outcome = command("ensemble", stackable / "ridge", stackable / "fold_1", *words)
        assert outcome.code == 2
        assert outcome.error.startswith("Weights can only be fitted for runs of one split, but the runs of ")
        for other, file, part in (("fold_1", "oof", "train"), ("fold_1", "dev", "dev"), ("ridge", "oof", "train")):
            run = Path(shutil.copytree(stackable / "kernel", tmp_path / f"{other} {file}"))
            assert command("ensemble", stackable / "ridge", run, *words, "--force").code == 0
            shutil.copy(stackable / other / f"predictions_{file}.csv", run)
            outcome = command("ensemble", stackable / "ridge", run, *words, "--force")
            assert outcome.code == 2
            assert f"predictions_{file}.csv is not what the run wrote of its {part} essays" in outcome.error
        run = Path(shutil.copytree(stackable / "kernel", tmp_path / "test"))  # the neighbouring fold's test is dev here
        shutil.copy(run / "predictions_test.csv", run / "predictions_dev.csv")
        assert (
            "predictions_dev.csv is not what" in command("ensemble", stackable / "ridge", run, *words, "--force").error
        )

    def test_a_single_members_weight_is_no_choice(self, stackable, tmp_path):
        outcome = command(
            "ensemble", stackable / "ridge", stackable / "kernel", "--weights", "ridge", "-o", tmp_path / "x"
        )
        assert outcome.code == 2
        assert "'ridge' is not one of 'equal', 'nnls'" in outcome.error


class TestRefusals:
    @pytest.mark.parametrize(
        ("words", "message"),
        [
            (["seed_1", "-o", "new"], "An ensemble needs two members or more, found 1."),
            (["-o", "new"], "Missing argument 'RUN RUN [RUN ...]'"),
            (["seed_1", "seed_2"], "Missing option '--output-dir'"),
            (["seed_1", "none", "-o", "new"], "There is no model folder none."),
            (["seed_1", "encoder", "-o", "new"], "is not that of an essay scorer"),
            (["seed_1", "seeds", "-o", "new"], "seeds holds an ensemble, where a single scorer is expected."),
            (["seed_1", "seed_2", "-o", "new", "--postprocessing", "polish"], "'polish' is not one of 'none'"),
            (["seed_1", "seed_2", "-o", "new", "--weights", "best"], "'best' is not one of 'equal', 'nnls'"),
            (
                ["seed_1", "fold_1", "-o", "new", "--weights", "nnls"],
                "Weights can only be fitted for runs of one split",
            ),
            (["seed_1", "seed_2", "-o", "seeds"], "seeds is there already. Choose another --output-dir, or replace it"),
            (["seed_1", "seed_2", "-o", "essays.jsonl"], "essays.jsonl is there already. Choose another --output-dir"),
            (["seed_1", "seed_2", "-o", "essays.jsonl", "--force"], "essays.jsonl is there already and holds no model"),
            (["seed_1", "seed_2", "-o", "river", "--force"], "river is there already and holds no model"),
            (["seed_1", "seed_2", "-o", "essays.jsonl/x"], "essays.jsonl/x cannot be written"),
            (["seed_1", "seed_2", "-o", "seed_2/model", "--force"], "--output-dir seed_2/model holds the RUN seed_2,"),
            (["seed_1/model", "seed_2", "-o", "./seed_1/model", "--force"], "holds the RUN seed_1/model, which would"),
            (["seeds/members/0", "seed_2", "-o", "seeds", "--force"], "holds the RUN seeds/members/0, which would be"),
        ],
    )
    def test_of_the_command(self, place, monkeypatch, words, message):
        monkeypatch.chdir(place)
        before = {path: path.stat().st_mtime_ns for path in place.rglob("*")}
        outcome = command("ensemble", *words)
        assert (outcome.code, outcome.out) == (2, "")
        assert message in outcome.error
        assert {path: path.stat().st_mtime_ns for path in place.rglob("*")} == before

    def test_a_link_to_itself(self, place, tmp_path, monkeypatch):
        monkeypatch.chdir(place)
        (tmp_path / "loop").symlink_to("loop")
        outcome = command("ensemble", "seed_1", "seed_2", "-o", tmp_path / "loop")
        assert outcome.code == 2
        assert "loop cannot be written" in outcome.error

    def test_a_damaged_member(self, place, tmp_path):
        broken = Path(shutil.copytree(place / "seeds", tmp_path / "broken"))
        shutil.copy(place / "river/model/model.safetensors", broken / "members/1/model.safetensors")
        outcome = command("score", broken, place / "unscored.csv")
        assert (outcome.code, outcome.out) == (2, "")
        assert "members/1/model.safetensors is not what was written" in outcome.error

    def test_a_full_disk(self, place, tmp_path, monkeypatch):
        def full(*_: object) -> None:
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(ensemble_folder, "_copy", full)
        outcome = command("ensemble", place / "seed_1", place / "seed_2", "-o", tmp_path / "both")
        assert outcome.code == 2
        assert outcome.error == f"The model folder {tmp_path / 'both'} cannot be written: No space left on device."
        assert list(tmp_path.iterdir()) == []


def test_an_older_one_is_replaced(place, tmp_path):
    shutil.copytree(place / "seeds", tmp_path / "seeds")
    words = [place / "seed_2", place / "fold_1", place / "seed_1", "-o", tmp_path / "seeds", "--force"]
    assert command("ensemble", *words).code == 0
    assert [path.name for path in tmp_path.iterdir()] == ["seeds"]
    assert sorted(path.name for path in (tmp_path / "seeds" / "members").iterdir()) == ["0", "1", "2"]


def test_other_processes_write_nothing(place, tmp_path, monkeypatch):
    monkeypatch.setattr("accelerate.Accelerator.is_main_process", False)
    assert command("ensemble", place / "seed_1", place / "seed_2", "-o", tmp_path / "both").code == 0
    assert list(tmp_path.iterdir()) == []


def test_two_processes_that_work_together(place):
    expected = scored(place, "seeds")
    assert finish_together(place, "ensemble", "seed_1", "seed_2", "-o", "together") == [0, 0]
    assert (place / "together" / "config.json").read_bytes() == (place / "seeds" / "config.json").read_bytes()
    assert finish_together(place, "score", "together", "unscored.csv", "-o", "together.csv") == [0, 0]
    found = read_rows(place / "together.csv")
    assert [row["essay_id"] for row in found] == [row["essay_id"] for row in expected]
    np.testing.assert_allclose(raw_of(found), raw_of(expected), rtol=0, atol=1e-5)
