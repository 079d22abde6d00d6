"""Bootstrap over the essays of a prompt: resamples, percentile intervals, and kappas of many scorers on one resample.

``bootstrap_draws`` serves any measure. ``agreement_draws`` and ``kappa_on_resamples`` compute kappa, Pearson's r and
means from sums, by one matrix product for all resamples.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from aes_dynloss.errors import ConfigError, DataError
from aes_dynloss.measures.agreement import unit_deviation

Measure = Callable[[NDArray[np.float64], NDArray[np.float64]], NDArray[np.float64]]

# Scores gathered at a time: 2 million float64 are 16 MB a column, whatever the number of essays and resamples.
CHUNK_VALUES = 2_000_000


class Paired(NamedTuple):
    """A measure and the two columns that it compares.

    Args:
        measure: Function of two arrays of shape (..., n) that reduces the last axis, such as those of ``agreement``.
        reference: Human scores, shape (n,).
        other: Machine scores, shape (n,).

    Examples:
        >>> from aes_dynloss.measures.agreement import quadratic_weighted_kappa
        >>> pair = Paired(quadratic_weighted_kappa, [1, 2, 3, 4], [1, 2, 4, 4])
        >>> round(float(pair.measure(pair.reference, pair.other)), 3)
        0.917
    """

    measure: Measure
    reference: ArrayLike
    other: ArrayLike


def prompt_generator(seed: int, prompt_id: str) -> np.random.Generator:
    """A random stream of the prompt's own, so that its interval does not depend on which other prompts are in the file.

    Args:
        seed: Seed of the whole report, >= 0.
        prompt_id: The prompt.

    Returns:
        Generator that depends on ``seed`` and ``prompt_id`` alone.

    Raises:
        ConfigError: The seed is negative.

    Examples:
        >>> prompt_generator(0, "1").random() == prompt_generator(0, "1").random()
        True
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

    Examples:
        >>> from aes_dynloss.measures.agreement import rmse
        >>> pairs = {"rmse": Paired(rmse, [1, 2, 3], [2, 3, 4])}
        >>> bootstrap_draws(pairs, resamples=4, generator=np.random.default_rng(0))
        {'rmse': array([1., 1., 1., 1.])}
    """
    columns = {
        name: (pair.measure, np.asarray(pair.reference, dtype=np.float64), np.asarray(pair.other, dtype=np.float64))
        for name, pair in measures.items()
    }
    lengths = {len(column) for _, reference, other in columns.values() for column in (reference, other)}
    if len(lengths) != 1 or 0 in lengths:
        raise DataError(f"A bootstrap needs columns of one length >= 1, found lengths {sorted(lengths)}.")
    draws: dict[str, list[NDArray[np.float64]]] = {name: [] for name in columns}
    for index in _resamples(lengths.pop(), resamples, generator):
        for name, (measure, reference, other) in columns.items():
            draws[name].append(measure(reference[index], other[index]))
    return {name: np.concatenate(parts) for name, parts in draws.items()}


def _resamples(essays: int, resamples: int, generator: np.random.Generator) -> Iterator[NDArray[np.int64]]:
    """Positions of the essays of some resamples at a time, (some, essays)."""
    if resamples < 1:
        raise ConfigError(f"A bootstrap needs at least 1 resample, found {resamples}.")
    rows = max(1, CHUNK_VALUES // essays)
    for start in range(0, resamples, rows):
        yield generator.integers(0, essays, size=(min(rows, resamples - start), essays))


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

    Examples:
        >>> percentile_interval(np.arange(101), confidence=0.5)
        [25.0, 75.0]
    """
    if not 0 < confidence < 1:
        raise ConfigError(f"A confidence must lie between 0 and 1, such as .95, found {confidence}.")
    values = np.asarray(draws, dtype=np.float64)
    defined = values[~np.isnan(values)]
    if defined.size == 0 or 2 * defined.size < values.size:
        return None
    low, high = np.quantile(defined, [(1 - confidence) / 2, (1 + confidence) / 2])
    return [float(low), float(high)]


def resample_counts(essays: int, resamples: int, generator: np.random.Generator) -> Iterator[NDArray[np.float64]]:
    """Counts of each essay in each resample, drawn with replacement as ``bootstrap_draws`` draws.

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

    Examples:
        >>> counts = next(resample_counts(essays=3, resamples=2, generator=np.random.default_rng(0)))
        >>> counts.shape, counts.sum(axis=1)
        ((2, 3), array([3., 3.]))
    """
    if essays < 1:
        raise DataError(f"A bootstrap needs at least one essay, found {essays}.")
    for index in _resamples(essays, resamples, generator):
        yield row_counts(index, essays).astype(np.float64)


