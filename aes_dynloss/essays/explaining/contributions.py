"""What each sentence of an essay adds to its raw score: Shapley values from a few choices of sentences."""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from aes_dynloss.essays.explaining.occlusion import Values
from aes_dynloss.essays.explaining.shapley import coalitions, of_values

Array = NDArray[np.float64]
Choices = NDArray[np.bool_]

# Choices of sentences whose scores are looked at, beside none and all of them.
CHOICES = 160
# Choices of an essay of many sentences, by sentence.
_A_SENTENCE = 3
# Degree of the polynomial in the logarithm of a choice's size that its score follows; what shrinks sentences' slopes.
_DEGREE, _RIDGE = 3, 0.1
# Of that, what is left for all else, so that the equations have one solution.
_UNSHRUNKEN = 1e-8


def sentence_shapley(values: Values, sentences: int, choices: int = CHOICES) -> tuple[Array, Array]:
    """What each sentence adds, in the mean over the orders in which an essay could be put together: Shapley values.

    With v(S) the raw score of a choice S of K sentences, the value of sentence i is

        (v(all) - v(none)) / K + 1 / K sum over s from 1 to K - 1 of (mean v(S) with i - mean v(S) without i, |S| = s),

    so that what the size of a choice alone does to its score, which is much, takes no part. With few sentences all
    choices are looked at; else the single sentences, the essay without each, and choices of each other size alike, each
    with its complement. Where a size is not there whole, its differences are those of a model of the scores by ridge
    regression: a polynomial in log s, and for each sentence there a part of what the whole loses without it, the same
    for all sentences, and a small slope of its own, both growing with sqrt(K / s).

    Args:
        values: Raw scores of choices of sentences.
        sentences: K.
        choices: Choices to look at, beside none and all of the sentences; at least 3 K are.

    Returns:
        (K, T), whose sum is the raw score of the whole essay less that of an empty one; and what the score loses
        without each sentence, (K, T).

    References:
        Shapley (1953), A value for n-person games; the form above groups his marginal contributions by size. Witter,
        Liu and Musco (2025), Regression-adjusted Monte Carlo estimators for Shapley values and probabilistic values (a
        model of the game stands in for what was not looked at). Musco and Witter (2025), Provably accurate Shapley
        value estimation via leverage score sampling (sizes alike, in pairs).
    """
    if sentences == 0:
        nothing = values(np.zeros((1, 0), dtype=bool))[:0]
        return nothing, nothing
    if 2**sentences - 2 <= choices:
        there = coalitions(sentences)
        raw = values(there)
        # In the order of binary numbers the coalition without the first sentence comes first.
        return of_values(raw, sentences), raw[-1] - raw[there.sum(axis=1) == sentences - 1]
    ends = np.vstack([np.zeros((1, sentences), dtype=bool), np.ones((1, sentences), dtype=bool)])
    there = _choices(sentences, max(choices, _A_SENTENCE * sentences))
    raw = values(np.vstack([ends, there]))
    none, whole, raw = raw[0], raw[1], raw[2:]
    size = there.sum(axis=1)
    without = size == sentences - 1
    last = np.empty_like(raw[without])
    last[(~there[without]).argmax(axis=1)] = whole - raw[without]
    modelled = [_modelled(there, scores, without_it) for scores, without_it in zip(raw.T, last.T, strict=True)]
    differences = np.stack(modelled, axis=2)
    for one in np.unique(size):
        of_size = size == one
        if of_size.sum() == math.comb(sentences, one):
            differences[one - 1] = _differences(there[of_size], raw[of_size])
    found: Array = (whole - none + differences.sum(axis=0)) / sentences
    return found, last


def _differences(there: Choices, raw: Array) -> Array:
    """Mean score of the choices with each sentence less that of those without it, (K, T)."""
    inside, outside = there.T.astype(np.float64), (~there).T.astype(np.float64)
    found: Array = (inside @ raw) / inside.sum(axis=1)[:, None] - (outside @ raw) / outside.sum(axis=1)[:, None]
    return found


def _modelled(there: Choices, raw: Array, last: Array) -> Array:
    """Such differences of each size from 1 to K - 1, (K - 1, K), of a model that is fitted to sizes of 2 and more.

    Args:
        there: Choices, (C, K).
        raw: Their scores on one scale, (C,).
        last: What the whole loses without each sentence, (K,).
    """
    sentences = there.shape[1]
    size = there.sum(axis=1)
    there, raw, size = there[size > 1], raw[size > 1], size[size > 1]
    steepness = np.sqrt(sentences / size)[:, None]
    trend = np.polynomial.chebyshev.chebvander(2 * np.log(size) / np.log(sentences) - 1, _DEGREE)
    members = there - size[:, None] / sentences
    lost = (members @ last)[:, None]
    design = np.hstack([trend, lost, lost * steepness, members * steepness])
    # Each size counts alike; scores of few sentences scatter as their slopes do.
    weights = 1 / (np.bincount(size)[size] * steepness[:, 0] ** 2)
    gram = design.T @ (design * weights[:, None])
    penalty = np.full(len(gram), _RIDGE * gram.diagonal()[-sentences:].mean())
    penalty[:-sentences] *= _UNSHRUNKEN
    found = np.linalg.solve(gram + np.diag(penalty), design.T @ (raw * weights))
    alike, growing = found[-sentences - 2 : -sentences]
    steepness = np.sqrt(sentences / np.arange(1, sentences))[:, None]
    slopes = alike * last + steepness * (growing * last + found[-sentences:])
    differences: Array = (slopes - slopes.mean(axis=1, keepdims=True)) * sentences / (sentences - 1)
    return differences


def _choices(sentences: int, choices: int) -> Choices:
    """Choices of K sentences, (C, K); sizes that fit in are there whole."""
    random = np.random.default_rng(sentences)  # the same for all essays of a length
    rows: list[Choices] = []
    sampled: list[int] = []
    left = choices
    for size in range(1, sentences // 2 + 1):
        count = math.comb(sentences, size) * (1 if 2 * size == sentences else 2)
        if count <= left and not sampled:
            left -= count
            for chosen in _of_size(sentences, size):
                rows += [chosen] if 2 * size == sentences else [chosen, ~chosen]
        else:
            sampled.append(size)
    for number in range(left // 2 if sampled else 0):
        chosen = np.zeros(sentences, dtype=bool)
        chosen[random.choice(sentences, sampled[number % len(sampled)], replace=False)] = True
        rows += [chosen, ~chosen]
    return np.array(rows)


def _of_size(sentences: int, size: int) -> Iterator[Choices]:
    for places in combinations(range(sentences), size):
        chosen = np.zeros(sentences, dtype=bool)
        chosen[list(places)] = True
        yield chosen
