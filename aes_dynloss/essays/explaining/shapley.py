"""Exact Shapley values of a score over groups of what a model sees."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import product

import numpy as np
from numpy.typing import ArrayLike, NDArray

from aes_dynloss.errors import ConfigError

Array = NDArray[np.float64]

MOST_GROUPS = 14  # of a function of any kind: two to this power values are asked for


def of_products(present: ArrayLike, absent: ArrayLike) -> Array:
    """Shapley values of games whose value is a product: of a factor for each group, one if it is there, one if not.

    A Gaussian kernel is such a product over groups of coordinates, so that a kernel regression is a sum of these games.
    The value is ``integral over t from 0 to 1 of (a_g - b_g) prod_{h != g} (b_h + (a_h - b_h) t)``, a polynomial in t
    that Gauss-Legendre quadrature integrates exactly.

    Args:
        present: Factors a of N games with the groups, (N, G).
        absent: Factors b without them, (N, G).

    Returns:
        (N, G); the sum over groups is the product of all factors of ``present`` less that of ``absent``.

    References:
        Owen (1972), Multilinear extensions of games, Management Science 18(5): the integral.

    Examples:
        >>> of_products([[2.0, 3.0]], [[1.0, 1.0]])
        array([[2., 3.]])
    """
    there, away = np.asarray(present, dtype=np.float64), np.asarray(absent, dtype=np.float64)
    groups = there.shape[1]
    nodes, weights = np.polynomial.legendre.leggauss(max(1, -(-groups // 2)))
    values = np.zeros_like(there)
    for node, weight in zip((nodes + 1) / 2, weights / 2, strict=True):
        factors = away + (there - away) * node
        before = np.cumprod(np.column_stack([np.ones(len(factors)), factors[:, :-1]]), axis=1)
        after = np.cumprod(np.column_stack([np.ones(len(factors)), factors[:, :0:-1]]), axis=1)[:, ::-1]
        values += weight * (there - away) * before * after
    return values


def of_function(value: Callable[[NDArray[np.bool_]], ArrayLike], groups: int) -> Array:
    """Shapley values of any game of few groups.

    Args:
        value: Values of coalitions, (C, ...), from which groups are in each, (C, G).
        groups: G, at most MOST_GROUPS.

    Returns:
        (G, ...).

    Raises:
        ConfigError: There are too many groups.

    References:
        Shapley (1953), A value for n-person games.

    Examples:
        >>> of_function(lambda there: there[:, 0] * (1.0 + there[:, 1]), 2)
        array([1.5, 0.5])
    """
    return of_values(value(coalitions(groups)), groups)


def coalitions(groups: int) -> NDArray[np.bool_]:
    """All coalitions of G groups, (2^G, G), in the order of binary numbers; the first group is the highest digit.

    Raises:
        ConfigError: There are more than MOST_GROUPS groups.

    Examples:
        >>> coalitions(2).astype(int).tolist()
        [[0, 0], [0, 1], [1, 0], [1, 1]]
    """
    if groups > MOST_GROUPS:
        raise ConfigError(f"Exact Shapley values are of at most {MOST_GROUPS} groups, found {groups}.")
    return np.array(list(product([False, True], repeat=groups)), dtype=bool).reshape(-1, groups)


def of_values(value: ArrayLike, groups: int) -> Array:
    """Shapley values of a game by the values of all its :func:`coalitions`, (2^G, ...).

    Args:
        value: Those values.
        groups: G.

    Returns:
        (G, ...).
    """
    values, sizes = np.asarray(value, dtype=np.float64), coalitions(groups).sum(axis=1)
    shares: Sequence[float] = [1 / (groups * math.comb(groups - 1, size)) for size in range(groups)]
    found = np.zeros((groups, *values.shape[1:]))
    for group in range(groups):
        without = np.flatnonzero(~coalitions(groups)[:, group])
        step = 1 << (groups - 1 - group)  # coalitions are in the order of binary numbers
        weights = np.array([shares[size] for size in sizes[without]])
        found[group] = np.tensordot(weights, values[without + step] - values[without], axes=1)
    return found
