"""Linear layers in int8: how near they are to those in float32, what is saved of them, and what is refused."""

from __future__ import annotations

import copy
from pathlib import Path

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from facts import facts
from feature_caches import TEXTS, essays_of, features_of, model_of
from safetensors.numpy import load_file
from tiny_scorer import random_encoder, random_essays, scoring_model, tiny_scorer
from torch import nn

import aes_dynloss.essays.model.int8_linear as module
from aes_dynloss.configfile import validate
from aes_dynloss.errors import ConfigError
from aes_dynloss.essays.model.int8_linear import Int8Linear, expect_int8, linear_to_int8
from aes_dynloss.essays.model.model_config import ModelConfig
from aes_dynloss.essays.model.scorer import EncoderScorer

LENGTHS = (5, 40, 14, 29, 3, 15)
KINDS = ("bert", "roberta", "mpnet", "electra", "modernbert", "deberta-v2", "distilbert")
IDS = {"input_ids": torch.arange(5, 17)[None], "attention_mask": torch.ones(1, 12, dtype=torch.int64)}


@pytest.fixture(params=["kernel", "without"])
def kernel(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    """With oneDNN's kernel, where it is there, and as on a device without it."""
    if request.param == "without":
        monkeypatch.setattr(module, "_HAS_KERNEL", False)
    elif not module._HAS_KERNEL:
        pytest.skip("this torch has no kernel")
    return request.param == "kernel"


def inputs_of_wide_range(rows: int) -> torch.Tensor:
    """Features of unlike range, some far from 0 on one side, as those of encoders are."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(rows, 24, generator=generator) * torch.logspace(-1, 1, 24)
    x[:, 3] = x[:, 3].abs() ** 2 + 4
    return x


def of_inputs(linear: nn.Linear, x: torch.Tensor) -> Int8Linear:
    return Int8Linear.of(linear, x.amin(0), x.amax(0), x.mean(0))


class TestOneLayer:
    @pytest.mark.parametrize("bias", [True, False])
    def test_near_the_layer_in_float32(self, kernel: bool, bias: bool) -> None:
        torch.manual_seed(0)
        linear, x = nn.Linear(24, 9, bias=bias), inputs_of_wide_range(500)
        with torch.no_grad():
            expected, found = linear(x), of_inputs(linear, x)(x)
        assert found.dtype == torch.float32
        assert float((found - expected).norm() / (expected - expected.mean(0)).norm()) < 0.03
        assert float((found - expected).mean(0).abs().max() / expected.std()) < 0.005  # exact at the mean

    def test_a_precision_for_the_encoder_does_not_round_them(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(module, "_HAS_KERNEL", False)
        x = inputs_of_wide_range(500)
        layer = of_inputs(nn.Linear(24, 9), x)
        with torch.no_grad():
            expected = layer(x)
            with torch.autocast("cpu", torch.bfloat16):
                found = layer(x)
        assert torch.equal(found, expected)

    def test_the_kernel_computes_what_is_written(self) -> None:
        torch.manual_seed(0)
        x = inputs_of_wide_range(500)
        layer = of_inputs(nn.Linear(24, 9), x)
        codes = (layer.gain * x + layer.shift).clamp(0, 255).add(0.5).clamp(max=255).floor()
        expected = layer.scale * ((codes - 128) @ layer.codes.float().T) + layer.bias
        torch.testing.assert_close(layer(x), expected, rtol=1e-5, atol=1e-4)

    def test_an_essay_alone_and_among_others(self, kernel: bool) -> None:
        x = inputs_of_wide_range(50)
        layer = of_inputs(nn.Linear(24, 9), x)
        torch.testing.assert_close(layer(100 * x)[7:8], layer(100 * x[7:8]), rtol=1e-6, atol=1e-5)

    def test_no_product_overflows_sixteen_bits(self) -> None:
        layer = of_inputs(nn.Linear(24, 9), inputs_of_wide_range(50))
        assert 2 * 255 * int(layer.codes.abs().max()) < 2**15
        assert int(layer.codes.abs().max()) == 63

    def test_features_that_never_varied_and_weights_that_read_nothing(self, kernel: bool) -> None:
        linear, x = nn.Linear(24, 9), inputs_of_wide_range(50)
        x[:, 5] = 2.0
        with torch.no_grad():
            linear.weight[:, 6] = 0.0
            linear.weight[2] = 0.0
            found, expected = of_inputs(linear, x)(x), linear(x)
        assert torch.isfinite(found).all()
        assert float((found - expected).abs().max() / expected.std()) < 0.1

    def test_new_weights_are_those_that_count(self) -> None:
        """What was packed of earlier ones is made anew."""
        x = inputs_of_wide_range(50)
        one, other = (of_inputs(nn.Linear(24, 9), x) for _ in range(2))
        assert not torch.allclose(one(x), other(x))
        one.load_state_dict(other.state_dict())
        assert torch.equal(one(x), other(x))

    def test_a_copy(self) -> None:
        x = inputs_of_wide_range(50)
        layer = of_inputs(nn.Linear(24, 9), x)
        expected = layer(x)
        assert torch.equal(copy.deepcopy(layer)(x), expected)


@pytest.mark.parametrize("kind", KINDS)
def test_an_encoder_answers_nearly_the_same(kind: str) -> None:
    encoder = random_encoder(kind).eval()
    essays = random_essays(LENGTHS)
    batch = essays.batch(range(len(LENGTHS))).inputs
    with torch.no_grad():
        expected = encoder(**IDS)[0]
        linear_to_int8(encoder, [batch, IDS])
        found = encoder(**IDS)[0]
    assert float((found - expected).norm() / expected.norm()) < 0.05
    assert not torch.equal(found, expected)
    assert sum(isinstance(layer, Int8Linear) for layer in encoder.modules()) >= 8
    again = random_encoder(kind).eval()
    expect_int8(again)
    again.load_state_dict(encoder.state_dict())
    with torch.no_grad():
        assert torch.equal(again(**IDS)[0], found)


def test_a_model_folder_keeps_the_layers_in_int8(tmp_path: Path, encoder: Path) -> None:
    made = tiny_scorer(encoder)
    essays = essays_of(encoder, TEXTS)
    linear_to_int8(made.model.encoder, [essays.batch(range(len(TEXTS))).inputs])
    made.model.config = ModelConfig(encoder=str(encoder), frozen_layers="all", int8=True)
    made.save_pretrained(tmp_path / "model")
    opened = EncoderScorer.from_pretrained(tmp_path / "model")
    prompts = ["letter", "notice"] * 2 + ["letter"]
    np.testing.assert_allclose(opened.score(TEXTS, prompts).raw, made.score(TEXTS, prompts).raw, atol=1e-6)
    weights = load_file(tmp_path / "model/model.safetensors")
    inner = [value for name, value in weights.items() if name.endswith("query.codes")]
    assert [value.dtype for value in inner] == [np.int8] * len(opened.model.encoder_layers)


def test_a_features_cache_knows_them(accelerator: Accelerator, encoder: Path, tmp_path: Path) -> None:
    essays = essays_of(encoder, TEXTS)
    whole, _ = features_of(accelerator, model_of(encoder, tmp_path), essays)
    model = model_of(encoder, tmp_path)
    linear_to_int8(model.encoder, [essays.batch(range(len(TEXTS))).inputs])
    found, calls = features_of(accelerator, model, essays)
    assert calls > 0
    assert not torch.equal(found, whole)


class TestRefusals:
    def test_an_encoder_whose_layers_cannot_be_told_apart(self) -> None:
        with pytest.raises(ConfigError, match=facts("int8", "albert", "Leave it out")):
            scoring_model("albert", int8=True, frozen_layers="all")

    @pytest.mark.parametrize(
        "values",
        [
            {"int8": True},
            {"int8": True, "frozen_layers": 1},
            {"int8": True, "frozen_layers": "all", "start_from": "run"},
        ],
    )
    def test_an_encoder_that_learns(self, values: dict[str, object]) -> None:
        with pytest.raises(ConfigError, match=facts("int8", "frozen_layers to all", "start_from")):
            validate(ModelConfig, values, "here")

    def test_no_encoder(self) -> None:
        with pytest.raises(ConfigError, match=facts("kind strings", "int8")):
            validate(ModelConfig, {"kind": "strings", "int8": True}, "here")
