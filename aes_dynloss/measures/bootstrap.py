"""Kappa of many scorers on the same resamples of the same essays, by one matrix product."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from aes_dynloss.errors import ConfigError, DataError
from aes_dynloss.evaluation import resampling


def resample_counts(essays: int, resamples: int, generator: np.random.Generator) -> Iterator[NDArray[np.float64]]:
    """How often each essay is in each resample, drawn with replacement as ``bootstrap_draws`` draws.

    Args:
        essays: Number of essays, >= 1.
        resamples: Number of resamples, >= 1.
        generator: Source of randomness; of the same state as that of ``bootstrap_draws``, it gives the same resamples.

    Yields:
        Counts of some resamples, shape (some, essays), each row of sum ``essays``; ``resamples`` rows in all.

    Raises:
        ConfigError: ``resamples`` is below 1.
        DataError: There is no essay.

    References:
        Efron and Tibshirani (1993), An Introduction to the Bootstrap, chapter 6: a resample as a vector of proportions.
    """
    if resamples < 1:
        raise ConfigError(f"A bootstrap needs at least 1 resample, found {resamples}.")
    if essays < 1:
        raise DataError(f"A bootstrap needs at least one essay, found {essays}.")
    rows = max(1, resampling.CHUNK_VALUES // essays)
    for start in range(0, resamples, rows):
        some = min(rows, resamples - start)
        index = generator.integers(0, essays, size=(some, essays))
        # Each row counts into cells of its own, so that one bincount serves all.
        cells = (index + essays * np.arange(some)[:, None]).ravel()
        yield np.bincount(cells, minlength=some * essays).reshape(some, essays).astype(np.float64)


def kappa_on_resamples(
    counts: NDArray[np.float64], human: NDArray[np.int64], machines: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Quadratic weighted kappa of many scorers on each resample, the same as that of ``quadratic_weighted_kappa``.

    With sums over a resample's N essays of the human score h and the machine score m, the moment form of kappa is

        kappa = 1 - N (sum h^2 - 2 sum h m + sum m^2) / (N (sum h^2 + sum m^2) - 2 sum h sum m).

    All sums are counts times columns, one matrix product for all scorers. Score points are given by their numbers, so
    that the sums are whole and exact: identical constants (0/0, whose kappa is 1.0 here) are found without a tolerance.

    Args:
        counts: How often each essay is in each resample, shape (resamples, n), n >= 1, whole numbers.
        human: Numbers of the human score points, as ``ScoreRange.to_index`` gives them, shape (n,).
        machines: Numbers of the machines' score points on the same range, shape (n, machines).

    Returns:
        Kappa, shape (resamples, machines).

    Raises:
        DataError: The shapes do not fit.

    References:
        Fleiss and Cohen (1973), Educational and Psychological Measurement 33(3): kappa's moment form.
    """
    fitting = counts.ndim == machines.ndim == 2 and human.shape == machines.shape[:1] == counts.shape[1:]
    if not fitting or human.size == 0:
        raise DataError(
            "Kappa on resamples needs counts (resamples, n), human (n,) and machines (n, machines) with n >= 1, found "
            f"{counts.shape}, {human.shape} and {machines.shape}."
        )
    own, others = human.astype(np.float64), machines.astype(np.float64)
    columns = [np.ones_like(own)[:, None], own[:, None], own[:, None] ** 2, others, others**2, own[:, None] * others]
    sums = counts @ np.hstack(columns)
    essays, human_sum, human_square = sums[:, 0:1], sums[:, 1:2], sums[:, 2:3]
    machine_sum, machine_square, product = np.split(sums[:, 3:], 3, axis=1)
    # N times every mean of a square or product, and so whole numbers.
    return kappa_from_means(human_sum, essays * human_square, machine_sum, essays * machine_square, essays * product)


def kappa_from_means(
    human: NDArray[np.float64],
    human_square: NDArray[np.float64],
    machine: NDArray[np.float64],
    machine_square: NDArray[np.float64],
    product: NDArray[np.float64],
) -> NDArray[np.float64]:
    """Quadratic weighted kappa from the means of h, h^2, m, m^2 and h m.

    Args:
        human: Means of the human scores, of any shape; or N times them, and then the means below N^2 times.
        human_square: Means of their squares, same shape.
        machine: Means of the machine scores, of a shape that broadcasts.
        machine_square: Means of their squares.
        product: Means of the products.

    Returns:
        Kappa, of the broadcast shape; 1.0 where it is 0/0, of identical constants.
    """
    observed = human_square - 2 * product + machine_square
    expected = human_square + machine_square - 2 * human * machine
    ratio = np.divide(observed, expected, out=np.zeros_like(expected), where=expected > 0)
    return np.asarray(1 - ratio, dtype=np.float64)
