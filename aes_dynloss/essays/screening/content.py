"""Whether an essay's words are those of essays on its prompt, or fit another prompt, or anything else, better.

A word w of an essay on prompt p weighs

    log ( (count_p(w) + A b(w)) / (words_p + A) / b(w) ), between LOWEST and HIGHEST,
    b(w) = .8 g(w) + FLOOR

with g(w) the share of w among the words of essays on anything: half of it of the training essays on other prompts, half
of the essays that come with this package. An essay fits its prompt by the sum of its words' weights, less the sum of
what fits it best beside: another prompt, or 0, anything; a word.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

from aes_dynloss.essays.samples import ESSAYS
from aes_dynloss.essays.screening.evidence import (
    FEWEST_ESSAYS,
    Essays,
    Values,
    hash_essays,
    thresholds_by_prompt,
    weighed_share,
)
from aes_dynloss.essays.screening.word_hashes import WordHashes

# Words are counted in this many places by their hashes; common words hardly ever share one.
PLACES = 1 << 15
# Words that a topic lacks say little, for essays ramble; those that it is full of say much.
LOWEST, HIGHEST = -0.25, 5.0
_PRIOR = 1000.0
_FLOOR = 3e-4
_GENERAL = 0.8
_FOLDS = 5
# Few essays show little of what may be written on a prompt: of n < 400 the threshold lies 40 / n - 1 / 10 times as far
# again from their median.
_ALLOWANCE, _ENOUGH_ESSAYS = 40, 400

Weights = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Topics:
    """Weights of words for P prompts.

    Args:
        weights: Of each place, (PLACES, P) of float32, as exact as float16 is.
        averages: Fit of an average word of a training essay, (P,).
    """

    weights: Weights
    averages: Values

    def fit(self, words: WordHashes, prompts: NDArray[np.int64]) -> Values:
        """How well essays fit their prompts, (N,), `AVERAGE_ITEMS` words of an average essay added.

        Args:
            words: N essays.
            prompts: Each one's prompt, counted from 0, (N,); NaN comes of those that are none of the P.
        """
        count = len(self.averages)
        known = (prompts >= 0) & (prompts < count)
        own = np.where(known, prompts, 0)
        fits = weighed_share(_margins(self.weights, words, own), words.counts, self.averages[own])
        return np.where(known, fits, np.nan)


def learn_topics(essays: Essays) -> tuple[Topics, Values]:
    """The prompts' words, and the fit that nearly all essays exceed.

    Args:
        essays: The training essays, N >= 1.

    Returns:
        Them, and thresholds, (P + 1,), measured on each fifth of the essays by the words of the others. NaN, which
        flags none, for prompts of fewer than `FEWEST_ESSAYS` essays and for any other prompt.
    """
    folds = np.arange(len(essays.prompts)) % _FOLDS
    counts = np.stack([_count(essays, folds == fold) for fold in range(_FOLDS)])
    margins = np.zeros(len(essays.prompts))
    for fold in range(_FOLDS):
        own = folds == fold
        found = _margins(_weights(counts.sum(axis=0) - counts[fold]), essays.words, essays.prompts)
        margins[own] = found[own]
    sums = np.bincount(essays.prompts, margins, essays.prompt_count)
    averages = sums / np.maximum(np.bincount(essays.prompts, essays.words.counts, essays.prompt_count), 1)
    fits = weighed_share(margins, essays.words.counts, averages[essays.prompts])
    thresholds = thresholds_by_prompt(fits, essays, "low", None)
    for prompt in range(essays.prompt_count):
        own = fits[essays.prompts == prompt]
        allowance = max(0.0, _ALLOWANCE / max(len(own), 1) - _ALLOWANCE / _ENOUGH_ESSAYS)
        thresholds[prompt] -= allowance * (np.median(own) - thresholds[prompt]) if len(own) else 0.0
    thresholds[:-1][essays.sizes < FEWEST_ESSAYS] = np.nan
    thresholds[-1] = np.nan
    return Topics(_weights(counts.sum(axis=0)), averages), thresholds


def places(words: WordHashes) -> NDArray[np.int64]:
    """Where each word is counted, (W,)."""
    found: NDArray[np.int64] = (words.words >> np.uint64(64 - (PLACES.bit_length() - 1))).astype(np.int64)
    return found


@cache
def general_words() -> Values:
    """Share of each place among the words of the essays that come with this package, (PLACES,)."""
    texts = [json.loads(line)["text"] for line in ESSAYS.read_text(encoding="utf-8").splitlines()]
    words = hash_essays(texts)
    shares: Values = np.bincount(places(words), minlength=PLACES) / len(words.words)
    return shares


def _margins(weights: Weights, words: WordHashes, prompts: NDArray[np.int64]) -> Values:
    """What each essay's words weigh for its prompt, less for what fits it best beside, (N,)."""
    sums = np.zeros((len(words.counts), weights.shape[1]))
    full = np.flatnonzero(words.counts)
    if len(full):
        starts = (np.cumsum(words.counts) - words.counts)[full]
        sums[full] = np.add.reduceat(weights[places(words)], starts, axis=0)
    rows = np.arange(len(sums))
    own = sums[rows, prompts]
    sums[rows, prompts] = 0.0  # Anything, which weighs nothing, stands beside the other prompts.
    best: Values = own - sums.max(axis=1)
    return best


def _count(essays: Essays, chosen: NDArray[np.bool_]) -> Values:
    """Words of the chosen essays at each place, of each prompt, (PLACES, P)."""
    inside = chosen[essays.words.essays]
    cells = places(essays.words)[inside] * essays.prompt_count
    cells += essays.prompts[essays.words.essays[inside]]
    counts = np.bincount(cells, minlength=PLACES * essays.prompt_count).reshape(PLACES, -1)
    return counts.astype(np.float64)


def _weights(counts: Values) -> Weights:
    """Weights by the prompts' counts, (PLACES, P)."""
    totals = counts.sum(axis=0)
    shares = counts / np.maximum(totals, 1)
    prompts = counts.shape[1]
    general = general_words()[:, None]
    if prompts > 1:
        others = (shares.sum(axis=1, keepdims=True) - shares) / (prompts - 1)
        general = 0.5 * general + 0.5 * others
    base = _GENERAL * general + _FLOOR
    exact: Values = np.clip(np.log((counts + _PRIOR * base) / (totals + _PRIOR) / base), LOWEST, HIGHEST)
    return exact.astype(np.float16).astype(np.float32)
