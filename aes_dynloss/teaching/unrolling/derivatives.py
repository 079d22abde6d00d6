"""Two words for what autograd answers."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def slopes(value: Tensor, inputs: Sequence[Tensor], cotangent: Tensor | None = None) -> tuple[Tensor, ...]:
    """A gradient that can be differentiated again; zeros for inputs that play no part."""
    found: tuple[Tensor, ...] = torch.autograd.grad(
        value, inputs, cotangent, create_graph=True, allow_unused=True, materialize_grads=True
    )
    return found


def pulled_back(outputs: Sequence[Tensor], cotangents: Sequence[Tensor], inputs: Sequence[Tensor]) -> list[Tensor]:
    """Vector-Jacobian product; outputs without a graph add nothing."""
    pairs = [(output, cotangent) for output, cotangent in zip(outputs, cotangents, strict=True) if output.requires_grad]
    if not pairs:
        return [torch.zeros_like(tensor) for tensor in inputs]
    live, given = zip(*pairs, strict=True)
    return list(torch.autograd.grad(live, inputs, given, allow_unused=True, materialize_grads=True))
