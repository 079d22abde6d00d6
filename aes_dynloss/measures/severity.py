"""Severity of human raters and of the machine beside them, from essays that one or several raters scored.

In standard deviations of the prompt's ratings, the rating of essay i by rater r on prompt p is

    y_ir = level_p + slope_p machine_i + severity_r + u_i + e_ir,    var(u_i) = tau^2,    var(e_ir) = sigma_r^2.

The machine's score, made without the rating, says how good the essay is; u_i is what it does not know of the essay, and
what two raters of the same essay share. So raters who scored the same essays are compared with each other, and those
who did not by the essays' machine scores: it takes no essay that two have scored, and no assignment by chance, as long
as raters were not given essays for what the machine does not see.

Where raters score an essay on several traits, y_ir and machine_i are means over these, each in its own standard
deviations, since a rater's errors on the traits of an essay are not independent.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy.sparse import csr_array, diags_array, hstack
from scipy.stats import t as student_t

from aes_dynloss.errors import DataError
from aes_dynloss.measures.agreement import checked_columns
from aes_dynloss.measures.differences import holm_adjusted
from aes_dynloss.measures.raters import refuse_too_many
from aes_dynloss.measures.shrinkage import Estimate, ShrunkenEffects, empirical_bayes, normal_estimate

Array = NDArray[np.float64]
Codes = NDArray[np.intp]

# A rater's own variance of errors is averaged with that of all raters, which counts as so many ratings.
PRIOR_RATINGS = 30
# Rounds in which the variances are estimated: they settle after the second.
_ROUNDS = 3
# Smallest variance of a rater's errors as a share of all raters'.
_SMALLEST_SHARE = 0.05
# Ratings of a rater of which a drift is told, at least.
LEAST_DATED = 20


class Severities(NamedTuple):
    """Raters' severity in SDs of their prompts' ratings, from the mean of the raters; above 0 where one is lenient.

    Args:
        raters: R raters' names, in order.
        effects: Estimates by rater, shrunken towards the mean; None where a rater shares no prompt with another.
        machine: The machine's mean score less the essays' ratings, which are adjusted for severity.
        residuals: What is left of each rating, or of the mean over traits that it is part of, (n,): NaN on a prompt
            whose ratings are all equal.
        adjusted: Ratings on their prompt's scale, less the severity of who gave them, (n,).
        essay_variance: tau^2; 0 where no essay has two ratings.
        error_variance: sigma_r^2 by rater, (R,); with tau^2 among it where no essay has two ratings.
    """

    raters: list[str]
    effects: ShrunkenEffects
    machine: Estimate
    residuals: Array
    adjusted: Array
    essay_variance: float
    error_variance: Array


class _Model(NamedTuple):
    """Ratings in SDs of their prompt, and where they belong: m means over what a rater scored an essay on.

    Args:
        rating: (m,).
        machine: Machine's scores in the same units, (m,).
        rater: Number of each mean's rater, (m,).
        essays: Which essay each is of, (m, essays).
        design: Raters, strata's levels and strata's slopes, (m, raters + 2 strata).
    """

    rating: Array
    machine: Array
    rater: Codes
    essays: Any
    design: Any


class _Fit(NamedTuple):
    """Normal equations, their solution, and the variances that weigh them."""

    matrix: Array
    sums: Array
    residuals: Array
    essay_variance: float
    error_variance: Array


def rater_severities(
    raters: ArrayLike,
    essays: ArrayLike,
    prompts: ArrayLike,
    ratings: ArrayLike,
    machine: ArrayLike,
    confidence: float = 0.95,
) -> Severities:
    """Severity of each rater and of the machine, in SDs of the prompt's ratings, with intervals.

    Levels and slopes are eliminated by generalised least squares. Raters' effects are then shrunken towards their mean
    by :func:`aes_dynloss.measures.shrinkage.empirical_bayes`. tau^2 is the mean product of the residuals of two ratings
    of an essay, sigma_r^2 what a rater's squared residuals are more, averaged with all raters'.

    Args:
        raters: Who gave each rating, shape (n,).
        essays: Which essay it is of, shape (n,). A rater's ratings of one essay on several prompts, such as traits of
            one prompt, count as one, their mean in SDs.
        prompts: Each rating's prompt, or prompt and trait, shape (n,).
        ratings: On the prompt's scale, shape (n,), finite.
        machine: Machine's score of the essay before rounding, made without the rating, shape (n,), finite.
        confidence: Of the intervals, between 0 and 1.

    Returns:
        Severities from the mean of the raters.

    Raises:
        DataError: The shapes differ, a value is not finite, no prompt has different ratings, or raters are more than
            MOST_RATERS.

    References:
        Myford and Wolfe (2003), Journal of Applied Measurement 4(4): severity. Henderson (1975), Biometrics 31(2):
        best linear unbiased prediction. Morris (1983), Journal of the American Statistical Association 78(381).

    Examples:
        >>> generator = np.random.default_rng(0)
        >>> truth, rater = generator.normal(3, 1, 300), np.arange(300) % 3
        >>> ratings = truth + np.array([-0.5, 0.0, 0.5])[rater] + generator.normal(0, 0.3, 300)
        >>> found = rater_severities(rater, np.arange(300), np.zeros(300), ratings, 0.8 * truth + 0.6)
        >>> [round(one.value, 1) for one in found.effects.estimates], round(found.machine.value, 1)
        ([-0.4, 0.0, 0.4], 0.0)
    """
    label, score = checked_columns(ratings=ratings, machine=machine)
    rater, names = pd.factorize(np.asarray(raters), sort=True)
    prompt, essay = (pd.factorize(np.asarray(ids))[0] for ids in (prompts, essays))
    if not label.ndim == 1 or not label.shape == rater.shape == prompt.shape == essay.shape:
        raise DataError(
            f"Each rating needs a rater, an essay and a prompt: found shapes {label.shape}, {rater.shape}, "
            f"{essay.shape} and {prompt.shape}."
        )
    refuse_too_many(len(names), len(label))
    sd = pd.Series(label).groupby(prompt).transform("std").to_numpy(dtype=np.float64)
    used = np.flatnonzero(sd > 0)
    if not len(used):
        raise DataError("All ratings of a prompt are equal, on each prompt: no severity can be told of them.")
    model, mean_of = _model(label[used], score[used], rater[used], prompt[used], essay[used], len(names))
    fit = _fit(model, len(names))
    effects, covariance = _effects(fit, len(names), confidence)
    severity = np.array([0.0 if one is None else one.value for one in effects.estimates])
    residuals, adjusted = np.full(len(label), np.nan), label.copy()
    residuals[used] = fit.residuals[mean_of]
    adjusted[used] -= severity[rater[used]] * sd[used]
    return Severities(
        [str(name) for name in names],
        effects,
        _machine_severity(model, severity, covariance, confidence),
        residuals,
        adjusted,
        fit.essay_variance,
        fit.error_variance,
    )


def _model(label: Array, score: Array, rater: Codes, prompt: Codes, essay: Codes, raters: int) -> tuple[_Model, Codes]:
    """The model, and the number of the mean that each rating is part of, (n,)."""
    by_prompt = pd.Series(label).groupby(prompt)
    mean, sd = (by_prompt.transform(name).to_numpy(dtype=np.float64) for name in ("mean", "std"))
    mean_of = pd.factorize(essay * raters + rater)[0]
    counts, first = np.bincount(mean_of), np.unique(mean_of, return_index=True)[1]
    rating, machine = (np.bincount(mean_of, (values - mean) / sd) / counts for values in (label, score))
    stratum, essay, rater = _strata(mean_of, prompt), pd.factorize(essay[first])[0], rater[first]
    centred = machine - pd.Series(machine).groupby(stratum).transform("mean").to_numpy()
    rows, ones = np.arange(len(first)), np.ones(len(first))
    of_rater = csr_array((ones, (rows, rater)), shape=(len(first), raters))
    levels, slopes = (csr_array((values, (rows, stratum))) for values in (ones, centred))
    design = hstack([of_rater, levels, slopes]).tocsr()
    return _Model(rating, machine, rater, csr_array((ones, (rows, essay))), design), mean_of


def _strata(mean_of: Codes, prompt: Codes) -> Codes:
    """Number of each mean's stratum, (m,): means over the same prompts and traits are compared with each other."""
    parts: list[list[int]] = [[] for _ in range(int(mean_of.max()) + 1)]
    order = np.argsort(prompt, kind="stable")
    for number, part in zip(mean_of[order].tolist(), prompt[order].tolist(), strict=True):
        parts[number].append(part)
    numbers: dict[tuple[int, ...], int] = {}
    return np.array([numbers.setdefault(tuple(own), len(numbers)) for own in parts])


