"""The teacher of L2T-DLN: a recurrent network, shared by all coordinates of the loss network, that updates its weights.

:class:`LossNetworkTeacher` runs the three stages: the student learns, the loss network learns, the teacher learns.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from aes_dynloss.teaching.hypergradient.protocol import Hypergradient
from aes_dynloss.teaching.teachers.rewriting import RewritingTeacher

# Memory of the teacher: for each cell its hidden and its cell state, each (P, size).
RecurrentState = list[tuple[Tensor, Tensor]]

_SCALE = 10.0


def preprocessed(gradient: Tensor) -> Tensor:
    """Gradients of any size as two moderate numbers each.

    (ln(|g| + 1e-8) / p, sign g) where |g| >= e^-p, else (-1, e^p g), with p = 10.

    Args:
        gradient: (P,).

    Returns:
        (P, 2).

    References:
        Andrychowicz et al. 2016, Learning to learn by gradient descent by gradient descent, appendix A.

    Examples:
        >>> preprocessed(torch.tensor([1.0, -1e-3, 0.0]))
        tensor([[ 0.0000,  1.0000],
                [-0.6908, -1.0000],
                [-1.0000,  0.0000]])
    """
    size = gradient.abs()
    large = size >= math.exp(-_SCALE)
    first = torch.where(large, torch.log(size + 1e-8) / _SCALE, -1.0)
    second = torch.where(large, gradient.sign(), math.exp(_SCALE) * gradient)
    return torch.stack([first, second], dim=1)


class CoordinateLstm(nn.Module):
    """LSTM cells 2-64-64-64-1, one over the other; the output is the last cell's hidden state. 84,236 weights.

    Args:
        width: Size of the inner cells.
        depth: Number of inner cells.
        remembers: Whether its memory goes on from step to step; False is the control without memory.

    References:
        Hai et al. 2023, arXiv 2310.19313.

    Examples:
        >>> teacher = CoordinateLstm()
        >>> sum(weights.numel() for weights in teacher.parameters())
        84236
        >>> change, memory = teacher(torch.tensor([0.1, -0.2, 0.0]), teacher.fresh(3))
        >>> change.shape, len(memory)
        (torch.Size([3]), 4)
    """

    def __init__(self, width: int = 64, depth: int = 3, *, remembers: bool = True) -> None:
        super().__init__()
        sizes = [2, *[width] * depth, 1]
        self.cells = nn.ModuleList(nn.LSTMCell(into, out) for into, out in itertools.pairwise(sizes))
        self._sizes = sizes[1:]
        self._remembers = remembers

    def fresh(self, size: int) -> RecurrentState:
        """Zeros for P coordinates."""
        like = next(self.parameters())
        return [(like.new_zeros(size, width), like.new_zeros(size, width)) for width in self._sizes]

    def forward(self, gradient: Tensor, memory: RecurrentState) -> tuple[Tensor, RecurrentState]:
        """The change's direction, (P,) in (-1, 1), and the next memory.

        Args:
            gradient: Gradient of each coordinate, (P,).
            memory: Of the step before.
        """
        signal = preprocessed(gradient)
        next_memory: RecurrentState = []
        for cell, state in zip(self.cells, memory, strict=True):
            hidden, inner = cell(signal, state)
            next_memory.append((hidden, inner))
            signal = hidden
        return signal.squeeze(1), next_memory if self._remembers else memory


class CoordinateFeedForward(nn.Module):
    """The control without recurrence, of the same size: 2-204-204-204-1, tanh. 84,457 weights.

    Args:
        width: Size of the hidden layers.
        depth: Number of hidden layers.

    Examples:
        >>> teacher = CoordinateFeedForward()
        >>> sum(weights.numel() for weights in teacher.parameters())
        84457
        >>> teacher(torch.tensor([0.1, -0.2, 0.0]), teacher.fresh(3))[0].shape
        torch.Size([3])
    """

    def __init__(self, width: int = 204, depth: int = 3) -> None:
        super().__init__()
        sizes = [2, *[width] * depth, 1]
        self.layers = nn.ModuleList(nn.Linear(into, out) for into, out in itertools.pairwise(sizes))

    def fresh(self, size: int) -> RecurrentState:  # noqa: ARG002 - the signature of all teachers
        """Nothing."""
        return []

    def forward(self, gradient: Tensor, memory: RecurrentState) -> tuple[Tensor, RecurrentState]:
        """The change's direction, (P,) in (-1, 1), and nothing to remember."""
        signal = preprocessed(gradient)
        for layer in self.layers:
            signal = functional.tanh(layer(signal))
        return signal.squeeze(1), memory


class OddTeacher(nn.Module):
    """The odd part of a teacher's answer, turned downhill: u(g) = sign(g) |f(g) - f(-g)| / 2. Ours.

    An untrained LSTM answers mostly its biases, whatever the gradient: all weights of a loss network then drift as one.
    Its odd part has none: no gradient, no change, and opposite gradients, opposite changes. Its sign is one of chance,
    though: it differs from seed to seed, and what both signs remember goes on along gradients that are gone. So the
    gradient gives the sign, and the teacher with its memory learns how far: u(g) g >= 0 in each coordinate, always.

    Args:
        teacher: f.

    Examples:
        >>> teacher = OddTeacher(CoordinateLstm())
        >>> change, memory = teacher(torch.tensor([0.1, -0.1, 0.0]), teacher.fresh(3))
        >>> bool(change[0] == -change[1]), bool(change[0] > 0), bool(change[2] == 0)
        (True, True, True)
    """

    def __init__(self, teacher: CoordinateLstm) -> None:
        super().__init__()
        self.teacher = teacher

    def fresh(self, size: int) -> RecurrentState:
        """Zeros for P coordinates, of both signs."""
        return self.teacher.fresh(2 * size)

    def forward(self, gradient: Tensor, memory: RecurrentState) -> tuple[Tensor, RecurrentState]:
        """The change's direction, (P,) in (-1, 1), and the next memory.

        Args:
            gradient: Gradient of each coordinate, (P,).
            memory: Of the step before, (2 P, size) each.
        """
        answer, memory = self.teacher(torch.cat([gradient, -gradient]), memory)
        plus, minus = answer.chunk(2)
        return gradient.sign() * (plus - minus).abs() / 2, memory


