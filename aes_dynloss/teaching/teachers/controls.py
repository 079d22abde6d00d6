"""Controls of a teacher that answers coefficients: what is left of its gain without its dynamics, or without it."""

from __future__ import annotations

import torch
from torch import Tensor

from aes_dynloss.teaching.state import StudentState


class FixedPolicy:
    """The same coefficients throughout.

    Args:
        coefficients: (K,).
    """

    def __init__(self, coefficients: Tensor) -> None:
        self._coefficients = coefficients.detach().clone()

    def coefficients(self, state: StudentState) -> Tensor:  # noqa: ARG002 - the signature of all policies
        """The coefficients, (K,)."""
        return self._coefficients


def frozen_mean(coefficients: Tensor) -> FixedPolicy:
    """A teacher frozen at its mean: its tuning of the loss without the dynamics.

    Args:
        coefficients: What it answered over a run, (T, K).
    """
    return FixedPolicy(coefficients.mean(0))


class RandomPolicy:
    """Coefficients as far from the neutral ones as a teacher's, in random directions, new in every step.

    Args:
        coefficients: What the teacher answered over a run, (T, K).
        neutral: The plain loss's coefficients, (K,).
        positive: Whether they must stay at or above 0.
        seed: Of the directions.
    """

    def __init__(self, coefficients: Tensor, neutral: Tensor, *, positive: bool, seed: int = 0) -> None:
        self._neutral = neutral.to(coefficients.device)
        self._spread = (coefficients - self._neutral).square().mean(0).sqrt()
        self._positive = positive
        self._seed = seed

    def coefficients(self, state: StudentState) -> Tensor:
        """Coefficients for a state, (K,); the same for the same state."""
        generator = torch.Generator().manual_seed(self._seed + round(state.progress * 1e6))
        noise = torch.randn(len(self._neutral), generator=generator).to(self._spread)
        answer = self._neutral + noise * self._spread
        return answer.clamp(min=0.0) if self._positive else answer
