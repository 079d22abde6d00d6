"""Thresholds that a small, stated share of genuine essays is beyond."""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import ArrayLike

from aes_dynloss.errors import DataError
from aes_dynloss.essays.screening.kinds import Advisory, advisory

# Share of genuine essays that one kind of advisory may flag.
FLAGGED_SHARE = 0.002
# The tail is taken to fall exponentially from the first of these shares on, at the rate between the two. Neither the
# handful of training essays that are themselves nonsense nor a small training set can move the threshold far.
_TAIL = (0.1, 0.01)


def tail_threshold(values: ArrayLike, side: Literal["low", "high"], share: float = FLAGGED_SHARE) -> float:
    """The value beyond which a share of genuine essays is expected to lie.

        t = q(.1) + (q(.01) - q(.1)) log(.1 / share) / log(.1 / .01)

    with q(p) the value that a share p of the essays is beyond; where there are enough essays to see the share itself,
    that is 1 / share of them, the nearer of t and q(share).

    Args:
        values: Measured on essays that did not take part in what they are measured by, (n,), n >= 1.
        side: Whether suspicious essays have low or high values.
        share: Of essays, 0 < share < .1.

    Raises:
        DataError: There is no value, or one is not finite, or the share is outside its range.
    """
    measured = np.asarray(values, dtype=np.float64)
    if measured.ndim != 1 or measured.size == 0 or not np.isfinite(measured).all():
        raise DataError(f"A threshold needs finite values of at least one essay, found {measured.size} values.")
    if not 0 < share < _TAIL[0]:
        raise DataError(f"The share of flagged essays must be above 0 and below {_TAIL[0]}, found {share}.")
    sign = 1.0 if side == "low" else -1.0
    near, far, exact = np.quantile(sign * measured, [*_TAIL, share])
    steps = np.log(_TAIL[0] / share) / np.log(_TAIL[0] / _TAIL[1])
    threshold = near + (far - near) * steps
    if measured.size * share >= 1:
        threshold = max(threshold, exact)
    return float(sign * threshold)


def learn_distance_threshold(distances: ArrayLike, share: float = FLAGGED_SHARE) -> float:
    """The distance that only a small share of genuine essays exceeds, for the kind ``unlike_training``.

    Args:
        distances: Of training essays of one prompt from the others, (n,): an essay must not be among those that its
            distance is measured from.
        share: Of essays.

    Raises:
        DataError: As `tail_threshold` does.
    """
    return tail_threshold(distances, "high", share)


def distance_advisory(distance: float, threshold: float) -> Advisory | None:
    """The advisory ``unlike_training`` where an essay's distance is above the threshold."""
    return advisory("unlike_training", distance, threshold) if distance > threshold else None