CoordinateTeacher = CoordinateLstm | CoordinateFeedForward | OddTeacher


def build_coordinate_teacher(kind: str, seed: int) -> CoordinateTeacher:
    """The recurrent teacher, its odd part, or one of its controls.

    Args:
        kind: ``lstm``, ``odd_lstm``, ``memoryless_lstm`` or ``feed_forward``.
        seed: Of its first weights.

    Examples:
        >>> type(build_coordinate_teacher("feed_forward", seed=0)).__name__
        'CoordinateFeedForward'
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        if kind == "feed_forward":
            return CoordinateFeedForward()
        teacher = CoordinateLstm(remembers=kind != "memoryless_lstm")
        return OddTeacher(teacher) if kind == "odd_lstm" else teacher


# Sizes of the gradients of a probe: loss networks on ASAP, CIFAR-10 and CamVid see most of them.
_PROBED_SIZES = torch.logspace(-8, 2, 41)


@torch.no_grad()
def gradient_response(network: CoordinateTeacher) -> tuple[float, float]:
    """How much of a teacher's answer depends on the gradient, probed with an empty memory.

    Args:
        network: The teacher.

    Returns:
        Range of its answers over gradients of both signs and many sizes, and the size of their mean.

    Examples:
        >>> span, mean = gradient_response(build_coordinate_teacher("lstm", seed=0))
        >>> span < 0.01 * mean  # the published teacher, untrained
        True
    """
    like = next(network.parameters())
    sizes = _PROBED_SIZES.to(like)
    gradients = torch.cat([-sizes, 0 * sizes[:1], sizes])
    answers, _ = network(gradients, network.fresh(len(gradients)))
    span, mean = torch.stack([answers.max() - answers.min(), answers.mean().abs()]).tolist()
    return span, mean


class LossNetworkTeacher(RewritingTeacher):
    """A loss network's weights phi and the teacher that rewrites them; the policy of a run under L2T-DLN.

    From w_0 the student takes N steps under phi; G = d e(w_N) / d phi; phi' = phi - c teacher(G, memory). Then once
    more from w_0 over the same batches, under phi', to w'_N; the teacher's weights move along d e(w'_N) / d theta,
    which reaches them through phi' alone: one walk back for d e / d phi', one vector-Jacobian product through the
    teacher. phi', w'_N and the memory stay.

    Args:
        coefficients: First phi, (P,).
        network: The teacher.
        step_size: c.
        learning_rate: Adam's, for the teacher.
        memory_span: Steps after which its memory begins anew; None: never, as published. The last cell of an LSTM that
            remembers for ever soon saturates, for no gradient reaches what it remembers beyond a step.

    References:
        Hai et al. 2023, arXiv 2310.19313, and its released program.

    Examples:
        >>> from aes_dynloss.teaching.policies import StudentState
        >>> teacher = LossNetworkTeacher(torch.tensor([1.0, 0.5]), build_coordinate_teacher("lstm", seed=0))
        >>> teacher.coefficients(StudentState(progress=0.0))
        tensor([1.0000, 0.5000])
    """

    def __init__(
        self,
        coefficients: Tensor,
        network: CoordinateTeacher,
        *,
        step_size: float = 1e-3,
        learning_rate: float = 1e-3,
        memory_span: int | None = None,
    ) -> None:
        super().__init__(coefficients)
        self.network = network
        self.memory = network.fresh(len(coefficients))
        self._step_size = step_size
        self._memory_span = memory_span
        self._steps = 0
        self._optimizer = torch.optim.Adam(network.parameters(), lr=learning_rate)

    def rewritten(self, hypergradient: Tensor) -> Tensor:
        """phi', with its graph to the teacher's weights."""
        if self._memory_span is not None and self._steps % self._memory_span == 0:
            self.memory = self.network.fresh(len(self.phi))
        self._steps += 1
        change, memory = self.network(hypergradient, self.memory)
        self.memory = [(hidden.detach(), inner.detach()) for hidden, inner in memory]
        rewritten: Tensor = self.phi - self._step_size * change
        return rewritten

    def learn(self, rewritten: Tensor, second: Callable[[], Hypergradient]) -> Tensor:
        """The teacher's own step, along the hypergradient of the second run."""
        second_pass = second()
        self._optimizer.zero_grad()
        torch.autograd.backward([rewritten], [second_pass.coefficients.sum(0).to(rewritten.dtype)])
        self._optimizer.step()
        return second_pass.measure

    def state_dict(self) -> dict[str, Any]:
        """Everything needed to go on: phi, the teacher, its memory and its optimiser."""
        return {
            "phi": self.phi,
            "network": self.network.state_dict(),
            "memory": [list(pair) for pair in self.memory],
            "steps": self._steps,
            "optimizer": self._optimizer.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Put :meth:`state_dict` back."""
        device = self.phi.device
        self.phi = state["phi"].to(device)
        self.network.load_state_dict(state["network"])
        self.memory = [(hidden.to(device), inner.to(device)) for hidden, inner in state["memory"]]
        self._steps = state["steps"]
        self._optimizer.load_state_dict(state["optimizer"])
