"""Reliability of human scores, and the machine's agreement read against it: ceilings, PRMSE, human-human agreement.

Measures of scores reduce the last axis, as those of ``agreement`` do; functions of a reliability or a correlation work
element by element. An undefined value is NaN.

Under classical test theory a rating is the essay's true score plus an error of the rater's that is independent of the
true score, of the other raters' errors and of the machine. Essays need not have the same number of ratings: a missing
one is NaN. The functions of ratings reduce the last two axes (essays, raters).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from aes_dynloss.errors import DataError
from aes_dynloss.measures.agreement import (
    checked_columns,
    quadratic_weighted_kappa,
    score_point_numbers,
    unit_deviation,
)
from aes_dynloss.measures.calibration import SMALLEST_SD_RATIO
from aes_dynloss.tables.score_range import ScoreRange

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

    Examples:
        >>> round(float(spearman_brown(0.6, raters=2)), 3)
        0.75
    """
    if not 0 < raters < np.inf:
        raise DataError(f"A mean needs a number of raters above 0, found {raters}.")
    rho = _checked_reliability(reliability)
    return np.asarray(raters * rho / (1 + (raters - 1) * rho), dtype=np.float64)


def disattenuated_correlation(human_machine: ArrayLike, human_human: ArrayLike) -> NDArray[np.float64]:
    """Correlation of the machine with the true score: r(human, machine) / sqrt(r(human, human)).

    r(human, human) estimates the reliability of the human score that the machine was held against. If that score is a
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

    Examples:
        >>> round(float(disattenuated_correlation(0.72, 0.81)), 3)
        0.8
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
    gives just this; with the humans' spread it reaches ``qwk_ceiling``.

    Args:
        reliability: Reliability of the human score, at most 1; NaN where unknown.

    Returns:
        Kappa, same shape, from 0 to 1; NaN where the reliability is below 0 or unknown.

    Raises:
        DataError: A reliability is above 1.

    References:
        Lord and Novick (1968), chapter 3: h = t + e. Fleiss and Cohen (1973), Educational and Psychological
        Measurement 33(3): kappa's moment form. Haberman (2019), ETS Research Report RR-19-20: kappa and true scores.

    Examples:
        >>> round(float(qwk_of_true_score(0.6)), 3)
        0.75
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

    Examples:
        >>> round(float(qwk_ceiling(0.64)), 3)
        0.8
    """
    return np.sqrt(_checked_reliability(reliability))


def variance_matched_qwk(reference: ArrayLike, raw: ArrayLike, score_range: ScoreRange) -> NDArray[np.float64]:
    """QWK after the predictions are given the human scores' mean and sd, on these same essays.

        kappa(h, points(mean(h) + sd(h) / sd(raw) (raw - mean(raw))))

    It separates the part of a low kappa that is due to predictions' level and spread, which a line can correct, from
    the part that is due to their order. The line is fitted to the evaluated essays themselves, so that no scorer would
    have reached this value: for that, rescale by dev (``fit_rescaling``).

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

    Examples:
        >>> human, raw = [1, 2, 3, 4], [2.2, 2.4, 2.6, 2.8]  # the right order, too little spread
        >>> float(variance_matched_qwk(human, raw, ScoreRange(1, 4)))
        1.0
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

    It is the partial correlation of first order, of features as of scores.

        r_hm.l = (r_hm - r_hl r_ml) / sqrt((1 - r_hl^2) (1 - r_ml^2))

    Computed as the correlation of the residuals from two linear regressions on length, which is the same number.

    Args:
        reference: Human scores, shape (..., n), finite.
        raw: Machine scores before rounding, or values of a feature, same shape.
        words: Essays' lengths in words, same shape. Take their logarithm first where scores grow with that.

    Returns:
        Correlation, shape (...), from -1 to 1; NaN where a column is constant, where human or machine score is a linear
        function of length, or n < 3.

    Raises:
        DataError: The shapes differ, there is no essay, or a value is not finite.

    References:
        Yule (1907), Proceedings of the Royal Society A 79, partial correlation. RSMTool's ``partial_correlations``.

    Examples:
        >>> round(float(length_partialled_pearson([1, 2, 3, 4], [1.2, 2.4, 2.6, 4.0], [100, 150, 300, 320])), 3)
        0.999
    """
    human, machine, length = map(unit_deviation, checked_columns(reference=reference, raw=raw, words=words))
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


