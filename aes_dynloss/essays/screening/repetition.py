"""Runs of words that stand in an essay more than once: sentences and paragraphs that were pasted."""

from __future__ import annotations

import numpy as np

from aes_dynloss.essays.screening.evidence import Values, weighed_share
from aes_dynloss.essays.screening.word_hashes import WordHashes

RUN = 4
# However little the training essays repeat, an essay three tenths of which stand there again are let pass.
MILDEST = 0.3
# Bits of a run's hash that are kept beside the number of its essay.
_KEPT = 40


def repeated(words: WordHashes) -> tuple[Values, Values]:
    """Each essay's share of runs of four words that stand in it more than once, as judged and as it is, both (N,).

    Args:
        words: N essays, fewer than 2^24.
    """
    runs, of_essay = words.grams(RUN)
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
