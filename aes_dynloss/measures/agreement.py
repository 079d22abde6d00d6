"""Agreement of human and machine scores on one prompt: kappas, agreement rates, correlations, errors.

Every measure reduces the last axis, so that one call also serves all resamples of a bootstrap. An undefined value (a
correlation with a constant column, say) is NaN; ``measures`` replaces it by None, which JSON can hold. Columns are
checked first: broadcasting, NaN or a wrong range would give a wrong number instead of an error.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import rankdata

from aes_dynloss.errors import DataError
from aes_dynloss.tables.score_range import ScoreRange


def checked_columns(**columns: ArrayLike) -> tuple[NDArray[np.float64], ...]:
    """Columns of one shape as float64, in the order in which they were given.

    Args:
        **columns: Values by name, each of one shape (..., n), n >= 1, finite.

    Returns:
        The columns.

    Raises:
        DataError: The shapes differ, there is no essay, or a value is not finite.

    Examples:
        >>> checked_columns(reference=[1, 2], score=[2, 2])
        (array([1., 2.]), array([2., 2.]))
    """
    arrays = {name: np.asarray(column, dtype=np.float64) for name, column in columns.items()}
    shapes = {name: array.shape for name, array in arrays.items()}
    listed = ", ".join(f"{name} {shape}" for name, shape in shapes.items())
    if len(set(shapes.values())) > 1:
        raise DataError(f"Columns of scores need one shape, found {listed}. Give each essay one value in each.")
    if any(not shape or shape[-1] == 0 for shape in shapes.values()):
        raise DataError(f"A measure needs at least one essay, found {listed}.")
    for name, array in arrays.items():
        if not np.isfinite(array).all():
            raise DataError(
                f"A measure needs finite values, found NaN or infinity in {name}. Drop or correct those essays."
            )
    return tuple(arrays.values())


def score_point_numbers(score_range: ScoreRange, **columns: ArrayLike) -> tuple[NDArray[np.int64], ...]:
    """Numbers of the score points, counted from 0; a score that is no score point is refused, not rounded.

    Args:
        score_range: The score points.
        **columns: Scores by name, each of one shape (..., n), n >= 1.

    Returns:
        Numbers from 0 to ``score_range.count - 1``, each of shape (..., n), in the order of the columns.

    Raises:
        DataError: The shapes differ, there is no essay, a value is not finite, or a score is no score point.

    Examples:
        >>> score_point_numbers(ScoreRange(2, 12), reference=[2, 7, 12])
        (array([ 0,  5, 10]),)
    """
    arrays = checked_columns(**columns)
    for name, scores in zip(columns, arrays, strict=True):
        outside = scores[~score_range.is_score_point(scores)]
        if outside.size:
            point = f"{name} {outside[0]:g}"
            raise DataError(
                f"The {point} is no score point of the range {score_range}. Round it, or correct the range."
            )
    return tuple(score_range.to_index(scores) for scores in arrays)


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

    Examples:
        >>> round(float(quadratic_weighted_kappa([1, 2, 3, 4], [1, 2, 4, 4])), 3)
        0.917
    """
    human, machine = checked_columns(reference=reference, score=score)
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

    Examples:
        >>> round(float(agreement_within([1, 2, 3, 4], [1, 2, 4, 4], tolerance=0)), 3)
        0.75
    """
    human, machine = checked_columns(reference=reference, score=score)
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

    Examples:
        >>> round(float(pearson([1, 2, 3, 4], [1.5, 2.0, 3.0, 3.5])), 3)
        0.99
    """
    human, machine = checked_columns(reference=reference, raw=raw)
    human_deviation = unit_deviation(human)
    machine_deviation = unit_deviation(machine)
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

    Examples:
        >>> round(float(spearman([1, 2, 3, 4], [1.5, 2.0, 3.0, 3.5])), 3)
        1.0
    """
    human, machine = checked_columns(reference=reference, raw=raw)
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

    Examples:
        >>> round(float(rmse([1, 2, 3, 4], [1.5, 2.0, 3.0, 3.5])), 3)
        0.354
    """
    human, machine = checked_columns(reference=reference, raw=raw)
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

    Examples:
        >>> round(float(standardized_mean_difference([1, 2, 3, 4], [1.5, 2.5, 3.5, 4.5])), 3)
        0.387
    """
    human, machine = checked_columns(reference=reference, raw=raw)
    pooled = np.sqrt((sample_sd(human) ** 2 + sample_sd(machine) ** 2) / 2)
    return divided(machine.mean(axis=-1) - human.mean(axis=-1), pooled)


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

    Examples:
        >>> round(float(sd_ratio([1, 2, 3, 4], [1.5, 2.0, 2.5, 3.0])), 3)
        0.5
    """
    human, machine = checked_columns(reference=reference, raw=raw)
    return divided(sample_sd(machine), sample_sd(human))


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

    Examples:
        >>> report = measures([1, 2, 3, 4], [1.2, 2.1, 3.6, 3.8], [1, 2, 4, 4], ScoreRange(1, 4))
        >>> round(report["qwk"], 3), report["exact_agreement"], round(report["rmse"], 3)
        (0.917, 0.75, 0.335)
    """
    score_point_numbers(score_range, reference=reference, score=score)
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
    """A single value as a plain float, or None where it is undefined.

    Examples:
        >>> none_if_nan(np.asarray(0.5)), none_if_nan(np.asarray(np.nan))
        (0.5, None)
    """
    return None if np.isnan(value) else float(value)


def _constant(column: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Mask of constant columns; compares values, for the sd of equal floats may be 1e-17 instead of 0."""
    return np.asarray(column.max(axis=-1) == column.min(axis=-1))


