"""The score points of a prompt: their range, the way to [0, 1] and back, and rounding."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from aes_dynloss.errors import ConfigError, DataError

# More than any scale of scores has; a typing error beyond it would fill the memory with score points.
MOST_POINTS = 10_000


@dataclass(frozen=True)
class ScoreRange:
    """The score points low, low + step, ..., high of one prompt.

    Args:
        low: Lowest score point.
        high: Highest score point, above ``low``.
        step: Distance of neighbouring score points: 1 for whole scores, .5 for half points.

    Raises:
        ConfigError: ``high`` is not above ``low``, or the range is no whole number of steps or has too many.
    """

    low: float
    high: float
    step: float = 1.0

    def __post_init__(self) -> None:
        """Check the range at construction."""
        if not all(math.isfinite(value) for value in (self.low, self.high, self.step)):
            raise ConfigError(f"A score range needs finite numbers, found {self}.")
        if self.step <= 0 or self.high <= self.low:
            raise ConfigError(f"A score range needs low < high and step > 0, found {self}.")
        steps = (self.high - self.low) / self.step
        if steps >= MOST_POINTS:
            raise ConfigError(
                f"The range {self} has more than {MOST_POINTS} score points; correct low, high or step, or look "
                "whether these are scores."
            )
        if round(steps) < 1 or abs(steps - round(steps)) > 1e-9 * max(1.0, steps):
            raise ConfigError(f"The range {self} is no whole number of steps; correct low, high or step.")

    def __str__(self) -> str:
        """Words for messages: ``1 to 6``."""
        step = "" if self.step == 1 else f" in steps of {self.step:g}"
        return f"{self.low:g} to {self.high:g}{step}"

    @property
    def count(self) -> int:
        """Number of score points."""
        return round((self.high - self.low) / self.step) + 1

    @property
    def points(self) -> NDArray[np.float64]:
        """All score points, ascending, shape (count,)."""
        return np.asarray(self.low + self.step * np.arange(self.count), dtype=np.float64)

    def holds(self, score: float) -> bool:
        """Whether ``score`` is one of the score points."""
        return bool(self.hold(score))

    def hold(self, scores: ArrayLike) -> NDArray[np.bool_]:
        """Which of many scores are score points, same shape; none that is not finite."""
        values = np.asarray(scores, dtype=np.float64)
        position = (np.where(np.isfinite(values), values, np.inf) - self.low) / self.step
        inside = (position > -0.5) & (position < self.count - 0.5)
        position = np.where(inside, position, 0.5)
        return np.asarray(inside & (np.abs(position - np.rint(position)) < 1e-6))

    def to_unit(self, scores: ArrayLike) -> NDArray[np.float64]:
        """Scores on the original scale to [0, 1]: (score - low) / (high - low)."""
        return (np.asarray(scores, dtype=np.float64) - self.low) / (self.high - self.low)

    def from_unit(self, unit: ArrayLike) -> NDArray[np.float64]:
        """Values on [0, 1] back to the original scale; values outside are not trimmed."""
        return np.asarray(unit, dtype=np.float64) * (self.high - self.low) + self.low

    def to_index(self, scores: ArrayLike) -> NDArray[np.int64]:
        """Number of each score point, counted from 0; trims and rounds half up. NaN raises DataError."""
        position = (np.asarray(scores, dtype=np.float64) - self.low) / self.step
        if np.isnan(position).any():
            raise DataError("A prediction that is NaN has no score point. Look for the cause in the scorer's outputs.")
        # 1e-9: 2.5 reached through float arithmetic as 2.4999999999 is a half.
        return np.clip(np.floor(position + 0.5 + 1e-9), 0, self.count - 1).astype(np.int64)

    def to_point(self, scores: ArrayLike) -> NDArray[np.float64]:
        """Nearest score point of each value: trimmed to the range, then rounded half up."""
        return np.asarray(self.low + self.step * self.to_index(scores), dtype=np.float64)
