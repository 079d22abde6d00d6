"""The restricted matrix: what a loss sees of a vocabulary, against the whole matrix and torch's own losses."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from aes_dynloss import Elements, LossConfig
from aes_dynloss.teaching.losses.bilinear_loss import BilinearLogLoss

VOCABULARY, BANDS, NEAR, TOKENS = 11, 3, 2, 7
COUNTS = torch.tensor([0, 0, 20, 9, 8, 5, 4, 3, 2, 1, 1])
FLOOR = 0.1


@pytest.fixture
def drawn() -> dict[str, Tensor]:
    random = torch.Generator().manual_seed(0)

    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, dtype=torch.float64, generator=random)

    size = BANDS + 2
    return {
        "logits": normal(TOKENS, VOCABULARY),
        "tokens": torch.randint(2, VOCABULARY, (TOKENS,), generator=random),
        "embedding": normal(VOCABULARY, 4),
        "coefficients": normal(size * size + size),
    }


def elements_of(log_probs: Tensor, classes: Tensor) -> Elements:
    return Elements.of_classes(log_probs, classes, torch.tensor(1.0, dtype=torch.float64))


def restricted(modules: Any, drawn: dict[str, Tensor], logits: Tensor) -> Elements:
    """What a student shows."""
    own = modules.token_classes
    bands, near = own.frequency_bands(COUNTS, BANDS), own.near_tokens(drawn["embedding"], COUNTS, NEAR)
    means = own.token_means(logits, drawn["tokens"], near)
    classes = bands[drawn["tokens"]]
    return elements_of(own.token_log_probs(means, classes, BANDS), classes)


def test_the_loss_is_the_bilinear_one_with_the_whole_matrix(modules: Any, drawn: dict[str, Tensor]) -> None:
    own = modules.token_classes
    bands, near = own.frequency_bands(COUNTS, BANDS), own.near_tokens(drawn["embedding"], COUNTS, NEAR)
    small = BilinearLogLoss(BANDS + 2, floor=FLOOR)
    matrix, bias = small.unpacked(drawn["coefficients"])
    whole = torch.zeros(VOCABULARY, VOCABULARY, dtype=torch.float64)
    for token in range(VOCABULARY):
        band = int(bands[token])
        whole[token] = matrix[band, BANDS + 1] / VOCABULARY
        whole[token, near[token]] += matrix[band, BANDS] / NEAR
        whole[token, token] += matrix[band, band]
    full = BilinearLogLoss(VOCABULARY, floor=FLOOR, bins=None)
    expected = full(
        torch.cat([whole.flatten(), bias[bands]]), elements_of(drawn["logits"].log_softmax(1), drawn["tokens"])
    )
    found = small(drawn["coefficients"], restricted(modules, drawn, drawn["logits"]))
    assert torch.allclose(found, expected, atol=1e-12)


def test_first_and_second_derivatives(modules: Any, drawn: dict[str, Tensor]) -> None:
    small = BilinearLogLoss(BANDS + 2, floor=FLOOR)

    def loss(coefficients: Tensor, logits: Tensor) -> Tensor:
        return small(coefficients, restricted(modules, drawn, logits))

    inputs = [drawn[name].requires_grad_() for name in ("coefficients", "logits")]
    assert torch.autograd.gradcheck(loss, inputs)
    assert torch.autograd.gradgradcheck(loss, inputs)


def test_only_the_coefficients_of_a_token_s_band_move_it(modules: Any, drawn: dict[str, Tensor]) -> None:
    small, coefficients = BilinearLogLoss(BANDS + 2, floor=FLOOR), drawn["coefficients"].requires_grad_()
    elements = restricted(modules, drawn, drawn["logits"])
    (slope,) = torch.autograd.grad(small(coefficients, elements)[0], coefficients)
    band = int(elements.classes[0])
    matrix, bias = small.unpacked(slope)
    moved = {(band, band), (band, BANDS), (band, BANDS + 1)}
    assert {tuple(place) for place in matrix.nonzero().tolist()} == moved
    assert bias.nonzero().flatten().tolist() == [band]


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.5])
def test_static_losses_are_torch_s(modules: Any, drawn: dict[str, Tensor], smoothing: float) -> None:
    terms = {"cross_entropy": 1.0 - smoothing, "uniform_cross_entropy": smoothing}
    loss, _ = LossConfig(terms=terms).build()
    weights = torch.tensor(list(terms.values()), dtype=torch.float64)
    found = loss(weights, restricted(modules, drawn, drawn["logits"]))
    expected = functional.cross_entropy(drawn["logits"], drawn["tokens"], reduction="none", label_smoothing=smoothing)
    assert torch.allclose(found, expected, atol=1e-12)


def test_bands_share_what_is_read(modules: Any) -> None:
    counts = torch.randint(1, 1000, (500,), generator=torch.Generator().manual_seed(1))
    bands = modules.token_classes.frequency_bands(counts, 4)
    shares = torch.stack([counts[bands == band].sum() for band in range(4)]) / counts.sum()
    assert torch.allclose(shares, torch.full((4,), 0.25), atol=0.01)
    rarest, commonest = counts[bands == 0].min(), counts[bands == 1].max()
    assert rarest >= commonest


def test_near_tokens_are_those_of_the_embedding(modules: Any, drawn: dict[str, Tensor]) -> None:
    near = modules.token_classes.near_tokens(drawn["embedding"], COUNTS, NEAR)
    for token in range(VOCABULARY):
        others = [other for other in range(VOCABULARY) if other != token and COUNTS[other] > 0]
        likeness = {
            other: float(functional.cosine_similarity(drawn["embedding"][token], drawn["embedding"][other], dim=0))
            for other in others
        }
        assert near[token].tolist() == sorted(others, key=likeness.__getitem__, reverse=True)[:NEAR]


def test_coefficients_by_band(modules: Any) -> None:
    loss = BilinearLogLoss(BANDS + 2)
    matrix = torch.arange(25.0).view(5, 5)
    taught = modules.token_classes.band_coefficients(loss, torch.cat([matrix.flatten(), torch.arange(5.0)]))
    assert taught == {"gold": [0, 6, 12], "near": [3, 8, 13], "any": [4, 9, 14], "bias": [0, 1, 2]}
