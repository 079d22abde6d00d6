"""Reported scales: a table from a prompt's score points to the scores that are reported.

The table is linear, given, or made by equipercentile equating to the scores of a reference form.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

from aes_dynloss.errors import ConfigError, DataError
from aes_dynloss.tables.score_range import ScoreRange

Method = Literal["linear", "table", "equipercentile"]


@dataclass(frozen=True)
class ConversionTable:
    """The reported score of each score point of a prompt.

    Args:
        method: How the table was made.
        reported: A finite number for each score point, ascending by score point; they never fall, or never rise.

    Raises:
        ConfigError: The method is unknown, or the numbers are none, not finite, or fall and rise.

    Example:
        >>> ConversionTable("table", (0.0, 35.0, 100.0)).apply(ScoreRange(1, 3), [2, 3, 3])
        array([ 35., 100., 100.])
    """

    method: Method
    reported: tuple[float, ...]

    def __post_init__(self) -> None:
        """Check the table at construction."""
        values = np.array(self.reported, dtype=np.float64)
        if self.method not in get_args(Method) or not len(values) or not np.isfinite(values).all():
            raise ConfigError(
                f"A conversion table has a method of {get_args(Method)} and finite numbers, found {self}."
            )
        steps = np.diff(values)
        if (steps < 0).any() and (steps > 0).any():
            raise ConfigError(
                f"The reported scores {', '.join(f'{value:g}' for value in values)} fall and rise with the score "
                "points. Give a table that only rises, or only falls."
            )

    def apply(self, score_range: ScoreRange, scores: ArrayLike) -> NDArray[np.float64]:
        """Reported scores of score points, same shape.

        Args:
            score_range: Whose score points the table is of.
            scores: Score points.

        Raises:
            ConfigError: The table has another number of score points.
        """
        if len(self.reported) != score_range.count:
            raise ConfigError(
                f"A conversion table of {len(self.reported)} score points does not fit the range {score_range}."
            )
        return np.array(self.reported, dtype=np.float64)[score_range.to_index(scores)]

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        return {"method": self.method, "reported": list(self.reported)}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> ConversionTable:
        """From :meth:`to_dict`."""
        return cls(values["method"], tuple(float(value) for value in values["reported"]))


def linear_table(score_range: ScoreRange, scale: ScoreRange) -> ConversionTable:
    """A line from one range to another: lowest to lowest, highest to highest, rounded to the scale's points.

    Args:
        score_range: The prompt's.
        scale: The reported one.

    Example:
        >>> linear_table(ScoreRange(0, 3), ScoreRange(0, 100)).reported
        (0.0, 33.0, 67.0, 100.0)
    """
    reported = scale.to_point(scale.from_unit(score_range.to_unit(score_range.points)))
    return ConversionTable("linear", tuple(reported.tolist()))


def equipercentile_table(
    scores: ArrayLike, score_range: ScoreRange, form_scores: ArrayLike, form_range: ScoreRange
) -> ConversionTable:
    """For each score point the score of a reference form that has the same percentile rank.

    A score point stands for all scores up to half a step below and above it (uniform kernel), so that

        P(x) = F(x - 1) + f(x) / 2,   e(x) = y - 1/2 + (P(x) - G(y - 1)) / g(y)

    in steps, with F, f of the scores and G, g of the form's scores, cumulative and relative frequencies, and y the
    lowest point of the form with G(y) > P(x); where there is none, e(x) is half a step above the form's highest point.
    e(x) is trimmed to the form's range. There is no smoothing: with few essays, the table is as uneven as they are.

    Args:
        scores: Score points of N essays, (N,), N >= 1.
        score_range: The range of these.
        form_scores: Score points of M essays of the reference form, (M,), M >= 1, by writers as able.
        form_range: The range of these.

    Raises:
        DataError: There are no scores, or a score is none of its range's score points.

    References:
        Kolen and Brennan (2014), Test Equating, Scaling, and Linking, 3rd edition, section 2.5.

    Example:
        >>> equipercentile_table([1, 2, 2, 3], ScoreRange(1, 3), [1, 1, 2, 3], ScoreRange(1, 3)).reported
        (1.0, 1.5, 3.0)
    """
    f, g = _frequencies(scores, score_range, "scores"), _frequencies(form_scores, form_range, "reference form")
    rank = np.cumsum(f) - f / 2
    # Rounded: sums of frequencies that are equal on paper differ in their last digits.
    above = np.round(np.cumsum(g), 12) > np.round(rank, 12)[:, None]  # (points, points of the form)
    y = np.where(above.any(axis=1), above.argmax(axis=1), form_range.count - 1)
    below = np.cumsum(g)[y] - g[y]
    with np.errstate(divide="ignore", invalid="ignore"):
        steps = np.where(above.any(axis=1), y - 0.5 + (rank - below) / g[y], form_range.count - 0.5)
    equated = np.clip(form_range.low + form_range.step * steps, form_range.low, form_range.high)
    return ConversionTable("equipercentile", tuple(np.round(equated, 6).tolist()))


def _frequencies(scores: ArrayLike, score_range: ScoreRange, what: str) -> NDArray[np.float64]:
    """Relative frequencies of the score points."""
    values = np.asarray(scores, dtype=np.float64)
    if not values.size:
        raise DataError(f"Equipercentile equating: there are no scores ({what}). Give some.")
    strange = values[~score_range.is_score_point(values)]
    if strange.size:
        raise DataError(
            f"Equipercentile equating: the score {strange[0]:g} ({what}) is no score point of {score_range}."
        )
    counts = np.bincount(score_range.to_index(values), minlength=score_range.count)
    return np.asarray(counts / values.size, dtype=np.float64)
