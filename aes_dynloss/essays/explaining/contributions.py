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

# Choices of sentences whose scores are looked at, beside none and all of them.
CHOICES = 100


def sentence_shapley(values: Values, sentences: int, choices: int = CHOICES) -> tuple[Array, Array]:
    """What each sentence adds, in the mean over the orders in which an essay could be put together: Shapley values.

    With few sentences all choices of them are looked at. Else the values are the weighted least squares solution whose
    exact form is the Shapley value, over the single sentences, the essay without each, and choices of each other size
    alike, each with its complement.

    Args:
        values: Raw scores of choices of sentences.
        sentences: K.
        choices: Choices to look at, beside none and all of the sentences; at least 2 K are.

    Returns:
        (K, T), whose sum is the raw score of the whole essay less that of an empty one; and what the score loses
        without each sentence, (K, T).

    References:
        Lundberg and Lee (2017), A unified approach to interpreting model predictions (the least squares form). Musco
        and Witter (2025), Provably accurate Shapley value estimation via leverage score sampling (sizes alike, in
        pairs).
    """
    if sentences == 0:
        nothing = values(np.zeros((1, 0), dtype=bool))[:0]
        return nothing, nothing
    if 2**sentences - 2 <= choices:
        there = coalitions(sentences)
        raw = values(there)
        # In the order of binary numbers the coalition without the first sentence comes first.
        return of_values(raw, sentences), raw[-1] - raw[there.sum(axis=1) == sentences - 1]
    there, weights = _choices(sentences, choices)
    ends = np.vstack([np.zeros((1, sentences), dtype=bool), np.ones((1, sentences), dtype=bool)])
    raw = values(np.vstack([ends, there]))
    whole, effects = raw[1] - raw[0], raw[2:] - raw[0]
    # The last value is what the others leave of the whole, so that their sum is exact.
    rows = there[:, :-1].astype(np.float64) - there[:, -1:]
    root = np.sqrt(weights)[:, None]
    first = np.linalg.lstsq(rows * root, (effects - there[:, -1:] * whole) * root, rcond=None)[0]
    single = there.sum(axis=1) == sentences - 1
    order = (~there[single]).argmax(axis=1)
    last = np.empty_like(raw[2:][single])
    last[order] = raw[1] - raw[2:][single]
    return np.vstack([first, whole - first.sum(axis=0)]), last


def _choices(sentences: int, choices: int) -> tuple[NDArray[np.bool_], Array]:
    """Choices of K sentences, (C, K), and what each counts, (C,); sizes that fit in are there whole."""
    random = np.random.default_rng(sentences)  # the same for all essays of a length
    rows: list[NDArray[np.bool_]] = []
    weights: list[float] = []
    sampled: list[int] = []
    left = max(choices, 2 * sentences)
    for size in range(1, sentences // 2 + 1):
        count = math.comb(sentences, size) * (1 if 2 * size == sentences else 2)
        if count <= left and not sampled:
            left -= count
            for chosen in _of_size(sentences, size):
                both = [chosen] if 2 * size == sentences else [chosen, ~chosen]
                rows += both
                weights += [_weight(sentences, size)] * len(both)
        else:
            sampled.append(size)
    drawn: dict[int, list[NDArray[np.bool_]]] = {}
    for number in range(left // 2 if sampled else 0):
        size = sampled[number % len(sampled)]
        chosen = np.zeros(sentences, dtype=bool)
        chosen[random.choice(sentences, size, replace=False)] = True
        drawn.setdefault(size, []).append(chosen)
    for size, some in drawn.items():
        both_sizes = math.comb(sentences, size) * (1 if 2 * size == sentences else 2)
        rows += [choice for chosen in some for choice in (chosen, ~chosen)]
        weights += [_weight(sentences, size) * both_sizes / (2 * len(some))] * (2 * len(some))
    return np.array(rows), np.array(weights)


def _of_size(sentences: int, size: int) -> Iterator[NDArray[np.bool_]]:
    for places in combinations(range(sentences), size):
        chosen = np.zeros(sentences, dtype=bool)
        chosen[list(places)] = True
        yield chosen


def _weight(sentences: int, size: int) -> float:
    """The weight of one choice in the least squares form of the Shapley value."""
    return (sentences - 1) / (math.comb(sentences, size) * size * (sentences - size))
