"""An essay is encoded once for all runs, and never gets a vector that is not its own."""

from __future__ import annotations

import json
import logging
import shutil
from dataclasses import replace
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from feature_caches import (
    TEXTS,
    chunks_in,
    essays_of,
    features_of,
    kept_in,
    model_of,
    only_file,
)
from safetensors.numpy import load_file
from tiny_encoder import WORDS
from tiny_scorer import random_essays, scoring_model, tiny_scorer

from aes_dynloss.essays.model import activations, essay_cache
from aes_dynloss.essays.model.activations import pooled_features
from aes_dynloss.essays.model.essay_cache import essay_digest
from aes_dynloss.essays.model.examples import EssayExamples
from aes_dynloss.essays.model.feature_cache import FeatureCache
from aes_dynloss.essays.model.scorer import EncoderScorer
from aes_dynloss.essays.model.scoring_model import ScoringModel

pytestmark = pytest.mark.usefixtures("several_passes")


class TestHits:
    @pytest.mark.parametrize("pooling", ["mean", "cls"])
    def test_a_second_run_does_not_call_the_encoder(
        self, accelerator: Accelerator, encoder: Path, cache_folder: Path, pooling: str
    ) -> None:
        essays = essays_of(encoder, TEXTS)
        plain = pooled_features(accelerator, model_of(encoder, None, pooling=pooling), essays)
        first, calls = features_of(accelerator, model_of(encoder, cache_folder, pooling=pooling), essays)
        assert calls == chunks_in(essays) > len(TEXTS)
        assert first.dtype == torch.float32
        torch.testing.assert_close(first, plain)
        model = model_of(encoder, cache_folder, pooling=pooling)
        second, calls = features_of(accelerator, model, essays)
        assert calls == 0
        assert torch.equal(second, first)
        torch.testing.assert_close(model.feature_mean, plain.mean(0))

    def test_a_hit_is_what_the_file_says(self, accelerator: Accelerator, encoder: Path, cache_folder: Path) -> None:
        """Bit by bit, whatever the encoder would have said."""
        essays, model = essays_of(encoder, TEXTS), model_of(encoder, cache_folder)
        cache = FeatureCache.of(model, "no", str(cache_folder))
        cache_folder.mkdir(parents=True)
        own = np.random.default_rng(0).normal(size=(len(essays), cache.width)).astype(np.float32)
        cache.add({essay_digest(essay.chunks): row for essay, row in zip(essays.essays, own, strict=True)})
        found, calls = features_of(accelerator, model, essays)
        assert calls == 0
        np.testing.assert_array_equal(found.numpy(), own)

    def test_essays_in_another_order_prompt_and_company(
        self, accelerator: Accelerator, encoder: Path, cache_folder: Path
    ) -> None:
        essays = essays_of(encoder, TEXTS)
        first, _ = features_of(accelerator, model_of(encoder, cache_folder), essays)
        rows = np.array([4, 1, 2])
        other = replace(essays.select(rows), groups=np.array([1, 0, 1]), targets=np.ones(3))
        head = {"head": "ordinal", "hidden": 4, "prompts": "embedding", "log_length": False, "dropout": 0.5}
        found, calls = features_of(accelerator, model_of(encoder, cache_folder, **head), other)
        assert calls == 0
        assert torch.equal(found, first[torch.from_numpy(rows)])

    def test_only_new_essays_are_encoded_and_then_kept_too(
        self, accelerator: Accelerator, encoder: Path, cache_folder: Path
    ) -> None:
        first, _ = features_of(accelerator, model_of(encoder, cache_folder), essays_of(encoder, TEXTS[:3]))
        essays = essays_of(encoder, ["good car", *TEXTS])
        found, calls = features_of(accelerator, model_of(encoder, cache_folder), essays)
        assert calls == chunks_in(essays.select([0, 4, 5])) < chunks_in(essays)
        assert torch.equal(found[1:4], first)
        torch.testing.assert_close(found, pooled_features(accelerator, model_of(encoder, None), essays))
        again, calls = features_of(accelerator, model_of(encoder, cache_folder), essays)
        assert calls == 0
        assert torch.equal(again, found)
        assert kept_in(only_file(cache_folder)) == 6

    def test_an_essay_that_stands_twice_is_encoded_once(
        self, accelerator: Accelerator, encoder: Path, cache_folder: Path
    ) -> None:
        essays = essays_of(encoder, [TEXTS[0], TEXTS[2], TEXTS[0]])
        found, calls = features_of(accelerator, model_of(encoder, cache_folder), essays)
        assert calls == chunks_in(essays.select([0, 1]))
        assert torch.equal(found[0], found[2])
        assert not torch.equal(found[0], found[1])

    def test_the_same_encoder_in_another_place(
        self, accelerator: Accelerator, encoder: Path, cache_folder: Path, tmp_path: Path
    ) -> None:
        essays = essays_of(encoder, TEXTS)
        features_of(accelerator, model_of(encoder, cache_folder), essays)
        moved = Path(shutil.copytree(encoder, tmp_path / "moved"))
        assert features_of(accelerator, model_of(moved, cache_folder), essays)[1] == 0

    def test_what_is_said(
        self, accelerator: Accelerator, encoder: Path, cache_folder: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        caplog.set_level(logging.INFO, "aes_dynloss")
        features_of(accelerator, model_of(encoder, cache_folder), essays_of(encoder, TEXTS[:2]))
        features_of(accelerator, model_of(encoder, cache_folder), essays_of(encoder, TEXTS))
        path = only_file(cache_folder)
        assert [record.message for record in caplog.records if record.name == activations.__name__] == [
            f"Encoded essays: 0 in {path}, 2 to compute (0.0 MB); 0.0 MB in all.",
            f"Encoded essays: 2 in {path}, 3 to compute (0.0 MB); 0.0 MB in all.",
        ]


class TestMisses:
    @pytest.fixture
    def filled(self, accelerator: Accelerator, encoder: Path, cache_folder: Path) -> Path:
        features_of(accelerator, model_of(encoder, cache_folder), essays_of(encoder, TEXTS))
        return cache_folder

    def check_computed(self, accelerator: Accelerator, model: ScoringModel, essays: EssayExamples) -> None:
        found, calls = features_of(accelerator, model, essays)
        assert calls == chunks_in(essays)
        torch.testing.assert_close(found, pooled_features(accelerator, model, essays))

    def test_another_pooling(self, accelerator: Accelerator, encoder: Path, filled: Path) -> None:
        self.check_computed(accelerator, model_of(encoder, filled, pooling="cls"), essays_of(encoder, TEXTS))
        assert len(list(filled.glob("*.safetensors"))) == 2

    @pytest.mark.parametrize("name", ["embeddings.LayerNorm.bias", "encoder.layer.1.output.dense.weight"])
    def test_another_weight(self, accelerator: Accelerator, encoder: Path, filled: Path, name: str) -> None:
        model = model_of(encoder, filled)
        with torch.no_grad():
            model.encoder.get_parameter(name)[3] += 1e-3
        self.check_computed(accelerator, model, essays_of(encoder, TEXTS))

    def test_another_configuration_of_the_same_weights(
        self, accelerator: Accelerator, encoder: Path, filled: Path, tmp_path: Path
    ) -> None:
        other = Path(shutil.copytree(encoder, tmp_path / "other"))
        values = json.loads((other / "config.json").read_text())
        (other / "config.json").write_text(json.dumps(values | {"hidden_act": "relu"}))
        self.check_computed(accelerator, model_of(other, filled), essays_of(encoder, TEXTS))

    @pytest.mark.parametrize("cut", [{"window": 12}, {"max_tokens": 20}])
    def test_another_window_or_cap_of_the_essays_that_it_changes(
        self, accelerator: Accelerator, encoder: Path, filled: Path, cut: dict[str, int]
    ) -> None:
        essays, before = essays_of(encoder, TEXTS, **cut), essays_of(encoder, TEXTS)
        model = model_of(encoder, filled)
        found, calls = features_of(accelerator, model, essays)
        changed = [row for row in range(len(TEXTS)) if not same_chunks(essays, before, row)]
        assert 0 < len(changed) < len(TEXTS)
        assert calls == chunks_in(essays.select(changed))
        torch.testing.assert_close(found, pooled_features(accelerator, model, essays))

    def test_another_precision(self, encoder: Path, filled: Path) -> None:
        accelerator = Accelerator(cpu=True)
        accelerator.state._mixed_precision = "bf16"
        accelerator.native_amp = True
        try:
            self.check_computed(accelerator, model_of(encoder, filled), essays_of(encoder, TEXTS))
        finally:
            accelerator.state._mixed_precision = "no"

    def test_other_code_of_the_encoder(
        self, accelerator: Accelerator, encoder: Path, filled: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(essay_cache.transformers, "__version__", "999")
        self.check_computed(accelerator, model_of(encoder, filled), essays_of(encoder, TEXTS))


def same_chunks(one: EssayExamples, other: EssayExamples, row: int) -> bool:
    pairs = zip(one.essays[row].chunks, other.essays[row].chunks, strict=False)
    same = all(np.array_equal(a, b) for a, b in pairs)
    return same and len(one.essays[row].chunks) == len(other.essays[row].chunks)


def test_a_digest_knows_where_chunks_end() -> None:
    ids = np.arange(2, 12, dtype=np.int32)
    cuts = [[ids], [ids[:5], ids[5:]], [ids[:4], ids[4:]], [ids[5:], ids[:5]], [ids[:-1]]]
    assert len({essay_digest(chunks) for chunks in cuts}) == len(cuts)
    assert essay_digest([ids.astype(np.int64)]) == essay_digest([ids])


def test_no_text_and_no_token_is_stored(accelerator: Accelerator, encoder: Path, cache_folder: Path) -> None:
    essays = essays_of(encoder, TEXTS)
    features_of(accelerator, model_of(encoder, cache_folder), essays)
    content = only_file(cache_folder).read_bytes()
    assert not any(f" {word} ".encode() in content for word in WORDS)
    assert str(encoder).encode() not in content
    ids = np.concatenate(essays.essays[2].chunks)
    assert not any(ids[:4].astype(kind).tobytes() in content for kind in ("<i4", "<i8"))
    assert load_file(only_file(cache_folder)).keys() == {"digests", "vectors"}
    assert {path.suffix for path in cache_folder.iterdir()} <= {".safetensors", ".lock"}


def test_a_model_folder_knows_no_cache(encoder: Path, cache_folder: Path, tmp_path: Path) -> None:
    made = tiny_scorer(encoder, frozen_layers="all", features_cache=str(cache_folder))
    made.save_pretrained(tmp_path / "model")
    assert "features_cache" not in (tmp_path / "model" / "config.json").read_text()
    opened = EncoderScorer.from_pretrained(str(tmp_path / "model"))
    assert opened.model.config == made.model.config.model_copy(update={"features_cache": None, "encoder": encoder.name})
    with mock.patch.object(activations, "FeatureCache", side_effect=AssertionError):
        np.testing.assert_array_equal(opened.score(TEXTS, ["letter"] * 5).raw, made.score(TEXTS, ["letter"] * 5).raw)
    assert not cache_folder.exists()


def test_every_kind_of_encoder_has_a_digest_of_its_own(tmp_path: Path) -> None:
    kinds = ("bert", "roberta", "mpnet", "electra", "deberta-v2")
    caches = [FeatureCache.of(scoring_model(kind), "no", str(tmp_path)) for kind in kinds]
    assert len({cache.path for cache in caches}) == len(kinds)
    again = FeatureCache.of(scoring_model("deberta-v2"), "no", str(tmp_path))
    assert again == caches[-1]
    assert essay_digest(random_essays((9,)).essays[0].chunks) != essay_digest(
        random_essays((9,), seed=1).essays[0].chunks
    )
