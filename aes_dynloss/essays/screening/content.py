"""Content of an essay against its prompt: off topic, copied wording, repeated passages.

**Topics.** A word w of an essay on prompt p weighs

    log ( (count_p(w) + A b(w)) / (words_p + A) / b(w) ), between LOWEST and HIGHEST,
    b(w) = .8 g(w) + FLOOR

where g(w) is the share of w among the words of essays on anything: half from the training essays on other prompts, half
from the essays in this package. The fit of an essay is the sum of its words' weights for its prompt, minus that of its
best alternative (another prompt, or 0 for none), per word.

**Copying.** A run of four words that occurs in very many essays on a prompt, and hardly in those on others, comes from
the prompt or its source text. Repeated runs are sentences and paragraphs that were pasted.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

from aes_dynloss.essays.samples import ESSAYS
from aes_dynloss.essays.screening.training_statistics import (
    FEWEST_ESSAYS,
    BitTable,
    Essays,
    Hashes,
    Values,
    WordHashes,
    count_cells,
    count_essays,
    digest,
    hash_essays,
    mixed,
    shares,
    thresholds_by_prompt,
    weighed_share,
)

RUN = 4
# Essays on source texts quote; less than half of the words is no copy, however few of the training essays quote.
MILDEST_COPYING = 0.5
# Share of a prompt's essays, and number, that a run of words stands in if it is taken for the prompt's.
_SHARE, _FEWEST = 0.005, 5
# It is so many times as frequent as in essays on other prompts.
_TIMES = 4


def copied(table: BitTable, words: WordHashes, prompts: Sequence[str]) -> tuple[Values, Values]:
    """Each essay's share of runs of four words that are its prompt's, as it is judged and as it is, both (N,).

    Args:
        table: Hashes of the prompts' runs, mixed with their prompt's, see `learn_runs`.
        words: N essays.
        prompts: The prompt of each; one of which nothing is known has no runs.
    """
    runs, of_essay = words.grams(RUN)
    return shares(table.holds(mixed(runs + _keys(prompts)[of_essay])), of_essay, len(words.counts))


def learn_runs(essays: Essays, prompts: Sequence[str], wordings: Mapping[str, str | None]) -> tuple[BitTable, Values]:
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
    known = [mixed(wording + _keys([prompt])) for prompt, wording in worded.items()]
    in_others = np.zeros(len(runs), dtype=bool)
    for index, prompt in enumerate(prompts):
        if prompt:
            shared = _shared(counted.essays, essays.sizes, index)
            known.append(mixed(counted.items[shared] + _keys([prompt])))
        of_prompt = essays.prompts[of_essay] == index
        shared = _shared(counted.essays, essays.sizes, index, left_out=1)
        shared |= np.isin(counted.items, worded.get(prompt, runs[:0]))
        in_others[of_prompt] = shared[counted.index[of_prompt]]
    judged, _ = shares(in_others, of_essay, len(essays.prompts))
    table = BitTable.of(np.concatenate([runs[:0], *known]))
    return table, thresholds_by_prompt(judged, essays, "high", MILDEST_COPYING)


def _shared(counts: NDArray[np.int64], sizes: NDArray[np.int64], prompt: int, left_out: int = 0) -> NDArray[np.bool_]:
    """Which runs essays on a prompt share, (U,); so many of the essays that hold one are left out of account."""
    inside, size = counts[:, prompt] - left_out, sizes[prompt] - left_out
    outside = counts.sum(axis=1) - counts[:, prompt]
    rate = outside / max(sizes.sum() - sizes[prompt], 1)
    shared: NDArray[np.bool_] = (inside >= max(_FEWEST, _SHARE * size)) & (inside > _TIMES * rate * size)
    return shared


def _keys(prompts: Sequence[str]) -> Hashes:
    """A hash of each prompt's id: the same run of another prompt is another."""
    keys = {prompt: digest(prompt) for prompt in set(prompts)}
    return np.array([keys[prompt] for prompt in prompts], dtype=np.uint64)


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
    # One sort for all essays: the essay's number above the run's hash. Two runs of an essay of 500 words are taken as
    # one with a probability of 1 : 10^7.
    keys = np.sort((of_essay.astype(np.uint64) << np.uint64(_KEPT)) | (runs >> np.uint64(64 - _KEPT)))
    same = np.zeros(len(keys), dtype=bool)
    same[1:] = keys[1:] == keys[:-1]
    same[:-1] |= same[1:]
    return shares(same, (keys >> np.uint64(_KEPT)).astype(np.int64), len(words.counts))


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
        columns = np.where(known, prompts, 0)
        fits = weighed_share(_margins(self.weights, words, columns), words.counts, self.averages[columns])
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
    words, of_essay = places(essays.words), essays.words.essays
    counts = np.zeros((_FOLDS, PLACES, essays.prompt_count))
    for fold in range(_FOLDS):
        chosen = folds[of_essay] == fold
        cells = words[chosen], essays.prompts[of_essay[chosen]]
        counts[fold] = count_cells(*cells, (PLACES, essays.prompt_count))
    margins = np.zeros(len(essays.prompts))
    for fold in range(_FOLDS):
        weights = _weights(counts.sum(axis=0) - counts[fold])
        margins[folds == fold] = _margins(weights, essays.words, essays.prompts)[folds == fold]
    sums = np.bincount(essays.prompts, margins, essays.prompt_count)
    averages = sums / np.maximum(np.bincount(essays.prompts, essays.words.counts, essays.prompt_count), 1)
    fits = weighed_share(margins, essays.words.counts, averages[essays.prompts])
    thresholds = thresholds_by_prompt(fits, essays, "low", None)
    for prompt in range(essays.prompt_count):
        of_prompt = fits[essays.prompts == prompt]
        if len(of_prompt):
            allowance = max(0.0, _ALLOWANCE / len(of_prompt) - _ALLOWANCE / _ENOUGH_ESSAYS)
            thresholds[prompt] -= allowance * (np.median(of_prompt) - thresholds[prompt])
    thresholds[:-1][essays.sizes < FEWEST_ESSAYS] = np.nan
    thresholds[-1] = np.nan
    return Topics(_weights(counts.sum(axis=0)), averages), thresholds