def row_counts(numbers: NDArray[np.int64], size: int) -> NDArray[np.int64]:
    """How often each number from 0 to ``size - 1`` is in each row, (rows, n) -> (rows, size).

    Examples:
        >>> row_counts(np.array([[0, 0, 1], [2, 2, 2]]), size=3)
        array([[2, 1, 0],
               [0, 0, 3]])
    """
    # Each row counts into cells of its own, so that one bincount serves all.
    cells = (numbers + size * np.arange(len(numbers))[:, None]).ravel()
    return np.bincount(cells, minlength=len(numbers) * size).reshape(len(numbers), size)


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

    Examples:
        >>> counts, machines = np.ones((1, 4)), np.array([[0, 0], [1, 1], [2, 3], [3, 3]])
        >>> kappa_on_resamples(counts, np.array([0, 1, 2, 3]), machines).round(3)
        array([[1.   , 0.917]])
    """
    fitting = counts.ndim == machines.ndim == 2 and human.shape == machines.shape[:1] == counts.shape[1:]
    if not fitting or human.size == 0:
        raise DataError(
            "Kappa on resamples needs counts (resamples, n), human (n,) and machines (n, machines) with n >= 1, found "
            f"{counts.shape}, {human.shape} and {machines.shape}."
        )
    h, m = human.astype(np.float64)[:, None], machines.astype(np.float64)
    columns = [np.ones_like(h), h, h**2, m, m**2, h * m]
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

    Examples:
        >>> h, m = np.array([1.0, 2.0, 3.0, 4.0]), np.array([1.0, 2.0, 4.0, 4.0])
        >>> float(kappa_from_means(h.mean(), (h**2).mean(), m.mean(), (m**2).mean(), (h * m).mean()).round(3))
        0.917
    """
    observed = human_square - 2 * product + machine_square
    expected = human_square + machine_square - 2 * human * machine
    ratio = np.divide(observed, expected, out=np.zeros_like(expected), where=expected > 0)
    return np.asarray(1 - ratio, dtype=np.float64)


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
    alike: bool = False,
) -> dict[str, NDArray[np.float64]]:
    """Measures on the same resamples of essays, drawn with replacement.

    Up to MOST_DRAWN_ESSAYS the resamples are those of ``bootstrap_draws``, and so are kappa and r. Above, the means
    from which they are computed (of h, m, h^2, m^2, h m) are drawn from the normal distribution that a resample's means
    tend to: around the essays' means, with their covariance / n. Draws of such means do not go with those of another
    call, of other scores of the same essays; with ``alike`` they are of resamples, however many essays there are.

    Args:
        human: Numbers of the human score points, shape (n,), n >= 1.
        machines: Numbers of machine score points on the same range, each (n,), by the name of their kappa.
        pairs: Two columns each, of shape (n,), by the name of their Pearson correlation.
        resamples: Number of resamples, >= 1.
        generator: Source of randomness.
        averaged: Columns of which the mean is wanted, (n,), by name.
        alike: Whether a generator of the same state must give the same resamples to other scores of these essays.

    Returns:
        Draws by name, shape (resamples,): NaN where r is undefined on a resample, or the column of a mean is NaN.

    Raises:
        ConfigError: ``resamples`` is below 1.
        DataError: There is no essay.

    References:
        Efron and Tibshirani (1993), An Introduction to the Bootstrap, chapter 13. Singh (1981), Annals of Statistics
        9(6): the bootstrap of a mean and its normal limit.

    Examples:
        >>> points = np.array([0, 1, 2, 3])
        >>> agreement_draws(points, {"qwk": points}, {}, resamples=3, generator=np.random.default_rng(0))
        {'qwk': array([1., 1., 1.])}
    """
    if len(human) == 0:
        raise DataError("Measures on resamples need at least one essay.")
    means = dict(averaged or {})
    h, scores = human.astype(np.float64), [points.astype(np.float64) for points in machines.values()]
    columns = [*means.values()]
    for one, other in pairs.values():
        # Deviations from the mean in sds; 0 for a constant column.
        first, second = (np.sqrt(len(h)) * np.nan_to_num(unit_deviation(column)) for column in (one, other))
        columns += [first, second, first**2, second**2, first * second]
    columns += [h, h**2, *(column for m in scores for column in (m, m**2, h * m))]
    drawn = _means_on_resamples(np.column_stack(columns), resamples, generator, alike=alike).T
    draws = dict(zip(means, drawn[: len(means)], strict=True))
    position = len(means)
    for name in pairs:
        draws[name] = _pearson(*drawn[position : position + 5])
        position += 5
    human_mean, human_square = drawn[position : position + 2]
    for number, name in enumerate(machines):
        mean, square, product = drawn[position + 2 + 3 * number : position + 5 + 3 * number]
        draws[name] = kappa_from_means(human_mean, human_square, mean, square, product)
    return draws


def _means_on_resamples(
    columns: NDArray[np.float64], resamples: int, generator: np.random.Generator, *, alike: bool
) -> Column:
    """Means of columns (n, k) on each resample, (resamples, k)."""
    essays = len(columns)
    if alike or essays <= MOST_DRAWN_ESSAYS:
        return np.concatenate([counts @ columns / essays for counts in resample_counts(essays, resamples, generator)])
    centre = columns.mean(axis=0)
    # An undefined column, such as the DSM where all human scores are equal, has no part in the others' covariance.
    deviations = np.where(np.isnan(centre), 0.0, columns - centre)
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


@dataclass(frozen=True)
class IntervalSettings:
    """Settings of bootstrap intervals.

    Args:
        resamples: Bootstrap resamples; 0 for no intervals.
        confidence: Share of resamples inside an interval, between 0 and 1.
        seed: Seed of the resamples, >= 0.

    Raises:
        ConfigError: A value is out of its bounds.
    """

    resamples: int
    confidence: float
    seed: int

    def __post_init__(self) -> None:
        """Check the settings at construction."""
        if self.resamples < 0 or not 0 < self.confidence < 1 or self.seed < 0:
            raise ConfigError(f"Intervals need resamples >= 0, 0 < confidence < 1 and seed >= 0, found {self}.")

    def to_dict(self, *, weighted: bool = False, traits: bool = False) -> dict[str, Any]:
        """Plain values for the report.

        Args:
            weighted: Whether intervals are of a sample with design weights, as ``replicate_weights`` draws.
            traits: Whether essays have several scores, which are drawn alike.
        """
        large = f"{'groups of ' if traits else ''}more than {MOST_DRAWN_ESSAYS:,}"
        kind = f"percentile bootstrap over essays within prompts ({large}: its normal limit)"
        if weighted:
            kind = "percentile rescaling bootstrap within prompts and design weights, for a finite number of essays"
        return {"interval": kind, **asdict(self), "qwk_of_identical_constants": 1.0}
