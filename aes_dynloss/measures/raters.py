"""Rater effects: severity, consistency and restricted range of each rater, and whether raters differ at all.

Each label is held against a reference: the essay's adjudicated score, or a prediction from its text that was made
without its label. Raters' effects are estimated together with the prompts' own levels and shrunk (empirical Bayes), so
that a rater of few essays is not taken for a special one.

References:
    Engelhard (1994), Examining rater errors in the assessment of written composition, Journal of Educational
    Measurement 31(2). Myford and Wolfe (2003), Detecting and measuring rater effects, Journal of Applied Measurement
    4(4). Wolfe (2004), Identifying rater effects using latent trait models, Psychology Science 46(1).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy.special import gammainc
from scipy.stats import chi2

from aes_dynloss.errors import DataError
from aes_dynloss.measures.agreement import FISHER_CAP, checked_columns
from aes_dynloss.measures.differences import holm_adjusted
from aes_dynloss.measures.fairness import FLOAT_NOISE, Explained, explained_by_groups
from aes_dynloss.measures.shrinkage import Estimate, Heterogeneity, ShrunkenEffects, normal_estimate, shrunken_effects

Array = NDArray[np.float64]
Codes = NDArray[np.intp]
Ids = ArrayLike | None

# A column of more holds ids rather than raters.
MOST_RATERS = 1000
# Labels of one rater on one prompt that a correlation is taken of, at least.
LEAST_CORRELATED = 5
# A rater's own variance of errors is averaged with that of all raters, which counts as so many labels.
PRIOR_LABELS = 30
# Labels of a rater whose use of the range is remarked on, at least: two are often the same.
LEAST_REMARKED = 10
# Remarks are about effects of a size that matters: in SDs, in the consistency of the best quarter of raters, in the SD
# ratio, and in the share of an extreme label among the others' labels.
SEVERE, INCONSISTENT, RESTRICTED, EXTREME = 0.2, 0.5, 0.7, 2.0
# Chance of a false alarm, over all raters of a table.
ALARM = 0.01


@dataclass(frozen=True)
class RaterFigures:
    """One rater. Labels are in standard deviations of all labels of their prompt, from its mean.

    Args:
        rater: Who or what gave the labels.
        n: Number of labels.
        mean: Mean label.
        sd_ratio: SD of the rater's labels within prompts as a share of that of all raters'; None for fewer than two.
        severity: Mean of label less reference, above 0 where the rater is lenient; None where no other rater shares a
            prompt.
        consistency: Correlation of labels and references within prompts; None likewise, or with fewer than
            LEAST_CORRELATED labels of a prompt.
        lowest: Share of labels that are the lowest of their prompt.
        highest: Share of labels that are the highest.
        remarks: Rater effects that are large and beyond chance: ``severe``, ``lenient``, ``inconsistent``,
            ``reversed``, ``restricted range``, ``lowest label``, ``highest label``.
    """

    rater: str
    n: int
    mean: float
    sd_ratio: float | None
    severity: Estimate | None
    consistency: Estimate | None
    lowest: float
    highest: float
    remarks: tuple[str, ...] = ()


@dataclass(frozen=True)
class RaterEffects:
    """All raters of a table.

    Args:
        raters: One a rater, by name.
        severity: How much raters differ in severity, in SDs.
        consistency: How much they differ in consistency, on Fisher's scale.
        lowest: Share of all labels that are the lowest of their prompt.
        highest: Share of all labels that are the highest.
        compared: Labels that have a reference.
        within: Variance of labels within rater and prompt, in squared SDs of their prompt: that of an SD ratio of 1.
    """

    raters: list[RaterFigures]
    severity: Heterogeneity
    consistency: Heterogeneity
    lowest: float
    highest: float
    compared: int
    within: float

    @property
    def efficiency(self) -> float | None:
        """Share of the labels' information that equal weights use: 1 where raters are alike.

        A label of a rater of consistency c holds c times the reference's signal, plus noise of nearly one size. With
        weights w_r >= 0 of n_r labels, signal^2 / noise is (sum n w c)^2 / sum n w^2, largest at w = max(c, 0). So

            efficiency = (sum n c)^2 / (sum n  sum n max(c, 0)^2),

        1 / (1 + CV^2) of the consistencies where none is below 0. None where none is above. (Ours.)
        """
        known = [(one.n, one.consistency.value) for one in self.raters if one.consistency is not None]
        if not known:
            return None
        counts, values = np.array(known).T
        best = counts @ np.maximum(values, 0.0) ** 2
        return float(max(counts @ values, 0.0) ** 2 / (counts.sum() * best)) if best > 0 else None


def rater_effects(
    raters: ArrayLike,
    prompts: ArrayLike,
    labels: ArrayLike,
    reference: ArrayLike,
    confidence: float = 0.95,
    severity: ShrunkenEffects | None = None,
    essays: Ids = None,
) -> RaterEffects:
    """Severity, consistency and range of each rater, shrunk to what all raters have in common.

    Severity. With d = (label - reference) / SD of the prompt's labels, its means by rater r and prompt p follow

        mean d_rp = level_p + effect_r + error,    variance of the error s_r^2 / n_rp.

    Consistency. With z = artanh of the correlation of labels and references of rater r on prompt p,

        z_rp = level_p + effect_r + error,         variance of the error 1 / (n_rp - 3);

    labels that are all equal order nothing, and have the correlation 0. Effects are shrunk by
    :func:`aes_dynloss.measures.shrinkage.shrunken_effects` and the mean level is added, which for severity is zero
    where the reference is a prediction of the labels.

    Args:
        raters: Who gave each label, shape (n,), none missing.
        prompts: Each essay's prompt, shape (n,). Where references of a prompt are of two kinds, name two prompts.
        labels: Labels on the prompt's own scale, shape (n,), finite.
        reference: On the same scale, shape (n,); NaN where there is none.
        confidence: Of the intervals, between 0 and 1.
        severity: Severity of the raters, in the order of their names, where it is estimated otherwise.
        essays: Which essay each label is of, shape (n,), where a rater gave an essay several labels, such as on traits
            (then prompts are prompts and traits): in errors and tests these count as one. By default each is another.

    Returns:
        The raters by name.

    Raises:
        DataError: The shapes differ, there is no label, a label is not finite, a rater or prompt is missing, or there
            are more than MOST_RATERS raters.

    References:
        Engelhard (1994). Fisher (1921), Metron 1, on the variance of z. Smyth (2004), Statistical Applications in
        Genetics and Molecular Biology 3(1), on variances averaged with a common one, as s_r^2 is with PRIOR_LABELS.

    Examples:
        >>> generator = np.random.default_rng(0)
        >>> truth, rater = generator.normal(size=400), np.arange(400) % 4
        >>> label = np.where(rater == 3, -truth, truth) + generator.normal(size=400) + (rater == 0)
        >>> effects = rater_effects(rater, np.zeros(400), label, truth)
        >>> [(one.rater, one.remarks) for one in effects.raters]
        [('0', ('lenient',)), ('1', ()), ('2', ()), ('3', ('reversed',))]
    """
    rated = _Labels.of(raters, prompts, labels, reference, essays)
    severity = severity or shrunken_effects(*_mean_errors(rated), confidence)
    consistency = shrunken_effects(*_fisher_z(rated), confidence)
    spread, residual_dof, within = _spread(rated)
    counts = np.bincount(rated.rater)

    def means(values: Array) -> list[float]:
        return [float(mean) for mean in np.bincount(rated.rater, weights=values) / counts]

    columns = zip(
        rated.names,
        counts.tolist(),
        means(rated.standard),
        [None if np.isnan(ratio) else float(ratio) for ratio in spread],
        severity.estimates,
        [None if one is None else _as_correlation(one) for one in consistency.estimates],
        means(rated.lowest),
        means(rated.highest),
        strict=True,
    )
    figures = [RaterFigures(*row) for row in columns]
    remarks = zip(
        _severity_remarks(figures),
        _consistency_remarks(figures),
        _range_remarks(spread, residual_dof),
        _extreme_remarks(rated, rated.lowest, "lowest label"),
        _extreme_remarks(rated, rated.highest, "highest label"),
        strict=True,
    )
    return RaterEffects(
        [replace(one, remarks=tuple(filter(None, found))) for one, found in zip(figures, remarks, strict=True)],
        severity.differences,
        consistency.differences,
        float(rated.lowest.mean()),
        float(rated.highest.mean()),
        int(np.isfinite(rated.error).sum()),
        within,
    )


def pooled_correlation(
    prompts: ArrayLike, labels: ArrayLike, reference: ArrayLike, confidence: float = 0.95, essays: Ids = None
) -> Estimate | None:
    """Correlation of labels and references within prompts, pooled over them by Fisher's transformation.

        tanh(sum (n_p - 3) artanh r_p / sum (n_p - 3)),    standard error of the artanh 1 / sqrt(sum (n_p - 3))

    Args:
        prompts: Each essay's prompt, shape (n,).
        labels: Labels, shape (n,), finite.
        reference: References, shape (n,); NaN where there is none.
        confidence: Of the interval, between 0 and 1.
        essays: As of :func:`rater_effects`.

    Returns:
        The correlation; None where no prompt has LEAST_CORRELATED of both.

    Raises:
        DataError: As of :func:`rater_effects`.

    Examples:
        >>> found = pooled_correlation(["a"] * 6, [1, 2, 3, 4, 5, 6], [2, 1, 3, 5, 4, 6])
        >>> round(found.value, 3), round(found.low, 3)
        (0.886, 0.264)
    """
    rated = _Labels.of(np.zeros(np.shape(prompts), dtype=int), prompts, labels, reference, essays)
    values, weights = _fisher_z(rated)
    if not weights.any():
        return None
    mean, error = float((weights * values).sum() / weights.sum()), float(weights.sum() ** -0.5)
    return _as_correlation(normal_estimate(mean, error, confidence))


class Assignment(NamedTuple):
    """Whether raters were given essays of different kinds.

    Args:
        r_squared_adjusted: Share of the variance within prompts that raters explain; about 0 by chance.
        p: p value of the F test; None where no two raters share a prompt.
        p_holm: The same, adjusted for the number of tests.
    """

    r_squared_adjusted: float | None
    p: float | None
    p_holm: float | None


def assignment_tests(
    raters: ArrayLike, prompts: ArrayLike, covariates: Mapping[str, ArrayLike]
) -> dict[str, Assignment]:
    """F tests whether essays were assigned to raters by chance: whether raters explain covariates within prompts.

    Where they do, severity and the essays' quality are confounded: a rater of short essays looks severe.

    Args:
        raters: Who gave each label, shape (n,).
        prompts: Each essay's prompt, shape (n,).
        covariates: What no rater has an influence on, by name, each of shape (n,), such as the logarithm of the number
            of words; NaN where unknown.

    Returns:
        A test for each covariate.

    Raises:
        DataError: The shapes differ, or a rater or prompt is missing.

    References:
        Fisher (1925), Statistical Methods for Research Workers. Holm (1979), Scandinavian Journal of Statistics 6(2).

    Examples:
        >>> words = np.random.default_rng(0).normal(size=200)
        >>> raters, prompts = np.arange(200) % 2, np.zeros(200)
        >>> tests = assignment_tests(raters, prompts, {"words": words, "longer": words + raters})
        >>> {name: test.p_holm < 0.01 for name, test in tests.items()}
        {'words': False, 'longer': True}
    """
    found: dict[str, Explained] = {}
    for name, values in covariates.items():
        column = np.asarray(values, dtype=np.float64)
        known = np.isfinite(column)
        groups, strata = (_codes(kind, ids, column.shape)[0] for kind, ids in (("rater", raters), ("prompt", prompts)))
        groups, strata = (pd.factorize(codes[known])[0] for codes in (groups, strata))
        noise = FLOAT_NOISE * float(np.abs(column[known]).max(initial=0.0))
        explained = explained_by_groups(column[known], groups, strata, noise) if known.any() else None
        found[name] = explained or Explained(None, None)
    tested = [one.p for one in found.values() if one.p is not None]
    adjusted = iter(holm_adjusted(tested).tolist())
    return {name: Assignment(*one, None if one.p is None else next(adjusted)) for name, one in found.items()}


def refuse_too_many(raters: int, labels: int) -> None:
    """Refuse a column that seems to hold something else than raters.

    Args:
        raters: Their number.
        labels: Number of labels.

    Raises:
        DataError: There are more than MOST_RATERS.

    Examples:
        >>> refuse_too_many(5, 300)
    """
    if raters > MOST_RATERS:
        raise DataError(
            f"Found {raters:,} raters of {labels:,} labels; expected at most {MOST_RATERS:,}. Does the column hold ids "
            "of essays? Name the one of raters."
        )


def _codes(kind: str, ids: ArrayLike, shape: tuple[int, ...]) -> tuple[Codes, list[str]]:
    """Numbers of raters or prompts in the order of their names, and the names."""
    array = np.asarray(ids)
    if array.shape != shape or len(shape) != 1:
        raise DataError(f"Every label needs a {kind}: expected shape {shape} of (n,), found {array.shape}.")
    codes, names = pd.factorize(array, sort=True)
    if (codes < 0).any():
        raise DataError(
            f"Every label needs a {kind}, found {int((codes < 0).sum())} labels without. Name one for them."
        )
    return codes, [str(name) for name in names]


@dataclass(frozen=True)
class _Labels:
    """Labels by rater and prompt, in SDs of the prompt's labels.

    Args:
        names: R raters.
        rater: Number of each label's rater, (n,).
        prompt: Number of its prompt, (n,).
        cell: Number of the pair of both, (n,).
        repeats: Labels of an essay in the mean by rater, (R,): above 1 where an essay has several.
        standard: Labels from their prompt's mean, (n,); 0 where the prompt's labels are all equal.
        reference: References from the same mean, (n,); NaN where there is none.
        error: Label less reference, (n,); NaN likewise.
        lowest: 1 where the label is the lowest of its prompt, else 0, (n,).
        highest: Likewise.
    """

    names: list[str]
    rater: Codes
    prompt: Codes
    cell: Codes
    repeats: Array
    standard: Array
    reference: Array
    error: Array
    lowest: Array
    highest: Array

    @classmethod
    def of(cls, raters: ArrayLike, prompts: ArrayLike, labels: ArrayLike, reference: ArrayLike, essays: Ids) -> _Labels:
        (label,) = checked_columns(labels=labels)
        against = np.asarray(reference, dtype=np.float64)
        if against.shape != label.shape or np.isinf(against).any():
            raise DataError(
                f"Every label needs a reference, or NaN: expected {label.shape} such, found {against.shape}"
                f"{' with infinity' if np.isinf(against).any() else ''}."
            )
        rater, names = _codes("rater", raters, label.shape)
        prompt, prompt_names = _codes("prompt", prompts, label.shape)
        refuse_too_many(len(names), len(label))
        by_prompt = pd.Series(label).groupby(prompt)
        mean, sd = by_prompt.transform("mean").to_numpy(), by_prompt.transform("std").to_numpy()
        low, high = by_prompt.transform("min").to_numpy(), by_prompt.transform("max").to_numpy()
        sd = np.where(high > low, sd, np.nan)
        standard, standard_reference = (label - mean) / sd, (against - mean) / sd
        cell = pd.factorize(rater * len(prompt_names) + prompt)[0]
        error = standard - standard_reference
        lowest, highest = (label == low).astype(float), (label == high).astype(float)
        essay = np.arange(len(label)) if essays is None else _codes("essay", essays, label.shape)[0]
        distinct = np.bincount(rater[~pd.DataFrame({"rater": rater, "essay": essay}).duplicated().to_numpy()])
        columns = np.nan_to_num(standard), standard_reference, error, lowest, highest
        return cls(names, rater, prompt, cell, np.bincount(rater) / distinct, *columns)


def _deviations(values: Array, codes: Codes) -> Array:
    """Deviations from the mean of each code."""
    counts = np.bincount(codes)
    means = np.bincount(codes, weights=values) / np.maximum(counts, 1)
    return np.asarray(values - means[codes])


def _table(rated: _Labels, by_cell: NDArray[Any], known: NDArray[np.bool_]) -> Array:
    """A value of each pair of rater and prompt, (R, P), 0 where there is no label."""
    table = np.zeros((len(rated.names), int(rated.prompt.max()) + 1))
    table[rated.rater[known], rated.prompt[known]] = by_cell[rated.cell[known]]
    return table


def _mean_errors(rated: _Labels) -> tuple[Array, Array]:
    """Mean error of each rater on each prompt, and what it weighs: labels / variance."""
    known = np.isfinite(rated.error)
    cell, error, rater = rated.cell[known], rated.error[known], rated.rater[known]
    size = len(rated.names)
    counts = np.bincount(cell)
    squares = np.bincount(rater, weights=_deviations(error, cell) ** 2, minlength=size) / rated.repeats
    dof = (np.bincount(rater, minlength=size) - (_table(rated, counts, known) > 0).sum(1)) / rated.repeats
    # With the variance between raters among it, which counts where nearly all raters have one label.
    whole = float(np.square(_deviations(error, rated.prompt[known])).sum()) / max(len(error), 1)
    pooled = (squares.sum() + PRIOR_LABELS * whole) / (dof.sum() + PRIOR_LABELS)
    variance = np.maximum((PRIOR_LABELS * pooled + squares) / (PRIOR_LABELS + dof), FLOAT_NOISE)
    means = np.bincount(cell, weights=error) / np.maximum(counts, 1)
    return _table(rated, means, known), _table(rated, counts, known) / (variance * rated.repeats)[:, None]


def _fisher_z(rated: _Labels) -> tuple[Array, Array]:
    """Fisher's z of each rater on each prompt, and what it weighs: labels - 3, of an essay's labels as of one."""
    known = np.isfinite(rated.error)
    cell = rated.cell[known]
    label, reference = (_deviations(column[known], cell) for column in (rated.standard, rated.reference))
    counts, product, of_label, of_reference = (
        np.bincount(cell, weights=values) for values in (np.ones(len(cell)), label * reference, label**2, reference**2)
    )
    noise = FLOAT_NOISE * np.maximum(counts, 1)
    scale = np.sqrt(np.where((of_label > noise) & (of_reference > noise), of_label * of_reference, np.inf))
    z = np.arctanh(np.clip(product / scale, -FISHER_CAP, FISHER_CAP))
    usable = (counts >= LEAST_CORRELATED) & (of_reference > noise)
    weights = _table(rated, np.where(usable, counts - 3, 0.0), known)
    return _table(rated, z, known), weights / rated.repeats[:, None]


def _spread(rated: _Labels) -> tuple[Array, Array, float]:
    """SD of each rater's labels within prompts as a share of all raters', (R,), its dof, and all raters' variance."""
    squares = np.bincount(rated.rater, weights=_deviations(rated.standard, rated.cell) ** 2)
    squares[squares <= FLOAT_NOISE * len(rated.cell)] = 0.0
    everywhere = np.ones(len(rated.cell), dtype=bool)
    dof = np.bincount(rated.rater) - (_table(rated, np.bincount(rated.cell), everywhere) > 0).sum(1)
    pooled = squares.sum() / max(dof.sum(), 1)
    ratio = np.divide(squares, dof * pooled, out=np.full(len(dof), np.nan), where=dof * pooled > FLOAT_NOISE)
    return np.sqrt(ratio), dof / rated.repeats, float(pooled)