def places(words: WordHashes) -> NDArray[np.int64]:
    """Where each word is counted, (W,)."""
    indices: NDArray[np.int64] = (words.words >> np.uint64(64 - (PLACES.bit_length() - 1))).astype(np.int64)
    return indices


@cache
def general_words() -> Values:
    """Share of each place among the words of the essays that come with this package, (PLACES,)."""
    texts = [json.loads(line)["text"] for line in ESSAYS.read_text(encoding="utf-8").splitlines()]
    words = hash_essays(texts)
    general: Values = np.bincount(places(words), minlength=PLACES) / len(words.words)
    return general


def _margins(weights: Weights, words: WordHashes, prompts: NDArray[np.int64]) -> Values:
    """What each essay's words weigh for its prompt, less for what fits it best beside, (N,)."""
    sums = np.zeros((len(words.counts), weights.shape[1]))
    full = np.flatnonzero(words.counts)
    if len(full):
        starts = (np.cumsum(words.counts) - words.counts)[full]
        sums[full] = np.add.reduceat(weights[places(words)], starts, axis=0)
    rows = np.arange(len(sums))
    fitting = sums[rows, prompts]
    sums[rows, prompts] = 0.0  # Anything, which weighs nothing, stands beside the other prompts.
    margins: Values = fitting - sums.max(axis=1)
    return margins


def _weights(counts: Values) -> Weights:
    """Weights by the prompts' counts, (PLACES, P)."""
    totals = counts.sum(axis=0)
    prompts = counts.shape[1]
    general = general_words()[:, None]
    if prompts > 1:
        words = counts / np.maximum(totals, 1)
        others = (words.sum(axis=1, keepdims=True) - words) / (prompts - 1)
        general = 0.5 * general + 0.5 * others
    base = _GENERAL * general + _FLOOR
    exact: Values = np.clip(np.log((counts + _PRIOR * base) / (totals + _PRIOR) / base), LOWEST, HIGHEST)
    return exact.astype(np.float16).astype(np.float32)
