"""Percentile bootstrap intervals: essays are drawn with replacement within each prompt."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from aes_dynloss.errors import ConfigError, DataError

Measure = Callable[[NDArray[np.float64], NDArray[np.float64]], NDArray[np.float64]]

# Scores gathered at a time: 2 million float64 are 16 MB a column, whatever the number of essays and resamples.
CHUNK_VALUES = 2_000_000


class Paired(NamedTuple):
    """A measure and the two columns that it compares.

    Args:
        measure: Function of two arrays of shape (..., n) that reduces the last axis, such as those of ``agreement``.
        reference: Human scores, shape (n,).
        other: Machine scores, shape (n,).
    """

    measure: Measure
    reference: ArrayLike
    other: ArrayLike


def prompt_generator(seed: int, prompt_id: str) -> np.random.Generator:
    """A random stream of the prompt's own, so that its interval does not hang on which other prompts are in the file.

    Args:
        seed: Seed of the whole report, >= 0.
        prompt_id: The prompt.

    Returns:
        Generator that depends on ``seed`` and ``prompt_id`` alone.

    Raises:
        ConfigError: The seed is negative.
    """
    if seed < 0:
        raise ConfigError(f"A seed must be a whole number >= 0, found {seed}.")
    return np.random.default_rng([seed, zlib.crc32(prompt_id.encode())])


def bootstrap_draws(
    measures: Mapping[str, Paired], resamples: int, generator: np.random.Generator
) -> dict[str, NDArray[np.float64]]:
    """Values of measures on resamples of one prompt's essays, drawn with replacement.

    All measures see the same resamples, so that their draws may be compared with each other.

    Args:
        measures: Measure with its columns, all of length n >= 1, by name.
        resamples: Number of resamples, >= 1.
        generator: Source of randomness.

    Returns:
        Draws by name, shape (resamples,); NaN where a measure is undefined on a resample.

    Raises:
        ConfigError: ``resamples`` is below 1.
        DataError: The columns' lengths differ.

    References:
        Efron and Tibshirani (1993), An Introduction to the Bootstrap, chapter 13.
    """
    if resamples < 1:
        raise ConfigError(f"A bootstrap needs at least 1 resample, found {resamples}.")
    columns = {
        name: (pair.measure, np.asarray(pair.reference, dtype=np.float64), np.asarray(pair.other, dtype=np.float64))
        for name, pair in measures.items()
    }
    lengths = {len(column) for _, reference, other in columns.values() for column in (reference, other)}
    if len(lengths) != 1 or 0 in lengths:
        raise DataError(f"A bootstrap needs columns of one length >= 1, found lengths {sorted(lengths)}.")
    essays = lengths.pop()
    draws = {name: np.empty(resamples) for name in columns}
    rows = max(1, CHUNK_VALUES // essays)
    for start in range(0, resamples, rows):
        stop = min(start + rows, resamples)
        index = generator.integers(0, essays, size=(stop - start, essays))
        for name, (measure, reference, other) in columns.items():
            draws[name][start:stop] = measure(reference[index], other[index])
    return draws


def percentile_interval(draws: ArrayLike, confidence: float) -> list[float] | None:
    """Percentile interval of bootstrap draws.

    Args:
        draws: Values on resamples, shape (resamples,); NaN where undefined.
        confidence: Share of draws inside, 0 < confidence < 1.

    Returns:
        [low, high]; None if the measure is undefined on more than half of the resamples (up to there, the interval is
        that of the others).

    Raises:
        ConfigError: ``confidence`` is not between 0 and 1.

    References:
        Efron and Tibshirani (1993), An Introduction to the Bootstrap, eq. 13.5.
    """
    if not 0 < confidence < 1:
        raise ConfigError(f"A confidence must lie between 0 and 1, such as .95, found {confidence}.")
    values = np.asarray(draws, dtype=np.float64)
    defined = values[~np.isnan(values)]
    if defined.size == 0 or 2 * defined.size < values.size:
        return None
    low, high = np.quantile(defined, [(1 - confidence) / 2, (1 + confidence) / 2])
    return [float(low), float(high)]