def _fit(model: _Model, raters: int) -> _Fit:
    """Generalised least squares, with variances of the residuals of the round before."""
    counts = model.essays.sum(axis=0)
    pairs = float((counts * (counts - 1)).sum())
    labels = np.bincount(model.rater, minlength=raters)
    essay_variance, error_variance = 0.0, np.ones(raters)
    for _ in range(_ROUNDS):
        matrix, sums = _normal_equations(model, essay_variance, error_variance)
        residuals = np.asarray(model.rating - model.design @ (np.linalg.pinv(matrix, 1e-10, hermitian=True) @ sums))
        dof = max(len(residuals) - np.linalg.matrix_rank(matrix, 1e-9 * np.abs(matrix).max(), hermitian=True), 1)
        inflation, pooled = len(residuals) / dof, max(float((residuals**2).sum()) / dof, np.finfo(float).tiny)
        products = float(((model.essays.T @ residuals) ** 2 - model.essays.T @ residuals**2).sum())
        shared = products / pairs * inflation if pairs else 0.0
        essay_variance = min(max(shared, 0.0), (1 - _SMALLEST_SHARE) * pooled)
        squares = np.bincount(model.rater, residuals**2, raters) * inflation - labels * essay_variance
        rest = pooled - essay_variance
        error_variance = np.maximum(
            (PRIOR_RATINGS * rest + squares) / (PRIOR_RATINGS + labels), _SMALLEST_SHARE * pooled
        )
    matrix, sums = _normal_equations(model, essay_variance, error_variance)
    return _Fit(matrix, sums, residuals, essay_variance, error_variance)


