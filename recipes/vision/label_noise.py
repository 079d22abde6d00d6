"""Labels that are misread by a known rule: what each class is read as, and which images are read rightly for sure."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from aes_dynloss import ConfigError

Matrix = NDArray[np.float64]
Labels = NDArray[np.int64]


def clean(classes: int) -> Matrix:
    """Every label is right."""
    return np.eye(classes)


def zero40(classes: int) -> Matrix:
    """40 % of all labels are read as class 0."""
    matrix = 0.6 * np.eye(classes)
    matrix[:, 0] += 0.4
    return matrix


def pair45(classes: int) -> Matrix:
    """45 % of each class are read as the next one, of the last as the first."""
    return 0.55 * np.eye(classes) + 0.45 * np.roll(np.eye(classes), 1, axis=1)


NOISE: dict[str, Callable[[int], Matrix]] = {noise.__name__: noise for noise in (clean, zero40, pair45)}


def misread(labels: Labels, matrix: Matrix, random: np.random.Generator) -> Labels:
    """Labels as they are read.

    Args:
        labels: True classes, (N,).
        matrix: C_ij, the probability that what is truly i is read as j, (K, K); its rows add up to 1.
        random: Draws.

    Returns:
        (N,).

    Examples:
        >>> misread(np.array([0, 1, 2]), np.roll(np.eye(3), 1, axis=1), np.random.default_rng(0))
        array([1, 2, 0])
    """
    levels = matrix.cumsum(axis=1)
    levels[:, -1] = 1.0  # sums of many parts may fall short of it
    read: NDArray[np.int64] = (random.random(len(labels))[:, None] >= levels[labels]).sum(axis=1)
    return read


def choose_trusted(count: int, trusted: int, random: np.random.Generator) -> NDArray[np.bool_]:
    """Which of so many images are read rightly for sure, (count,).

    Raises:
        ConfigError: None would be left that is not.
    """
    if trusted >= count:
        raise ConfigError(
            f"data.trusted is {trusted}, expected fewer than the {count} training images. Trust fewer, or set "
            "data.labels=clean and leave data.trusted out."
        )
    chosen = np.zeros(count, dtype=np.bool_)
    chosen[random.permutation(count)[:trusted]] = True
    return chosen
