"""Wrappers of autograd: gradients with a graph, vector-Jacobian products, and attention that has second derivatives."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel


def differentiable_grad(value: Tensor, inputs: Sequence[Tensor], cotangent: Tensor | None = None) -> tuple[Tensor, ...]:
    """A gradient with its graph, so that it can be differentiated again; zeros for unused inputs."""
    gradients: tuple[Tensor, ...] = torch.autograd.grad(
        value, inputs, cotangent, create_graph=True, allow_unused=True, materialize_grads=True
    )
    return gradients


def vjp(outputs: Sequence[Tensor], cotangents: Sequence[Tensor], inputs: Sequence[Tensor]) -> list[Tensor]:
    """Vector-Jacobian product; outputs without a graph add nothing."""
    pairs = [(output, cotangent) for output, cotangent in zip(outputs, cotangents, strict=True) if output.requires_grad]
    if not pairs:
        return [torch.zeros_like(tensor) for tensor in inputs]
    live, given = zip(*pairs, strict=True)
    return list(torch.autograd.grad(live, inputs, given, allow_unused=True, materialize_grads=True))


def twice_differentiable() -> AbstractContextManager[None]:
    """Within the block attention runs on the kernel that has second derivatives.

    Flash, memory-efficient and cuDNN attention have none, and on the CPU the fast kernel has none either. First-order
    passes keep their fast kernels: they stay outside.
    """
    context: AbstractContextManager[None] = sdpa_kernel(SDPBackend.MATH)
    return context
