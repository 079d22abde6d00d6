"""Measures of agreement between human and machine scores, one prompt at a time.

Every measure reduces the last axis, so that one call also serves all resamples of a bootstrap. An undefined value (a
correlation with a constant column, say) is NaN in these arrays; ``measures`` turns it into None, which JSON can hold.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import rankdata

from aes_dynloss.errors import DataError
from aes_dynloss.evaluation.score_range import ScoreRange


def quadratic_weighted_kappa(reference: ArrayLike, score: ArrayLike) -> NDArray[np.float64]:
    """Quadratic weighted kappa (QWK), in its moment form.

    With disagreement weights (i - j)^2 on the score points, Cohen's weighted kappa 1 - observed / expected is

        kappa = 1 - mean((h - m)^2) / (var(h) + var(m) + (mean(h) - mean(m))^2),    var with divisor n.

    The formula works on the scores' values, hence on the full grid of equally spaced score points: a point that nobody
    was given takes no part. ``sklearn.metrics.cohen_kappa_score`` agrees when it is given ``labels=`` all the points,
    and is wrong without them, because it then numbers only the points that it saw.

    Identical constants (every score of both equal to one value) give 0/0. The value is then 1.0: no score disagrees.
    ``build_report`` notes such a prompt, for it says nothing about a scorer.

    Args:
        reference: Human scores, shape (..., n), n >= 1, finite, all on one prompt's scale.
        score: Machine scores, same shape, score points of the same range. (Unrounded values would give Lin's
            concordance correlation, the same formula, not QWK.)

    Returns:
        Kappa, shape (...), from -1 to 1: 1 is full agreement, 0 agreement by chance.

    Raises:
        DataError: The shapes differ, there is no score, or a value is not finite.

    References:
        Cohen (1968), Psychological Bulletin 70(4), weighted kappa. Fleiss and Cohen (1973), Educational and
        Psychological Measurement 33(3): its moment form. Lin (1989), Biometrics 45(1), eq. 1.
    """
    human, machine = _checked_pair(reference, score)
    gap = human.mean(axis=-1) - machine.mean(axis=-1)
    expected = np.asarray(human.var(axis=-1) + machine.var(axis=-1) + gap**2)
    observed = np.square(human - machine).mean(axis=-1)
    ratio = np.divide(observed, expected, out=np.zeros_like(expected), where=expected > 0)
    return np.asarray(1 - ratio, dtype=np.float64)


def agreement_within(reference: ArrayLike, score: ArrayLike, tolerance: float) -> NDArray[np.float64]:
    """Share of essays whose two scores differ by at most ``tolerance``.

    Args:
        reference: Human scores, shape (..., n), n >= 1, finite.
        score: Machine scores, same shape.
        tolerance: 0 for exact agreement, the range's step for adjacent agreement (exact or one score point off).

    Returns:
        Share, shape (...), from 0 to 1.

    Raises:
        DataError: The shapes differ, there is no score, or a value is not finite.

    References:
        Williamson, Xi and Breyer (2012), Educational Measurement: Issues and Practice 31(1), 2-13.
    """
    human, machine = _checked_pair(reference, score)
    # 1e-6: .1 + .2 is not .3, and score points of a step of .1 are such sums.
    return np.asarray((np.abs(human - machine) <= tolerance + 1e-6).mean(axis=-1), dtype=np.float64)


def pearson(reference: ArrayLike, raw: ArrayLike) -> NDArray[np.float64]:
    """Pearson's correlation: cov(h, m) / (sd(h) sd(m)).

    Args:
        reference: Human scores, shape (..., n), n >= 1, finite.
        raw: Machine scores before rounding, same shape.

    Returns:
        Correlation, shape (...), from -1 to 1; NaN where a column is constant.

    Raises:
        DataError: The shapes differ, there is no score, or a value is not finite.

    References:
        Pearson (1895), Proceedings of the Royal Society 58. Williamson, Xi and Breyer (2012).
    """
    human, machine = _checked_pair(reference, raw)
    human_deviation = _unit_deviation(human)
    machine_deviation = _unit_deviation(machine)
    return np.asarray(np.clip((human_deviation * machine_deviation).sum(axis=-1), -1, 1), dtype=np.float64)


def spearman(reference: ArrayLike, raw: ArrayLike) -> NDArray[np.float64]:
    """Spearman's rank correlation: Pearson's of the ranks, ties given their mean rank.

    Args:
        reference: Human scores, shape (..., n), n >= 1, finite.
        raw: Machine scores before rounding, same shape.

    Returns:
        Correlation, shape (...), from -1 to 1; NaN where a column is constant.

    Raises:
        DataError: The shapes differ, there is no score, or a value is not finite.

    References:
        Spearman (1904), American Journal of Psychology 15(1).
    """
    human, machine = _checked_pair(reference, raw)
    return pearson(rankdata(human, axis=-1), rankdata(machine, axis=-1))


def rmse(reference: ArrayLike, raw: ArrayLike) -> NDArray[np.float64]:
    """Root mean squared error: sqrt(mean((m - h)^2)).

    Args:
        reference: Human scores, shape (..., n), n >= 1, finite.
        raw: Machine scores before rounding, same shape.

    Returns:
        Error in score points' units, shape (...), >= 0. Prompts of different ranges must not be averaged.

    Raises:
        DataError: The shapes differ, there is no score, or a value is not finite.

    References:
        Williamson, Xi and Breyer (2012), Educational Measurement: Issues and Practice 31(1), 2-13.
    """
    human, machine = _checked_pair(reference, raw)
    return np.asarray(np.sqrt(np.square(machine - human).mean(axis=-1)), dtype=np.float64)


def standardized_mean_difference(reference: ArrayLike, raw: ArrayLike) -> NDArray[np.float64]:
    """Standardised mean difference (SMD): (mean(m) - mean(h)) / sqrt((sd(h)^2 + sd(m)^2) / 2).

    The sd is the one pooled over human and machine scores of these same essays, each with divisor n - 1.

    Args:
        reference: Human scores, shape (..., n), n >= 1, finite.
        raw: Machine scores before rounding, same shape.

    Returns:
        SMD, shape (...), positive where the machine is the more lenient; NaN where both columns are constant or n = 1.
        Williamson et al. flag absolute values above .15.

    Raises:
        DataError: The shapes differ, there is no score, or a value is not finite.

    References:
        Williamson, Xi and Breyer (2012), Educational Measurement: Issues and Practice 31(1), 2-13.
    """
    human, machine = _checked_pair(reference, raw)
    pooled = np.sqrt((_sample_sd(human) ** 2 + _sample_sd(machine) ** 2) / 2)
    return _divided(machine.mean(axis=-1) - human.mean(axis=-1), pooled)


def sd_ratio(reference: ArrayLike, raw: ArrayLike) -> NDArray[np.float64]:
    """Spread of the machine's scores as a share of the humans': sd(m) / sd(h).

    Args:
        reference: Human scores, shape (..., n), n >= 1, finite.
        raw: Machine scores before rounding, same shape.

    Returns:
        Ratio, shape (...), >= 0, below 1 where predictions shrink to the mean; NaN where the human scores are constant.

    Raises:
        DataError: The shapes differ, there is no score, or a value is not finite.

    References:
        Williamson, Xi and Breyer (2012), Educational Measurement: Issues and Practice 31(1), 2-13.
    """
    human, machine = _checked_pair(reference, raw)
    return _divided(_sample_sd(machine), _sample_sd(human))


def measures(
    reference: ArrayLike, raw: ArrayLike, score: ArrayLike, score_range: ScoreRange
) -> dict[str, float | None]:
    """All measures of one prompt: kappa and agreement on score points, the others on raw predictions.

    Args:
        reference: Human scores, shape (n,), n >= 1, score points of ``score_range``.
        raw: Machine scores before rounding, shape (n,), finite.
        score: Machine scores, shape (n,), score points of ``score_range``.
        score_range: The prompt's score points.

    Returns:
        Measure by name; None where it is undefined, never NaN.

    Raises:
        DataError: The shapes differ, there is no score, a value is not finite, or a score is no score point.
    """
    for name, column in (("reference", reference), ("score", score)):
        values = np.ravel(np.asarray(column, dtype=np.float64))
        outside = values[~score_range.hold(values)]
        if len(outside):
            raise DataError(
                f"The {name} {outside[0]:g} is no score point of the range {score_range}. Round it, or mend the range."
            )
    return {
        "qwk": none_if_nan(quadratic_weighted_kappa(reference, score)),
        "exact_agreement": none_if_nan(agreement_within(reference, score, 0)),
        "adjacent_agreement": none_if_nan(agreement_within(reference, score, score_range.step)),
        "pearson": none_if_nan(pearson(reference, raw)),
        "spearman": none_if_nan(spearman(reference, raw)),
        "rmse": none_if_nan(rmse(reference, raw)),
        "smd": none_if_nan(standardized_mean_difference(reference, raw)),
        "sd_ratio": none_if_nan(sd_ratio(reference, raw)),
    }


def none_if_nan(value: NDArray[np.float64]) -> float | None:
    """A single value as a plain float, or None where it is undefined."""
    return None if np.isnan(value) else float(value)


def _checked_pair(reference: ArrayLike, other: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Both columns as float64, refused where broadcasting or NaN would give a wrong number instead of an error."""
    human = np.asarray(reference, dtype=np.float64)
    machine = np.asarray(other, dtype=np.float64)
    if human.shape != machine.shape:
        raise DataError(f"Human and machine scores need one shape, found {human.shape} and {machine.shape}.")
    if human.ndim == 0 or human.shape[-1] == 0:
        raise DataError(f"A measure of agreement needs at least one essay, found scores of shape {human.shape}.")
    if not (np.isfinite(human).all() and np.isfinite(machine).all()):
        raise DataError("A measure of agreement needs finite scores, found NaN or infinity. Drop or mend those essays.")
    return human, machine