# A true-score variance below this share of the error variance is a difference of equal numbers: float noise.
SMALLEST_VARIANCE_RATIO = 1e-12


class _Ratings(NamedTuple):
    """Ratings, reduced to what the estimators read.

    Args:
        means: Each essay's mean rating, shape (..., n), from ``origin``.
        counts: Each essay's number of ratings, shape (..., n), >= 1.
        within: Sum over essays of squared deviations from the essay's mean, shape (...).
        origin: The lowest rating, shape (..., 1). Taken away first, so that equal ratings have variance 0 exactly.
    """

    means: NDArray[np.float64]
    counts: NDArray[np.float64]
    within: NDArray[np.float64]
    origin: NDArray[np.float64]


def variance_of_errors(ratings: ArrayLike) -> NDArray[np.float64]:
    """Variance of one rater's errors, from the raters' disagreements about the same essays.

        sum_i sum_j (h_ij - mean_i)^2 / sum_i (c_i - 1),    c_i ratings h_ij of essay i

    Args:
        ratings: Human ratings, shape (..., n, raters), NaN where a rater did not score an essay.

    Returns:
        Variance, shape (...), >= 0; NaN where no essay has two ratings.

    Raises:
        DataError: The shape is another, a rating is infinite, or an essay has no rating.

    References:
        Loukina, Madnani, Cahill, Yao, Johnson, Riordan and McCaffrey (2020), Using PRMSE to evaluate automated scoring
        systems in the presence of label noise, BEA 2020, 18-29, appendix.

    Examples:
        >>> float(variance_of_errors([[1, 2], [2, 2], [3, 4]]).round(3))
        0.333
    """
    return _error_variance(_checked_ratings(ratings), None)


def true_score_variance(ratings: ArrayLike, error_variance: ArrayLike | None = None) -> NDArray[np.float64]:
    """Variance of the true scores: the variance of mean ratings, less what raters' errors add to it.

        (sum_i c_i (mean_i - mean)^2 - (N - 1) V_e) / (M - sum_i c_i^2 / M),    mean = mean of all M = sum_i c_i ratings

    With two ratings of every essay it is var(mean_i) - V_e / 2. The estimate is unbiased, hence below 0 now and then
    where raters hardly agree.

    Args:
        ratings: Human ratings, shape (..., n, raters), NaN where a rater did not score an essay.
        error_variance: V_e, shape (...), >= 0, where it is known from elsewhere; by default ``variance_of_errors``.

    Returns:
        Variance, shape (...); NaN where there is one essay, or no V_e.

    Raises:
        DataError: A shape is another, a rating is infinite, an essay has no rating, or V_e is below 0 or infinite.

    References:
        Loukina et al. (2020), appendix.

    Examples:
        >>> float(true_score_variance([[1, 2], [2, 2], [3, 4]]).round(3))
        0.917
    """
    human = _checked_ratings(ratings)
    errors = _error_variance(human, error_variance)
    total = human.counts.sum(axis=-1)
    mean = (human.counts * human.means).sum(axis=-1) / total
    between = (human.counts * np.square(human.means - mean[..., None])).sum(axis=-1)
    essays = human.counts.shape[-1]
    divisor = np.asarray(total - np.square(human.counts).sum(axis=-1) / total)
    divisor = np.where(essays == 1, np.nan, divisor)
    return np.asarray((between - (essays - 1) * errors) / divisor, dtype=np.float64)


