"""The teacher of L2T-DLN: one small recurrent network shared by all coordinates of the loss network."""

from __future__ import annotations

import itertools
import math
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional

# Memory of the teacher: for each cell its hidden and its cell state, each (P, size).
Memory = list[tuple[Tensor, Tensor]]

_SCALE = 10.0


class CoordinateTeacher(Protocol):
    """Answers a change of each coefficient from its gradient, coordinate by coordinate."""

    def fresh(self, size: int) -> Memory:
        """Memory before the first answer, for P coordinates."""

    def __call__(self, gradient: Tensor, memory: Memory) -> tuple[Tensor, Memory]:
        """The change's direction, (P,), and the next memory."""


def preprocessed(gradient: Tensor) -> Tensor:
    """Gradients of any size as two moderate numbers each.

    (ln(|g| + 1e-8) / p, sign g) where |g| >= e^-p, else (-1, e^p g), with p = 10.

    Args:
        gradient: (P,).

    Returns:
        (P, 2).

    References:
        Andrychowicz et al. 2016, Learning to learn by gradient descent by gradient descent, appendix A.
    """
    size = gradient.abs()
    large = size >= math.exp(-_SCALE)
    first = torch.where(large, torch.log(size + 1e-8) / _SCALE, -1.0)
    second = torch.where(large, gradient.sign(), math.exp(_SCALE) * gradient)
    return torch.stack([first, second], dim=1)


class CoordinateLstm(nn.Module):
    """LSTM cells 2-64-64-64-1, one over the other; the answer is the last cell's hidden state. 84,236 weights.

    Args:
        width: Size of the inner cells.
        depth: Number of inner cells.
        remembers: Whether its memory goes on from step to step; False is the control without memory.

    References:
        Hai et al. 2023, arXiv 2310.19313.
    """

    def __init__(self, width: int = 64, depth: int = 3, *, remembers: bool = True) -> None:
        super().__init__()
        sizes = [2, *[width] * depth, 1]
        self.cells = nn.ModuleList(nn.LSTMCell(into, out) for into, out in itertools.pairwise(sizes))
        self._sizes = sizes[1:]
        self._remembers = remembers

    def fresh(self, size: int) -> Memory:
        """Zeros for P coordinates."""
        like = next(self.parameters())
        return [(like.new_zeros(size, own), like.new_zeros(size, own)) for own in self._sizes]

    def forward(self, gradient: Tensor, memory: Memory) -> tuple[Tensor, Memory]:
        """The change's direction, (P,) in (-1, 1), and the next memory.

        Args:
            gradient: Gradient of each coordinate, (P,).
            memory: Of the step before.
        """
        signal = preprocessed(gradient)
        following: Memory = []
        for cell, state in zip(self.cells, memory, strict=True):
            hidden, inner = cell(signal, state)
            following.append((hidden, inner))
            signal = hidden
        return signal.squeeze(1), following if self._remembers else memory


class CoordinateFeedForward(nn.Module):
    """The control without recurrence, of the same size: 2-204-204-204-1, tanh. 84,457 weights.

    Args:
        width: Size of the hidden layers.
        depth: Number of hidden layers.
    """

    def __init__(self, width: int = 204, depth: int = 3) -> None:
        super().__init__()
        sizes = [2, *[width] * depth, 1]
        self.layers = nn.ModuleList(nn.Linear(into, out) for into, out in itertools.pairwise(sizes))

    def fresh(self, size: int) -> Memory:  # noqa: ARG002 - the signature of all teachers
        """Nothing."""
        return []

    def forward(self, gradient: Tensor, memory: Memory) -> tuple[Tensor, Memory]:
        """The change's direction, (P,) in (-1, 1), and nothing to remember."""
        signal = preprocessed(gradient)
        for layer in self.layers:
            signal = functional.tanh(layer(signal))
        return signal.squeeze(1), memory


def detached(memory: Memory) -> Memory:
    """The same memory, cut from its graph."""
    return [(hidden.detach(), inner.detach()) for hidden, inner in memory]
