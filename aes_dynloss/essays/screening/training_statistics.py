"""Statistics of training essays: document frequencies, and thresholds that about 0.2 % of genuine essays exceed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from aes_dynloss.errors import DataError
from aes_dynloss.essays.screening.kinds import Advisory, advisory
from aes_dynloss.essays.screening.word_hashes import Hashes, WordHashes, hash_words, normal_text

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


Values = NDArray[np.float64]
Places = NDArray[np.int64]

# Essays that are hashed at once: their words stay in the processor's caches.
CHUNK = 256
# Of fewer essays one cannot tell what nearly all of them do.
FEWEST_ESSAYS = 30
# A share is judged as if so many items more, as average essays have them, stood in the essay: a few words prove little.
AVERAGE_ITEMS = 10


@dataclass(frozen=True)
class Essays:
    """Training essays as hashes.

    Args:
        words: Their words, N essays.
        prompts: Each one's prompt, counted from 0, (N,).
        prompt_count: Number of prompts, P.
    """

    words: WordHashes
    prompts: Places
    prompt_count: int

    @property
    def sizes(self) -> Places:
        """Essays of each prompt, (P,)."""
        return np.bincount(self.prompts, minlength=self.prompt_count)


@dataclass(frozen=True)
class Counted:
    """Distinct items of N essays.

    Args:
        items: Hashes, ascending, (U,).
        place: Of each occurrence its item, (I,).
        essays: In how many essays of each prompt an item stands, (U, P).
    """

    items: Hashes
    place: Places
    essays: NDArray[np.int64]


def hash_essays(texts: Sequence[str]) -> WordHashes:
    """The words of any number of essays, hashed a chunk at a time."""
    parts = [
        hash_words([normal_text(text) for text in texts[start : start + CHUNK]])
        for start in range(0, max(len(texts), 1), CHUNK)
    ]
    return WordHashes(
        np.concatenate([part.words for part in parts]),
        np.concatenate([part.essays + CHUNK * number for number, part in enumerate(parts)]),
        np.concatenate([part.counts for part in parts]),
    )


def count_essays(items: Hashes, of_essay: Places, essays: Essays) -> Counted:
    """In how many essays of each prompt each item stands.

    Args:
        items: Hashes of words or runs of words, (I,).
        of_essay: The essay of each, (I,).
        essays: The essays.
    """
    distinct, place = np.unique(items, return_inverse=True)
    count = max(len(essays.prompts), 1)
    once = np.unique(place.astype(np.int64) * count + of_essay)
    cells = (once // count) * essays.prompt_count + essays.prompts[once % count]
    counts = np.bincount(cells, minlength=len(distinct) * essays.prompt_count)
    return Counted(distinct, place, counts.reshape(len(distinct), essays.prompt_count))


def weighed_share(chosen: Values, totals: Values | Places, average: float | Values = 0.0) -> Values:
    """Shares that a few items move little: `AVERAGE_ITEMS` average ones are added to each essay's.

    Args:
        chosen: Chosen items of each essay, or what they add up to, (N,).
        totals: Items of each essay, (N,).
        average: What an item has on average.
    """
    shares: Values = (chosen + AVERAGE_ITEMS * np.asarray(average)) / (totals + AVERAGE_ITEMS)
    return shares


def thresholds_by_prompt(values: Values, essays: Essays, side: Literal["low", "high"], mildest: float | None) -> Values:
    """Each prompt's threshold, and one for essays on any other prompt, (P + 1,).

    Args:
        values: Measured on each essay as if it were new, (N,).
        essays: The essays.
        side: Whether suspicious essays have low or high values.
        mildest: No threshold flags values nearer to those of ordinary essays than this.

    Returns:
        The last threshold, and those of prompts with fewer than `FEWEST_ESSAYS` essays, are of all essays together;
        NaN, which flags none, if these are fewer too.
    """
    if len(values) < FEWEST_ESSAYS:
        return np.full(essays.prompt_count + 1, np.nan)
    groups = [essays.prompts == prompt for prompt in range(essays.prompt_count)]
    pooled = np.ones(len(values), dtype=bool)
    chosen = [group if group.sum() >= FEWEST_ESSAYS else pooled for group in groups]
    found = np.array([tail_threshold(values[group], side) for group in [*chosen, pooled]])
    if mildest is None:
        return found
    bounded: Values = np.minimum(found, mildest) if side == "low" else np.maximum(found, mildest)
    return bounded
