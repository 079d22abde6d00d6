"""Stacking: non-negative weights of several scorers of one prompt, shrunk towards equal weights."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import nnls

from aes_dynloss.errors import ConfigError, DataError
from aes_dynloss.measures.agreement import checked_columns, pearson

LEAST_ESSAYS = 30  # with fewer, differences between scorers are noise
# Least shrinkage on dev essays: they are few, and have chosen the epoch of scorers that are trained in epochs.
DEV_SHRINKAGE = 0.5
SHRINKAGES = (1.0, 0.75, 0.5, 0.25, 0.0)
_FOLDS = 5


def fit_weights(
    predictions: ArrayLike, reference: ArrayLike, essay_ids: Sequence[str], *, least_shrinkage: float = 0.0
) -> NDArray[np.float64]:
    """Weights of a prompt's scorers, fitted on predictions of essays that none of them has learned from.

        w = (1 - s) v / sum(v) + s / M, v = argmin_{v >= 0} sum_n (h_n - sum_m v_m p_nm)^2, 0 <= s <= 1

    h and p are deviations from their means over the essays, in standard deviations of h. So v is the non-negative
    combination that correlates most with the human scores, and leaves their scale open, which a rescaling then sets.
    Weights sum to one, so that without a rescaling the scorers' common scale is kept, with no intercept.

    The shrinkage s is the one of SHRINKAGES whose weights, fitted on four fifths of the essays, correlate most on the
    others; of equals the larger one. SHA-256 of an essay's id decides on its fifth, whatever the order of essays.

    Args:
        predictions: Raw predictions of N essays by M scorers, shape (N, M), M >= 1, on the scale of the scores.
        reference: Human scores, shape (N,).
        essay_ids: Ids of the essays, N of them.
        least_shrinkage: Smallest s to choose from, from 0 to 1. Raise it where the essays are few or have served to
            choose the scorers.

    Returns:
        Weights, shape (M,), >= 0, of sum 1. Equal ones with fewer than LEAST_ESSAYS essays, or where no scorer
        correlates with the human scores.

    Raises:
        ConfigError: ``least_shrinkage`` is out of its bounds.
        DataError: The shapes differ, there is no essay or scorer, or a value is not finite.

    References:
        Wolpert (1992), Stacked generalization, Neural Networks 5(2). Breiman (1996), Stacked regressions, Machine
        Learning 24(1): non-negative weights.

    Examples:
        >>> human = np.arange(40) % 5
        >>> good, noise = human + 0.2 * np.cos(human), np.arange(40) * 7 % 11
        >>> fit_weights(np.column_stack([good, noise]), human, [f"essay {n}" for n in range(40)]).round(2)
        array([1., 0.])
    """
    columns, human = np.asarray(predictions, dtype=np.float64), np.asarray(reference, dtype=np.float64)
    if columns.ndim != 2 or not columns.shape[1] or columns.shape[:1] != human.shape or len(essay_ids) != len(human):
        raise DataError(
            "Weights need predictions (N, M) of N human scores and N ids by M scorers, found "
            f"{columns.shape}, {human.shape} and {len(essay_ids)} ids."
        )
    if not 0 <= least_shrinkage <= 1:
        raise ConfigError(f"least_shrinkage is {least_shrinkage:g}, expected a number from 0 to 1.")
    checked_columns(reference=human, **{f"predictions[:, {m}]": column for m, column in enumerate(columns.T)})
    equal = np.full(columns.shape[1], 1 / columns.shape[1])
    if len(human) < LEAST_ESSAYS:
        return equal
    columns = columns - columns.mean(axis=0)
    fifths = np.array([int(hashlib.sha256(essay.encode()).hexdigest(), 16) % _FOLDS for essay in essay_ids])
    shrinkages = [shrinkage for shrinkage in SHRINKAGES if shrinkage >= least_shrinkage]
    combined = np.empty((len(shrinkages), len(human)))
    for fifth in np.unique(fifths):
        inside = fifths == fifth
        fitted = _non_negative(columns[~inside], human[~inside])
        for row, shrinkage in enumerate(shrinkages):
            combined[row, inside] = columns[inside] @ ((1 - shrinkage) * fitted + shrinkage * equal)
    fits = np.nan_to_num(pearson(np.broadcast_to(human, combined.shape), combined), nan=-1.0)
    shrinkage = shrinkages[int(fits.argmax())]
    return (1 - shrinkage) * _non_negative(columns, human) + shrinkage * equal


def _non_negative(predictions: NDArray[np.float64], reference: NDArray[np.float64]) -> NDArray[np.float64]:
    """Non-negative least squares with an intercept, brought to the sum 1; equal weights where all are 0."""
    unit = reference.std() or 1.0
    weights, _ = nnls((predictions - predictions.mean(axis=0)) / unit, (reference - reference.mean()) / unit)
    total = weights.sum()
    return np.asarray(weights / total) if total > 0 else np.full(len(weights), 1 / len(weights))
