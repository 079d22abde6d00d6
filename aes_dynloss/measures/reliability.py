"""Agreement read against what limits it: the human score's reliability, the machine's spread, and essays' length.

Measures of scores reduce the last axis, as those of ``agreement`` do; functions of a reliability or a correlation work
element by element. An undefined value is NaN.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from aes_dynloss.errors import DataError
from aes_dynloss.evaluation.agreement import quadratic_weighted_kappa
from aes_dynloss.evaluation.calibration import SMALLEST_SD_RATIO
from aes_dynloss.evaluation.checked_scores import checked_columns, score_point_numbers
from aes_dynloss.evaluation.score_range import ScoreRange

# 1 - r^2 below it is float noise: the column is a linear function of length, and nothing of it is left to correlate.
SMALLEST_RESIDUAL = 1e-12


def spearman_brown(reliability: ArrayLike, raters: float) -> NDArray[np.float64]:
    """Reliability of the mean (or sum) of several raters, given that of one.

        rho_k = k rho / (1 + (k - 1) rho)

    Args:
        reliability: Reliability of a single rater, such as r or QWK between two raters; NaN where unknown.
        raters: k, the number of raters whose mean is the score, > 0.

    Returns:
        Reliability of the mean, same shape, from 0 to 1; NaN where that of one rater is below 0 or unknown.

    Raises:
        DataError: A reliability is above 1, or ``raters`` is not above 0.

    References:
        Spearman (1910), British Journal of Psychology 3(3); Brown (1910), the same issue. Lord and Novick (1968),
        Statistical Theories of Mental Test Scores, chapter 4.
    """
    if not 0 < raters < np.inf:
        raise DataError(f"A mean needs a number of raters above 0, found {raters}.")
    rho = _checked_reliability(reliability)
    return np.asarray(raters * rho / (1 + (raters - 1) * rho), dtype=np.float64)


def disattenuated_correlation(human_machine: ArrayLike, human_human: ArrayLike) -> NDArray[np.float64]:
    """Correlation of the machine with the true score: r(human, machine) / sqrt(r(human, human)).

    r(human, human) stands for the reliability of the human score that the machine was held against. If that score is a
    mean of k raters, first take ``spearman_brown`` of it.

    Args:
        human_machine: Correlation of human and machine score, from -1 to 1; NaN where unknown.
        human_human: Correlation of two raters, same shape or a single value.

    Returns:
        Correlation, same shape. Above 1 now and then, for both are estimates; it is not cut off. NaN where one is
        unknown, or raters do not agree at all (human_human <= 0; RSMTool has infinity at 0).

    Raises:
        DataError: The shapes differ, or a value is outside -1 to 1.

    References:
        Spearman (1904), American Journal of Psychology 15(1). Lord and Novick (1968), chapter 3. RSMTool's
        ``compute_disattenuated_correlations``.
    """
    machine = np.asarray(human_machine, dtype=np.float64)
    human = np.asarray(human_human, dtype=np.float64)
    if human.shape not in {(), machine.shape}:
        raise DataError(
            f"Correlations need one shape, found {machine.shape} and {human.shape}. Give one r between raters, or one "
            "for each."
        )
    for values in (machine, human):
        if (np.abs(values) > 1 + 1e-9).any():
            raise DataError(f"Correlations lie between -1 and 1, found {values[np.abs(values) > 1 + 1e-9][0]:g}.")
    return np.asarray(machine / np.sqrt(np.where(human > 0, human, np.nan)), dtype=np.float64)


def qwk_of_true_score(reliability: ArrayLike) -> NDArray[np.float64]:
    """QWK to expect of a machine that gives every essay its true score.

    The human score is h = t + e, e of mean 0 and uncorrelated with t, of reliability rho = var(t) / var(h). Put m = t
    into kappa's moment form 2 cov / (var + var + gap^2): cov(h, t) = var(t) = rho var(h), and both means are equal, so

        kappa = 2 rho var(h) / (var(h) + rho var(h)) = 2 rho / (1 + rho)

    It is the value on a population, with the true score not rounded. A perfect machine that minimises squared error
    gives just this; with the humans' spread it has the more that ``qwk_ceiling`` tells.

    Args:
        reliability: Reliability of the human score, at most 1; NaN where unknown.

    Returns:
        Kappa, same shape, from 0 to 1; NaN where the reliability is below 0 or unknown.

    Raises:
        DataError: A reliability is above 1.

    References:
        Lord and Novick (1968), chapter 3: h = t + e. Fleiss and Cohen (1973), Educational and Psychological
        Measurement 33(3): kappa's moment form. Haberman (2019), ETS Research Report RR-19-20: kappa and true scores.
    """
    rho = _checked_reliability(reliability)
    return np.asarray(2 * rho / (1 + rho), dtype=np.float64)


def qwk_ceiling(reliability: ArrayLike) -> NDArray[np.float64]:
    """The highest QWK to expect of any machine that does not know the raters' errors.

    With h = t + e as in ``qwk_of_true_score`` and e uncorrelated with the machine's score m, cov(h, m) = cov(t, m) is
    at most sd(t) sd(m) = sqrt(rho) sd(h) sd(m), and sd(h)^2 + sd(m)^2 at least 2 sd(h) sd(m), so

        kappa = 2 cov(h, m) / (sd(h)^2 + sd(m)^2 + gap^2) <= sqrt(rho)

    The bound holds for rounded scores too. The true score, stretched to the humans' sd around their mean, reaches it.
    On few essays a machine may be above it by chance.

    Args:
        reliability: Reliability of the human score, at most 1; NaN where unknown. For a mean of k raters that of the
            mean: ``spearman_brown``.

    Returns:
        Kappa, same shape, from 0 to 1, never below ``qwk_of_true_score``; NaN where the reliability is below 0 or
        unknown.

    Raises:
        DataError: A reliability is above 1.

    References:
        Lord and Novick (1968), chapter 3: sqrt(rho), the index of reliability, is r(h, t). Haberman (2019), ETS
        Research Report RR-19-20.
    """
    return np.sqrt(_checked_reliability(reliability))


def variance_matched_qwk(reference: ArrayLike, raw: ArrayLike, score_range: ScoreRange) -> NDArray[np.float64]:
    """QWK after the predictions are given the human scores' mean and sd, on these same essays.

        kappa(h, points(mean(h) + sd(h) / sd(raw) (raw - mean(raw))))

    It tells what of a low kappa is due to predictions' level and spread, which a line can mend, and what to their
    order. The line is fitted to the evaluated essays themselves, so this is no figure that a scorer would have reached:
    for that, rescale by dev (``fit_rescaling``).

    Args:
        reference: Human scores, shape (..., n), score points of ``score_range``.
        raw: Machine scores before rounding, same shape, finite.
        score_range: The prompt's score points, to which the matched predictions are rounded.

    Returns:
        Kappa, shape (...), from -1 to 1; NaN where the human scores or the predictions are constant, or n = 1, for no
        line is determined then.

    Raises:
        DataError: The shapes differ, there is no score, a value is not finite, or a human score is no score point.

    References:
        Williamson, Xi and Breyer (2012), Educational Measurement: Issues and Practice 31(1), 2-13: scaling to the
        human scores' mean and sd.
    """
    human, machine = checked_columns(reference=reference, raw=raw)
    score_point_numbers(score_range, reference=human)
    human_sd, machine_sd = human.std(axis=-1, keepdims=True), machine.std(axis=-1, keepdims=True)
    varied = (np.ptp(human, axis=-1, keepdims=True) > 0) & (machine_sd > SMALLEST_SD_RATIO * human_sd)
    slope = np.divide(human_sd, machine_sd, out=np.zeros_like(human_sd), where=varied)
    matched = human.mean(axis=-1, keepdims=True) + slope * (machine - machine.mean(axis=-1, keepdims=True))
    kappa = quadratic_weighted_kappa(human, score_range.to_point(matched))
    return np.where(varied[..., 0], kappa, np.nan)


def length_partialled_pearson(reference: ArrayLike, raw: ArrayLike, words: ArrayLike) -> NDArray[np.float64]:
    """Correlation of human and machine score among essays of one length: Pearson's of what length does not explain.

        r_hm.l = (r_hm - r_hl r_ml) / sqrt((1 - r_hl^2) (1 - r_ml^2))

    Computed as the correlation of the residuals from two linear regressions on length, which is the same number.

    Args:
        reference: Human scores, shape (..., n), finite.
        raw: Machine scores before rounding, same shape.
        words: Essays' lengths in words, same shape. Take their logarithm first where scores grow with that.

    Returns:
        Correlation, shape (...), from -1 to 1; NaN where a column is constant, where human or machine score is a linear
        function of length, or n < 3.

    Raises:
        DataError: The shapes differ, there is no essay, or a value is not finite.

    References:
        Yule (1907), Proceedings of the Royal Society A 79, partial correlation. RSMTool's ``partial_correlations``.
    """
    human, machine, length = map(_unit_deviation, checked_columns(reference=reference, raw=raw, words=words))
    residuals = []
    for column in (human, machine):
        residual = column - (column * length).sum(axis=-1, keepdims=True) * length
        squares = np.square(residual).sum(axis=-1, keepdims=True)
        residuals.append(residual / np.sqrt(np.where(squares > SMALLEST_RESIDUAL, squares, np.nan)))
    return np.asarray(np.clip((residuals[0] * residuals[1]).sum(axis=-1), -1, 1), dtype=np.float64)


def _checked_reliability(reliability: ArrayLike) -> NDArray[np.float64]:
    """Reliabilities, NaN where an estimate is below 0; refused above 1."""
    rho = np.asarray(reliability, dtype=np.float64)
    if (rho > 1 + 1e-9).any():
        raise DataError(f"A reliability is at most 1, found {rho[rho > 1 + 1e-9][0]:g}. Give that of the human score.")
    return np.where(rho >= 0, np.minimum(rho, 1), np.nan)


def _unit_deviation(column: NDArray[np.float64]) -> NDArray[np.float64]:
    """Deviations from the mean, scaled to length 1; NaN for a constant column."""
    deviation = column - column.mean(axis=-1, keepdims=True)
    # Asked of the values, for the deviations of equal floats may be 1e-17; and scaled by the largest one first, or
    # squares of tiny deviations would vanish.
    constant = np.ptp(column, axis=-1, keepdims=True) == 0
    deviation = deviation / np.where(constant, np.nan, np.abs(deviation).max(axis=-1, keepdims=True))
    return np.asarray(deviation / np.sqrt(np.square(deviation).sum(axis=-1, keepdims=True)))
