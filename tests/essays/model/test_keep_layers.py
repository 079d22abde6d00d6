"""An encoder that keeps its lower layers alone: what it answers, what is saved, and what is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from facts import facts
from feature_caches import TEXTS, essays_of, features_of, model_of
from safetensors.numpy import load_file
from tiny_encoder import write_tiny_encoder
from tiny_scorer import random_encoder, random_essays, scoring_model, tiny_scorer, values_of

from aes_dynloss.configfile import validate
from aes_dynloss.errors import ConfigError
from aes_dynloss.essays.model.activations import frozen_part_computed
from aes_dynloss.essays.model.encoders import build_encoder, encoder_values, keep_lower_layers, layer_list
from aes_dynloss.essays.model.model_config import ModelConfig
from aes_dynloss.essays.model.scorer import EncoderScorer

# One chunk, several of unequal length, an empty text.
LENGTHS = (5, 40, 0, 14, 29, 3, 15)
WIDTH = 16
KINDS = ("bert", "roberta", "mpnet", "electra", "modernbert", "deberta-v2", "distilbert")
IDS = {"input_ids": torch.arange(5, 17)[None], "attention_mask": torch.ones(1, 12, dtype=torch.int64)}


@pytest.mark.parametrize("count", [1, 2, 3])
@pytest.mark.parametrize("kind", KINDS)
def test_the_states_of_the_lower_layers(kind: str, count: int) -> None:
    whole, cut = random_encoder(kind).eval(), random_encoder(kind).eval()
    keep_lower_layers(cut, count)
    with torch.no_grad():
        expected = whole(**IDS, output_hidden_states=True).hidden_states[count]
        if kind == "modernbert" and count < 3:  # normalises what comes from the top
            expected = whole.final_norm(expected)
        torch.testing.assert_close(cut(**IDS)[0], expected)
    assert len(layer_list(cut)) == cut.config.num_hidden_layers == count
    assert sum(p.numel() for p in cut.parameters()) < sum(p.numel() for p in whole.parameters()) or count == 3


@pytest.mark.parametrize("kind", KINDS)
def test_its_configuration_builds_the_same_again(kind: str) -> None:
    cut = random_encoder(kind).eval()
    keep_lower_layers(cut, 2)
    again = build_encoder(encoder_values(cut)).eval()
    again.load_state_dict(cut.state_dict())
    with torch.no_grad():
        torch.testing.assert_close(again(**IDS)[0], cut(**IDS)[0], rtol=0, atol=0)


def test_all_pooled_layers_are_those_that_are_kept() -> None:
    model, whole = scoring_model(keep_layers=2, pooled_layers="all"), scoring_model(pooled_layers="all")
    inputs = random_essays(LENGTHS).batch(range(len(LENGTHS))).inputs
    with torch.no_grad():
        found = model.pooled(inputs)
        assert found.shape == (len(LENGTHS), 3 * WIDTH)
        torch.testing.assert_close(found, whole.pooled(inputs)[:, : 3 * WIDTH])


@pytest.mark.usefixtures("exact_states")
def test_layers_freeze_and_learn_as_those_of_a_whole_encoder(accelerator: Accelerator, tmp_path: Path) -> None:
    model = scoring_model(keep_layers=2, frozen_layers=1)
    essays, every = random_essays(LENGTHS), list(range(len(LENGTHS)))
    assert len(model.parameter_stack()) == 2  # one layer, and the head
    with torch.no_grad():
        with frozen_part_computed(accelerator, model, essays, np.arange(4), tmp_path) as ready:
            found = model(**ready.batch(every).inputs)
        torch.testing.assert_close(found, model(**essays.batch(every).inputs), atol=1e-4, rtol=1e-4)


def test_a_model_folder_has_these_layers_alone(tmp_path: Path) -> None:
    encoder = write_tiny_encoder(tmp_path / "encoder", layers=4)
    prompts = ["letter", "notice"] * 2 + ["letter"]
    sizes = {}
    for keep in (3, None):
        made = tiny_scorer(encoder, keep_layers=keep)
        made.save_pretrained(folder := tmp_path / str(keep))
        opened = EncoderScorer.from_pretrained(folder)
        np.testing.assert_allclose(opened.score(TEXTS, prompts).raw, made.score(TEXTS, prompts).raw, atol=1e-6)
        assert values_of(folder)["encoder"]["num_hidden_layers"] == len(opened.model.encoder_layers) == (keep or 4)
        weights = load_file(folder / "model.safetensors")
        assert any(".layer.3." in name for name in weights) == (keep is None)
        sizes[keep] = sum(value.size for value in weights.values())
    assert sizes[3] < sizes[None]


def test_a_features_cache_knows_the_depth(accelerator: Accelerator, encoder: Path, tmp_path: Path) -> None:
    """A cut encoder fills a file of its own, and reads no vector of the whole one."""
    essays = essays_of(encoder, TEXTS)
    whole, _ = features_of(accelerator, model_of(encoder, tmp_path), essays)
    cut, calls = features_of(accelerator, model_of(encoder, tmp_path, keep_layers=1), essays)
    assert calls > 0
    assert not torch.allclose(cut, whole)
    again, calls = features_of(accelerator, model_of(encoder, tmp_path, keep_layers=1), essays)
    assert calls == 0
    assert torch.equal(again, cut)
    every, calls = features_of(accelerator, model_of(encoder, tmp_path, keep_layers=2), essays)  # all that there are
    assert calls == 0
    assert torch.equal(every, whole)


class TestRefusals:
    def test_more_than_there_are(self) -> None:
        with pytest.raises(ConfigError, match=facts("keep_layers is 4", "3 layers")):
            scoring_model(keep_layers=4)

    def test_layers_that_cannot_be_told_apart(self) -> None:
        with pytest.raises(ConfigError, match=facts("keep_layers is 1", "no layers that can be told apart")):
            scoring_model("albert", keep_layers=1)

    @pytest.mark.parametrize(
        ("values", "words"),
        [
            ({"keep_layers": 0}, ["keep_layers", 1, 0]),
            ({"keep_layers": 3, "frozen_layers": 3}, ["frozen_layers is 3", "keep_layers keeps 3", "all"]),
            ({"keep_layers": 3, "frozen_layers": 5}, ["frozen_layers is 5", "keep_layers keeps 3"]),
            ({"keep_layers": 3, "pooled_layers": 5}, ["pooled_layers is 5", "keep_layers keeps 3", "all"]),
            ({"keep_layers": 3, "kind": "strings"}, ["kind strings", "keep_layers"]),
        ],
    )
    def test_what_cannot_be_run(self, values: dict[str, object], words: list[object]) -> None:
        with pytest.raises(ConfigError, match=facts(*words)):
            validate(ModelConfig, values, "here")

    def test_what_can(self) -> None:
        for values in ({"frozen_layers": 2}, {"frozen_layers": "all"}, {"pooled_layers": 4}, {"pooled_layers": "all"}):
            assert ModelConfig(keep_layers=3, **values).keep_layers == 3
