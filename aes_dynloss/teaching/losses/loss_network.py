"""The dynamic loss network of L2T-DLN: a loss that is a small network, whose weights are the coefficients."""

from __future__ import annotations

import itertools
import math
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

from aes_dynloss.errors import ShapeError
from aes_dynloss.teaching.losses.components import cross_entropy, distribution, squared_error
from aes_dynloss.teaching.student import ABSENT_BELOW, Elements

_INPUTS = 4
_SLOPE = 0.01


class LossNetwork:
    """D_phi: Linear 4-40-40-40-40-1 without biases, LeakyReLU(.01) between, no output activation.

    For a distribution (1-vs-1): s = sigmoid of the centred logits; for the true class y and every rival j a row
    [s_y, s_j, 1, 0], and a row of zeros, which costs exactly 0, for j = y; an element's loss is the mean over its
    classes. Elements of two kinds have their kind in place of the 0. For scores: one row [p, y, 1, 0] an element,
    both in units of the group's standard deviation.

    Args:
        form: Output of the student: ``distribution`` or ``scores``.
        width: Width of the hidden layers.
        hidden: Number of hidden layers.
        plain: Weight of the plain loss (cross-entropy or squared error in units of variance) beside D_phi; 0 for the
            published form. A network without a bound from below can reward predictions that run away; the plain loss
            holds them.
        smooth: Whether softplus takes the place of the kink, .01 x + .99 (softplus(x) - ln 2), which is 0 at 0 too.
            Finite differences need it: across kinks they find curvature that is not there, at every step size.

    References:
        Hai et al. 2023, L2T-DLN: Learning to teach with dynamic loss network, arXiv 2310.19313.

    Examples:
        >>> LossNetwork("distribution").size
        5000
        >>> loss = LossNetwork("distribution", plain=1.0)
        >>> phi = loss.start(torch.Generator().manual_seed(0), silent=True)
        >>> log_probs = torch.tensor([[0.5, 0.5], [0.1, 0.9]]).log()
        >>> elements = Elements.of_classes(log_probs, torch.tensor([0, 1]), chance_error=torch.tensor(0.5))
        >>> loss(phi, elements)  # silent: the plain cross-entropy alone
        tensor([0.6931, 0.1054])
    """

    over_batch = False

    def __init__(
        self,
        form: Literal["distribution", "scores"],
        *,
        width: int = 40,
        hidden: int = 4,
        plain: float = 0.0,
        smooth: bool = False,
    ) -> None:
        self.form = form
        self._plain = plain
        self._smooth = smooth
        sizes = [_INPUTS, *[width] * hidden, 1]
        self._shapes = [(out, into) for into, out in itertools.pairwise(sizes)]

    @property
    def size(self) -> int:
        """Coefficients: 5,000 in the published form."""
        return sum(out * into for out, into in self._shapes)

    def start(self, generator: torch.Generator, *, silent: bool) -> Tensor:
        """First coefficients, (P,), by Kaiming's rule.

        Args:
            generator: Source of randomness.
            silent: Whether the last layer is 0, so that the loss is the plain one alone.

        References:
            He et al. 2015, Delving deep into rectifiers.
        """
        gain = math.sqrt(2 / (1 + _SLOPE**2))
        layers = [gain / math.sqrt(into) * torch.randn(out * into, generator=generator) for out, into in self._shapes]
        if silent:
            layers[-1] = torch.zeros_like(layers[-1])
        return torch.cat(layers)

    def logged_values(self, coefficients: Tensor) -> dict[str, Tensor]:
        """The coefficients' root mean square."""
        return {"network_rms": coefficients.square().mean().sqrt()}

    def terms(self, elements: Elements) -> dict[str, Tensor]:
        """The plain loss of each element, for the log."""
        if self.form == "distribution":
            return {"cross_entropy": cross_entropy(elements)}
        return {"mse": squared_error(elements.standardised())}

    def __call__(self, coefficients: Tensor, elements: Elements) -> Tensor:
        """The loss of each element.

        Args:
            coefficients: Weights of the network, (P,).
            elements: E elements.

        Returns:
            (E,); without the plain loss it may be negative.

        Raises:
            ShapeError: The coefficients have another shape, or the student has no distribution.
        """
        if coefficients.shape != (self.size,):
            raise ShapeError(
                f"The loss network expects coefficients of shape ({self.size},), found {tuple(coefficients.shape)}."
            )
        (plain,) = self.terms(elements).values()
        learned = (
            self._pairs(coefficients, elements) if self.form == "distribution" else self._scores(coefficients, elements)
        )
        return self._plain * plain + learned

    def network(self, coefficients: Tensor, rows: Tensor) -> Tensor:
        """D_phi of rows, (..., 4) to (...)."""
        sizes = [out * into for out, into in self._shapes]
        layers = torch.split(coefficients.to(rows.dtype), sizes)
        for number, (layer, shape) in enumerate(zip(layers, self._shapes, strict=True)):
            rows = functional.linear(rows, layer.view(shape))
            if number + 1 < len(sizes) and self._smooth:
                rows = _SLOPE * rows + (1 - _SLOPE) * (functional.softplus(rows) - math.log(2))
            elif number + 1 < len(sizes):
                rows = functional.leaky_relu(rows, _SLOPE)
        return rows.squeeze(-1)

    def _scores(self, coefficients: Tensor, elements: Elements) -> Tensor:
        scaled = elements.standardised()
        ones = torch.ones_like(scaled.scores)
        return self.network(coefficients, torch.stack([scaled.scores, scaled.targets, ones, 0 * ones], dim=1))

    def _pairs(self, coefficients: Tensor, elements: Elements) -> Tensor:
        log_probs, classes = distribution(elements, "The loss network")
        present = log_probs > ABSENT_BELOW
        count = present.sum(1, keepdim=True)
        logits = torch.where(present, log_probs, 0.0)
        signals = torch.sigmoid(logits - logits.sum(1, keepdim=True) / count)
        true = signals.gather(1, classes[:, None]).expand_as(signals)
        rival = present & (torch.arange(signals.shape[1], device=signals.device) != classes[:, None])
        ones = torch.ones_like(signals)
        kinds = 0 * ones if elements.kinds is None else elements.kinds.to(ones)[:, None].expand_as(ones)
        rows = torch.stack([true, signals, ones, kinds], dim=-1) * rival[:, :, None]
        if elements.weights is None:
            costs = self.network(coefficients, rows)
        else:  # Elements are many then, and of most pairs it is known that they cost nothing.
            positions = torch.nonzero(rival & (elements.weights.reshape(-1) > 0)[:, None], as_tuple=True)
            costs = torch.zeros_like(signals).index_put(positions, self.network(coefficients, rows[positions]))
        return costs.sum(1) / count.squeeze(1)
