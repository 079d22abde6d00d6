"""The peers run on made-up essays in ASAP's layout, where their packages are installed; their results are whole."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import subprocess
import sys
from statistics import fmean

import numpy as np
import pytest
from asap_layout import write_asap
from readmes import ROOT
from tiny_encoder import write_tiny_encoder

FOLDER = ROOT / "recipes/essays/peers"
RESULTS = sorted((ROOT / "recipes/essays/results/peers").glob("*.json"))
FINETUNED = sorted((ROOT / "recipes/essays/results/peers/finetuned").glob("*.json"))
ESSAYS, PROMPTS, FOLDS = 60, {"3", "4"}, {"0", "1"}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Essays of two prompts and two folds of them."""
    folder = tmp_path_factory.mktemp("asap")
    write_asap(folder / "training_set_rel3.tsv", ESSAYS)
    ids = np.random.default_rng(0).permutation(ESSAYS).astype(str)
    for fold in FOLDS:
        path = folder / "folds" / f"fold_{fold}"
        path.mkdir(parents=True)
        parts = np.split(np.roll(ids, 20 * int(fold)), [36, 46])
        for name, part in zip(("train", "dev", "test"), parts, strict=True):
            (path / f"{name}_ids.txt").write_text("\n".join(part) + "\n", encoding="utf-8")
    return folder


@pytest.fixture
def peers(monkeypatch):
    """The modules of the folder can be imported by their names."""
    monkeypatch.syspath_prepend(str(FOLDER))
    import common_folds

    return common_folds


def run(script, *words, python=sys.executable):
    command = [python, str(FOLDER / script), *map(str, words)]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    return subprocess.run(command, capture_output=True, text=True, check=False, env=environment)


def check_whole(results, prompts, folds):
    """Every prompt and fold has its figure, and means are means of them."""
    for model in results["models"].values():
        for version in ("qwk", "qwk_rescaled"):
            found = model[version]["prompts"]
            assert {prompt: set(one["folds"]) for prompt, one in found.items()} == dict.fromkeys(prompts, folds)
            for one in found.values():
                assert one["mean"] == pytest.approx(fmean(one["folds"].values()))
                assert all(-1 <= kappa <= 1 for kappa in one["folds"].values())
            assert model[version]["mean"] == pytest.approx(fmean(one["mean"] for one in found.values()))
        assert model["cpu_minutes"] >= 0
    assert all(results["packages"].values())
    assert results["rescaled_by"]


def check_run(done, output):
    assert done.returncode == 0, done.stderr
    results = json.loads(output.read_text(encoding="utf-8"))
    check_whole(results, PROMPTS, FOLDS)
    assert [line.split("\t")[0] for line in done.stdout.splitlines()] == ["peer", *results["models"]]
    return results


def test_tfidf_svr_runs(data, tmp_path):
    output = tmp_path / "found.json"
    results = check_run(run("tfidf_svr.py", "--data", data, "--output", output), output)
    assert results["encoding"] is None


def test_sentence_transformers_ridge_runs_and_keeps_its_vectors(data, tmp_path):
    if importlib.util.find_spec("sentence_transformers") is None:
        pytest.skip("sentence-transformers is not installed")
    encoder, output, vectors = write_tiny_encoder(tmp_path / "tiny"), tmp_path / "found.json", tmp_path / "vectors.npz"
    words = ["--data", data, "--output", output, "--encoder", encoder, "--vectors", vectors]
    first = check_run(run("sentence_transformers_ridge.py", *words), output)
    written = vectors.stat().st_mtime_ns
    second = check_run(run("sentence_transformers_ridge.py", *words), output)
    assert vectors.stat().st_mtime_ns == written
    assert first["encoding"] == second["encoding"]
    assert str(tmp_path) not in output.read_text(encoding="utf-8")
    with np.load(vectors) as kept:
        assert kept["vectors"].shape == (ESSAYS, 16)


