"""The few differentiable numbers of a student that a loss may look at, one row an example."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from aes_dynloss.errors import ShapeError


@dataclass(frozen=True)
class Elements:
    """Predictions beside targets; an element is an essay, an image, a pixel or a matched anchor.

    Args:
        scores: Predicted scores, (E,); on [0, 1] where the target range is, unless :meth:`standardised`.
        targets: True scores on the same scale, (E,).
        groups: Group of each element, (E,) int64; statistics over elements use group-standardised values.
        centre: Mean of the element's group among the training targets, (E,).
        spread: Standard deviation of the same, (E,), above 0.
        logits: Scores before their sigmoid, (E,), where the student has a sigmoid link.
        log_probs: Log-probabilities of the score points or classes, (E, C), where the student has a distribution.
        classes: The true score point or class, (E,) int64, with ``log_probs``.

    Raises:
        ShapeError: Two of them differ in length. (Broadcasting (E, 1) against (E,) would average over all pairs.)
    """

    scores: Tensor
    targets: Tensor
    groups: Tensor
    centre: Tensor
    spread: Tensor
    logits: Tensor | None = None
    log_probs: Tensor | None = None
    classes: Tensor | None = None

    def __post_init__(self) -> None:
        """Check the shapes."""
        expected = self.scores.shape[:1]
        for name in ("scores", "targets", "groups", "centre", "spread", "logits", "classes"):
            tensor = getattr(self, name)
            if tensor is not None and tensor.shape != expected:
                raise ShapeError(
                    f"Elements.{name} has shape {tuple(tensor.shape)}, expected {tuple(expected)}: one number an "
                    "element. Squeeze a trailing dimension before building Elements."
                )
        if self.log_probs is not None and (self.log_probs.ndim != 2 or self.log_probs.shape[:1] != expected):
            raise ShapeError(
                f"Elements.log_probs has shape {tuple(self.log_probs.shape)}, expected ({expected[0]}, classes)."
            )

    def __len__(self) -> int:
        """Number of elements."""
        return self.scores.shape[0]

    def standardised(self) -> Elements:
        """The same with scores and targets in units of their group's standard deviation, 0 at its mean."""
        return replace(
            self,
            scores=(self.scores - self.centre) / self.spread,
            targets=(self.targets - self.centre) / self.spread,
            centre=torch.zeros_like(self.centre),
            spread=torch.ones_like(self.spread),
        )