def _constant(column: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Where a column is constant; asked of the values, for the sd of equal floats may be 1e-17 instead of 0."""
    return np.asarray(column.max(axis=-1) == column.min(axis=-1))


def _unit_deviation(column: NDArray[np.float64]) -> NDArray[np.float64]:
    """Deviations from the mean, scaled to length 1; NaN for a constant column."""
    deviation = column - column.mean(axis=-1, keepdims=True)
    # Scaled by the largest deviation first, or squares of deviations below 1e-160 would vanish.
    largest = np.abs(deviation).max(axis=-1, keepdims=True)
    largest = np.where(_constant(column)[..., None], np.nan, largest)
    deviation = deviation / largest
    return np.asarray(deviation / np.sqrt(np.square(deviation).sum(axis=-1, keepdims=True)))


def _sample_sd(column: NDArray[np.float64]) -> NDArray[np.float64]:
    """Standard deviation with divisor n - 1: 0 for a constant column, NaN for one essay."""
    if column.shape[-1] == 1:
        return np.full(column.shape[:-1], np.nan)
    return np.where(_constant(column), 0.0, column.std(axis=-1, ddof=1))


def _divided(numerator: NDArray[np.float64], denominator: NDArray[np.float64]) -> NDArray[np.float64]:
    """Quotient, NaN where the denominator is 0."""
    return np.asarray(numerator / np.where(denominator == 0, np.nan, denominator), dtype=np.float64)