def _as_correlation(z: Estimate) -> Estimate:
    """An estimate on Fisher's scale as a correlation; its standard error stays on that scale."""
    value, low, high = (float(np.tanh(one)) for one in (z.value, z.low, z.high))
    return Estimate(value, z.standard_error, low, high)


def _severity_remarks(figures: list[RaterFigures]) -> list[str]:
    """Remarks beside the median rater: few of low labels must not make all others lenient."""
    known = [one.severity.value for one in figures if one.severity is not None]
    median = float(np.median(known)) if known else 0.0

    def remark(severity: Estimate | None) -> str:
        if severity is None or severity.low - SEVERE / 2 <= median <= severity.high + SEVERE / 2:
            return ""
        return "lenient" if severity.value > median else "severe"

    return [remark(one.severity) for one in figures]


def _consistency_remarks(figures: list[RaterFigures]) -> list[str]:
    """Remarks beside the best quarter of raters, since half of them may be bad."""
    known = [one.consistency.value for one in figures if one.consistency is not None]
    bound = INCONSISTENT * float(np.quantile(known, 0.75)) if known else 0.0
    ends = [np.inf if one.consistency is None else one.consistency.high for one in figures]
    return ["reversed" if high < 0 else "inconsistent" if high < bound else "" for high in ends]


