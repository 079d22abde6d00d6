"""The bilinear log loss of L2T-DLF, whose coefficients weight every pair of true and predicted class."""

from __future__ import annotations

import torch
from torch import Tensor

from aes_dynloss.errors import ConfigError, ShapeError
from aes_dynloss.teaching.losses.components import cross_entropy, distribution
from aes_dynloss.teaching.student import ABSENT_BELOW, Elements

_NEVER = -1e4


class BilinearLogLoss:
    """l_phi(p, y) = - sigmoid(1_y^T W log p + b_y), plus a floor of cross-entropy.

    W = I and b = 0 is a monotone transform of cross-entropy. The sigmoid saturates on confident mistakes, where it has
    no gradient; the floor keeps one. Scales with more points than ``bins`` are binned, each prompt's points evenly.

    Args:
        classes: Classes or score points C of the student's distribution.
        floor: Weight of the cross-entropy that is added.
        bins: Most rows and columns of W; None for no limit.

    Raises:
        ConfigError: Fewer than two classes or bins.

    References:
        Wu et al. 2018, Learning to teach with dynamic loss functions, section 3.2.

    Examples:
        >>> loss = BilinearLogLoss(classes=2, floor=0.0)
        >>> log_probs = torch.tensor([[0.5, 0.5], [0.1, 0.9]]).log()
        >>> elements = Elements.of_classes(log_probs, torch.tensor([0, 1]), chance_error=torch.tensor(0.5))
        >>> loss(loss.neutral(), elements)  # W = I, b = 0: -sigmoid(log p_y)
        tensor([-0.3333, -0.4737])
    """

    over_batch = False

    def __init__(self, classes: int, *, floor: float = 0.1, bins: int | None = 12) -> None:
        self.bins = classes if bins is None else min(classes, bins)
        if self.bins < 2:
            raise ConfigError(f"The bilinear loss needs at least 2 classes and bins, found {classes} and {bins}.")
        self._floor = floor

    @property
    def blocks(self) -> tuple[int, int]:
        """Coefficients of W, K x K row by row, and of b, K."""
        return self.bins**2, self.bins

    def neutral(self) -> Tensor:
        """The coefficients W = I, b = 0, (K * K + K,)."""
        return torch.cat([torch.eye(self.bins).reshape(-1), torch.zeros(self.bins)])

    def logged_values(self, coefficients: Tensor) -> dict[str, Tensor]:
        """Means of W's diagonal, of the rest of W, and of b."""
        matrix, bias = self.unpacked(coefficients)
        diagonal = matrix.diagonal().sum()
        off_diagonal = (matrix.sum() - diagonal) / (self.bins * (self.bins - 1))
        return {"diagonal": diagonal / self.bins, "off_diagonal": off_diagonal, "bias": bias.mean()}

    def unpacked(self, coefficients: Tensor) -> tuple[Tensor, Tensor]:
        """W, (K, K), and b, (K,).

        Raises:
            ShapeError: ``coefficients`` is not (K * K + K,).
        """
        if coefficients.shape != (sum(self.blocks),):
            raise ShapeError(
                f"The bilinear loss over {self.bins} bins expects coefficients of shape ({sum(self.blocks)},), found "
                f"{tuple(coefficients.shape)}."
            )
        matrix, bias = torch.split(coefficients, list(self.blocks))
        return matrix.view(self.bins, self.bins), bias

    def terms(self, elements: Elements) -> dict[str, Tensor]:
        """Cross-entropy of each element, for the log."""
        return {"cross_entropy": cross_entropy(elements)}

    def __call__(self, coefficients: Tensor, elements: Elements) -> Tensor:
        """The loss of each element.

        Args:
            coefficients: W and b, (K * K + K,).
            elements: E elements with ``log_probs``, (E, C), and ``classes``.

        Returns:
            (E,), in (-1, 0) plus the floor.

        Raises:
            ShapeError: The student has no distribution, or the coefficients have another shape.
        """
        matrix, bias = self.unpacked(coefficients)
        plain = cross_entropy(elements)
        log_probs, classes, _ = binned(elements, self.bins)
        logits = (matrix.to(plain.dtype)[classes] * log_probs).sum(1) + bias.to(plain.dtype)[classes]
        return self._floor * plain - torch.sigmoid(logits)


def binned(elements: Elements, bins: int) -> tuple[Tensor, Tensor, Tensor]:
    """A distribution over at most so many bins, each element's score points divided among them evenly.

    Args:
        elements: E elements with a distribution.
        bins: Bins K, at least 2.

    Returns:
        Log-probabilities, (E, K), 0 where an element has no such bin; the true bins, (E,); which bins it has, (E, K).

    Raises:
        ShapeError: The student has no distribution.
    """
    log_probs, classes = distribution(elements, "A loss over bins")
    present = log_probs > ABSENT_BELOW
    if log_probs.shape[1] > bins:
        count = present.sum(1, keepdim=True)
        columns = torch.arange(log_probs.shape[1], device=log_probs.device)[None, :]
        places = torch.where(count > bins, columns * bins // count.clamp(min=1), columns)
        inside = places[:, :, None] == torch.arange(bins, device=places.device)
        inside = inside & present[:, :, None]
        log_probs = torch.where(inside, log_probs[:, :, None], _NEVER).logsumexp(1)
        classes = places.gather(1, classes[:, None]).squeeze(1)
        present = inside.any(1)
    return torch.where(present, log_probs, 0.0), classes, present
