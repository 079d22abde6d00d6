"""The true score behind several raters' scores: how much raters err, and how well a machine predicts it (PRMSE).

Under classical test theory a rating is the essay's true score plus an error of the rater's that is independent of the
true score, of the other raters' errors and of the machine. Essays need not have the same number of ratings: a missing
one is NaN. The functions reduce the last two axes of the ratings (essays, raters), so that one call also serves all
resamples of a bootstrap.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from aes_dynloss.errors import DataError
from aes_dynloss.evaluation.checked_scores import checked_columns

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
    """
    return _variance_of_errors(_checked_ratings(ratings))


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
    """
    human = _checked_ratings(ratings)
    return _true_score_variance(human, _error_variance(human, error_variance))


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
    true_variance = _true_score_variance(human, errors)
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
            "Drop or mend those essays."
        )
    origin = np.nanmin(values, axis=(-2, -1), keepdims=True)
    shifted = np.where(given, values - origin, 0)
    counts = given.sum(axis=-1).astype(np.float64)
    means = shifted.sum(axis=-1) / counts
    within = np.where(given, np.square(shifted - means[..., None]), 0).sum(axis=(-2, -1))
    return _Ratings(means, counts, np.asarray(within), origin[..., 0])


def _variance_of_errors(human: _Ratings) -> NDArray[np.float64]:
    """V_e; NaN where no essay has two ratings."""
    spare = np.asarray((human.counts - 1).sum(axis=-1))
    return np.asarray(human.within / np.where(spare == 0, np.nan, spare), dtype=np.float64)


def _error_variance(human: _Ratings, given: ArrayLike | None) -> NDArray[np.float64]:
    """V_e as given, or estimated."""
    if given is None:
        return _variance_of_errors(human)
    variance = np.asarray(given, dtype=np.float64)
    if variance.shape not in {(), human.within.shape} or not (np.isfinite(variance).all() and (variance >= 0).all()):
        raise DataError(
            f"The variance of raters' errors must be a number >= 0, or one for each of {human.within.shape}, found "
            f"{given}."
        )
    return variance


def _true_score_variance(human: _Ratings, errors: NDArray[np.float64]) -> NDArray[np.float64]:
    """V_T, given V_e; NaN for one essay."""
    ratings = human.counts.sum(axis=-1)
    mean = (human.counts * human.means).sum(axis=-1) / ratings
    between = (human.counts * np.square(human.means - mean[..., None])).sum(axis=-1)
    essays = human.counts.shape[-1]
    spare = np.asarray(ratings - np.square(human.counts).sum(axis=-1) / ratings)
    spare = np.where(essays == 1, np.nan, spare)
    return np.asarray((between - (essays - 1) * errors) / spare, dtype=np.float64)
