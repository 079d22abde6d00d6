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
    scores: ArrayLike,
    score_range: ScoreRange,
    form_scores: ArrayLike,
    form_range: ScoreRange,
    moments: int | None = None,
) -> ConversionTable:
    """For each score point the score of a reference form that has the same percentile rank.

    A score point stands for all scores up to half a step below and above it (uniform kernel), so that

        P(x) = F(x - 1) + f(x) / 2,   e(x) = y - 1/2 + (P(x) - G(y - 1)) / g(y)

    in steps, with F, f of the scores and G, g of the form's scores, cumulative and relative frequencies, and y the
    lowest point of the form with G(y) > P(x); where there is none, e(x) is half a step above the form's highest point.
    e(x) is trimmed to the form's range. Without smoothing the table is as uneven as few essays are.

    Args:
        scores: Score points of N essays, (N,), N >= 1.
        score_range: The range of these.
        form_scores: Score points of M essays of the reference form, (M,), M >= 1, by writers as able.
        form_range: The range of these.
        moments: Of both distributions that log-linear presmoothing keeps, see :func:`smoothed`; None: no smoothing.

    Raises:
        DataError: There are no scores, or too few different ones to smooth, or one is none of its range's score points.

    References:
        Kolen and Brennan (2014), Test Equating, Scaling, and Linking, 3rd edition, sections 2.5 and 3.3.

    Example:
        >>> equipercentile_table([1, 2, 2, 3], ScoreRange(1, 3), [1, 1, 2, 3], ScoreRange(1, 3)).reported
        (1.0, 1.5, 3.0)
    """
    f, g = _frequencies(scores, score_range, "scores"), _frequencies(form_scores, form_range, "reference form")
    if moments is not None:
        f, g = smoothed(f, moments, "scores"), smoothed(g, moments, "reference form")
    rank = np.cumsum(f) - f / 2
    # Rounded: sums of frequencies that are equal on paper differ in their last digits.
    above = np.round(np.cumsum(g), 12) > np.round(rank, 12)[:, None]  # (points, points of the form)
    y = np.where(above.any(axis=1), above.argmax(axis=1), form_range.count - 1)
    below = np.cumsum(g)[y] - g[y]
    with np.errstate(divide="ignore", invalid="ignore"):
        steps = np.where(above.any(axis=1), y - 0.5 + (rank - below) / g[y], form_range.count - 0.5)
    equated = np.clip(form_range.low + form_range.step * steps, form_range.low, form_range.high)
    return ConversionTable("equipercentile", tuple(np.round(equated, 6).tolist()))


_NEWTON_STEPS, _SETTLED = 100, 1e-12


def smoothed(frequencies: ArrayLike, moments: int, what: str = "scores") -> NDArray[np.float64]:
    """Relative frequencies on a smooth curve with the first moments of the given ones (log-linear presmoothing).

    The logarithm of a score point's frequency is a polynomial of the point, fitted by maximum likelihood, so that mean,
    variance and so on, up to the polynomial's degree, stay what they are.

    Args:
        frequencies: Relative frequencies of K score points at equal distances, (K,), with a sum of 1.
        moments: Degree of the polynomial, 1 <= moments; four or more of long scales, fewer of few score points.
        what: Whose they are, for the message.

    Returns:
        The smoothed frequencies, (K,), all above 0.

    Raises:
        DataError: ``moments`` or fewer different scores occur, which such a curve cannot have.

    References:
        Holland and Thayer (2000), Journal of Educational and Behavioral Statistics 25(2); Kolen and Brennan (2014),
        section 3.3.1.

    Example:
        >>> smoothed([0.1, 0.4, 0.1, 0.4], 2).round(3)
        array([0.16 , 0.219, 0.281, 0.34 ])
    """
    given = np.asarray(frequencies, dtype=np.float64)
    if (seen := int((given > 0).sum())) <= moments:
        raise DataError(
            f"Smoothing ({what}): a curve with {moments} moments needs {moments + 1} different scores, found {seen}. "
            "Keep fewer moments, or do not smooth."
        )
    powers = np.vander(np.linspace(-1, 1, len(given)), moments + 1, increasing=True)
    basis = np.linalg.qr(powers)[0][:, 1:]  # without the constant, which makes the sum 1
    fitted, weights = np.full(len(given), 1 / len(given)), np.zeros(moments)
    for _ in range(_NEWTON_STEPS):
        missing = basis.T @ (given - fitted)
        if np.abs(missing).max() < _SETTLED:
            break
        centred = basis - fitted @ basis
        step = np.linalg.solve(centred.T @ (fitted[:, None] * centred), missing)
        while True:  # halved until the likelihood rises
            tried = _normalised(basis @ (weights + step))
            if given @ np.log(tried) >= given @ np.log(fitted) - _SETTLED:
                break
            step /= 2
        weights, fitted = weights + step, tried
    return fitted


def _normalised(logarithms: NDArray[np.float64]) -> NDArray[np.float64]:
    """Frequencies with a sum of 1 from their logarithms, but for a constant."""
    relative = np.exp(np.clip(logarithms - logarithms.max(), -500, 0))
    return np.asarray(relative / relative.sum(), dtype=np.float64)


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
