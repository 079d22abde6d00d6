"""Runs whose essays' vectors are of several layers: stored, cached, resumed and scored as they were trained."""

from __future__ import annotations

from pathlib import Path

import pytest
from small_run import EVERYTHING, check_scores, read_rows, tune

from aes_dynloss.essays.finetune import products as run_products
from aes_dynloss.essays.model.scorer import EncoderScorer

pytestmark = pytest.mark.slow

LAYERS = "model.pooled_layers=all"
FROZEN = "model.frozen_layers=all"
VARIANTS = {
    "learning, chunks, capped": ["model.window=16", "model.max_tokens=40"],
    "cls, two layers": ["model.pooling=cls", "model.pooled_layers=2", "model.hidden=4", "training.learning_rate=1e-6"],
    "recomputed": ["model.gradient_checkpointing=true", "training.micro_batch_size=3"],
    "frozen, chunks": [FROZEN, "model.window=16"],
    "lower frozen, chunks": ["model.frozen_layers=1", "model.window=16"],
    "frozen, cls": [FROZEN, "model.pooling=cls", "model.head=ordinal", "loss.terms={cross_entropy: 1.0}"],
}


@pytest.mark.parametrize("name", VARIANTS)
def test_the_stored_model_scores_as_the_run_did(run_yaml: Path, tmp_path: Path, name: str) -> None:
    outcome = tune(run_yaml, tmp_path / "run", LAYERS, *VARIANTS[name])
    assert outcome.code == 0, outcome.err
    assert {path.name for path in (tmp_path / "run").iterdir()} == EVERYTHING
    check_scores(tmp_path / "run", run_yaml.with_name("essays.jsonl"), "test")
    model = EncoderScorer.from_pretrained(tmp_path / "run" / "model").model
    assert model.feature_mean.shape == (16 * (2 if "two layers" in name else 3),)
    assert len({row["raw"] for row in read_rows(tmp_path / "run" / "predictions_test.csv")}) > 5


@pytest.mark.parametrize(
    "freeze", [[], [FROZEN], ["model.frozen_layers=1"]], ids=["learning", "frozen", "lower frozen"]
)
def test_a_resumed_run_is_the_uninterrupted_one(
    run_yaml: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, freeze: list[str]
) -> None:
    words = [LAYERS, *freeze]

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(run_products, "write_predictions", stop)
        assert tune(run_yaml, tmp_path / "run", *words).code == 130
    assert (
        "model.pooled_layers was 'all', now 2"
        in tune(run_yaml, tmp_path / "run", *freeze, "model.pooled_layers=2", "--resume").error
    )
    assert tune(run_yaml, tmp_path / "run", *words, "--resume").code == 0
    assert tune(run_yaml, tmp_path / "whole", *words).code == 0
    for name in ("metrics.jsonl", "predictions_test.csv", "model/model.safetensors", "model/config.json"):
        assert (tmp_path / "run" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes(), name


def test_runs_with_other_layers_share_a_folder_of_features_but_no_vector(run_yaml: Path, tmp_path: Path) -> None:
    cache = f"model.features_cache={tmp_path / 'cache'}"
    for run, words in {
        "plain": [],
        "filling": [cache],
        "one": [cache, "model.pooled_layers=1"],
        "again": [cache],
    }.items():
        assert tune(run_yaml, tmp_path / run, LAYERS, FROZEN, *words).code == 0
    assert len(list((tmp_path / "cache").glob("*.safetensors"))) == 2
    content = {run: (tmp_path / run / "model" / "head.safetensors").read_bytes() for run in ("filling", "one", "again")}
    assert content["filling"] == content["again"] != content["one"]
    raws = [
        [float(row["raw"]) for row in read_rows(tmp_path / run / "predictions_test.csv")] for run in ("plain", "again")
    ]
    assert raws[0] == pytest.approx(raws[1], abs=2e-5)


def test_more_layers_than_the_encoder_has(run_yaml: Path, tmp_path: Path) -> None:
    outcome = tune(run_yaml, tmp_path / "run", "model.pooled_layers=4")
    assert (outcome.code, outcome.out) == (2, "")
    assert "model.pooled_layers is 4, but the encoder has 2 and the embeddings. Set it to 3 at most." in outcome.error
