"""Ensembles with weights by prompt: how they score and are stored, and on whose predictions weights are fitted."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from tiny_scorer import TWO_PROMPTS, sign, tiny_scorer, values_of

from aes_dynloss.errors import CheckpointError, ConfigError, DataError
from aes_dynloss.essays.data.essay_table import Prompt
from aes_dynloss.essays.data.splits import ids_hash
from aes_dynloss.essays.ensembles.card import ensemble_card
from aes_dynloss.essays.ensembles.ensemble import EssayEnsemble, open_scorer
from aes_dynloss.essays.ensembles.ensembling import ensemble_runs
from aes_dynloss.essays.model.encoders import file_sha256
from aes_dynloss.measures.calibration import fit_rescaling
from aes_dynloss.measures.stacking import fit_weights
from aes_dynloss.tables.score_range import ScoreRange

RANGES = {scale.prompt.id: scale.prompt.range for scale in TWO_PROMPTS}
TEXTS = ["the teacher and the otter", "a bridge", "phones 42", "one lesson"]
PROMPT_IDS = ["notice", "letter", "letter", "notice"]
WEIGHTS = {"letter": (0.75, 0.25), "notice": (0.0, 1.0)}
FOLDS, ESSAYS = 5, 300
SPLITS = {"oof": "train", "dev": "dev", "test": "test"}
PARTS = tuple(SPLITS)


@pytest.fixture(scope="module")
def models(encoder: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Two models with probabilities."""
    folder = tmp_path_factory.mktemp("models")
    tiny_scorer(encoder, head="ordinal").save_pretrained(folder / "0")
    tiny_scorer(encoder, head="softmax", max_tokens=24).save_pretrained(folder / "1")
    return [folder / "0", folder / "1"]


def weighted(models: list[Path]) -> EssayEnsemble:
    return EssayEnsemble(EssayEnsemble.from_members(models).members, weights=WEIGHTS, fitted_on="these essays")


def test_scores_and_probabilities_are_weighted_means(models):
    scores = weighted(models).score(TEXTS, PROMPT_IDS)
    one, two = (open_scorer(model).score(TEXTS, PROMPT_IDS) for model in models)
    shares = np.array([WEIGHTS[prompt] for prompt in PROMPT_IDS])
    np.testing.assert_allclose(scores.raw, shares[:, 0] * one.raw + shares[:, 1] * two.raw, atol=1e-6)
    np.testing.assert_allclose(
        scores.probabilities, shares[:, :1] * one.probabilities + shares[:, 1:] * two.probabilities, atol=1e-6
    )
    assert np.abs(one.raw - two.raw).max() > 0.01
    plain = EssayEnsemble.from_members(models).score(TEXTS, PROMPT_IDS)
    assert not np.allclose(scores.raw, plain.raw, atol=1e-4)


def test_a_prompt_without_weights_has_equal_ones(models):
    ensemble = weighted(models)
    del ensemble.weights["letter"]
    plain = EssayEnsemble.from_members(models).score(TEXTS, PROMPT_IDS)
    letters = np.array(PROMPT_IDS) == "letter"
    raw = ensemble.score(TEXTS, PROMPT_IDS).raw
    np.testing.assert_array_equal(raw[letters], plain.raw[letters])
    assert not np.allclose(raw[~letters], plain.raw[~letters], atol=1e-4)


def test_equal_weights_give_the_exact_mean(models):
    """A third of 0, 0.5 and 2.5 each is less than 1."""
    ensemble = EssayEnsemble.from_members([*models, models[0]])
    assert ensemble.combine(np.array([[0.0, 0.5, 2.5], [1.1, 1.1, 1.1]]), ["letter", "notice"])[0] == 1


def test_weights_are_stored(models, tmp_path):
    made = weighted(models)
    made.save_pretrained(tmp_path / "both")
    opened = open_scorer(tmp_path / "both")
    assert (opened.weights, opened.fitted_on) == (WEIGHTS, "these essays")
    np.testing.assert_array_equal(opened.score(TEXTS, PROMPT_IDS).raw, made.score(TEXTS, PROMPT_IDS).raw)
    card = (tmp_path / "both" / "README.md").read_text()
    assert "weights fitted on these essays (stacking)" in card
    assert "| prompt | members/0 | members/1 |\n| --- | ---: | ---: |\n| letter | 0.750 | 0.250 |\n" in card
    assert "| notice | 0.000 | 1.000 |\n" in card