def test_rsmtool_models_run(data, tmp_path, rsmtool_python):
    check = "import rsmtool, datasets, spellchecker, click"
    if subprocess.run([rsmtool_python, "-c", check], capture_output=True, check=False).returncode:
        pytest.skip("the environment with RSMTool lacks what reads the essays: pip install '.[parity]' in it")
    output = tmp_path / "found.json"
    done = run("rsmtool_models.py", "--data", data, "--output", output, "--models", "NNLR", python=rsmtool_python)
    results = check_run(done, output)
    assert list(results["models"]) == ["RSMTool: NNLR"]


@pytest.mark.slow
class TestTrainerRegression:
    """Trainer and `finetune` on a tiny encoder."""

    @pytest.fixture
    def plain_data(self, data, tmp_path):
        """The same essays with texts that say their score, so that who mixes up rows or scales does not learn it."""
        folder = tmp_path / "asap"
        shutil.copytree(data, folder)
        path = folder / "training_set_rel3.tsv"
        title, *lines = path.read_text(encoding="cp1252").splitlines()
        rows = [line.split("\t") for line in lines]
        words = ["bad", "school", "otter", "good"]
        rows = [
            [*row[:2], " ".join([words[int(row[-1])]] * (3 + number % 5)), *row[3:]] for number, row in enumerate(rows)
        ]
        path.write_text("\r\n".join([title, *map("\t".join, rows)]) + "\r\n", encoding="cp1252", newline="")
        return folder

    def test_both_learn_and_are_measured(self, plain_data, tmp_path, peers):
        import trainer_regression

        encoder, output = write_tiny_encoder(tmp_path / "tiny"), tmp_path / "found.json"
        words = ["--data", plain_data, "--output", output, "--encoder", encoder, "--folds", "1", "--prompts", "4"]
        words += ["--epochs", 20, "--batch", 4, "--rate", 1e-2, "--kept", tmp_path / "kept"]
        done = run("trainer_regression.py", *words)
        assert done.returncode == 0, done.stderr
        results = json.loads(output.read_text(encoding="utf-8"))
        check_whole(results, {"4"}, {"1"})
        assert list(results["models"]) == ["transformers.Trainer", "aes-dynloss finetune"]
        for one in results["models"].values():
            assert one["qwk"]["mean"] > 0.6
            assert one["qwk_rescaled"]["mean"] > 0.6
            assert one["minutes"] > 0
            assert one["peak_mebibytes"] > 100
        assert results["settings"] == {"encoder": "tiny", "epochs": 20, "learning_rate": 1e-2, "batch_size": 4}
        lines = [line.split("\t") for line in done.stdout.splitlines() if "\t" in line]
        assert lines == [trainer_regression.TITLES, *trainer_regression.table_rows(results)]
        assert str(tmp_path) not in output.read_text(encoding="utf-8")
        # What was trained is not trained again, unless it was trained otherwise.
        same, other = sorted((tmp_path / "kept").iterdir())
        other.write_text(other.read_text(encoding="utf-8").replace('"epochs": 20', '"epochs": 1'), encoding="utf-8")
        made = [path.stat().st_mtime_ns for path in (same, other)]
        assert run("trainer_regression.py", *words).returncode == 0
        assert same.stat().st_mtime_ns == made[0]
        assert other.stat().st_mtime_ns > made[1]
        # Another training may round otherwise in several threads and end elsewhere: of it, only the setting is sure.
        assert json.loads(other.read_text(encoding="utf-8"))["epochs"] == 20
        again = json.loads(output.read_text(encoding="utf-8"))
        assert again["models"]["aes-dynloss finetune"] == results["models"]["aes-dynloss finetune"]
        assert list(again["models"]) == list(results["models"])

    @pytest.mark.parametrize(
        ("words", "told"),
        [
            (["--rate", "0"], "training.learning_rate: input should be greater than 0"),
            (["--folds", "0,a"], "--folds is '0,a', expected numbers with commas between them"),
        ],
    )
    def test_options_that_cannot_be_used_end_with_one_message(self, data, peers, monkeypatch, capsys, words, told):
        import trainer_regression

        monkeypatch.setattr(trainer_regression, "measured", None)  # before any training
        monkeypatch.setattr(sys, "argv", ["trainer_regression.py", "--data", str(data), *words])
        with pytest.raises(SystemExit) as ended:
            peers.run(trainer_regression.main)
        assert ended.value.code == 2
        assert told in capsys.readouterr().err

    def test_a_fold_that_is_not_there_ends_with_one_message(self, data, tmp_path):
        done = run("trainer_regression.py", "--data", data, "--output", tmp_path / "found.json", "--folds", "0,7")
        assert done.returncode == 2
        assert "no prompt 3 in fold 7" in done.stderr
        assert "--folds" in done.stderr
        assert "Traceback" not in done.stderr
        assert not (tmp_path / "found.json").exists()


