"""Drift between two samples of essays: shifts, stability indices, distances, rising shares, each with its evidence.

One sample is what essays were then, such as those that a scorer was tested on; the other is what they are now.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import chdtr, chdtrc, chndtr, chndtrinc, kolmogorov, ndtr, ndtri, stdtr
from scipy.stats import beta, betabinom, hypergeom

from aes_dynloss.errors import DataError
from aes_dynloss.measures.agreement import checked_columns, sample_sd
from aes_dynloss.measures.differences import wilson_interval

Array = NDArray[np.float64]
Counts = NDArray[np.int64]

# Bins of a column of numbers, and essays that a bin is expected to have, at least, in the smaller sample.
MOST_BINS, FEWEST_OF_BIN = 10, 5


class Drift(NamedTuple):
    """How far two samples are apart.

    Args:
        value: The measure.
        interval: Its confidence interval.
        p: p value of the hypothesis that both are samples of one population; None throughout where undefined.
    """

    value: float | None = None
    interval: tuple[float, float] | None = None
    p: float | None = None


def standardized_shift(then: ArrayLike, now: ArrayLike, confidence: float = 0.95) -> Drift:
    """Difference of means in SDs, (mean(now) - mean(then)) / s, with s^2 = (s_then^2 + s_now^2) / 2.

    The interval is Bonett's, which lets variances differ; p is that of Welch's t test.

    Args:
        then: Values then, shape (n,), n >= 2, finite.
        now: Values now, shape (m,), m >= 2.
        confidence: Of the interval.

    Returns:
        The shift, above 0 where values rose; undefined where neither varies.

    Raises:
        DataError: A sample has fewer than two values, or one that is not finite.

    References:
        Bonett (2008), Confidence intervals for standardized linear contrasts of means, Psychological Methods 13(2),
        99-109. Welch (1947), Biometrika 34, 28-35.

    Examples:
        >>> shift = standardized_shift([1, 2, 3, 4], [2, 3, 4, 5])
        >>> round(shift.value, 3), round(shift.p, 3)
        (0.775, 0.315)
    """
    samples = [_sample(values) for values in (then, now)]
    variances = np.array([float(sample_sd(values)) ** 2 for values in samples])
    sizes, dof = np.array([len(values) for values in samples]), np.array([len(values) - 1 for values in samples])
    pooled = float(variances.mean())
    if pooled == 0:
        return Drift()
    difference = float(samples[1].mean() - samples[0].mean())
    shift = difference / pooled**0.5
    own = float((variances / dof).sum() / pooled)
    error = (own + shift**2 * float((variances**2 / dof).sum()) / (8 * pooled**2)) ** 0.5
    reach = float(ndtri(0.5 + confidence / 2)) * error
    errors = variances / sizes
    welch = float(errors.sum() ** 2 / (errors**2 / dof).sum())
    p = 2 * float(stdtr(welch, -abs(difference) / errors.sum() ** 0.5))
    return Drift(shift, (shift - reach, shift + reach), p)


class Granted(NamedTuple):
    """Distances of two populations that are no drift.

    Args:
        psi: Population stability index.
        ks: Kolmogorov-Smirnov distance.
    """

    psi: float = 0.0
    ks: float = 0.0

    @classmethod
    def of_spread(cls, factor: float) -> Granted:
        """Those of two normal variables with one mean, of which one has an SD that is so many times as high.

        PSI over all values, Jeffreys' divergence, is (f^2 + 1 / f^2 - 2) / 2; bins can only lower it. Distribution
        functions are furthest apart where densities meet.

        Args:
            factor: f >= 1.

        References:
            Jeffreys (1946), An invariant form for the prior probability in estimation problems, Proceedings of the
            Royal Society A 186(1007), 453-461.

        Examples:
            >>> [round(one, 4) for one in Granted.of_spread(1.06)]
            [0.0068, 0.0141]
        """
        if factor == 1:
            return cls()
        place = math.sqrt(2 * math.log(factor) / (1 - factor**-2))
        return cls((factor**2 + factor**-2 - 2) / 2, float(ndtr(place) - ndtr(place / factor)))


NOTHING_GRANTED = Granted()


def ks_distance(then: ArrayLike, now: ArrayLike, confidence: float = 0.95, granted: Granted = NOTHING_GRANTED) -> Drift:
    """The Kolmogorov-Smirnov distance, the largest difference of the two distribution functions.

    p is asymptotic, and too high rather than too low where values are tied, as scores are. The interval is D +- the
    distance that p = 1 - confidence would have: both distribution functions lie in a band of this width.

    Args:
        then: Values then, shape (n,), n >= 2, finite.
        now: Values now, shape (m,), m >= 2.
        confidence: Of the interval.
        granted: p is that of a population's distance up to this.

    Raises:
        DataError: A sample has fewer than two values, or one that is not finite.

    References:
        Smirnov (1939), Bulletin Mathematique de l'Universite de Moscou 2(2), 3-16. Wei and Dudley (2012), Two-sample
        Dvoretzky-Kiefer-Wolfowitz inequalities, Statistics and Probability Letters 82(3), 636-644.

    Examples:
        >>> distance = ks_distance(range(100), range(30, 130))
        >>> round(distance.value, 3), distance.p < 0.001
        (0.3, True)
    """
    first, second = _sample(then), _sample(now)
    steps = np.concatenate([first, second])
    below = [np.searchsorted(np.sort(values), steps, side="right") / len(values) for values in (first, second)]
    value, unit = float(np.abs(below[0] - below[1]).max()), float((1 / len(first) + 1 / len(second)) ** 0.5)
    band = float(np.log(2 / (1 - confidence)) / 2) ** 0.5 * unit
    return Drift(
        value, (max(0.0, value - band), min(1.0, value + band)), float(kolmogorov(max(0.0, value - granted.ks) / unit))
    )


def stability_index(
    then: ArrayLike, now: ArrayLike, confidence: float = 0.95, granted: Granted = NOTHING_GRANTED
) -> Drift:
    """Population stability index (PSI) of counts: sum over bins of (q - p) log(q / p), p then and q now.

    Half an essay is added to each bin. Without drift PSI / (1 / n + 1 / m) is nearly chi-square, and noncentral with
    it, from which the interval is; p is Pearson's test of homogeneity, or of what is granted beside it.

    Args:
        then: Essays then in each bin, shape (bins,).
        now: Essays now, shape (bins,).
        confidence: Of the interval.
        granted: p is that of a population's index up to this.

    Returns:
        PSI, >= 0; undefined where all essays are in one bin.

    Raises:
        DataError: The shapes differ, a count is below 0, or a sample has no essay.

    References:
        Siddiqi (2006), Credit Risk Scorecards, who takes 0.1 and 0.25 for limits. Yurdakul and Naranjo (2020),
        Statistical properties of the population stability index, Journal of Risk Model Validation 14(4), 89-100.

    Examples:
        >>> index = stability_index([30, 40, 30], [50, 30, 20])
        >>> round(index.value, 3), [round(end, 3) for end in index.interval], round(index.p, 3)
        (0.166, [0.005, 0.443], 0.015)
    """
    counts = np.vstack(checked_columns(then=then, now=now))
    if (counts < 0).any() or (counts.sum(axis=1) == 0).any():
        raise DataError("A stability index needs counts of at least 0, with an essay in each sample.")
    counts = counts[:, counts.sum(axis=0) > 0]
    bins = counts.shape[1]
    if bins == 1:
        return Drift()
    then_share, now_share = (counts + 0.5) / (counts + 0.5).sum(axis=1, keepdims=True)
    value = float(((now_share - then_share) * np.log(now_share / then_share)).sum())
    unit = float((1 / counts.sum(axis=1)).sum())
    low, high = (_noncentrality(value / unit, bins - 1, 0.5 + side * confidence / 2) * unit for side in (1, -1))
    expected = np.outer(counts.sum(axis=1), counts.sum(axis=0)) / counts.sum()
    found = float(((counts - expected) ** 2 / expected).sum())
    p = 1 - float(chndtr(found, bins - 1, granted.psi / unit)) if granted.psi else float(chdtrc(bins - 1, found))
    return Drift(value, (low, high), p)


def _noncentrality(value: float, dof: int, share: float) -> float:
    """How far from the central chi-square distribution a value would have this share below it; 0 if it never has."""
    return float(chndtrinc(value, dof, share)) if chdtr(dof, value) > share else 0.0


def bin_counts(then: ArrayLike, now: ArrayLike) -> tuple[Counts, Counts]:
    """Essays of each sample in bins of numbers, for `stability_index`.

    Up to MOST_BINS different values are bins of their own; otherwise bins are parted by the deciles of then. Bins in
    which the smaller sample is expected to have fewer than FEWEST_OF_BIN essays are merged with the next.

    Args:
        then: Values then, shape (n,), n >= 2, finite.
        now: Values now, shape (m,), m >= 2.

    Raises:
        DataError: A sample has fewer than two values, or one that is not finite.

    Examples:
        >>> bin_counts([1] * 10 + [2] * 10 + [3], [1] * 5 + [2] * 15)
        (array([10, 11]), array([ 5, 15]))
    """
    first, second = _sample(then), _sample(now)
    distinct = np.unique(np.concatenate([first, second]))
    edges = distinct[:-1]
    if len(distinct) > MOST_BINS:
        edges = np.unique(np.quantile(first, np.arange(1, MOST_BINS) / MOST_BINS))
    found, known = (
        np.bincount(np.searchsorted(edges, values, side="left"), minlength=len(edges) + 1) for values in (second, first)
    )
    together = known + found
    expected = together * min(len(first), len(second)) / (len(first) + len(second))
    bins, filled, number = np.zeros(len(together), dtype=np.int64), 0.0, 0
    for position, essays in enumerate(expected):
        if filled >= FEWEST_OF_BIN and expected[position:].sum() >= FEWEST_OF_BIN:
            number, filled = number + 1, 0.0
        bins[position], filled = number, filled + essays
    counted = [np.bincount(bins, weights=counts, minlength=number + 1) for counts in (known, found)]
    return counted[0].astype(np.int64), counted[1].astype(np.int64)


def share_rise(then: tuple[int, int], now: tuple[int, int], confidence: float = 0.95) -> Drift:
    """How much larger a share is now than then.

    The interval is Newcombe's; p is that of Fisher's exact test that the share did not rise.

    Args:
        then: Essays that have something, of so many.
        now: Likewise now.
        confidence: Of the interval.

    References:
        Newcombe (1998), Interval estimation for the difference between independent proportions, Statistics in Medicine
        17(8), 873-890, method 10.

    Examples:
        >>> rise = share_rise((1, 200), (14, 200))
        >>> round(rise.value, 3), rise.p < 0.001
        (0.065, True)
    """
    (before, first), (after, second) = then, now
    p, q = before / first, after / second
    (p_low, p_high), (q_low, q_high) = (
        wilson_interval(share, size, confidence) for share, size in ((p, first), (q, second))
    )
    ends = difference_interval((q, q_low, q_high), (p, p_low, p_high))
    fisher = float(hypergeom.sf(after - 1, first + second, before + after, second))
    return Drift(q - p, ends, fisher)


def difference_interval(one: tuple[float, float, float], other: tuple[float, float, float]) -> tuple[float, float]:
    """The interval of a difference, out of those of two figures of different essays.

    Args:
        one: A figure and the ends of its interval.
        other: The one that is taken away.

    References:
        Zou and Donner (2008), Construction of confidence limits about effect measures: a general approach, Statistics
        in Medicine 27(10), 1693-1702.

    Examples:
        >>> [round(end, 3) for end in difference_interval((0.8, 0.75, 0.85), (0.7, 0.65, 0.75))]
        [0.029, 0.171]
    """
    (first, low, high), (second, other_low, other_high) = one, other
    down, up = np.hypot(first - low, other_high - second), np.hypot(high - first, second - other_low)
    return first - second - float(down), first - second + float(up)


def rise_above(share: float, learned: int, now: tuple[int, int], confidence: float = 0.95) -> Drift:
    """How much larger a share is now than the one that a threshold was learned for.

    Of a threshold that so many essays told, the share of all essays beyond it is not known: as the share beyond an
    order statistic, it is taken to have the beta distribution with parameters share n and (1 - share) n. So p is the
    tail of the beta-binomial distribution, and the interval, by `difference_interval`, has the beta's quantiles then.

    Args:
        share: What the threshold was learned for.
        learned: Essays that it was learned of, n.
        now: Essays that are beyond it, of so many.
        confidence: Of the interval.

    References:
        Wilks (1941), Determination of sample sizes for setting tolerance limits, Annals of Mathematical Statistics
        12(1), 91-96, for the share beyond an order statistic.

    Examples:
        >>> rise = rise_above(0.002, 1000, (14, 200))
        >>> round(rise.value, 3), rise.p < 0.001
        (0.068, True)
        >>> [round(rise_above(0.002, learned, (3, 200)).p, 3) for learned in (50, 1000)]
        [0.051, 0.016]
    """
    found, essays = now
    shapes = share * learned, (1 - share) * learned
    sides = [0.5 + side * confidence / 2 for side in (-1, 1)]
    of_now, of_then = (
        wilson_interval(found / essays, essays, confidence),
        [float(one) for one in beta.ppf(sides, *shapes)],
    )
    ends = difference_interval((found / essays, *of_now), (share, of_then[0], of_then[1]))
    return Drift(found / essays - share, ends, float(betabinom.sf(found - 1, essays, *shapes)))


def look_level(look: int, level: float = 0.05) -> float:
    """The level of the k-th of any number of looks: level / (k (k + 1)), which add up to no more than ``level``.

    So the chance that an interval of any look ever misses what it is of stays below ``level``, without a plan of how
    many looks there will be (Bonferroni's bound over an endless series).

    Args:
        look: Number of the look, >= 1.
        level: Of all together.

    References:
        Darling and Robbins (1967), Confidence sequences for mean, variance, and median, PNAS 58(1), 66-68. Lan and
        DeMets (1983), Discrete sequential boundaries for clinical trials, Biometrika 70(3), 659-663, who call it
        spending of the level.

    Examples:
        >>> [round(look_level(look), 4) for look in (1, 2, 3)]
        [0.025, 0.0083, 0.0042]
    """
    if look < 1:
        raise DataError(f"Looks are counted from 1, found {look}.")
    return level / (look * (look + 1))


class Agreement(NamedTuple):
    """A correlation or QWK on Fisher's scale.

    Args:
        z: artanh of it.
        error: Its standard error there.
    """

    z: float
    error: float

    @classmethod
    def of(cls, value: float, draws: ArrayLike) -> Agreement | None:
        """From a value and its bootstrap draws; None where it does not vary over them, with too few essays to tell."""
        drawn = np.arctanh(np.clip(np.asarray(draws, dtype=np.float64), -_CAP, _CAP))
        error = float(drawn.std())
        return cls(float(np.arctanh(value)), error) if abs(value) < _CAP and error > 0 else None

    def interval(self, level: float) -> tuple[float, float]:
        """The interval that misses with this chance.

        Examples:
            >>> [round(end, 3) for end in Agreement(1.0, 0.1).interval(0.05)]
            [0.666, 0.832]
        """
        reach = float(ndtri(1 - level / 2)) * self.error
        return float(np.tanh(self.z - reach)), float(np.tanh(self.z + reach))

    def p_below(self, value: float) -> float:
        """The p value of the hypothesis that it is at least so high.

        Examples:
            >>> round(Agreement(1.0, 0.1).p_below(0.9), 5)
            0.0
        """
        return float(ndtr((self.z - np.arctanh(value)) / self.error))

    def p_lower_than(self, other: Agreement) -> float:
        """The p value of the hypothesis that it is at least as high as another one, of other essays."""
        return float(ndtr((self.z - other.z) / np.hypot(self.error, other.error)))


_CAP = 1 - 1e-9


def _sample(values: ArrayLike) -> Array:
    """A sample as float64."""
    (sample,) = checked_columns(sample=values)
    if sample.ndim != 1 or len(sample) < 2:
        raise DataError(f"Drift needs two values or more of each sample, found shape {sample.shape}.")
    return sample