def test_a_prompt_with_a_bar_in_its_name_stays_in_its_cell(tmp_path):
    prompt = Prompt("a|b", ScoreRange(1, 6), None)
    card = ensemble_card({"a|b": prompt}, [tmp_path, tmp_path], {"a|b": [0.75, 0.25]}, "dev", "none", "dev")
    assert r"| a\|b | 0.750 | 0.250 |" in card


def test_an_older_folder_opens_with_equal_weights(models, tmp_path):
    made = EssayEnsemble.from_members(models)
    made.save_pretrained(tmp_path / "both")
    assert "stacking" not in (tmp_path / "both" / "README.md").read_text()
    values = values_of(tmp_path / "both")
    del values["weights"], values["fitted_on"]
    sign(tmp_path / "both", values)
    opened = open_scorer(tmp_path / "both")
    assert opened.weights == {}
    np.testing.assert_array_equal(opened.score(TEXTS, PROMPT_IDS).raw, made.score(TEXTS, PROMPT_IDS).raw)


@pytest.mark.parametrize(
    "weights",
    [
        {"letter": [0.5, 0.6]},
        {"letter": [-0.5, 1.5]},
        {"letter": [1.0]},
        {"letter": [np.nan, 1.0]},
        {"letter": []},
        {"ode": [0.5, 0.5]},
        {"letter": "half"},
        ["letter"],
    ],
)
def test_weights_that_are_none_are_refused(models, tmp_path, weights):
    weighted(models).save_pretrained(tmp_path / "both")
    sign(tmp_path / "both", values_of(tmp_path / "both") | {"weights": weights})
    with pytest.raises(CheckpointError, match="is damaged"):
        open_scorer(tmp_path / "both")


def part_of(number: int, fold: int) -> str:
    """The common folds' design: what is dev in one fold is test in the one before it."""
    return {0: "test", 1: "dev"}.get((number - fold) % FOLDS, "train")


def predictions(seed: int, fold: int, part: str, noise: dict[str, float]) -> pd.DataFrame:
    """Made-up predictions of a part of the essays, with a noise by prompt."""
    tables = []
    for place, (prompt, span) in enumerate(RANGES.items()):
        random = np.random.default_rng([seed, fold, place])
        human = np.random.default_rng(place).choice(span.points, ESSAYS)
        middle, width = (span.low + span.high) / 2, span.high - span.low
        raw = middle + 0.7 * (human - middle) + noise[prompt] * width * random.normal(size=ESSAYS)
        table = pd.DataFrame({"essay_id": [f"{prompt} {number}" for number in range(ESSAYS)], "prompt_id": prompt})
        table = table.assign(reference=human, raw=raw, score=span.to_point(raw))
        tables.append(table[[part_of(number, fold) == SPLITS[part] for number in range(ESSAYS)]])
    return pd.concat(tables, ignore_index=True)


LETTERS_ARE_NOISE, NOTICES_ARE_NOISE = {"letter": 0.4, "notice": 0.1}, {"letter": 0.1, "notice": 0.4}


@pytest.fixture
def make_run(models, tmp_path):
    """Makes a run's folder in a fold: its model, its predictions, and a manifest that says which essays they are."""

    def made(name: str, seed: int, fold: int = 0, noise=LETTERS_ARE_NOISE, data: str = "made up") -> Path:
        folder = tmp_path / name
        shutil.copytree(models[seed % 2], folder / "model")
        for part in PARTS:
            predictions(seed, fold, part, noise).to_csv(folder / f"predictions_{part}.csv", index=False)
        write_manifest(folder, data)
        return folder

    return made


def write_manifest(run: Path, data: str = "made up", *, digests: bool = True) -> None:
    """What a manifest says of a run's essays, by its files; without digests as it was in earlier versions."""
    tables = {part: pd.read_csv(run / f"predictions_{part}.csv") for part in PARTS}
    split = {SPLITS[part]: ids_hash(table["essay_id"]) for part, table in tables.items()}
    values = {"data": {"sha256": data}, "split": {"sha256": split}}
    if digests:
        values["predictions"] = {part: file_sha256(run / f"predictions_{part}.csv") for part in PARTS}
    (run / "manifest.json").write_text(json.dumps(values), encoding="utf-8")


