"""Setting images apart from train: for the teacher, and to choose on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from aes_dynloss import ConfigError

Rows = NDArray[np.int64]


def apart(
    classes: Sequence[int] | Rows, fractions: Mapping[str, float], *, most: int | None = None, seed: int = 0
) -> dict[str, Rows]:
    """Divide rows at random, each class in the same proportions.

    Args:
        classes: Class of each of N rows; all 0 where that means nothing.
        fractions: Part of all rows that each named part gets; ``train`` gets the rest.
        most: Rows that are divided, at most.
        seed: Of the division.

    Returns:
        The rows of each part, ascending.

    Raises:
        ConfigError: Nothing is left to train on, or a part that was asked for would be empty.
    """
    kinds = np.asarray(classes)
    generator = np.random.default_rng(seed)
    order = generator.permutation(len(kinds))[:most]
    # Each class's rows stand evenly over [0, 1), so that a stretch of it holds all classes alike.
    position = np.empty(len(order))
    for kind in np.unique(kinds[order]):
        members = np.flatnonzero(kinds[order] == kind)
        position[members] = (np.arange(len(members)) + generator.random()) / len(members)
    borders = np.cumsum([0.0, *fractions.values()])
    parts = {
        name: np.sort(order[(position >= low) & (position < high)])
        for name, low, high in zip(fractions, borders[:-1], borders[1:], strict=True)
    }
    parts["train"] = np.sort(order[position >= borders[-1]])
    for name, rows in parts.items():
        if len(rows) == 0 and fractions.get(name, 1.0) > 0:
            raise ConfigError(
                f"Of {len(order)} images, or stretches of them, none is left for {name}. Set "
                f"{' and '.join(f'data.{part}_fraction' for part in fractions)} so that each part has some."
            )
    return parts