def test_data_that_are_not_there_end_with_one_message(data, tmp_path):
    (tmp_path / "asap").mkdir()
    write_asap(tmp_path / "asap/training_set_rel3.tsv", ESSAYS)
    for folder, fact in ((tmp_path / "none", "training_set_rel3.tsv"), (tmp_path / "asap", "--data")):
        done = run("tfidf_svr.py", "--data", folder, "--output", tmp_path / "found.json")
        assert done.returncode == 2
        assert fact in done.stderr
        assert "Traceback" not in done.stderr
    assert not (tmp_path / "found.json").exists()


def test_folds_keep_train_and_test_apart_and_prompts_too(data, peers):
    essays = peers.read_asap(data)
    prompts, ids = np.array(essays.values("prompt_id")), np.array(essays.essay_ids)
    folds = peers.prompt_folds(essays, data)
    assert {(one.prompt, str(one.fold)) for one in folds} == {(prompt, fold) for prompt in PROMPTS for fold in FOLDS}
    for one in folds:
        for name, rows in (("train", one.train), ("dev", one.dev), ("test", one.test)):
            listed = (data / f"folds/fold_{one.fold}/{name}_ids.txt").read_text(encoding="utf-8").split()
            assert set(ids[rows]) == {essay for essay in listed if prompts[int(essay)] == one.prompt}
        assert str(one.score_range) == "0 to 3"


def test_a_perfect_prediction_has_qwk_1_and_a_trimmed_one_too(data, peers):
    essays = peers.read_asap(data)
    scores = essays.scores

    def predict(fold):
        right = scores[fold.test]
        return peers.Predictions(np.where(right == 3, 9.0, right - 0.4), np.where(right == 0, 1.0, right))

    found = peers.measure(peers.prompt_folds(essays, data), scores, predict)
    assert found["qwk"]["mean"] == 1
    assert 0.5 < found["qwk_rescaled"]["mean"] < 1


def test_rescaling_gives_the_mean_and_spread_of_the_scores(peers):
    random = np.random.default_rng(0)
    predicted, scores = random.normal(2, 0.5, 200), random.normal(3, 1.5, 200)
    found = peers.rescale(predicted, predicted, scores)
    assert (found.mean(), found.std()) == pytest.approx((scores.mean(), scores.std()))
    assert np.corrcoef(found, predicted)[0, 1] == pytest.approx(1)


@pytest.mark.parametrize("path", RESULTS, ids=lambda path: path.stem)
def test_published_results_are_whole(path):
    results = json.loads(path.read_text(encoding="utf-8"))
    check_whole(results, {str(prompt) for prompt in range(1, 9)}, {str(fold) for fold in range(5)})
    assert (FOLDER / f"{path.stem}.py").is_file()


@pytest.mark.parametrize("path", FINETUNED or [pytest.param(None, marks=pytest.mark.skip("none yet"))])
def test_published_results_of_fine_tuning_are_whole(path):
    results = json.loads(path.read_text(encoding="utf-8"))
    check_whole(results, PROMPTS, {"0"})
    assert (FOLDER / f"{path.stem}.py").is_file()


def test_every_peer_has_published_results():
    finetuning = {"trainer_regression"}
    assert {path.stem for path in FINETUNED} <= finetuning
    assert {path.stem for path in RESULTS} == {path.stem for path in FOLDER.glob("*.py")} - finetuning - {
        "common_folds"
    }
