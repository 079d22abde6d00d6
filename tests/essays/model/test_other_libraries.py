"""A model folder opened by transformers and by sentence-transformers: its encoder, its tokenizer, its vectors."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from old_layout import to_version_1
from safetensors import safe_open
from tiny_encoder import write_tiny_encoder
from tiny_scorer import CONFIGS, random_encoder, tiny_scorer, values_of
from transformers import AutoConfig, AutoModel, AutoTokenizer

from aes_dynloss.errors import CheckpointError
from aes_dynloss.essays.ensembles.ensemble import EssayEnsemble, open_scorer
from aes_dynloss.essays.model.int8_linear import linear_to_int8
from aes_dynloss.essays.model.model_config import ModelConfig
from aes_dynloss.essays.model.scorer import EncoderScorer
from aes_dynloss.essays.model.scoring_model import Pooling, ScoringModel

TEXTS = ["the teacher and the otter", "a bridge is not a school.", "phones 42"]
LONG = "a bridge is not a school. " * 20
PROMPT_IDS = ["letter", "notice", "letter"]
KINDS = sorted(CONFIGS.keys() - {"t5"})


def states(model: Any, tokenizer: Any) -> torch.Tensor:
    inputs = tokenizer(TEXTS, padding=True, return_tensors="pt")
    with torch.no_grad():
        return model.eval()(input_ids=inputs["input_ids"], attention_mask=inputs["attention_mask"])[0]


def scorer_vectors(scorer: EncoderScorer, texts: list[str]) -> np.ndarray:
    """What the scorer's head sees of the encoder, before it is standardised, (N, H)."""
    examples = scorer.examples(texts, ["letter"] * len(texts))
    with torch.no_grad():
        return scorer.model.pooled(examples.batch(range(len(texts))).inputs).numpy()


