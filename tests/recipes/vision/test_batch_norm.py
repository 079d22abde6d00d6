"""Batch norm with second derivatives of its own: torch's values, torch's statistics, right derivatives."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn
from torch.func import functional_call

from aes_dynloss import ShapeError

VISION = Path(__file__).parents[3] / "recipes/vision"


@pytest.fixture
def layers(monkeypatch):
    """Ours and torch's, alike."""
    monkeypatch.syspath_prepend(str(VISION))
    import batch_norm

    both = batch_norm.BatchNorm(3).double(), nn.BatchNorm2d(3).double()
    for layer in both:
        nn.init.normal_(layer.weight, generator=torch.Generator().manual_seed(0))
        nn.init.normal_(layer.bias, generator=torch.Generator().manual_seed(1))
    return both


def images(seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(4, 3, 2, 2, generator=generator, dtype=torch.float64).mul(2).add(1).requires_grad_()


def test_values_and_statistics_are_torch_s(layers):
    ours, torchs = layers
    for seed in range(3):
        torch.testing.assert_close(ours(images(seed)), torchs(images(seed)))
    for name, value in torchs.state_dict().items():
        torch.testing.assert_close(ours.state_dict()[name], value)
    torch.testing.assert_close(ours.eval()(images(9)), torchs.eval()(images(9)))


def test_derivatives_of_first_and_second_order(layers):
    ours, _ = layers

    def of(x, weight, bias):
        return functional_call(ours, {"weight": weight, "bias": bias}, (x,))

    given = images(), ours.weight.detach().clone().requires_grad_(), ours.bias.detach().clone().requires_grad_()
    assert torch.autograd.gradcheck(of, given)
    assert torch.autograd.gradgradcheck(of, given)


@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16])
def test_second_derivatives_are_torch_s_in_other_precisions(layers, precision):
    found = []
    for layer in layers:
        layer.float()
        x = images().detach().to(precision).requires_grad_()
        first = torch.autograd.grad(layer(x).float().sin().sum(), [x, *layer.parameters()], create_graph=True)
        generator = torch.Generator().manual_seed(5)
        ahead = [torch.randn(slope.shape, generator=generator).to(slope.dtype) for slope in first]
        found.append(torch.autograd.grad(first, [x, *layer.parameters()], ahead))
    near = {"rtol": 1e-4, "atol": 1e-4} if precision == torch.float32 else {"rtol": 0.05, "atol": 0.1}
    for mine, other in zip(*found, strict=True):
        assert mine.dtype == other.dtype
        torch.testing.assert_close(mine, other, **near)


def test_a_single_number_a_channel_is_refused(layers):
    with pytest.raises(ShapeError, match=r"more than one number a channel, found \(1, 3, 1, 1\)"):
        layers[0](torch.zeros(1, 3, 1, 1, dtype=torch.float64))
