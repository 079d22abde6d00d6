"""Everyday words of another language than the training essays', and letters of other alphabets."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

from aes_dynloss.essays.screening.bit_table import BitTable
from aes_dynloss.essays.screening.evidence import Essays, Values, count_essays, thresholds_by_prompt, weighed_share
from aes_dynloss.essays.screening.function_words import FUNCTION_WORDS
from aes_dynloss.essays.screening.word_hashes import Hashes, WordHashes, hash_words, normal_text

# An essay that quotes a sentence or two is not in another language.
MILDEST = 0.15
# Words in so many of the training essays, and alphabets of so many of their letters, are at home.
_HOME_WORDS, _HOME_LETTERS = 0.05, 0.01
# A language whose everyday words make up so much of the training essays is theirs.
_HOME_LANGUAGE = 0.15

# First and last code points of the letters of alphabets; what is not listed is LATIN or no letter.
LATIN = "Latin"
ALPHABETS: tuple[tuple[int, int, str], ...] = (
    (0x370, 0x3FF, "Greek"),
    (0x400, 0x52F, "Cyrillic"),
    (0x531, 0x58F, "Armenian"),
    (0x590, 0x5FF, "Hebrew"),
    (0x600, 0x77F, "Arabic"),
    (0x8A0, 0x8FF, "Arabic"),
    (0x900, 0xDFF, "Indic"),
    (0xE00, 0xEFF, "Thai and Lao"),
    (0xF00, 0xFFF, "Tibetan"),
    (0x1000, 0x109F, "Burmese"),
    (0x10A0, 0x10FF, "Georgian"),
    (0x1100, 0x11FF, "Hangul"),
    (0x1200, 0x139F, "Ethiopic"),
    (0x13A0, 0x13FF, "Cherokee"),
    (0x1780, 0x17FF, "Khmer"),
    (0x1800, 0x18AF, "Mongolian"),
    (0x1F00, 0x1FFF, "Greek"),
    (0x3040, 0x30FF, "Chinese and Japanese"),
    (0x3130, 0x318F, "Hangul"),
    (0x3400, 0x9FFF, "Chinese and Japanese"),
    (0xAC00, 0xD7FF, "Hangul"),
    (0xF900, 0xFAFF, "Chinese and Japanese"),
    (0xFB50, 0xFDFF, "Arabic"),
    (0xFE70, 0xFEFC, "Arabic"),
    (0x20000, 0x3FFFF, "Chinese and Japanese"),
)
NAMES = (LATIN, *dict.fromkeys(name for _, _, name in ALPHABETS))


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
            letters: Their share of letters in foreign alphabets, (N,), of `letters_outside`.
        """
        return _shares(self.words.holds(words.words), words, letters)


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
    lists = _lists()
    spoken = {language: float(np.isin(words.words, own).mean()) for language, own in lists.items() if len(words.words)}
    language = max(spoken, key=lambda name: spoken[name], default=None)
    if language is not None and spoken[language] >= _HOME_LANGUAGE:
        common = np.concatenate([common, lists[language]])
    foreign = Foreign(BitTable.of(np.setdiff1d(np.concatenate(list(lists.values())), common)), home)
    judged, _ = foreign.share(words, share_outside(letters, home))
    return foreign, thresholds_by_prompt(judged, essays, "high", MILDEST)


def letters_by_alphabet(texts: Sequence[str]) -> Values:
    """Letters of each text in each alphabet of `NAMES`, (N, A); of a text in ASCII 1 in `LATIN`."""
    counts = np.zeros((len(texts), len(NAMES)))
    for row, text in enumerate(texts):
        counts[row] = [1, *[0] * (len(NAMES) - 1)] if text.isascii() else _letters(text)
    return counts


def share_outside(letters: Values, home: Sequence[str]) -> Values:
    """Share of letters in other alphabets than those at home, (N,)."""
    outside = ~np.isin(NAMES, home)
    share: Values = letters[:, outside].sum(axis=1) / np.maximum(letters.sum(axis=1), 1)
    return share


def _letters(text: str) -> Values:
    codes = np.frombuffer("".join(filter(str.isalpha, text)).encode("utf-32-le", "surrogatepass"), dtype="<u4")
    starts, ends, alphabets = _bounds()
    place = np.searchsorted(starts, codes, side="right") - 1
    inside = (place >= 0) & (codes <= ends[place])
    return np.bincount(np.where(inside, alphabets[place], 0), minlength=len(NAMES)).astype(np.float64)


def _shares(foreign: NDArray[np.bool_], words: WordHashes, letters: Values) -> tuple[Values, Values]:
    count = len(words.counts)
    sums = np.bincount(words.essays[foreign], minlength=count) + letters * words.counts
    sums = np.minimum(sums, words.counts).astype(np.float64)
    return weighed_share(sums, words.counts), sums / np.maximum(words.counts, 1)


@cache
def _bounds() -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    starts, ends, names = zip(*ALPHABETS, strict=True)
    return np.array(starts), np.array(ends), np.array([NAMES.index(name) for name in names])


@cache
def _lists() -> dict[str, Hashes]:
    """Hashes of each language's everyday words."""
    return {
        language: np.unique(hash_words([normal_text(" ".join(sorted(words)))]).words)
        for language, words in FUNCTION_WORDS.items()
    }