@pytest.mark.parametrize("kind", KINDS)
def test_auto_model_has_the_weights_of_the_scorer(encoder: Path, tmp_path: Path, kind: str) -> None:
    like = tiny_scorer(encoder)
    module = random_encoder(kind, vocab_size=len(like.tokenizer))
    made = EncoderScorer(ScoringModel(module, ModelConfig(window=16), like.model.scales).eval(), like.tokenizer)
    made.save_pretrained(tmp_path / "m")
    opened, report = AutoModel.from_pretrained(tmp_path / "m", output_loading_info=True)
    assert not report["unexpected_keys"]
    assert not report["mismatched_keys"]
    assert all(name.startswith("pooler.") for name in report["missing_keys"])
    assert AutoConfig.from_pretrained(tmp_path / "m").model_type == module.config.model_type
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "m")
    assert tokenizer(TEXTS)["input_ids"] == like.tokenizer(TEXTS)["input_ids"]
    torch.testing.assert_close(states(opened, tokenizer), states(made.model.encoder, tokenizer), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(
    "config", [{}, {"pooling": "cls"}, {"window": 12}, {"pooled_layers": 2}, {"keep_layers": 1}, {"lora": {"rank": 2}}]
)
def test_sentence_transformers_gives_the_last_layers_vector(
    encoder: Path, tmp_path: Path, config: dict[str, Any]
) -> None:
    sentence_transformers = pytest.importorskip("sentence_transformers")
    made = tiny_scorer(encoder, **config)
    made.save_pretrained(tmp_path / "m")
    opened = sentence_transformers.SentenceTransformer(str(tmp_path / "m"), device="cpu")
    width = made.model.encoder.config.hidden_size
    assert opened.max_seq_length == config.get("window", 32)
    np.testing.assert_allclose(opened.encode(TEXTS), scorer_vectors(made, TEXTS)[:, -width:], atol=1e-5)
    # An essay of several windows: the scorer reads all of them, sentence-transformers the first.
    assert not np.allclose(opened.encode([LONG]), scorer_vectors(made, [LONG])[:, -width:], atol=1e-3)


def test_attention_pooling_has_the_mean_in_its_place(encoder: Path, tmp_path: Path) -> None:
    sentence_transformers = pytest.importorskip("sentence_transformers")
    made = tiny_scorer(encoder, pooling="attention")
    made.save_pretrained(tmp_path / "m")
    opened = sentence_transformers.SentenceTransformer(str(tmp_path / "m"), device="cpu")
    mean = Pooling("mean", made.model.encoder.config.hidden_size)
    expected = {}
    for pooling in (mean, made.model.pooling):
        made.model.pooling = pooling
        expected[pooling.kind] = scorer_vectors(made, TEXTS)
    np.testing.assert_allclose(opened.encode(TEXTS), expected["mean"], atol=1e-5)
    assert not np.allclose(expected["attention"], expected["mean"], atol=1e-3)


def test_no_weight_is_there_twice(encoder: Path, tmp_path: Path) -> None:
    tiny_scorer(encoder).save_pretrained(tmp_path / "m")
    names: list[str] = []
    for path in (tmp_path / "m").glob("*.safetensors"):
        with safe_open(path, "numpy") as file:
            names += file.keys()
    assert len(names) == len(set(names)) == len(tiny_scorer(encoder).model.state_dict())


def test_layers_in_int8_are_refused_by_transformers(encoder: Path, tmp_path: Path) -> None:
    """It would start the layers that it does not find at random."""
    made = tiny_scorer(encoder)
    linear_to_int8(made.model.encoder, [made.examples(TEXTS, PROMPT_IDS).batch(range(3)).inputs])
    made.model.config = ModelConfig(encoder=str(encoder), frozen_layers="all", int8=True)
    made.save_pretrained(tmp_path / "m")
    with pytest.raises(ValueError, match="model_type"):
        AutoModel.from_pretrained(tmp_path / "m")
    assert not (tmp_path / "m" / "modules.json").exists()


def test_keys_of_the_encoder_are_not_taken_for_ours(encoder: Path, tmp_path: Path) -> None:
    """And none that asks AutoModel to run code from elsewhere is kept."""
    made = tiny_scorer(encoder)
    own = {"format": "theirs", "version": "9.1", "sha256": {}, "auto_map": {"AutoModel": "ana/code--model.Model"}}
    made.model.encoder.config.update(own)
    made.save_pretrained(tmp_path / "m")
    opened = EncoderScorer.from_pretrained(tmp_path / "m")
    np.testing.assert_array_equal(opened.score(TEXTS, PROMPT_IDS).raw, made.score(TEXTS, PROMPT_IDS).raw)
    assert opened.model.encoder.config.version == "9.1"
    assert "auto_map" not in (tmp_path / "m" / "config.json").read_text()
    assert AutoModel.from_pretrained(tmp_path / "m").config.hidden_size == 16


class TestVersion1:
    @pytest.mark.parametrize(
        "config", [{}, {"pooling": "attention", "head": "ordinal"}, {"pooled_layers": "all", "log_length": False}]
    )
    def test_it_scores_as_ever(self, encoder: Path, tmp_path: Path, config: dict[str, Any]) -> None:
        made = tiny_scorer(encoder, **config)
        made.save_pretrained(tmp_path / "m")
        old = to_version_1(tmp_path / "m")
        assert {path.name for path in old.iterdir()} == {
            *("README.md", "config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json")
        }
        opened = EncoderScorer.from_pretrained(old)
        np.testing.assert_array_equal(opened.score(TEXTS, PROMPT_IDS).raw, made.score(TEXTS, PROMPT_IDS).raw)
        opened.save_pretrained(old)  # and is of the new version from then on
        assert values_of(old)["version"] == 2
        assert EncoderScorer.from_pretrained(old).prompts == made.prompts

    def test_it_makes_an_ensemble_with_a_new_one(self, encoder: Path, tmp_path: Path) -> None:
        for name in ("old", "new"):
            tiny_scorer(encoder).save_pretrained(tmp_path / name)
        to_version_1(tmp_path / "old")
        accelerator = Accelerator(cpu=True)
        both = EssayEnsemble.from_members([tmp_path / "old", tmp_path / "new"], accelerator=accelerator)
        both.save_pretrained(tmp_path / "both")
        opened = open_scorer(tmp_path / "both", accelerator)
        np.testing.assert_array_equal(opened.score(TEXTS, PROMPT_IDS).raw, both.score(TEXTS, PROMPT_IDS).raw)
        assert AutoModel.from_pretrained(tmp_path / "both" / "members" / "1").config.hidden_size == 16


def test_a_file_outside_the_folder_is_not_looked_at(encoder: Path, tmp_path: Path) -> None:
    write_tiny_encoder(tmp_path / "other")
    folder = tmp_path / "m"
    tiny_scorer(encoder).save_pretrained(folder)
    values = values_of(folder)
    for name in ("../other/config.json", str(tmp_path / "other" / "config.json")):
        edited = {**values, "sha256": {name: "0" * 64, **values["sha256"]}}
        (folder / "config.json").write_text(json.dumps(edited))
        with pytest.raises(CheckpointError, match="outside the folder"):
            EncoderScorer.from_pretrained(folder)
