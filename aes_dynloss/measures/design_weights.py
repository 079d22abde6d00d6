"""Agreement on all essays, estimated from those that were drawn to be read: design weights, and their bootstrap.

An essay's design weight is 1 / its chance to be drawn, so that it stands for so many essays. What is estimated is the
figure that reading all of these essays would give; an essay that was read for certain has weight 1 and adds no error.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import ArrayLike, NDArray

from aes_dynloss.errors import DataError
from aes_dynloss.measures.agreement import checked_columns, divided
from aes_dynloss.measures.bootstrap import CHUNK_VALUES, kappa_from_means, row_counts

Array = NDArray[np.float64]

# Weights are equal up to the noise of a division and of a file's digits.
_DIGITS = 9
# A variance below this share of the scores' square is that of a constant.
_NOISE = 1e-12


def checked_weights(weights: ArrayLike) -> Array:
    """Design weights as float64.

    Args:
        weights: Of each essay, shape (n,).

    Raises:
        DataError: A weight is below 1, or none.

    Examples:
        >>> checked_weights([1, 2.5])
        array([1. , 2.5])
    """
    (values,) = checked_columns(weights=weights)
    if (values < 1 - 10.0**-_DIGITS).any():
        raise DataError(
            f"A design weight is 1 / an essay's chance to be drawn, and so at least 1; found {values.min():g}. "
            "Name the column of weights that `aes-dynloss plan` wrote."
        )
    return np.maximum(values, 1.0)


def weighted_agreement(
    reference: ArrayLike, raw: ArrayLike, score: ArrayLike, weights: ArrayLike, step: float = 1.0
) -> dict[str, Array]:
    """Measures of ``agreement`` with weights in place of counts; with weights of 1 they are the same.

    Every mean is sum(w x) / sum(w) (Hajek's estimator), and a sample's variance is n / (n - 1) times the weighted one.

    Args:
        reference: Human scores, shape (n,), n >= 1, finite.
        raw: Machine scores before rounding, shape (n,).
        score: Machine scores, shape (n,), score points.
        weights: Of the essays, shape (n,), or of many resamples, shape (..., n); each row has a sum > 0.
        step: Distance of two score points.

    Returns:
        ``qwk``, ``exact_agreement``, ``adjacent_agreement``, ``pearson``, ``rmse``, ``smd``, ``sd_ratio``,
        ``mean_reference``, ``mean_raw``, ``sd_reference`` and ``sd_raw``, each of shape (...); NaN where undefined.

    Raises:
        DataError: The columns' shapes differ, there is no essay, or a value is not finite.

    References:
        Hajek (1971), in Foundations of Statistical Inference, 236. Sarndal, Swensson and Wretman (1992), Model Assisted
        Survey Sampling, sections 5.7 and 5.9.

    Examples:
        >>> scores = [1, 2, 3, 4], [1.2, 2.1, 3.6, 3.8], [1, 2, 4, 4]
        >>> round(float(weighted_agreement(*scores, weights=[1, 1, 1, 1])["qwk"]), 3)
        0.917
        >>> float(weighted_agreement(*scores, weights=[1, 1, 2, 1])["exact_agreement"])
        0.6
    """
    human, machine, points = checked_columns(reference=reference, raw=raw, score=score)
    w, essays = np.asarray(weights, dtype=np.float64), len(human)
    # From a whole number near the mean, so that constants stay exact and squares small.
    centre = np.round(human.mean())
    h, x, m = human - centre, machine - centre, points - centre
    gap = np.abs(h - m)
    # 1e-6 as in agreement_within.
    shares = [(gap <= tolerance + 1e-6).astype(np.float64) for tolerance in (0.0, step)]
    columns = np.column_stack([h, h**2, m, m**2, h * m, x, x**2, h * x, *shares])
    means = np.moveaxis((w @ columns) / w.sum(axis=-1)[..., None], -1, 0)
    h1, h2, m1, m2, hm, x1, x2, hx, exact, adjacent = means
    human_variance, raw_variance = (_variance(first, second) for first, second in ((h1, h2), (x1, x2)))
    human_sd, raw_sd = (
        np.sqrt(one * (essays / (essays - 1) if essays > 1 else np.nan)) for one in (human_variance, raw_variance)
    )
    return {
        "qwk": kappa_from_means(h1, h2, m1, m2, hm),
        "exact_agreement": exact,
        "adjacent_agreement": adjacent,
        "pearson": np.clip(divided(hx - h1 * x1, np.sqrt(human_variance * raw_variance)), -1, 1),
        "rmse": np.sqrt(np.maximum(h2 - 2 * hx + x2, 0.0)),
        "smd": divided(x1 - h1, np.sqrt((human_sd**2 + raw_sd**2) / 2)),
        "sd_ratio": np.sqrt(divided(raw_variance, human_variance)),
        "mean_reference": h1 + centre,
        "mean_raw": x1 + centre,
        "sd_reference": human_sd,
        "sd_raw": raw_sd,
    }


def _variance(mean: Array, square: Array) -> Array:
    """Variance from means of x and of x^2, 0 where float noise is all there is."""
    variance = np.asarray(square - mean**2)
    return np.where(variance <= _NOISE * square, 0.0, variance)


def replicate_weights(weights: ArrayLike, resamples: int, generator: np.random.Generator) -> Iterator[Array]:
    """Weights on resamples of a stratified sample without replacement, by the rescaling bootstrap.

    Essays of one weight are a stratum. Of its n essays n - 1 are drawn with replacement, essay i t_i times, and

        w_i* = w_i (1 - l + l n / (n - 1) t_i),   l = sqrt(1 - 1 / w_i),

    so that the variance of a mean over resamples is its variance under the design, with the correction 1 - 1 / w for a
    finite number of essays. A weight of 1 never changes. Essays alone with their weight are one stratum together.

    Args:
        weights: Design weights, shape (n,), at least 1.
        resamples: Number of resamples, >= 1.
        generator: Source of randomness.

    Yields:
        Weights of some resamples, shape (some, n).

    References:
        Rao and Wu (1988), Resampling inference with complex survey data, JASA 83(401), 231-241, with m = n - 1. Rao, Wu
        and Yue (1992), Survey Methodology 18(2), 209-217.

    Examples:
        >>> next(replicate_weights([1.0, 1.0], resamples=1, generator=np.random.default_rng(0)))
        array([[1., 1.]])
    """
    values = checked_weights(weights)
    _, codes, counts = np.unique(values.round(_DIGITS), return_inverse=True, return_counts=True)
    codes = np.where(counts[codes] == 1, -1, codes)
    strata = [np.flatnonzero((codes == code) & (values > 1)) for code in np.unique(codes)]
    rows = max(1, CHUNK_VALUES // len(values))
    for start in range(0, resamples, rows):
        drawn = np.tile(values, (min(rows, resamples - start), 1))
        for members in strata:
            size = len(members)
            if size > 1:
                chosen = generator.integers(0, size, size=(len(drawn), size - 1))
                share = np.sqrt(1 - 1 / values[members])
                drawn[:, members] *= 1 - share + share * size / (size - 1) * row_counts(chosen, size)
        yield drawn


def weighted_draws(
    reference: ArrayLike,
    raw: ArrayLike,
    score: ArrayLike,
    weights: ArrayLike,
    resamples: int,
    generator: np.random.Generator,
    *,
    step: float = 1.0,
) -> dict[str, Array]:
    """Measures of ``weighted_agreement`` on the resamples of ``replicate_weights``, each of shape (resamples,).

    Args:
        reference: Human scores, shape (n,).
        raw: Machine scores before rounding, shape (n,).
        score: Machine scores, shape (n,), score points.
        weights: Design weights, shape (n,).
        resamples: Number of resamples, >= 1.
        generator: Source of randomness.
        step: Distance of two score points.

    Examples:
        >>> scores = [1, 2, 3, 4], [1.2, 2.1, 3.6, 3.8], [1, 2, 4, 4]
        >>> draws = weighted_draws(*scores, [1, 1, 1, 1], resamples=3, generator=np.random.default_rng(0))
        >>> draws["qwk"].round(3)  # all essays were read
        array([0.917, 0.917, 0.917])
    """
    parts = [
        weighted_agreement(reference, raw, score, drawn, step)
        for drawn in replicate_weights(weights, resamples, generator)
    ]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def effective_size(weights: ArrayLike) -> float:
    """Essays of equal weights that would tell as much, (sum w)^2 / sum w^2.

    References:
        Kish (1965), Survey Sampling, section 11.7.

    Examples:
        >>> effective_size([1, 1, 2])
        2.6666666666666665
    """
    values = np.asarray(weights, dtype=np.float64)
    return float(values.sum() ** 2 / np.square(values).sum())
