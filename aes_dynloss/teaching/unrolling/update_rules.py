"""Optimiser steps as pure functions of flat vectors, with their adjoints.

The rules compute what ``torch.optim`` computes, so that a run of ``fit`` can be differentiated in reverse.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor


@dataclass(frozen=True)
class Point:
    """A student between two steps.

    Args:
        weights: (P,).
        slots: The optimiser's memory, each (P,): momentum, or first and second moments.
        step: Steps taken so far.
    """

    weights: Tensor
    slots: tuple[Tensor, ...] = ()
    step: int = 0


class UpdateRule(Protocol):
    """From a point and a gradient to the next point.

    A rule that ``needs_gradient`` has an adjoint that depends on the gradient of its step, one that ``needs_slots`` on
    the slots before it.
    """

    @property
    def needs_gradient(self) -> bool:
        """Whether :meth:`vjp` reads the gradient."""

    @property
    def needs_slots(self) -> bool:
        """Whether :meth:`vjp` reads the point's slots."""

    def start(self, weights: Tensor) -> Point:
        """The point before the first step."""

    def advance(self, point: Point, gradient: Tensor, factor: float) -> Point:
        """The next point; differentiable in all tensors.

        Args:
            point: Where the student is.
            gradient: Gradient of the loss there, (P,), not yet clipped.
            factor: The step's learning rate as a part of the peak.
        """

    def vjp(self, point: Point, gradient: Tensor | None, factor: float, adjoint: Point) -> tuple[Point, Tensor]:
        """The adjoint of :meth:`advance`: its vector-Jacobian product.

        Args:
            point: As in :meth:`advance`.
            gradient: As in :meth:`advance`; may be None unless the rule ``needs_gradient``.
            factor: As in :meth:`advance`.
            adjoint: Cotangents of the next point's weights and slots.

        Returns:
            Cotangents of the point, without the way through the gradient; and of the gradient, (P,).
        """


@dataclass(frozen=True)
class Rates:
    """Settings that may differ between weights.

    Args:
        rate: Peak learning rate, (P,) or a scalar tensor.
        decay: Weight decay, likewise.
        clip: Largest norm of the whole gradient; None for no clipping.
    """

    rate: Tensor
    decay: Tensor
    clip: float | None = None

    def clipped(self, gradient: Tensor) -> Tensor:
        """The gradient, scaled down to the norm ``clip`` as ``torch.nn.utils.clip_grad_norm_`` does."""
        if self.clip is None:
            return gradient
        scale: Tensor = self.clip / (gradient.norm() + _CLIP_EPS)
        return gradient * scale.clamp(max=1.0)

    def clipped_adjoint(self, gradient: Tensor | None, adjoint: Tensor) -> Tensor:
        """Cotangent of the gradient from that of the clipped gradient; the norm is part of the map."""
        if self.clip is None:
            return adjoint
        if gradient is None:
            raise ValueError("The adjoint of clipping needs the gradient of its step.")
        norm = gradient.norm()
        scale = self.clip / (norm + _CLIP_EPS)
        slope = torch.dot(adjoint, gradient) / (norm * (norm + _CLIP_EPS))
        return torch.where(scale < 1.0, scale * (adjoint - slope * gradient), adjoint)


_CLIP_EPS = 1e-6


class Sgd:
    """Gradient descent with momentum and weight decay: v' = mu v + g + lambda w; w' = w - eta v'.

    Args:
        rates: Learning rates eta, decay lambda, clipping.
        momentum: mu, in [0, 1); with 0 there are no slots.

    References:
        Wu et al. 2018, Learning to teach with dynamic loss functions; Maclaurin et al. 2015, Gradient-based
        hyperparameter optimization through reversible learning (the adjoint under momentum).
    """

    needs_slots = False

    def __init__(self, rates: Rates, momentum: float = 0.0) -> None:
        self._rates = rates
        self._momentum = momentum

    @property
    def needs_gradient(self) -> bool:
        """Without clipping the step is linear in all that it reads."""
        return self._rates.clip is not None

    def start(self, weights: Tensor) -> Point:
        """At rest."""
        return Point(weights, (torch.zeros_like(weights),) if self._momentum else ())

    def advance(self, point: Point, gradient: Tensor, factor: float) -> Point:
        """See :class:`UpdateRule`."""
        velocity = self._rates.clipped(gradient) + self._rates.decay * point.weights
        if self._momentum:
            velocity = self._momentum * point.slots[0] + velocity
        weights = point.weights - factor * self._rates.rate * velocity
        return Point(weights, (velocity,) if self._momentum else (), point.step + 1)

    def vjp(self, point: Point, gradient: Tensor | None, factor: float, adjoint: Point) -> tuple[Point, Tensor]:
        """See :class:`UpdateRule`."""
        to_velocity = -factor * self._rates.rate * adjoint.weights
        if self._momentum:
            to_velocity = adjoint.slots[0] + to_velocity
        weights = adjoint.weights + self._rates.decay * to_velocity
        slots = (self._momentum * to_velocity,) if self._momentum else ()
        return Point(weights, slots, point.step), self._rates.clipped_adjoint(gradient, to_velocity)


