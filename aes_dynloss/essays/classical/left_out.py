"""Training essays in parts, each predicted by what was fitted to the others; a writer's essays are in one part."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Rows = NDArray[np.bool_]
Groups = Sequence[str | None]  # whose each essay is

# Parts that are predicted in turn.
PARTS = 5


def by_parts(count: int, predict: Callable[[Rows], Array], groups: Groups | None = None) -> Array:
    """Each training essay's prediction by what was fitted to the other ones of five parts, (N,); see :func:`parts_of`.

    Args:
        count: Number of essays of one prompt, N, at least 5.
        predict: Fits to the essays that it is given, of (N,), and predicts the others.
        groups: Whose each essay is, (N,), or None.
    """
    part = parts_of(np.arange(count), PARTS, groups, [""] * count)
    left_out = np.empty(count)
    for number in np.unique(part):
        left_out[part == number] = predict(part != number)
    return left_out


def parts_of(essays: NDArray[np.int64], count: int, groups: Groups | None, prompts: Sequence[str]) -> NDArray[np.int64]:
    """The part of each row, from 0, in which it is left out together with the other rows of its essay and its group.

    Without groups essays are dealt in turn, prompt by prompt: of the essays in this order the i-th is in part i mod K,
    so that a prompt with several essays is never in one part as a whole. With groups each is dealt as a whole, the
    largest first, to the part that has fewest rows; some parts may then be empty. Essays of a prompt that would all be
    in one part are dealt as without groups, since nothing else is there to learn their prompt from.

    Args:
        essays: The number of each row's essay, (N,).
        count: Number of parts, K.
        groups: Whose each row is, (N,), None where nobody knows: then its essay is by itself; or None.
        prompts: The prompt of each row, (N,).

    Example:
        >>> parts_of(np.arange(6), 2, ["ann", "bob", "ann", "ann", None, "bob"], ["a"] * 6)
        array([0, 1, 0, 0, 1, 1])
    """
    place = {prompt: number for number, prompt in enumerate(dict.fromkeys(prompts))}
    _, first, number = np.unique(essays, return_index=True, return_inverse=True)
    turn = np.empty_like(first)
    turn[np.argsort([place[prompts[row]] for row in first.tolist()], kind="stable")] = np.arange(len(first))
    single = turn[number] % count
    if groups is None:
        return single
    together: dict[str | int, list[int]] = {}
    for row, (essay, group) in enumerate(zip(essays.tolist(), groups, strict=True)):
        together.setdefault(essay if group is None else group, []).append(row)
    part, sizes = np.empty_like(single), np.zeros(count, dtype=np.int64)
    for rows in sorted(together.values(), key=len, reverse=True):
        part[rows] = fewest = int(sizes.argmin())
        sizes[fewest] += len(rows)
    for prompt in dict.fromkeys(prompts):
        own = np.array([one == prompt for one in prompts])
        if np.ptp(part[own]) == 0 < np.ptp(single[own]):
            part[own] = single[own]
    return part