def _range_remarks(ratio: Array, dof: Array) -> list[str]:
    """Remarks on a spread that is small and, by the chi-squared test of a variance, not so by chance."""
    known = np.isfinite(ratio) & (dof >= LEAST_REMARKED)
    p = np.ones(len(ratio))
    p[known] = chi2.cdf(dof[known] * ratio[known] ** 2, dof[known])
    found = (holm_adjusted(p) < ALARM) & (ratio < RESTRICTED)
    return ["restricted range" if one else "" for one in found]


def _extreme_remarks(rated: _Labels, extreme: Array, remark: str) -> list[str]:
    """Remarks on extreme labels that are many beside the others' on the same prompts, not by chance (Poisson test)."""
    everywhere = np.ones(len(extreme), dtype=bool)
    counts, found = (_table(rated, np.bincount(rated.cell, values), everywhere) for values in (everywhere, extreme))
    others = counts.sum(0) - counts
    of_others = (counts * (found.sum(0) - found) / np.maximum(others, 1)).sum(1)
    counts, found, expected = (
        values * (others > 0) for values in (counts, found, counts * found.sum(0) / counts.sum(0))
    )
    size, observed, chance = (values.sum(1) / rated.repeats for values in (counts, found, expected))
    # P(X >= observed) of a Poisson variable; an essay's labels count as one, so that these need not be whole numbers.
    p = np.where(observed > 0, gammainc(observed, chance), 1.0)
    remarked = (size >= LEAST_REMARKED) & (holm_adjusted(p) < ALARM) & (observed * rated.repeats > EXTREME * of_others)
    return [remark if one else "" for one in remarked]