class AdamW:
    """AdamW with decoupled weight decay, as ``torch.optim.AdamW``.

    m' = b1 m + (1 - b1) g, v' = b2 v + (1 - b2) g^2,
    w' = (1 - eta lambda) w - eta / (1 - b1^t) m' / (sqrt(v' / (1 - b2^t)) + eps).

    Where v' = 0 no gradient has ever come, such as to the embedding of a word not yet read. There the step is 0, and
    so is its slope here, which would be eta / eps: harmless where the gradient stays 0 whatever the loss, but such
    weights would fill the direction in which finite differences look, and leave the others to rounding.

    Args:
        rates: Learning rates eta, decay lambda, clipping.
        betas: b1, b2.
        eps: eps.

    References:
        Loshchilov and Hutter 2019, Decoupled weight decay regularization.
    """

    needs_gradient = True
    needs_slots = True

    def __init__(self, rates: Rates, betas: tuple[float, float] = (0.9, 0.999), eps: float = 1e-8) -> None:
        self._rates = rates
        self._betas = betas
        self._eps = eps

    def start(self, weights: Tensor) -> Point:
        """With moments of 0."""
        return Point(weights, (torch.zeros_like(weights), torch.zeros_like(weights)))

    def advance(self, point: Point, gradient: Tensor, factor: float) -> Point:
        """See :class:`UpdateRule`."""
        (first, second), rate = self._moments(point, self._rates.clipped(gradient)), factor * self._rates.rate
        bias, root_bias = self._bias(point.step + 1)
        untouched = second == 0
        root = torch.where(untouched, 1.0, second).sqrt()
        step = torch.where(untouched, 0.0, rate / bias * first / (root / root_bias + self._eps))
        return Point(point.weights * (1 - rate * self._rates.decay) - step, (first, second), point.step + 1)

    def vjp(self, point: Point, gradient: Tensor | None, factor: float, adjoint: Point) -> tuple[Point, Tensor]:
        """See :class:`UpdateRule`."""
        if gradient is None:
            raise ValueError("AdamW's adjoint needs the gradient of its step.")
        beta_1, beta_2 = self._betas
        clipped = self._rates.clipped(gradient)
        (first, second), rate = self._moments(point, clipped), factor * self._rates.rate
        bias, root_bias = self._bias(point.step + 1)
        untouched = second == 0
        root = torch.where(untouched, 1.0, second).sqrt()
        denominator = root / root_bias + self._eps
        ratio = torch.where(untouched, 0.0, -rate / bias * adjoint.weights)  # cotangent of first / denominator
        to_first = adjoint.slots[0] + ratio / denominator
        to_second = adjoint.slots[1] - ratio * first / denominator.square() * 0.5 / (root_bias * root)
        to_clipped = (1 - beta_1) * to_first + 2 * (1 - beta_2) * clipped * to_second
        weights = adjoint.weights * (1 - rate * self._rates.decay)
        before = Point(weights, (beta_1 * to_first, beta_2 * to_second), point.step)
        return before, self._rates.clipped_adjoint(gradient, to_clipped)

    def _moments(self, point: Point, gradient: Tensor) -> tuple[Tensor, Tensor]:
        beta_1, beta_2 = self._betas
        first, second = point.slots
        return beta_1 * first + (1 - beta_1) * gradient, beta_2 * second + (1 - beta_2) * gradient.square()

    def _bias(self, step: int) -> tuple[float, float]:
        return 1 - self._betas[0] ** step, math.sqrt(1 - self._betas[1] ** step)
