"""Whether a machine errs more, or otherwise, on some groups of essays: overall and conditional score differences."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from scipy.stats import f as f_distribution

from aes_dynloss.errors import DataError
from aes_dynloss.evaluation.checked_scores import checked_columns

# Errors that differ by less, as a share of the largest score, are equal up to float noise.
FLOAT_NOISE = 1e-12


class Explained(NamedTuple):
    """What groups explain of a variance.

    Args:
        r_squared_adjusted: Adjusted R^2, at most 1, below 0 where groups explain less than as many random ones would;
            of CSD its increment, which passes 1 where human scores explain nothing and groups everything. None where
            undefined.
        p: p value of the F test that groups explain nothing; None where undefined.
    """

    r_squared_adjusted: float | None
    p: float | None


def score_differences(reference: ArrayLike, raw: ArrayLike, groups: ArrayLike) -> dict[str, Explained]:
    """Overall score accuracy (OSA), overall and conditional score difference (OSD, CSD) of one way to group essays.

        osa: adjusted R^2 of  (m - h)^2 ~ group
        osd: adjusted R^2 of   m - h    ~ group
        csd: adjusted R^2 of   m - h    ~ group + human score,  less that of  m - h ~ human score

    Group and human score are categories. p is that of the F test of the group, in CSD of the larger model against the
    smaller. A fair machine has all three near 0: it errs as much on every group (osa), is not lenient to any (osd), nor
    to essays of one human score that come from different groups (csd).

    Undefined, hence None: all three where there is one group or no more essays than coefficients; and p where all
    errors are equal, or, in csd, follow from the human score alone (R^2 is then 0: there is nothing to explain). CSD is
    undefined too where groups and human scores are confounded, no two groups being linked by a shared human score.

    Args:
        reference: Human scores, shape (n,), n >= 1, finite, all on one prompt's scale.
        raw: Machine scores on that scale, shape (n,). RSMTool takes trimmed, unrounded ones.
        groups: Each essay's group, shape (n,), labels of any kind, none missing.

    Returns:
        ``osa``, ``osd`` and ``csd``.

    Raises:
        DataError: The shapes differ or are not (n,), there is no essay, a value is not finite, or a group is missing.

    References:
        Loukina, Madnani and Zechner (2019), The many dimensions of algorithmic fairness in educational applications,
        BEA 2019, 1-10. RSMTool's ``get_fairness_analyses``, which reports the adjusted R^2.
    """
    human, machine = checked_columns(reference=reference, raw=raw)
    labels = np.asarray(groups)
    if human.ndim != 1 or labels.shape != human.shape:
        raise DataError(f"Groups need one label for each of (n,) scores, found {labels.shape} and {human.shape}.")
    codes, names = pd.factorize(labels)
    if (codes < 0).any():
        raise DataError(f"Every essay needs a group, found {int((codes < 0).sum())} without. Name one for them.")
    levels, points = np.unique(human, return_inverse=True)
    errors = machine - human
    scale = float(max(np.abs(human).max(), np.abs(machine).max()))
    noise = FLOAT_NOISE * scale
    return {
        "osa": _explained_by_groups(np.square(errors), codes, len(names), noise * scale),
        "osd": _explained_by_groups(errors, codes, len(names), noise),
        "csd": _explained_beyond_points(errors, codes, points.ravel(), (len(names), len(levels)), noise),
    }


def _explained_by_groups(values: NDArray[np.float64], codes: NDArray[np.intp], groups: int, noise: float) -> Explained:
    """One-way analysis of variance."""
    essays = len(values)
    spare = essays - groups
    if groups < 2 or spare < 1:
        return Explained(None, None)
    if np.ptp(values) <= noise:
        return Explained(0.0, None)
    total = float(np.square(values - values.mean()).sum())
    left = float(np.square(_centred(values, codes, groups)).sum())
    adjusted = 1 - (left / spare) / (total / (essays - 1))
    return Explained(adjusted, _f_test(total - left, groups - 1, left, spare))


def _explained_beyond_points(
    values: NDArray[np.float64],
    codes: NDArray[np.intp],
    points: NDArray[np.intp],
    sizes: tuple[int, int],
    noise: float,
) -> Explained:
    """Increment of the adjusted R^2 by groups, given human scores.

    By the theorem of Frisch, Waugh and Lovell, the groups' effects solve the normal equations that are left when group
    indicators and errors are centred within human scores: a matrix of groups by groups, however many essays there are.
    """
    groups, levels = sizes
    table = np.bincount(codes * levels + points, minlength=groups * levels).reshape(sizes).astype(np.float64)
    # Effects that can be told apart: each set of groups that shared human scores link lacks one.
    linked = connected_components(_links(table), directed=False)[0]
    effects = groups - linked
    essays = len(values)
    spare_before = essays - levels
    spare = spare_before - effects
    if effects < 1 or spare < 1:
        return Explained(None, None)
    within = _centred(values, points, levels)
    if np.abs(within).max() <= noise:
        return Explained(0.0, None)
    total = float(np.square(values - values.mean()).sum())
    before = float(np.square(within).sum())
    matrix = np.diag(table.sum(axis=1)) - (table / table.sum(axis=0)) @ table.T
    sums = np.bincount(codes, weights=within, minlength=groups)
    effect = np.linalg.pinv(matrix, rcond=1e-12, hermitian=True) @ sums
    left = float(np.square(_centred(values - effect[codes], points, levels)).sum())
    increment = (before / spare_before - left / spare) / (total / (essays - 1))
    return Explained(increment, _f_test(before - left, effects, left, spare))


def _links(table: NDArray[np.float64]) -> coo_array:
    """The graph that links each group to the human scores that it has."""
    groups, levels = table.shape
    group, level = np.nonzero(table)
    size = groups + levels
    return coo_array((np.ones(len(group)), (group, groups + level)), shape=(size, size))


def _centred(values: NDArray[np.float64], codes: NDArray[np.intp], count: int) -> NDArray[np.float64]:
    """Deviations from the mean of each value's own category."""
    means = np.bincount(codes, weights=values, minlength=count) / np.bincount(codes, minlength=count)
    return np.asarray(values - means[codes])


def _f_test(explained: float, effects: int, left: float, spare: int) -> float:
    """The p value of F = (explained / effects) / (left / spare); 0 where nothing is left."""
    if left <= 0:
        return 0.0
    return float(f_distribution.sf(explained / effects / (left / spare), effects, spare))
