"""Shrunken effects: empirical Bayes estimates of what groups, such as raters, add to the levels of strata."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri
from scipy.stats import chi2

Array = NDArray[np.float64]

# Eigenvalues below this share of the largest weight are zeros.
_SMALLEST_ROOT = 1e-10


class Estimate(NamedTuple):
    """A shrunk estimate.

    Args:
        value: The estimate.
        standard_error: Of severity in SDs, of consistency on Fisher's scale.
        low: Lower end of the interval.
        high: Upper end.
    """

    value: float
    standard_error: float
    low: float
    high: float


class Heterogeneity(NamedTuple):
    """How much groups differ.

    Args:
        q: Cochran's Q, the weighted sum of squares between groups within strata.
        dof: Its degrees of freedom; 0 where no two groups share a stratum.
        p: p value of the hypothesis that groups differ by chance alone; None without degrees of freedom.
        sd: Standard deviation between groups, estimated by the method of moments; 0 where Q is no larger than chance.
    """

    q: float
    dof: int
    p: float | None
    sd: float


class ShrunkenEffects(NamedTuple):
    """Estimates by group, and how much groups differ.

    Args:
        estimates: One a group; None where it shares no stratum with another.
        differences: How much groups differ.
    """

    estimates: list[Estimate | None]
    differences: Heterogeneity


def normal_estimate(value: float, standard_error: float, confidence: float) -> Estimate:
    """An estimate with the interval of the normal distribution.

    Args:
        value: The estimate.
        standard_error: Its standard error.
        confidence: Of the interval, between 0 and 1.

    Examples:
        >>> [round(one, 2) for one in normal_estimate(0.5, 0.1, 0.95)]
        [0.5, 0.1, 0.3, 0.7]
    """
    reach = float(ndtri((1 + confidence) / 2)) * standard_error
    return Estimate(value, standard_error, value - reach, value + reach)


def shrunken_effects(values: Array, weights: Array, confidence: float) -> ShrunkenEffects:
    """Empirical Bayes estimates of groups' effects.

        value_gs = level_s + effect_g + error,    error of the variance 1 / weight_gs,    effect_g of the variance tau^2

    The strata's levels are eliminated by weighted least squares. What is left for the effects is b, whose error has the
    covariance M, with M effect its mean. Q = b' M^-1 b is chi-squared with rank M degrees of freedom where groups are
    alike, and the method of moments gives

        tau^2 = max(0, (Q - rank M) / trace M),

    DerSimonian and Laird's estimate, to which it reduces for one stratum. The shrunken effects are (M + I / tau^2)^-1 b
    and their variances the diagonal of that inverse. Morris's term for tau^2 being an estimate is added to them,
    2 / (rank M - 2) (effect - shrunken effect)^2, and the variance 1 / sum weight of the mean level. That level,
    sum weight (value - shrunken effect) / sum weight, is added to every effect.

    Args:
        values: Of each group in each stratum, (G, S).
        weights: Inverse variances, (G, S); 0 where there is no value.
        confidence: Of the intervals, between 0 and 1.

    Returns:
        Estimates in the order of the groups.

    References:
        DerSimonian and Laird (1986), Controlled Clinical Trials 7(3). Morris (1983), Parametric empirical Bayes
        inference, Journal of the American Statistical Association 78(381).

    Examples:
        >>> alike, _ = shrunken_effects(np.array([[0.1], [-0.1], [0.0]]), np.full((3, 1), 25.0), 0.95)
        >>> [one.value for one in alike]
        [0.0, 0.0, 0.0]
        >>> differ, how = shrunken_effects(np.array([[1.0], [-1.0], [0.0]]), np.full((3, 1), 25.0), 0.95)
        >>> [round(one.value, 2) for one in differ], round(how.sd, 2)
        ([0.96, -0.96, 0.0], 0.98)
    """
    total = weights.sum()
    if not total:
        return ShrunkenEffects([None] * len(values), Heterogeneity(0.0, 0, None, 0.0))
    sums = np.where(weights.sum(0) > 0, weights.sum(0), 1.0)
    level = (weights * values).sum(0) / sums
    information = np.diag(weights.sum(1)) - (weights / sums) @ weights.T
    found = empirical_bayes(information, (weights * (values - level)).sum(1), float(weights.sum(1).max()))
    mean = float((weights * (values - found.effects[:, None])).sum() / total)
    errors = np.sqrt(found.covariance.diagonal() + 1 / total)
    estimates = [
        normal_estimate(mean + float(effect), float(error), confidence) if known else None
        for effect, error, known in zip(found.effects, errors, found.known, strict=True)
    ]
    return ShrunkenEffects(estimates, found.differences)


class EmpiricalBayes(NamedTuple):
    """Shrunken effects around their mean, which is 0.

    Args:
        effects: One a group, (G,).
        covariance: Of their errors, (G, G), with Morris's term on the diagonal.
        known: Which groups are compared with another, (G,).
        differences: How much groups differ.
    """

    effects: Array
    covariance: Array
    known: NDArray[np.bool_]
    differences: Heterogeneity


def empirical_bayes(information: Array, sums: Array, largest: float, *, limited: bool = False) -> EmpiricalBayes:
    """Effects from the normal equations information effect = sums that are left when all else is eliminated.

    Args:
        information: M, (G, G), symmetric, none of whose eigenvalues is below 0.
        sums: b, (G,).
        largest: Largest information of a group before anything was eliminated: what is nothing beside it is 0.
        limited: Whether effects are shrunken by no more than the part (dof - 2) / dof (Morris, 1983), so that intervals
            of few groups that hardly differ stay wide enough.

    Examples:
        >>> found = empirical_bayes(np.array([[50.0, -50.0], [-50.0, 50.0]]), np.array([50.0, -50.0]), 100.0)
        >>> found.effects.round(2), found.differences.dof
        (array([ 0.49, -0.49]), 1)
    """
    roots, vectors = np.linalg.eigh(information)
    identified = roots > _SMALLEST_ROOT * largest
    roots, vectors = roots[identified], vectors[:, identified]
    projected = vectors.T @ sums
    q, dof = float((projected**2 / roots).sum()), len(roots)
    variance = max(0.0, (q - dof) / roots.sum()) if dof else 0.0
    shrinkage = (max(dof - 2, 0) / dof if limited and dof else 1.0) / (variance * roots + 1)
    effects = vectors @ ((1 - shrinkage) * projected / roots)
    morris = 2 / max(dof - 2, 1) * (vectors @ (projected / roots) - effects) ** 2
    covariance = (vectors * ((1 - shrinkage) / roots)) @ vectors.T + np.diag(morris)
    known = np.diag(information) > _SMALLEST_ROOT * largest
    p = float(chi2.sf(q, dof)) if dof else None
    return EmpiricalBayes(effects, covariance, known, Heterogeneity(q, dof, p, float(variance**0.5)))