def _normal_equations(model: _Model, essay_variance: float, error_variance: Array) -> tuple[Array, Array]:
    """Design' V^-1 design and design' V^-1 rating, V of an essay's ratings being diag(sigma_r^2) + tau^2 11'.

    V^-1 = W - W 1 1' W tau^2 / (1 + tau^2 1' W 1) with W = diag(1 / sigma_r^2) (Sherman and Morrison).
    """
    weight = diags_array(1 / error_variance[model.rater])
    weighted = weight @ model.design
    of_essay = model.essays.T @ weighted
    shared = essay_variance / (1 + essay_variance * (model.essays.T @ weight.diagonal()))
    matrix = model.design.T @ weighted - of_essay.T @ (diags_array(shared) @ of_essay)
    sums = weighted.T @ model.rating - of_essay.T @ (shared * (model.essays.T @ (weight @ model.rating)))
    return np.asarray(matrix.toarray()), np.asarray(sums)


def _effects(fit: _Fit, raters: int, confidence: float) -> tuple[ShrunkenEffects, Array]:
    """Raters' shrunken effects, and the covariance of their errors."""
    own, mixed, rest = fit.matrix[:raters, :raters], fit.matrix[:raters, raters:], fit.matrix[raters:, raters:]
    eliminated = mixed @ np.linalg.pinv(rest, 1e-10, hermitian=True)
    information = own - eliminated @ mixed.T
    found = empirical_bayes(
        information, fit.sums[:raters] - eliminated @ fit.sums[raters:], float(own.max()), limited=True
    )
    estimates = [
        normal_estimate(float(value), float(error), confidence) if known else None
        for value, error, known in zip(found.effects, np.sqrt(found.covariance.diagonal()), found.known, strict=True)
    ]
    return ShrunkenEffects(estimates, found.differences), found.covariance


