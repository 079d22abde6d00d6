"""Scoring in fewer bits: near float32, of each essay for itself, and without a trace on the scorer it came from."""

from __future__ import annotations

import copy
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from tiny_encoder import WORDS, write_tiny_encoder
from tiny_scorer import CONFIGS, random_encoder, tiny_scorer
from torch import nn

from aes_dynloss import EssayScorer
from aes_dynloss.errors import ConfigError
from aes_dynloss.essays.model.ensemble import EssayEnsemble
from aes_dynloss.essays.model.precision import Int8Linear, equal_scores, in_precision


@pytest.fixture(scope="module")
def scorer(tmp_path_factory: pytest.TempPathFactory) -> EssayScorer:
    return tiny_scorer(write_tiny_encoder(tmp_path_factory.mktemp("encoder") / "tiny"))


@pytest.fixture(scope="module")
def essays() -> tuple[list[str], list[str]]:
    generator = np.random.default_rng(0)
    texts = [" ".join(generator.choice(WORDS, generator.integers(0, 60))) for _ in range(40)]
    return texts, ["letter", "notice"] * 20


def test_an_int8_layer_is_near_its_original_row_by_row() -> None:
    torch.manual_seed(0)
    layer = nn.Linear(48, 24)
    rows = torch.randn(2, 7, 48) * torch.logspace(-3, 3, 7)[:, None]  # one scale for all would lose the small ones
    with torch.no_grad():
        layer.weight.mul_(torch.logspace(-2, 2, 24)[:, None])
        found, expected = Int8Linear(layer)(rows) - layer.bias, layer(rows) - layer.bias
    # Each factor is off by 1/254 of the greatest of its row at most.
    most = layer.weight.abs().amax(1) * rows.abs().sum(-1, keepdim=True) / 254
    most = most + rows.abs().amax(-1, keepdim=True) * layer.weight.abs().sum(1) / 254 * 1.01
    assert found.shape == (2, 7, 24)
    assert bool(((found - expected).abs() <= most + 1e-6).all())
    assert float((found - expected).norm() / expected.norm()) < 0.02


def test_rows_of_nothing_and_layers_without_bias() -> None:
    layer = nn.Linear(8, 4)
    assert torch.equal(Int8Linear(layer)(torch.zeros(3, 8)), layer.bias.detach().expand(3, 4))
    assert torch.equal(Int8Linear(nn.Linear(8, 4, bias=False))(torch.zeros(3, 8)), torch.zeros(3, 4))


@pytest.mark.parametrize(("precision", "most"), [("bf16", 0.05), ("int8", 0.05)])
def test_scores_are_near_those_of_float32(
    scorer: EssayScorer, essays: tuple[list[str], list[str]], precision: str, most: float
) -> None:
    full = scorer.score(*essays)
    weights = copy.deepcopy(scorer.model.state_dict())
    reduced = in_precision(scorer, precision)
    answer = reduced.score(*essays)
    off = np.abs(answer.raw - full.raw)
    assert 0 < off.max() < most * np.ptp(full.raw)
    assert equal_scores(scorer, reduced, *essays) == int((answer.score == full.score).sum())
    # The scorer it came from is what it was.
    np.testing.assert_array_equal(scorer.score(*essays).raw, full.raw)
    assert all(torch.equal(value, weights[name]) for name, value in scorer.model.state_dict().items())


def test_an_essay_in_int8_hangs_on_no_other(scorer: EssayScorer, essays: tuple[list[str], list[str]]) -> None:
    reduced = in_precision(scorer, "int8")
    together = reduced.score(*essays).raw
    alone = [reduced.score([text], [prompt]).raw[0] for text, prompt in zip(*essays, strict=True)]
    # Where sums of floats differ in their last bit, now and then a value is rounded to the neighbouring level.
    assert np.median(np.abs(together - alone)) < 1e-5


def test_float32_is_the_scorer_itself(scorer: EssayScorer) -> None:
    assert in_precision(scorer, "float32") is scorer


def test_all_members_of_an_ensemble(scorer: EssayScorer, essays: tuple[list[str], list[str]], tmp_path: Path) -> None:
    for name in ("a", "b"):
        scorer.save_pretrained(tmp_path / name)
    ensemble = EssayEnsemble.from_members([tmp_path / "a", tmp_path / "b"])
    reduced = in_precision(ensemble, "int8")
    expected = in_precision(scorer, "int8").score(*essays).raw
    np.testing.assert_allclose(reduced.score(*essays).raw, expected, atol=1e-6)
    np.testing.assert_allclose(ensemble.score(*essays).raw, scorer.score(*essays).raw, atol=1e-6)


def test_int8_keeps_off_a_gpu(scorer: EssayScorer) -> None:
    elsewhere = copy.copy(scorer)
    elsewhere.accelerator = SimpleNamespace(device=torch.device("cuda"))
    with pytest.raises(ConfigError, match="int8 is for CPUs. Choose bf16 on a GPU"):
        in_precision(elsewhere, "int8")


def test_other_scorers_are_refused() -> None:
    with pytest.raises(ConfigError, match="A SimpleNamespace cannot score in bf16. Score in float32."):
        in_precision(SimpleNamespace(), "bf16")


@pytest.mark.parametrize("kind", sorted(set(CONFIGS) - {"t5"}))
@pytest.mark.parametrize("precision", ["bf16", "int8"])
def test_every_kind_of_encoder(kind: str, precision: str) -> None:
    from aes_dynloss.essays.model.precision import _quantize_layers

    encoder = random_encoder(kind).eval()
    ids = torch.arange(5, 29).view(2, 12)
    mask = torch.ones_like(ids)
    mask[1, 8:] = 0
    with torch.inference_mode():
        expected = encoder(input_ids=ids, attention_mask=mask)[0][mask == 1]
        if precision == "bf16":
            encoder.to(torch.bfloat16)
        else:
            _quantize_layers(encoder)
            assert any(isinstance(module, Int8Linear) for module in encoder.modules())
        found = encoder(input_ids=ids, attention_mask=mask)[0][mask == 1].float()
    assert float((found - expected).norm() / expected.norm()) < 0.1
