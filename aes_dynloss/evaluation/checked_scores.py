"""Columns of scores, refused where broadcasting, NaN or a wrong range would give a wrong number instead of an error."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from aes_dynloss.errors import DataError
from aes_dynloss.evaluation.score_range import ScoreRange


def checked_columns(**columns: ArrayLike) -> tuple[NDArray[np.float64], ...]:
    """Columns of one shape as float64, in the order in which they were given.

    Args:
        **columns: Values by name, each of one shape (..., n), n >= 1, finite.

    Returns:
        The columns.

    Raises:
        DataError: The shapes differ, there is no essay, or a value is not finite.
    """
    arrays = {name: np.asarray(column, dtype=np.float64) for name, column in columns.items()}
    shapes = {name: array.shape for name, array in arrays.items()}
    found = ", ".join(f"{name} {shape}" for name, shape in shapes.items())
    if len(set(shapes.values())) > 1:
        raise DataError(f"Columns of scores need one shape, found {found}. Give each essay one value in each.")
    if any(not shape or shape[-1] == 0 for shape in shapes.values()):
        raise DataError(f"A measure needs at least one essay, found {found}.")
    for name, array in arrays.items():
        if not np.isfinite(array).all():
            raise DataError(
                f"A measure needs finite values, found NaN or infinity in {name}. Drop or mend those essays."
            )
    return tuple(arrays.values())


def score_point_numbers(score_range: ScoreRange, **columns: ArrayLike) -> tuple[NDArray[np.int64], ...]:
    """Numbers of the score points, counted from 0; a score that is no score point is refused, not rounded.

    Args:
        score_range: The score points.
        **columns: Scores by name, each of one shape (..., n), n >= 1.

    Returns:
        Numbers from 0 to ``score_range.count - 1``, each of shape (..., n), in the order of the columns.

    Raises:
        DataError: The shapes differ, there is no essay, a value is not finite, or a score is no score point.
    """
    numbers = []
    for name, scores in zip(columns, checked_columns(**columns), strict=True):
        number = score_range.to_index(scores)
        outside = ~score_range.hold(scores)
        if outside.any():
            raise DataError(
                f"The {name} {scores[outside][0]:g} is no score point of the range {score_range}. Round it, or mend "
                "the range."
            )
        numbers.append(number)
    return tuple(numbers)