def _machine_severity(model: _Model, severity: Array, covariance: Array, confidence: float) -> Estimate:
    """Mean over essays of the machine's score less the adjusted ratings; its error has those of both."""
    counts = model.essays.sum(axis=0)
    apart = (model.essays.T @ (model.machine - (model.rating - severity[model.rater]))) / counts
    shares = np.bincount(model.rater, (model.essays @ (1 / counts)), len(severity)) / len(counts)
    own = float(np.var(apart, ddof=1)) / len(apart) if len(apart) > 1 else 0.0
    error = float(np.sqrt(own + shares @ covariance @ shares))
    return normal_estimate(float(apart.mean()), error, confidence)


class Drift(NamedTuple):
    """Change of a rater's severity over time.

    Args:
        n: Ratings that have a date.
        change: From the first to the last rating of all, in SDs of the prompt's ratings; above 0 towards lenient.
        p: p value of no change.
        p_holm: The same, adjusted for the number of raters.
    """

    n: int
    change: Estimate
    p: float
    p_holm: float


def rater_drifts(
    raters: ArrayLike, residuals: ArrayLike, times: ArrayLike, confidence: float = 0.95
) -> dict[str, Drift]:
    """Drift of each rater: slope of what is left of the ratings over time, by least squares.

    Args:
        raters: Who gave each rating, shape (n,).
        residuals: As of :class:`Severities`, shape (n,); NaN where there is none.
        times: When it was given, in any unit, shape (n,); NaN where unknown.
        confidence: Of the intervals, between 0 and 1.

    Returns:
        By rater, of those with LEAST_DATED ratings at different times.

    References:
        Myford and Wolfe (2009), Monitoring rater performance over time, Journal of Educational Measurement 46(4).

    Examples:
        >>> times = np.arange(80.0)
        >>> residuals = np.where(np.arange(80) % 2, times / 80, 0.0) + np.random.default_rng(0).normal(0, 0.2, 80)
        >>> found = rater_drifts(np.arange(80) % 2, residuals, times)
        >>> [(rater, round(one.change.value, 1), one.p_holm < 0.01) for rater, one in found.items()]
        [('0', 0.2, False), ('1', 1.0, True)]
    """
    left, when = (np.asarray(values, dtype=np.float64) for values in (residuals, times))
    known = np.isfinite(left) & np.isfinite(when)
    span = float(np.ptp(when[known])) if known.any() else 0.0
    found: dict[str, tuple[int, Estimate, float]] = {}
    for name, rows in pd.Series(np.flatnonzero(known)).groupby(np.asarray(raters)[known]):
        own, at = left[rows], (when[rows] - when[rows].mean()) / (span or 1.0)
        squares = float((at**2).sum())
        if len(own) < LEAST_DATED or squares <= 0:
            continue
        slope = float(at @ own / squares)
        spread = float(np.square(own - own.mean() - slope * at).sum()) / (len(own) - 2)
        error = float(np.sqrt(max(spread, np.finfo(float).tiny) / squares))
        reach = float(student_t.ppf((1 + confidence) / 2, len(own) - 2)) * error
        estimate = Estimate(slope, error, slope - reach, slope + reach)
        found[str(name)] = (len(own), estimate, float(2 * student_t.sf(abs(slope) / error, len(own) - 2)))
    adjusted = holm_adjusted([p for *_, p in found.values()]).tolist() if found else []
    return {name: Drift(*one, holm) for (name, one), holm in zip(found.items(), adjusted, strict=True)}