def prmse(machine: ArrayLike, ratings: ArrayLike, error_variance: ArrayLike | None = None) -> NDArray[np.float64]:
    """Proportional reduction in mean squared error when the machine's score predicts the true score.

        PRMSE = 1 - MSE_T / V_T
        MSE_T = (sum_i c_i (mean_i - m_i)^2 - N V_e) / sum_i c_i,    V_T by ``true_score_variance``

    It asks how well a machine predicts what raters agree on, so that a figure does not fall with the raters' noise as
    R^2, r and QWK do. It punishes a wrong level and spread too. It is the same for one rating an essay or ten, in
    expectation, as long as V_e is known.

    Args:
        machine: Machine scores on the raters' scale, before rounding, shape (..., n), finite.
        ratings: Human ratings, shape (..., n, raters), NaN where a rater did not score an essay.
        error_variance: V_e, shape (...), >= 0, where it is known from elsewhere; by default ``variance_of_errors``.

    Returns:
        PRMSE, shape (...): 1 for the true score itself, 0 for the mean score of all essays, and below 0 for worse.
        MSE_T is an estimate too and may fall below 0, so that PRMSE exceeds 1: raters hardly agree then, or essays are
        few. NaN where V_T is not above 0 (there is nothing to predict; RSMTool gives a number), one essay, or no V_e.

    Raises:
        DataError: A shape is another, a value is not finite, an essay has no rating, or V_e is below 0 or infinite.

    References:
        Loukina, Madnani, Cahill, Yao, Johnson, Riordan and McCaffrey (2020), BEA 2020, 18-29; its estimators for
        essays with unequal numbers of ratings are those of RSMTool's ``prmse_true``. Haberman (2008), Journal of
        Educational and Behavioral Statistics 33(2), 204-229: PRMSE.

    Examples:
        >>> float(prmse([2, 2, 3, 3], [[1, 2], [2, 2], [3, 4], [4, 4]]).round(3))
        0.806
    """
    human = _checked_ratings(ratings)
    (predictions,) = checked_columns(machine=machine)
    if predictions.shape != human.means.shape:
        raise DataError(
            f"PRMSE needs machine scores (..., n) and ratings (..., n, raters), found {predictions.shape} and "
            f"{np.shape(ratings)}. Give each essay one machine score and one row of ratings."
        )
    errors = _error_variance(human, error_variance)
    squared = human.counts * np.square(human.means - (predictions - human.origin))
    mse = (squared.sum(axis=-1) - predictions.shape[-1] * errors) / human.counts.sum(axis=-1)
    true_variance = true_score_variance(ratings, error_variance)
    known = true_variance > SMALLEST_VARIANCE_RATIO * errors
    return np.asarray(1 - mse / np.where(known, true_variance, np.nan), dtype=np.float64)


def _checked_ratings(ratings: ArrayLike) -> _Ratings:
    """Ratings of shape (..., n, raters), reduced."""
    values = np.asarray(ratings, dtype=np.float64)
    if values.ndim < 2 or 0 in values.shape[-2:]:
        raise DataError(f"Ratings need a shape (..., n, raters) with n, raters >= 1, found {values.shape}.")
    given = ~np.isnan(values)
    if np.isinf(values).any() or not given.any(axis=-1).all():
        raise DataError(
            "Ratings need one finite rating of each essay at least, found an infinite one or an essay without any. "
            "Drop or correct those essays."
        )
    origin = np.nanmin(values, axis=(-2, -1), keepdims=True)
    shifted = np.where(given, values - origin, 0)
    counts = given.sum(axis=-1).astype(np.float64)
    means = shifted.sum(axis=-1) / counts
    within = np.where(given, np.square(shifted - means[..., None]), 0).sum(axis=(-2, -1))
    return _Ratings(means, counts, np.asarray(within), origin[..., 0])


def _error_variance(human: _Ratings, given: ArrayLike | None) -> NDArray[np.float64]:
    """V_e as given, or estimated; NaN where no essay has two ratings."""
    if given is None:
        residual_dof = np.asarray((human.counts - 1).sum(axis=-1))
        return np.asarray(human.within / np.where(residual_dof == 0, np.nan, residual_dof), dtype=np.float64)
    variance = np.asarray(given, dtype=np.float64)
    if variance.shape not in {(), human.within.shape} or not (np.isfinite(variance).all() and (variance >= 0).all()):
        raise DataError(
            f"The variance of raters' errors must be a number >= 0, or one for each of {human.within.shape}, found "
            f"{given}."
        )
    return variance
