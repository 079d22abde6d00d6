"""Prediction intervals with a stated coverage, by split conformal prediction: how far off was the machine on dev?"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from aes_dynloss.errors import CheckpointError, ConfigError, DataError
from aes_dynloss.evaluation.checked_scores import checked_columns
from aes_dynloss.evaluation.score_range import ScoreRange

COVERAGE = 0.9
# More errors than these are kept as that many of their quantiles, whose steps are far below what dev can tell.
MOST_ERRORS = 2000


@dataclass(frozen=True)
class PromptErrors:
    """A scorer's errors on one prompt's dev essays.

    Args:
        errors: |raw - human score|, ascending, on the prompt's scale.
        essays: Number of dev essays; more than there are errors where those were thinned.
    """

    errors: tuple[float, ...]
    essays: int

    def __post_init__(self) -> None:
        """Check at construction."""
        values = np.asarray(self.errors, dtype=np.float64)
        rising = values.size > 0 and bool(np.isfinite(values).all()) and (np.diff(values) >= 0).all()
        if not rising or values[0] < 0 or self.essays < values.size:
            raise DataError(f"Errors must be finite, ascending and >= 0, found {values.size} of {self.essays} essays.")

    def half_width(self, coverage: float) -> float | None:
        """How far from a prediction the human score lies at most, in ``coverage`` of essays like those of dev.

            the k-th smallest of n errors, k = ceil((n + 1) coverage)

        Args:
            coverage: Stated coverage, between 0 and 1.

        Returns:
            Half the interval's width; None where dev has too few essays to tell (k > n).

        Raises:
            ConfigError: The coverage is not between 0 and 1.
        """
        if not 0 < coverage < 1:
            raise ConfigError(f"A coverage must lie between 0 and 1, such as .9, found {coverage}.")
        # 1e-9: (9 + 1) * .9 is 9, and not a little more.
        place = math.ceil((self.essays + 1) * coverage - 1e-9)
        if place > self.essays:
            return None
        return self.errors[min(len(self.errors), math.ceil(place / self.essays * len(self.errors))) - 1]


@dataclass(frozen=True)
class Intervals:
    """Prediction intervals of one scorer, fitted on dev prompt by prompt.

        low = smallest score point >= raw - q,    high = largest score point <= raw + q,    q = ``half_width``

    The human score of a new essay lies inside with the stated probability, whatever the scorer, as long as dev and new
    essays are exchangeable: to the same prompt, by such writers, scored by such raters, and not used in training. (That
    dev has chosen the epoch and the rounding costs a little of it.)

    Args:
        prompts: Errors by prompt.

    References:
        Papadopoulos, Proedrou, Vovk and Gammerman (2002), Inductive confidence machines for regression. Lei, G'Sell,
        Rinaldo, Tibshirani and Wasserman (2018), Journal of the American Statistical Association 113(523), algorithm 2.
    """

    prompts: Mapping[str, PromptErrors]

    def bounds(
        self, prompt: str, raw: ArrayLike, score_range: ScoreRange, coverage: float = COVERAGE
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]] | None:
        """Lowest and highest score point of each essay's interval.

        Args:
            prompt: The prompt that all these essays answer.
            raw: Predictions before rescaling and rounding, shape (n,), finite.
            score_range: The prompt's score points.
            coverage: Stated coverage, between 0 and 1.

        Returns:
            Both, of shape (n,); an interval between two score points is the nearer one. None where the prompt has no
            dev essays, or too few for this coverage.

        Raises:
            ConfigError: The coverage is not between 0 and 1.
            DataError: A prediction is not finite.
        """
        known = self.prompts.get(prompt)
        half = None if known is None else known.half_width(coverage)
        if half is None:
            return None
        (values,) = checked_columns(raw=raw)
        nearest = score_range.to_index(values)
        last = score_range.count - 1
        low = np.ceil((values - half - score_range.low) / score_range.step - 1e-9)
        high = np.floor((values + half - score_range.low) / score_range.step + 1e-9)
        ends = (np.minimum(np.clip(low, 0, last), nearest), np.maximum(np.clip(high, 0, last), nearest))
        points = score_range.points
        return points[ends[0].astype(np.int64)], points[ends[1].astype(np.int64)]

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            prompt: {"errors": list(found.errors), "essays": found.essays} for prompt, found in self.prompts.items()
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Intervals:
        """What ``to_dict`` wrote.

        Raises:
            CheckpointError: The values are not such.
        """
        try:
            return cls(
                {
                    str(prompt): PromptErrors(tuple(float(error) for error in found["errors"]), int(found["essays"]))
                    for prompt, found in values.items()
                }
            )
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise CheckpointError(f"Stored intervals are damaged: {error}. Fetch the model folder again.") from None


def fit_intervals(prompt_ids: Sequence[str], raw: ArrayLike, reference: ArrayLike) -> Intervals:
    """Intervals from a scorer's errors on dev.

    Args:
        prompt_ids: Prompt of each dev essay, n of them, maybe none.
        raw: Predictions before rescaling and rounding, shape (n,), finite.
        reference: Human scores, shape (n,), finite.

    Returns:
        Intervals for the prompts that have dev essays.

    Raises:
        DataError: The shapes differ, or a value is not finite.
    """
    if len(prompt_ids) == 0:
        return Intervals({})
    machine, human = checked_columns(raw=raw, reference=reference)
    answered = np.asarray(prompt_ids, dtype=object)
    found = {}
    for prompt in dict.fromkeys(prompt_ids):
        errors = np.sort(np.abs(machine - human)[answered == prompt])
        essays = len(errors)
        if essays > MOST_ERRORS:
            places = np.ceil(np.arange(1, MOST_ERRORS + 1) / MOST_ERRORS * essays).astype(np.int64) - 1
            errors = errors[places]
        found[prompt] = PromptErrors(tuple(errors.tolist()), essays)
    return Intervals(found)


def coverage_entry(
    reference: ArrayLike, bounds: tuple[NDArray[np.float64], NDArray[np.float64]] | None, coverage: float = COVERAGE
) -> dict[str, float | None]:
    """How often the human score lay inside.

    Args:
        reference: Human scores, shape (n,).
        bounds: Lowest and highest score points, each (n,), or None.
        coverage: What was stated.

    Returns:
        ``stated``, ``measured`` (share of essays inside) and ``mean_width`` (on the prompt's scale, 0 for one score
        point); None where there are no intervals.
    """
    if bounds is None:
        return {"stated": coverage, "measured": None, "mean_width": None}
    human, low, high = checked_columns(reference=reference, low=bounds[0], high=bounds[1])
    inside = (low - 1e-9 <= human) & (human <= high + 1e-9)
    return {"stated": coverage, "measured": float(inside.mean()), "mean_width": float((high - low).mean())}
