"""Neighbouring words that go together: what tells an essay from random letters, random words and fluent nonsense.

A pair of words is known if it stands in two training essays, and in no fewer than chance alone would bring about:

    essays(a, b) >= max(2, N (1 - exp(-words(a) words(b) / words / N)))

of N essays, so that "the of" is not known because both of its words are common.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from aes_dynloss.essays.screening.evidence import (
    FEWEST_ESSAYS,
    Essays,
    Values,
    count_essays,
    tail_threshold,
    thresholds_by_prompt,
    weighed_share,
)
from aes_dynloss.essays.screening.word_hashes import BitTable, WordHashes

# One writer's own pair of words is not learned.
FEWEST_WRITERS = 2
# However poorly the training essays are written, an essay half of whose pairs are known is let pass.
MILDEST = 0.5


@dataclass(frozen=True, eq=False)
class KnownPairs:
    """Pairs of neighbouring words that go together.

    Args:
        table: Them.
        average: Share of a training essay's pairs that other training essays know.
    """

    table: BitTable
    average: float

    def known(self, words: WordHashes) -> tuple[Values, Values]:
        """Each essay's share of known pairs, as it is judged and as it is, both (N,)."""
        pairs, of_essay = words.grams(2)
        return shares(self.table.holds(pairs), of_essay, len(words.counts), self.average)


def learn_pairs(essays: Essays) -> tuple[KnownPairs, Values]:
    """Pairs that training essays know, and the share of them that nearly all essays exceed.

    Args:
        essays: The training essays, N >= 1.

    Returns:
        Them, and thresholds for the prompts and for essays on others, (P + 1,). An essay's pairs are looked up in the
        other essays; for the last threshold in those on other prompts, and where all are on one, it is NaN.
    """
    pairs, of_essay = essays.words.grams(2)
    counted = count_essays(pairs, of_essay, essays)
    chance, words = _words_of_pairs(essays, counted.items, counted.place)
    together = counted.essays.sum(axis=1)
    count = len(essays.prompts)
    by_chance = _by_chance(chance.sum(axis=2), words.sum(), count)
    # What an essay itself adds to a pair is one essay.
    in_others = _known(together - 1, _by_chance(chance.sum(axis=2), words.sum(), count - 1))[counted.place]
    average = float(in_others.mean()) if len(in_others) else 0.0
    judged = shares(in_others, of_essay, count, average)[0]
    thresholds = thresholds_by_prompt(judged, essays, "low", MILDEST)
    elsewhere, sizes = np.zeros(len(pairs), dtype=bool), essays.sizes
    for prompt in range(essays.prompt_count):
        own = essays.prompts[of_essay] == prompt
        left = _by_chance(chance.sum(axis=2) - chance[:, :, prompt], words.sum() - words[prompt], count - sizes[prompt])
        elsewhere[own] = _known(together - counted.essays[:, prompt], left)[counted.place[own]]
    thresholds[-1] = np.nan
    if essays.prompt_count > 1 and count >= FEWEST_ESSAYS:
        thresholds[-1] = min(tail_threshold(shares(elsewhere, of_essay, count, average)[0], "low"), MILDEST)
    return KnownPairs(BitTable.of(counted.items[_known(together, by_chance)]), average), thresholds


def shares(chosen: NDArray[np.bool_], of_essay: NDArray[np.int64], count: int, average: float) -> tuple[Values, Values]:
    """Each essay's share of chosen items, as it is judged (`weighed_share`) and as it is.

    Args:
        chosen: Whether an item is chosen, (I,).
        of_essay: The essay of each item, (I,).
        count: Number of essays, N.
        average: Share of an average essay.
    """
    totals = np.bincount(of_essay, minlength=count)
    sums = np.bincount(of_essay[chosen], minlength=count)
    return weighed_share(sums.astype(np.float64), totals, average), sums / np.maximum(totals, 1)


def _known(together: NDArray[np.int64], by_chance: Values) -> NDArray[np.bool_]:
    known: NDArray[np.bool_] = (together >= FEWEST_WRITERS) & (together >= by_chance)
    return known


def _by_chance(words: NDArray[np.int64], total: int, essays: int) -> Values:
    """In how many essays two words, with counts (2, U), would stand side by side if words stood anywhere."""
    pairs = words[0] * words[1].astype(np.float64) / max(total, 1)
    held: Values = essays * -np.expm1(-pairs / max(essays, 1))
    return held


def _words_of_pairs(
    essays: Essays, pairs: NDArray[np.uint64], place: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """How often the first and the second word of each pair stand in essays of a prompt, (2, U, P); all words, (P,)."""
    words = essays.words
    distinct, of_word = np.unique(words.words, return_inverse=True)
    cells = of_word.astype(np.int64) * essays.prompt_count + essays.prompts[words.essays]
    counts = np.bincount(cells, minlength=len(distinct) * essays.prompt_count).reshape(
        len(distinct), essays.prompt_count
    )
    beside = np.flatnonzero(words.essays[:-1] == words.essays[1:])
    anywhere = np.zeros(len(pairs), dtype=np.int64)
    anywhere[place] = beside
    return np.stack([counts[of_word[anywhere]], counts[of_word[anywhere + 1]]]), counts.sum(axis=0)