def unit_deviation(column: NDArray[np.float64]) -> NDArray[np.float64]:
    """Deviations from the mean, scaled to length 1; NaN for a constant column.

    Args:
        column: Values, shape (..., n).

    Returns:
        Deviations along the last axis, same shape.

    Examples:
        >>> unit_deviation(np.array([0.0, 3.0, 6.0])).round(3)
        array([-0.707,  0.   ,  0.707])
    """
    deviation = column - column.mean(axis=-1, keepdims=True)
    # Scaled by the largest deviation first, or squares of deviations below 1e-160 would vanish.
    largest = np.abs(deviation).max(axis=-1, keepdims=True)
    largest = np.where(_constant(column)[..., None], np.nan, largest)
    deviation = deviation / largest
    return np.asarray(deviation / np.sqrt(np.square(deviation).sum(axis=-1, keepdims=True)))


def sample_sd(column: NDArray[np.float64]) -> NDArray[np.float64]:
    """Standard deviation with divisor n - 1: 0 for a constant column, NaN for one essay.

    Args:
        column: Values, shape (..., n).

    Examples:
        >>> sample_sd(np.array([[1.0, 2.0, 3.0], [2.0, 2.0, 2.0]]))
        array([1., 0.])
    """
    if column.shape[-1] == 1:
        return np.full(column.shape[:-1], np.nan)
    return np.where(_constant(column), 0.0, column.std(axis=-1, ddof=1))


def divided(numerator: NDArray[np.float64], denominator: NDArray[np.float64]) -> NDArray[np.float64]:
    """Quotient, NaN where the denominator is 0.

    Examples:
        >>> divided(np.array([1.0, 1.0]), np.array([2.0, 0.0]))
        array([0.5, nan])
    """
    return np.asarray(numerator / np.where(denominator == 0, np.nan, denominator), dtype=np.float64)


# The competition of 2012 capped each prompt's kappa here, so that a perfect one does not make the mean infinite.
FISHER_CAP = 0.999


def fisher_mean(kappas: ArrayLike) -> float:
    """Mean of kappas over prompts as the 2012 ASAP competition took it: tanh(mean(arctanh(kappa))).

    Args:
        kappas: Kappas, shape (n,), n >= 1, from -1 to 1, each capped at +-.999 before the transformation.

    Returns:
        Mean on the scale of kappa, at most .999.

    Raises:
        DataError: There is no kappa, or one is not within -1 to 1.

    References:
        Fisher (1921), Metron 1, the transformation. Hewlett Foundation: Automated Essay Scoring (Kaggle, 2012),
        evaluation rules.

    Examples:
        >>> round(float(fisher_mean([0.5, 0.9])), 3)
        0.766
    """
    values = np.asarray(kappas, dtype=np.float64)
    if values.size == 0 or not (np.abs(values) <= 1 + 1e-9).all():
        raise DataError(f"A Fisher mean needs kappas from -1 to 1, found {values.tolist()}.")
    return float(np.tanh(np.arctanh(np.clip(values, -FISHER_CAP, FISHER_CAP)).mean()))
