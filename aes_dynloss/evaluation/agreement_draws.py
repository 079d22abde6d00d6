"""Kappas, r and means on resamples of one prompt's essays, all from sums: one matrix product, or its normal limit."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from aes_dynloss.errors import DataError
from aes_dynloss.evaluation.resampled_kappa import kappa_from_means, resample_counts

# Above it a resample's means are as good as normal: what is left of their skewness is a 1/sqrt(n)th of an interval's
# width, and a resample costs no longer as many draws as there are essays.
MOST_DRAWN_ESSAYS = 10_000
# A resample's variance below this share of the essays' is that of a constant, up to float noise.
SMALLEST_VARIANCE_RATIO = 1e-12

Column = NDArray[np.float64]


def agreement_draws(
    human: NDArray[np.int64],
    machines: Mapping[str, NDArray[np.int64]],
    pairs: Mapping[str, tuple[Column, Column]],
    resamples: int,
    generator: np.random.Generator,
    *,
    averaged: Mapping[str, Column] | None = None,
) -> dict[str, NDArray[np.float64]]:
    """Measures on the same resamples of essays, drawn with replacement.

    Up to MOST_DRAWN_ESSAYS the resamples are those of ``bootstrap_draws``, and so are kappa and r. Above, the means
    from which they are computed (of h, m, h^2, m^2, h m) are drawn from the normal distribution that a resample's means
    tend to: around the essays' means, with their covariance / n.

    Args:
        human: Numbers of the human score points, shape (n,), n >= 1.
        machines: Numbers of machine score points on the same range, each (n,), by the name of their kappa.
        pairs: Two columns each, of shape (n,), by the name of their Pearson correlation.
        resamples: Number of resamples, >= 1.
        generator: Source of randomness.
        averaged: Columns of which the mean is wanted, (n,), by name.

    Returns:
        Draws by name, shape (resamples,): NaN where r is undefined on a resample.

    Raises:
        ConfigError: ``resamples`` is below 1.
        DataError: There is no essay.

    References:
        Efron and Tibshirani (1993), An Introduction to the Bootstrap, chapter 13. Singh (1981), Annals of Statistics
        9(6): the bootstrap of a mean and its normal limit.
    """
    if len(human) == 0:
        raise DataError("Measures on resamples need at least one essay.")
    means = dict(averaged or {})
    own, others = human.astype(np.float64), [points.astype(np.float64) for points in machines.values()]
    columns = [*means.values()]
    for one, other in pairs.values():
        first, second = _standardised(one), _standardised(other)
        columns += [first, second, first**2, second**2, first * second]
    columns += [own, own**2, *(column for other in others for column in (other, other**2, own * other))]
    drawn = _means_on_resamples(np.column_stack(columns), resamples, generator).T
    found = dict(zip(means, drawn[: len(means)], strict=True))
    place = len(means)
    for name in pairs:
        found[name] = _pearson(*drawn[place : place + 5])
        place += 5
    human_mean, human_square = drawn[place : place + 2]
    for number, name in enumerate(machines):
        mean, square, product = drawn[place + 2 + 3 * number : place + 5 + 3 * number]
        found[name] = kappa_from_means(human_mean, human_square, mean, square, product)
    return found


def _means_on_resamples(columns: NDArray[np.float64], resamples: int, generator: np.random.Generator) -> Column:
    """Means of columns (n, k) on each resample, (resamples, k)."""
    essays = len(columns)
    if essays <= MOST_DRAWN_ESSAYS:
        return np.concatenate([counts @ columns / essays for counts in resample_counts(essays, resamples, generator)])
    centre = columns.mean(axis=0)
    deviations = columns - centre
    values, vectors = np.linalg.eigh(deviations.T @ deviations / essays)
    spread = vectors * np.sqrt(np.maximum(values, 0) / essays)
    drawn = centre + generator.standard_normal((resamples, len(centre))) @ spread.T
    # A constant's mean does not vary, which the eigenvectors know but for float noise.
    return np.asarray(np.where(np.ptp(columns, axis=0) == 0, columns[0], drawn))


def _pearson(mean: Column, other: Column, square: Column, other_square: Column, product: Column) -> Column:
    variances = np.stack([square - mean**2, other_square - other**2])
    varied = (variances > SMALLEST_VARIANCE_RATIO).all(axis=0)
    scale = np.sqrt(np.where(varied, variances.prod(axis=0), np.nan))
    return np.asarray(np.clip((product - mean * other) / scale, -1, 1))


def _standardised(column: Column) -> Column:
    """Deviations from the mean in sds; 0 for a constant column."""
    if np.ptp(column) == 0:
        return np.zeros_like(column)
    deviation = column - column.mean()
    # By the largest one first, or squares of tiny deviations would vanish.
    deviation = deviation / np.abs(deviation).max()
    return np.asarray(deviation / deviation.std())