def by_hand(runs: list[Path], file: str, prompt: str, **settings: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Weights, the ensemble's raw predictions and the human scores of a prompt, from the runs' files."""
    tables = [pd.read_csv(run / f"predictions_{file}.csv") for run in runs]
    tables = [table[table["prompt_id"] == prompt].sort_values("essay_id") for table in tables]
    raw = np.column_stack([table["raw"] for table in tables])
    human = tables[0]["reference"].to_numpy()
    weights = fit_weights(raw, human, tables[0]["essay_id"].tolist(), **settings)
    return weights, raw @ weights, human


@pytest.mark.parametrize("postprocessing", ["none", "rescale"])
def test_weights_and_rescaling_are_fitted_on_out_of_fold_predictions(make_run, tmp_path, caplog, postprocessing):
    caplog.set_level("INFO")
    runs = [make_run("a", 0), make_run("b", 1, noise=NOTICES_ARE_NOISE)]
    ensemble = ensemble_runs(runs, postprocessing, "nnls")
    for prompt, better in {"notice": 0, "letter": 1}.items():
        weights, raw, human = by_hand(runs, "oof", prompt)
        assert weights[better] > 0.8
        assert ensemble.weights[prompt] == pytest.approx(weights, abs=1e-9)
        listed = ", ".join(f"{weight:.3f}" for weight in weights)
        assert f"Prompt {prompt}: {listed} (180 essays)." in caplog.messages
        if postprocessing == "rescale":
            line, expected = ensemble.postprocessing.fitted[prompt], fit_rescaling(raw, human)
            assert (line.slope, line.intercept) == pytest.approx((expected.slope, expected.intercept), abs=1e-9)
    said = "Weights fitted on out-of-fold predictions of train essays, in the order of the members:"
    assert said in caplog.messages
    ensemble.save_pretrained(tmp_path / "both")
    card = (tmp_path / "both" / "README.md").read_text()
    assert "weights fitted on out-of-fold predictions of train essays (stacking)" in card
    assert ("rescale (fitted on out-of-fold predictions of train essays)" in card) == (postprocessing == "rescale")


def test_intervals_are_those_of_the_weighted_mean_on_dev(make_run):
    runs = [make_run("a", 0), make_run("b", 1, noise=NOTICES_ARE_NOISE)]
    stacked, equal = ensemble_runs(runs, weights="nnls"), ensemble_runs(runs)
    for prompt in RANGES:
        tables = [pd.read_csv(run / "predictions_dev.csv") for run in runs]
        tables = [table[table["prompt_id"] == prompt] for table in tables]
        raw = np.column_stack([table["raw"] for table in tables])
        errors = np.sort(np.abs(raw @ by_hand(runs, "oof", prompt)[0] - tables[0]["reference"]))
        assert stacked.intervals.prompts[prompt].errors == pytest.approx(errors, abs=1e-9)
        assert np.median(errors) < np.median(equal.intervals.prompts[prompt].errors)


def test_runs_without_out_of_fold_predictions_are_weighed_on_dev_and_shrunk(make_run, tmp_path, caplog):
    caplog.set_level("INFO")
    runs = [make_run("a", 0), make_run("b", 1, noise=NOTICES_ARE_NOISE)]
    (runs[0] / "predictions_oof.csv").unlink()
    ensemble = ensemble_runs(runs, "rescale", "nnls")
    for prompt in RANGES:
        weights, raw, human = by_hand(runs, "dev", prompt, least_shrinkage=0.5)
        assert weights.min() >= 0.25
        assert ensemble.weights[prompt] == pytest.approx(weights, abs=1e-9)
        assert ensemble.postprocessing.fitted[prompt].slope == pytest.approx(fit_rescaling(raw, human).slope)
    said = "Weights fitted on dev essays, as not all runs have predictions_oof.csv, in the order of the members:"
    assert said in caplog.messages
    ensemble.save_pretrained(tmp_path / "both")
    assert "weights fitted on dev essays (stacking)" in (tmp_path / "both" / "README.md").read_text()


def test_a_prompt_of_few_essays_keeps_equal_weights(make_run, caplog):
    runs = [make_run("a", 0), make_run("b", 1)]
    for run in runs:
        path = run / "predictions_oof.csv"
        table = pd.read_csv(path)
        table[(table["prompt_id"] == "letter") | (table.groupby("prompt_id").cumcount() < 29)].to_csv(path, index=False)
        write_manifest(run)
    assert ensemble_runs(runs, weights="nnls").weights.keys() == {"letter"}
    assert "Prompt notice: 29 essays to fit weights on, not 30: they stay equal." in caplog.messages


class TestLeaks:
    """Dev of a fold is test of the one before it: its predictions are by a model that has learned from the others."""

    def test_members_of_different_folds(self, make_run):
        runs = [make_run("a", 0), make_run("b", 1, fold=1)]
        words = (
            r"^Weights can only be fitted for runs of one split, but the runs of .*a/model and .*b/model have "
            r"different splits of them\. .* Name runs of one fold, or use --weights equal\.$"
        )
        with pytest.raises(ConfigError, match=words):
            ensemble_runs(runs, weights="nnls")
        ensemble_runs(runs)

    def test_members_of_different_essays(self, make_run):
        runs = [make_run("a", 0), make_run("b", 1, data="other")]
        with pytest.raises(ConfigError, match=r"b/model have different essays\. "):
            ensemble_runs(runs, weights="nnls")

    @pytest.mark.parametrize("file", ["oof", "dev"])
    @pytest.mark.parametrize("other", PARTS)
    @pytest.mark.parametrize("everywhere", [True, False])
    @pytest.mark.parametrize("digests", [True, False])
    def test_a_file_of_another_folds_run_in_the_place_of_the_own(self, make_run, file, other, everywhere, digests):
        """Even if all members have it, and so the same essays."""
        runs = [make_run("a", 0), make_run("b", 1)]
        for seed, run in enumerate(runs):
            write_manifest(run, digests=digests)
            if everywhere or seed:
                source = make_run(f"fold_1 {seed}", seed, fold=1)
                shutil.copy(source / f"predictions_{other}.csv", run / f"predictions_{file}.csv")
        if (file, other, digests) == ("dev", "test", False):
            return  # the very same essays: there it takes the digest of the file
        words = rf"predictions_{file}\.csv is not what the run wrote of its {SPLITS[file]} essays, by the sha256 in man"
        with pytest.raises(DataError, match=words):
            ensemble_runs(runs, weights="nnls")

    def test_test_predictions_of_all_folds_put_together_as_if_out_of_fold(self, make_run):
        """They are of the train essays and no others, by models that have learned from this fold's test essays."""
        runs = [make_run("a", 0), make_run("b", 1)]
        for seed, run in enumerate(runs):
            path = run / "predictions_oof.csv"
            own = pd.read_csv(path)
            tests = pd.concat([predictions(seed, fold, "test", LETTERS_ARE_NOISE) for fold in range(FOLDS)])
            tests[tests["essay_id"].isin(own["essay_id"])].to_csv(path, index=False)
            assert set(pd.read_csv(path)["essay_id"]) == set(own["essay_id"])
        with pytest.raises(DataError, match=r"predictions_oof\.csv is not what the run wrote of its train essays"):
            ensemble_runs(runs, weights="nnls")

    @pytest.mark.parametrize("content", [None, "", "[]", "{}", '{"split": {"sha256": {}}}', '{"split": 3}', "\udcff"])
    def test_a_run_whose_split_is_not_known(self, make_run, content):
        runs = [make_run("a", 0), make_run("b", 1)]
        path = runs[1] / "manifest.json"
        path.unlink()
        if content is not None:
            path.write_text(content, errors="surrogateescape")
        with pytest.raises(DataError, match=r"manifest\.json.* so that it is unknown from which essays its model"):
            ensemble_runs(runs, weights="nnls")

    def test_a_model_outside_its_run(self, make_run, models):
        with pytest.raises(DataError, match="it is unknown from which essays its model has learned"):
            ensemble_runs([make_run("a", 0), models[1]], weights="nnls")

    def test_other_human_scores(self, make_run):
        runs = [make_run("a", 0), make_run("b", 1)]
        table = pd.read_csv(runs[1] / "predictions_oof.csv")
        table.loc[0, "reference"] = RANGES["letter"].low + (table.loc[0, "reference"] == RANGES["letter"].low)
        table.to_csv(runs[1] / "predictions_oof.csv", index=False)
        write_manifest(runs[1])
        with pytest.raises(DataError, match=r"has the human score .* in the run of .*a/model and "):
            ensemble_runs(runs, weights="nnls")
