"""The loss of Meta-Weight-Net: a plain loss, each element weighted by a small network that reads the element's loss."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from aes_dynloss.errors import ConfigError, ShapeError
from aes_dynloss.teaching.losses.component_table import COMPONENTS
from aes_dynloss.teaching.losses.dynamic_loss import FixedMixture, Mixture
from aes_dynloss.teaching.student import Elements

# Losses whose weights are logged: none, that of an element that is predicted by the mean, and one four times as large.
_LOGGED_LOSSES = (0.0, 1.0, 4.0)


class _Weighted(torch.autograd.Function):
    """Losses times weights, whose gradient by the losses is the weights, with the weights' own graph.

    The weights come twice, with a graph to the losses and without: the first derivative must leave out that they
    depend on the losses, the second must not.
    """

    @staticmethod
    def forward(ctx: Any, losses: Tensor, weights: Tensor, detached: Tensor) -> Tensor:  # noqa: ANN401
        ctx.save_for_backward(losses, weights)
        return losses * detached

    @staticmethod
    def backward(ctx: Any, cotangent: Tensor) -> tuple[Tensor, None, Tensor]:  # noqa: ANN401
        losses, weights = ctx.saved_tensors
        return cotangent * weights, None, cotangent * losses


class MetaWeightLoss:
    """w(l) l of each element, with w(l) = sigmoid(v . relu(a l + b) + c), a network 1-H-1.

    Its weights a, b, v and c are the coefficients, l is the plain loss. As in the paper and its released program, the
    student's gradient is w(l) dl: the weights are not differentiated through the student's loss, and they are not
    normalised over a batch. Second derivatives are those of w(l) dl in full, so that a hypergradient over several
    steps counts how a step changes later weights.

    Ours: the network reads a loss of scores in units of each group's variance, 1 for predicting the group's mean, like
    the cross-entropies that it was made for, so that a weight means the same on every scale. What is multiplied by it
    is the loss as it is configured. An element's own weight (:attr:`Elements.weights`) multiplies both.

    Args:
        terms: Components of the plain loss with their weights; none over the batch.
        standardise: See :class:`Mixture`; of the plain loss.
        width: Hidden units H.

    Raises:
        ConfigError: No components, one that does not exist, or one over the batch.

    References:
        Shu et al. 2019, Meta-Weight-Net: Learning an explicit mapping for sample weighting, arXiv 1902.07379.

    Examples:
        >>> loss = MetaWeightLoss({"mse": 1.0}, width=2)
        >>> coefficients = torch.tensor([1.0, 0.0, 0.0, 0.0, -1.0, 0.0, 0.0])  # a, b, v, c: sigmoid(-relu(l))
        >>> p, y, one = torch.tensor([0.2, 0.5, 0.6]), torch.tensor([0.0, 0.5, 1.0]), torch.ones(3)
        >>> elements = Elements(p, y, torch.zeros(3, dtype=torch.int64), centre=0.5 * one, spread=0.2 * one)
        >>> loss.weights(coefficients, torch.tensor([0.0, 1.0, 4.0]))
        tensor([0.5000, 0.2689, 0.0180])
        >>> loss(coefficients, elements)  # .04, 0 and .16, which are 1, 0 and 4 in units of the variance
        tensor([0.0108, 0.0000, 0.0029])
    """

    over_batch = False

    def __init__(self, terms: Mapping[str, float], *, standardise: bool = False, width: int = 100) -> None:
        mixture = Mixture(list(terms), standardise=standardise)
        coupled = [name for name in terms if COMPONENTS[name].over_batch]
        if coupled:
            alone = [name for name, component in COMPONENTS.items() if not component.over_batch]
            raise ConfigError(
                f"Meta-Weight-Net weights each element by its loss, but {coupled[0]} is one number for a whole batch; "
                f"take losses out of {', '.join(alone)}."
            )
        weights = torch.tensor(list(terms.values()))
        self.plain = FixedMixture(mixture, weights)
        self._read = FixedMixture(Mixture(list(terms), standardise=True), weights)
        self._width = width

    @property
    def size(self) -> int:
        """Coefficients, 3 H + 1."""
        return 3 * self._width + 1

    def start(self, generator: torch.Generator) -> Tensor:
        """First coefficients, (P,), drawn as PyTorch draws a linear layer's: all weights near 1/2."""
        hidden = 2 * torch.rand(2 * self._width, generator=generator) - 1
        last = (2 * torch.rand(self._width + 1, generator=generator) - 1) / math.sqrt(self._width)
        return torch.cat([hidden, last])

    def logged_values(self, coefficients: Tensor) -> dict[str, Tensor]:
        """Weights of elements whose loss, as the network reads it, is 0, 1 and 4."""
        weights = self.weights(coefficients, coefficients.new_tensor(_LOGGED_LOSSES))
        return {f"weight_at_{loss:g}": weight for loss, weight in zip(_LOGGED_LOSSES, weights, strict=True)}

    def terms(self, elements: Elements) -> dict[str, Tensor]:
        """Each component's loss before it is weighted, (E,)."""
        return self.plain.terms(elements)

    def weights(self, coefficients: Tensor, losses: Tensor) -> Tensor:
        """Weights of losses as the network reads them, (E,) to (E,), in (0, 1)."""
        if coefficients.shape != (self.size,):
            raise ShapeError(
                f"Meta-Weight-Net expects coefficients of shape ({self.size},), found {tuple(coefficients.shape)}."
            )
        slope, bias, last, constant = torch.split(coefficients.to(losses.dtype), [*[self._width] * 3, 1])
        return torch.sigmoid(torch.relu(losses[:, None] * slope + bias) @ last + constant)

    def __call__(self, coefficients: Tensor, elements: Elements) -> Tensor:
        """The loss of each element.

        Args:
            coefficients: Weights of the network, (P,).
            elements: E elements.

        Returns:
            (E,).

        Raises:
            ShapeError: The coefficients have another shape, or the student has no distribution.
        """
        read, losses = self._read(coefficients, elements), self.plain(coefficients, elements)
        detached = self.weights(coefficients, read.detach())
        if not losses.requires_grad:
            return losses * detached
        weighted: Tensor = _Weighted.apply(losses, self.weights(coefficients, read), detached)  # type: ignore[no-untyped-call, unused-ignore]
        return weighted
