"""Copied and repeated text: runs of words shared with the prompt, and runs that an essay repeats.

A run of four words that occurs in very many essays on a prompt, and hardly in those on others, comes from the prompt or
from its source text. Repeated runs are sentences and paragraphs that were pasted.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from aes_dynloss.essays.screening.evidence import (
    Essays,
    Values,
    count_essays,
    hash_essays,
    thresholds_by_prompt,
    weighed_share,
)
from aes_dynloss.essays.screening.pairs import shares
from aes_dynloss.essays.screening.word_hashes import BitTable, Hashes, WordHashes, mixed

RUN = 4
# Essays on source texts quote; less than half of the words is no copy, however few of the training essays quote.
MILDEST_COPYING = 0.5
# Share of a prompt's essays, and number, that a run of words stands in if it is taken for the prompt's.
_SHARE, _FEWEST = 0.005, 5
# It is so many times as frequent as in essays on other prompts.
_TIMES = 4


@dataclass(frozen=True, eq=False)
class PromptRuns:
    """Runs of four words of prompts.

    Args:
        table: Hashes of runs, mixed with their prompt's.
    """

    table: BitTable

    def copied(self, words: WordHashes, prompts: Sequence[str]) -> tuple[Values, Values]:
        """Each essay's share of runs that are its prompt's, as it is judged and as it is, both (N,).

        Args:
            words: N essays.
            prompts: The prompt of each; one of which nothing is known has no runs.
        """
        runs, of_essay = words.grams(RUN)
        found = self.table.holds(mixed(runs + _keys(prompts)[of_essay]))
        return shares(found, of_essay, len(words.counts), 0.0)


def learn_runs(essays: Essays, prompts: Sequence[str], wordings: Mapping[str, str | None]) -> tuple[PromptRuns, Values]:
    """The prompts' runs of words, and the share of them that nearly all essays keep below.

    Args:
        essays: The training essays, N >= 1, on P prompts.
        prompts: The P prompts; a blank one's runs are not learned.
        wordings: Prompts' own words where they are known, those of the P prompts and of others.

    Returns:
        Them, and thresholds, (P + 1,). What an essay shares is counted in the others.
    """
    runs, of_essay = essays.words.grams(RUN)
    counted = count_essays(runs, of_essay, essays)
    worded = {prompt: hash_essays([text]).grams(RUN)[0] for prompt, text in wordings.items() if text}
    found = [mixed(own + _keys([prompt])) for prompt, own in worded.items()]
    in_others = np.zeros(len(runs), dtype=bool)
    for place, prompt in enumerate(prompts):
        shared = _shared(counted.essays, essays.sizes, place, own=0)
        if prompt:
            found.append(mixed(counted.items[shared] + _keys([prompt])))
        own = essays.prompts[of_essay] == place
        stands = np.isin(counted.items, worded.get(prompt, runs[:0]))
        in_others[own] = (_shared(counted.essays, essays.sizes, place, own=1) | stands)[counted.place[own]]
    judged, _ = shares(in_others, of_essay, len(essays.prompts), 0.0)
    table = BitTable.of(np.concatenate(found) if found else runs[:0])
    return PromptRuns(table), thresholds_by_prompt(judged, essays, "high", MILDEST_COPYING)


def _shared(counts: NDArray[np.int64], sizes: NDArray[np.int64], prompt: int, own: int) -> NDArray[np.bool_]:
    """Which runs essays on a prompt share, (U,); ``own`` of the essays are left out of account."""
    inside, size = counts[:, prompt] - own, sizes[prompt] - own
    outside = counts.sum(axis=1) - counts[:, prompt]
    rate = outside / max(sizes.sum() - sizes[prompt], 1)
    shared: NDArray[np.bool_] = (inside >= max(_FEWEST, _SHARE * size)) & (inside > _TIMES * rate * size)
    return shared


def _keys(prompts: Sequence[str]) -> Hashes:
    """A hash of each prompt's id: the same run of another prompt is another."""
    digests = {
        prompt: int.from_bytes(
            hashlib.blake2b(prompt.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "little"
        )
        for prompt in set(prompts)
    }
    return np.array([digests[prompt] for prompt in prompts], dtype=np.uint64)


REPEATED_RUN = 4
# However little the training essays repeat, an essay three tenths of which stand there again are let pass.
MILDEST_REPETITION = 0.3
# Bits of a run's hash that are kept beside the number of its essay.
_KEPT = 40


def repeated(words: WordHashes) -> tuple[Values, Values]:
    """Each essay's share of runs of four words that stand in it more than once, as judged and as it is, both (N,).

    Args:
        words: N essays, fewer than 2^24.
    """
    runs, of_essay = words.grams(REPEATED_RUN)
    count = len(words.counts)
    # One sort for all essays: the essay's number above the run's hash. Two runs of an essay of 500 words are taken as
    # one with a probability of 1 : 10^7.
    keys = np.sort((of_essay.astype(np.uint64) << np.uint64(_KEPT)) | (runs >> np.uint64(64 - _KEPT)))
    same = np.zeros(len(keys), dtype=bool)
    same[1:] = keys[1:] == keys[:-1]
    same[:-1] |= same[1:]
    sums = np.bincount((keys[same] >> np.uint64(_KEPT)).astype(np.int64), minlength=count)
    totals = np.bincount(of_essay, minlength=count)
    return weighed_share(sums.astype(np.float64), totals), sums / np.maximum(totals, 1)
