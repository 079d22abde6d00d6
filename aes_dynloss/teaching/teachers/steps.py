"""Steps of a teacher along its hypergradient whose length does not depend on the hypergradient's.

Hypergradients of neighbouring episodes differ in length by orders of magnitude. One that is a thousand times as long as
the others makes Adam's steps short for many episodes to come.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable

import torch
from torch import Tensor
from torch.nn import Parameter
from torch.optim import Adam, Optimizer

MOMENTUM = 0.5


class NormalisedSteps(Optimizer):
    """Steps of one length along a running mean of hypergradients, each brought to length 1 first.

        m = 0.5 m + g / |g|,    theta = theta - rate m / |m|

    Args:
        parameters: The teacher's, whose lengths are taken together.
        rate: Length of a step.

    Example:
        >>> weight = Parameter(torch.tensor([0.0, 0.0]))
        >>> steps = NormalisedSteps([weight], rate=0.1)
        >>> weight.grad = torch.tensor([3e6, 4e6])
        >>> steps.step()
        >>> weight
        Parameter containing:
        tensor([-0.0600, -0.0800], requires_grad=True)
    """

    def __init__(self, parameters: Iterable[Parameter], rate: float) -> None:
        super().__init__(parameters, {"lr": rate})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """Take a step; nothing moves where there is no hypergradient."""
        del closure
        (group,) = self.param_groups
        parameters = [one for one in group["params"] if one.grad is not None]
        length = _length([one.grad for one in parameters])
        for one in parameters:
            state = self.state[one]
            mean = state.get("mean", torch.zeros_like(one))
            state["mean"] = MOMENTUM * mean + (one.grad / length if float(length) > 0 else 0.0 * one.grad)
        whole = _length([self.state[one]["mean"] for one in parameters])
        for one in parameters:
            if float(whole) > 0:
                one.sub_(group["lr"] * self.state[one]["mean"] / whole)


class SignSteps(Optimizer):
    """Steps by the sign of each weight's hypergradient, halved where the sign flips from one episode to the next.

    Args:
        parameters: The teacher's.
        rate: First length of a weight's step.

    References:
        Micaelli and Storkey 2021, Gradient-based hyperparameter optimization over long horizons (signs, decay).

    Example:
        >>> weight = Parameter(torch.tensor([0.0, 0.0]))
        >>> steps = SignSteps([weight], rate=0.1)
        >>> for gradient in ([5.0, -1e-9], [5.0, 1e-9]):
        ...     weight.grad = torch.tensor(gradient)
        ...     steps.step()
        >>> weight
        Parameter containing:
        tensor([-0.2000,  0.0500], requires_grad=True)
    """

    def __init__(self, parameters: Iterable[Parameter], rate: float) -> None:
        super().__init__(parameters, {"lr": rate})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """Take a step."""
        del closure
        (group,) = self.param_groups
        for one in group["params"]:
            if one.grad is None:
                continue
            state, sign = self.state[one], one.grad.sign()
            flipped = state.get("sign", sign) * sign < 0
            state["scale"] = torch.where(flipped, 0.5, 1.0) * state.get("scale", torch.ones_like(one))
            state["sign"] = sign
            one.sub_(group["lr"] * state["scale"] * sign)


def build_teacher_steps(kind: str, parameters: Iterable[Parameter], rate: float) -> Optimizer:
    """The optimiser of a teacher.

    Args:
        kind: ``adam``, ``normalised`` or ``sign``.
        parameters: The teacher's.
        rate: Adam's learning rate, or the length of a step.

    Example:
        >>> type(build_teacher_steps("sign", [Parameter(torch.zeros(1))], 0.1)).__name__
        'SignSteps'
    """
    if kind == "adam":
        return Adam(parameters, lr=rate)
    return NormalisedSteps(parameters, rate) if kind == "normalised" else SignSteps(parameters, rate)


def teacher_reach(kind: str, rate: float, decay: float, updates: int, weights: int) -> float:
    """How far a teacher's weights can move, as a root mean square over them; a long way round leaves less.

    Adam and signs move every weight by about the rate an update. A normalised step has its length over all weights
    together.

    Args:
        kind: ``adam``, ``normalised`` or ``sign``.
        rate: Adam's learning rate, or the length of a step.
        decay: Factor on the rate after each update.
        updates: Updates of the teacher.
        weights: Number of its weights.

    Example:
        >>> [round(teacher_reach(kind, 0.4, 0.9, updates=20, weights=100), 2) for kind in ("sign", "normalised")]
        [3.51, 0.35]
    """
    path = rate * sum(decay**update for update in range(updates))
    return path / math.sqrt(weights) if kind == "normalised" else path


def _length(tensors: list[Tensor]) -> Tensor:
    """Euclidean length of some tensors together."""
    return torch.stack([one.square().sum() for one in tensors]).sum().sqrt()
