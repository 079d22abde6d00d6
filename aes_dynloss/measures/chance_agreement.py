"""Agreement beyond chance on score points: Cohen's kappa without weights, and Gwet's AC1 and AC2."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from aes_dynloss.measures.agreement import score_point_numbers
from aes_dynloss.measures.bootstrap import row_counts
from aes_dynloss.tables.score_range import ScoreRange


def unweighted_kappa(reference: ArrayLike, score: ArrayLike, score_range: ScoreRange) -> NDArray[np.float64]:
    """Cohen's kappa without weights: every disagreement counts the same, whatever its size.

        kappa = (observed - expected) / (1 - expected)
        observed = share of essays with h = m,    expected = sum_k share(h = k) share(m = k)

    A score point that nobody was given takes no part. Identical constants (every score of both equal to one value) give
    0/0; the value is then 1.0, as in SKLL, which RSMTool calls, and as ``quadratic_weighted_kappa`` has it.

    Args:
        reference: Human scores, shape (..., n), n >= 1, score points of ``score_range``.
        score: Machine scores, same shape, score points of ``score_range``.
        score_range: The prompt's score points; scores are compared by their numbers, so .1 + .2 is .3.

    Returns:
        Kappa, shape (...), from -1 to 1: 1 is full agreement, 0 agreement by chance.

    Raises:
        DataError: The shapes differ, there is no score, or a score is no score point.

    References:
        Cohen (1960), Educational and Psychological Measurement 20(1), 37-46.

    Examples:
        >>> round(float(unweighted_kappa([1, 2, 3, 4], [1, 2, 4, 4], ScoreRange(1, 4))), 3)
        0.667
    """
    human, machine = score_point_numbers(score_range, reference=reference, score=score)
    observed = np.asarray((human == machine).mean(axis=-1))
    expected = (_shares(human, score_range.count) * _shares(machine, score_range.count)).sum(axis=-1)
    ratio = np.divide(1 - observed, 1 - expected, out=np.zeros_like(observed), where=expected < 1)
    return np.asarray(1 - ratio, dtype=np.float64)


def gwet_ac1(reference: ArrayLike, score: ArrayLike, score_range: ScoreRange) -> NDArray[np.float64]:
    """Gwet's AC1: agreement beyond chance that does not collapse where nearly all essays share a score.

        AC1 = (observed - expected) / (1 - expected)
        observed = share of essays with h = m,    expected = sum_k pi_k (1 - pi_k) / (q - 1)

    pi_k is the mean of both raters' shares of score point k, q the number of all score points of the range, given to
    anybody or not. (Implementations without the range count the points that occur, which is another
    value.) Chance agreement is at most 1/q, so AC1 is never 0/0; identical constants have 1.

    Args:
        reference: Human scores, shape (..., n), n >= 1, score points of ``score_range``.
        score: Machine scores, same shape, score points of ``score_range``.
        score_range: The prompt's score points, q >= 2 of them.

    Returns:
        AC1, shape (...), from -1 / (q - 1) to 1.

    Raises:
        DataError: The shapes differ, there is no score, or a score is no score point.

    References:
        Gwet (2008), British Journal of Mathematical and Statistical Psychology 61(1), 29-48.

    Examples:
        >>> round(float(gwet_ac1([1, 2, 3, 4], [1, 2, 4, 4], ScoreRange(1, 4))), 3)
        0.671
    """
    return _gwet(reference, score, score_range, quadratic=False)


def gwet_ac2(reference: ArrayLike, score: ArrayLike, score_range: ScoreRange) -> NDArray[np.float64]:
    """Gwet's AC2 with quadratic weights: AC1 with credit for scores that nearly agree.

        AC2 = (observed - expected) / (1 - expected),    w_kl = 1 - ((k - l) / (q - 1))^2
        observed = mean over essays of w_hm,    expected = sum_kl w_kl / (q (q - 1)) * sum_k pi_k (1 - pi_k)

    pi_k and q as in ``gwet_ac1``. Chance agreement is below 1, so AC2 is never 0/0; identical constants have 1. Unlike
    kappa it may lie below -1: scores at opposite ends of a long range disagree more than its chance agreement allows.

    Args:
        reference: Human scores, shape (..., n), n >= 1, score points of ``score_range``.
        score: Machine scores, same shape, score points of ``score_range``.
        score_range: The prompt's score points, q >= 2 of them, equally spaced.

    Returns:
        AC2, shape (...), above -5 and at most 1.

    Raises:
        DataError: The shapes differ, there is no score, or a score is no score point.

    References:
        Gwet (2014), Handbook of Inter-Rater Reliability, 4th edition, chapter 4 (weights: chapter 3).

    Examples:
        >>> round(float(gwet_ac2([1, 2, 3, 4], [1, 2, 4, 4], ScoreRange(1, 4))), 3)
        0.91
    """
    return _gwet(reference, score, score_range, quadratic=True)


def _gwet(reference: ArrayLike, score: ArrayLike, score_range: ScoreRange, *, quadratic: bool) -> NDArray[np.float64]:
    """AC2 with quadratic weights, or with identity weights, which is AC1."""
    human, machine = score_point_numbers(score_range, reference=reference, score=score)
    points = score_range.count
    if quadratic:
        disagreement = np.square((human - machine) / (points - 1)).mean(axis=-1)
        # The sum of all (k - l)^2 on the q by q grid is q^2 (q^2 - 1) / 6.
        weights = points**2 - points**2 * (points + 1) / (6 * (points - 1))
    else:
        disagreement = (human != machine).mean(axis=-1)
        weights = float(points)
    shares = (_shares(human, points) + _shares(machine, points)) / 2
    expected = weights / (points * (points - 1)) * (shares * (1 - shares)).sum(axis=-1)
    return np.asarray(1 - disagreement / (1 - expected), dtype=np.float64)


def _shares(numbers: NDArray[np.int64], points: int) -> NDArray[np.float64]:
    """Share of each score point: (..., n) -> (..., points)."""
    counts = row_counts(numbers.reshape(-1, numbers.shape[-1]), points)
    return np.asarray(counts.reshape(*numbers.shape[:-1], points) / numbers.shape[-1])
