"""Language of an essay: gibberish, other languages than the training essays', letters of other alphabets.

**Gibberish.** Neighbouring words distinguish an essay from random letters, random words and fluent nonsense. A pair of
words is known if two training essays hold it, and no fewer than chance alone would bring about:

    essays(a, b) >= max(2, N (1 - exp(-words(a) words(b) / words / N)))

for N essays, so that "the of" is not known merely because both words are common.

**Other languages.** Function words (articles, prepositions, pronouns, forms of to be and to have) make up about half of
any running text. The lists are from general knowledge of these languages; forms without accents are included.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from aes_dynloss.essays.screening.training_statistics import (
    FEWEST_ESSAYS,
    BitTable,
    Counted,
    Essays,
    Values,
    WordHashes,
    count_cells,
    count_essays,
    shares,
    tail_threshold,
    thresholds_by_prompt,
    weighed_share,
    word_lists,
)

# One writer's own pair of words is not learned.
FEWEST_WRITERS = 2
# However poorly the training essays are written, an essay half of whose pairs are known is let pass.
MILDEST_GIBBERISH = 0.5


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
    by_prompt, totals = _words_of_pairs(essays, counted)
    words, total, count = by_prompt.sum(axis=2), totals.sum(), len(essays.prompts)
    together = counted.essays.sum(axis=1)
    # What an essay itself adds to a pair is one essay.
    in_others = _known(together - 1, words, total, count - 1)[counted.index]
    average = float(in_others.mean()) if len(in_others) else 0.0
    judged, _ = shares(in_others, of_essay, count, average)
    thresholds = thresholds_by_prompt(judged, essays, "low", MILDEST_GIBBERISH)
    thresholds[-1] = np.nan
    if essays.prompt_count > 1 and count >= FEWEST_ESSAYS:
        elsewhere = np.zeros(len(pairs), dtype=bool)
        for prompt, size in enumerate(essays.sizes):
            of_prompt = essays.prompts[of_essay] == prompt
            left = words - by_prompt[:, :, prompt], total - totals[prompt], count - size
            elsewhere[of_prompt] = _known(together - counted.essays[:, prompt], *left)[counted.index[of_prompt]]
        judged, _ = shares(elsewhere, of_essay, count, average)
        thresholds[-1] = min(tail_threshold(judged, "low"), MILDEST_GIBBERISH)
    return KnownPairs(BitTable.of(counted.items[_known(together, words, total, count)]), average), thresholds


def _known(together: NDArray[np.int64], words: NDArray[np.int64], total: int, essays: int) -> NDArray[np.bool_]:
    """Which pairs stand in enough essays, and in no fewer than if words, with counts (2, U), stood anywhere; (U,)."""
    pairs = words[0] * words[1].astype(np.float64) / max(total, 1)
    by_chance = essays * -np.expm1(-pairs / max(essays, 1))
    known: NDArray[np.bool_] = (together >= FEWEST_WRITERS) & (together >= by_chance)
    return known


def _words_of_pairs(essays: Essays, counted: Counted) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """How often the first and the second word of each pair stand in essays of a prompt, (2, U, P); all words, (P,)."""
    words = essays.words
    distinct, of_word = np.unique(words.words, return_inverse=True)
    counts = count_cells(of_word, essays.prompts[words.essays], (len(distinct), essays.prompt_count))
    anywhere = np.zeros(len(counted.items), dtype=np.int64)
    anywhere[counted.index] = np.flatnonzero(words.essays[:-1] == words.essays[1:])
    return np.stack([counts[of_word[anywhere]], counts[of_word[anywhere + 1]]]), counts.sum(axis=0)


# An essay that quotes a sentence or two is not in another language.
MILDEST_FOREIGN = 0.15
# Words in so many of the training essays, and alphabets of so many of their letters, are at home.
_HOME_WORDS, _HOME_LETTERS = 0.05, 0.01
# A language whose everyday words make up so much of the training essays is theirs.
_HOME_LANGUAGE = 0.15

# First and last code points of the letters of alphabets; what is not listed is LATIN or no letter.
LATIN = "Latin"
ALPHABETS = {
    "Greek": ((0x370, 0x3FF), (0x1F00, 0x1FFF)),
    "Cyrillic": ((0x400, 0x52F),),
    "Armenian": ((0x531, 0x58F),),
    "Hebrew": ((0x590, 0x5FF),),
    "Arabic": ((0x600, 0x77F), (0x8A0, 0x8FF), (0xFB50, 0xFDFF), (0xFE70, 0xFEFC)),
    "Indic": ((0x900, 0xDFF),),
    "Thai and Lao": ((0xE00, 0xEFF),),
    "Tibetan": ((0xF00, 0xFFF),),
    "Burmese": ((0x1000, 0x109F),),
    "Georgian": ((0x10A0, 0x10FF),),
    "Hangul": ((0x1100, 0x11FF), (0x3130, 0x318F), (0xAC00, 0xD7FF)),
    "Ethiopic": ((0x1200, 0x139F),),
    "Cherokee": ((0x13A0, 0x13FF),),
    "Khmer": ((0x1780, 0x17FF),),
    "Mongolian": ((0x1800, 0x18AF),),
    "Chinese and Japanese": ((0x3040, 0x30FF), (0x3400, 0x9FFF), (0xF900, 0xFAFF), (0x20000, 0x3FFFF)),
}
NAMES = (LATIN, *ALPHABETS)
_STARTS, _ENDS, _COLUMNS = np.array(
    sorted((start, end, NAMES.index(name)) for name, ranges in ALPHABETS.items() for start, end in ranges)
).T


@dataclass(frozen=True, eq=False)
class Foreign:
    """What is foreign to the training essays.

    Args:
        words: Everyday words of other languages.
        home: Alphabets of the training essays, some of `NAMES`.
    """

    words: BitTable
    home: tuple[str, ...]

    def share(self, words: WordHashes, letters: Values) -> tuple[Values, Values]:
        """Each essay's share of foreign words and letters, as it is judged and as it is, both (N,).

        Args:
            words: N essays.
            letters: Their letters in each alphabet of `NAMES`, (N, A), see `letters_by_alphabet`.
        """
        outside = letters[:, ~np.isin(NAMES, self.home)].sum(axis=1) / np.maximum(letters.sum(axis=1), 1)
        foreign = np.bincount(words.essays[self.words.holds(words.words)], minlength=len(words.counts))
        sums = np.minimum(foreign + outside * words.counts, words.counts)
        return weighed_share(sums, words.counts), sums / np.maximum(words.counts, 1)


def learn_foreign(essays: Essays, letters: Values) -> tuple[Foreign, Values]:
    """What is foreign to training essays, and the share of it that nearly all of them keep below, (P + 1,).

    Args:
        essays: The training essays, N >= 1.
        letters: Their letters in each alphabet of `NAMES`, (N, A).
    """
    totals = letters.sum(axis=0)
    home = tuple(name for name, count in zip(NAMES, totals, strict=True) if count > _HOME_LETTERS * totals.sum())
    words = essays.words
    counted = count_essays(words.words, words.essays, essays)
    common = counted.items[counted.essays.sum(axis=1) >= _HOME_WORDS * len(essays.prompts)]
    lists = word_lists("languages")
    spoken = {language: np.isin(words.words, listed).mean() for language, listed in lists.items() if len(words.words)}
    language = max(spoken, key=lambda name: spoken[name], default=None)
    if language is not None and spoken[language] >= _HOME_LANGUAGE:
        common = np.concatenate([common, lists[language]])
    foreign = Foreign(BitTable.of(np.setdiff1d(np.concatenate(list(lists.values())), common)), home)
    judged, _ = foreign.share(words, letters)
    return foreign, thresholds_by_prompt(judged, essays, "high", MILDEST_FOREIGN)


def letters_by_alphabet(texts: Sequence[str]) -> Values:
    """Letters of each text in each alphabet of `NAMES`, (N, A); of a text in ASCII 1 in `LATIN`."""
    counts = np.zeros((len(texts), len(NAMES)))
    for row, text in enumerate(texts):
        if text.isascii():
            counts[row, 0] = 1
            continue
        codes = np.frombuffer("".join(filter(str.isalpha, text)).encode("utf-32-le", "surrogatepass"), dtype="<u4")
        index = np.searchsorted(_STARTS, codes, side="right") - 1
        listed = (index >= 0) & (codes <= _ENDS[index])
        counts[row] = np.bincount(np.where(listed, _COLUMNS[index], 0), minlength=len(NAMES))
    return counts
