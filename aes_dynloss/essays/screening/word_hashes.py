"""Essays as 8-byte hashes of their words, a whole batch at once.

A word is a run of letters, digits and apostrophes without regard to case; each Chinese, Japanese or Korean character is
one of its own. All digits count as one. Hashes are the same on every machine, and no word can be read from one.

A set of hashes in few bits, from which no member can be read (B. H. Bloom, 1970).
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

Hashes = NDArray[np.uint64]

# An essay is looked at up to here: 150,000 words, more than anyone is asked to write.
MOST_CHARACTERS = 1_000_000

_MULTIPLIER = 0x9E3779B97F4A7C15
_APOSTROPHES = "'\u2019\u02bc\uff07"
# Scripts that do not put spaces between words: kana, ideographs, hangul has spaces.
_SPACELESS = ((0x3040, 0x30FF), (0x3400, 0x4DBF), (0x4E00, 0x9FFF), (0xF900, 0xFAFF), (0x20000, 0x3FFFF))
# Invisible characters, which part no words: soft hyphens, joiners, marks of direction and of byte order, tags.
_UNSEEN = re.compile("[\u00ad\u200b-\u200f\u202a-\u202e\u2060-\u2069\ufeff\U000e0000-\U000e007f]")
_WORD_LENGTH = 64  # characters after it are hashed as those 64 before


@dataclass(frozen=True)
class WordHashes:
    """The words of N essays.

    Args:
        words: Hash of each word, one essay after the other, (W,).
        essays: The essay of each word, counted from 0 and ascending, (W,).
        counts: Words of each essay, (N,).
    """

    words: Hashes
    essays: NDArray[np.int64]
    counts: NDArray[np.int64]

    def grams(self, length: int) -> tuple[Hashes, NDArray[np.int64]]:
        """Hashes of all runs of words within an essay.

        Args:
            length: Words a run.

        Returns:
            The hash and the essay of each run.
        """
        runs = max(0, len(self.words) - length + 1)
        hashes = np.zeros(runs, dtype=np.uint64)
        for place in range(length):
            hashes = mixed(hashes + self.words[place : place + runs])
        within = self.essays[:runs] == self.essays[length - 1 :] if runs else np.zeros(0, dtype=bool)
        return hashes[within], self.essays[:runs][within]


def hash_words(texts: Sequence[str]) -> WordHashes:
    """The words of some essays.

    Args:
        texts: N essays, normalised as :func:`normal_text` does.
    """
    lengths = np.array([min(len(text), MOST_CHARACTERS) + 1 for text in texts], dtype=np.int64)
    # Line ends between the essays, so that no word runs from one into the next.
    joined = "".join(text[:MOST_CHARACTERS] + "\n" for text in texts)
    codes = np.frombuffer(joined.encode("utf-32-le", "surrogatepass"), dtype="<u4")
    characters = _word_characters()[codes]
    inside = characters > 0
    first = inside.copy()
    first[1:] &= ~inside[:-1]
    alone = _alone(codes)
    if alone is not None:
        first |= alone
        first[1:] |= inside[1:] & alone[:-1]
    starts = np.flatnonzero(first)
    if len(starts) == 0:
        empty = np.zeros(0, dtype=np.int64)
        return WordHashes(empty.astype(np.uint64), empty, np.zeros(len(texts), dtype=np.int64))
    places = np.arange(starts[0], len(codes)) - np.repeat(starts, np.diff(starts, append=len(codes)))
    terms = characters[starts[0] :] * _powers()[places % _WORD_LENGTH]
    words = mixed(np.add.reduceat(terms, starts - starts[0]))
    essays = np.searchsorted(np.cumsum(lengths), starts, side="right")
    return WordHashes(words, essays, np.bincount(essays, minlength=len(texts)))


def normal_text(text: str) -> str:
    """A text without regard to case, to Unicode's compatible forms and to invisible characters."""
    if text.isascii():
        return text.lower()
    return unicodedata.normalize("NFKC", _UNSEEN.sub("", text)).casefold()


def mixed(hashes: Hashes) -> Hashes:
    """Hashes whose every bit depends on all bits of those given (the finaliser of SplitMix64)."""
    hashes = hashes * np.uint64(_MULTIPLIER)
    hashes = (hashes ^ (hashes >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    hashes = (hashes ^ (hashes >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return hashes ^ (hashes >> np.uint64(31))


@cache
def _word_characters() -> NDArray[np.uint64]:
    """For each code point what it adds to a word: 0 where it stands in no word."""
    values = np.arange(0x110000, dtype=np.uint64)
    letters = "".join(map(chr, range(0x110000)))
    inside = np.fromiter((mark.isalnum() or unicodedata.combining(mark) > 0 for mark in letters), bool, len(letters))
    digits = np.fromiter(map(str.isdecimal, letters), bool, len(letters))
    values[digits] = ord("0")
    values[~inside] = 0
    values[[ord(mark) for mark in _APOSTROPHES]] = ord("'")
    return values


def _alone(codes: NDArray[np.uint32]) -> NDArray[np.bool_] | None:
    """Which characters are words of their own; None if none is."""
    if not (codes >= _SPACELESS[0][0]).any():
        return None
    found = np.zeros(len(codes), dtype=bool)
    for low, high in _SPACELESS:
        found |= (codes >= low) & (codes <= high)
    return found


@cache
def _powers() -> NDArray[np.uint64]:
    with np.errstate(over="ignore"):
        return np.cumprod(np.full(_WORD_LENGTH, _MULTIPLIER, dtype=np.uint64), dtype=np.uint64)


SMALLEST, LARGEST = 1 << 10, 1 << 24  # bytes
_BITS_PER_ITEM = 16


@dataclass(frozen=True, eq=False)
class BitTable:
    """Hashes that are told from others with one error in 60 or fewer; a member is never missed.

    Two bits of the table stand for each hash.

    Args:
        table: Bits, (B,) of uint8, B a power of 2 from `SMALLEST` to `LARGEST`.
    """

    table: NDArray[np.uint8]

    @classmethod
    def of(cls, hashes: Hashes) -> BitTable:
        """The set of these hashes, whose high and low halves must both be random."""
        size = SMALLEST
        while size * 8 < len(hashes) * _BITS_PER_ITEM and size < LARGEST:
            size *= 2
        bits = np.zeros(size * 8, dtype=np.uint8)
        for place in _places(hashes, size):
            bits[place] = 1
        return cls(np.packbits(bits, bitorder="little"))

    def holds(self, hashes: Hashes) -> NDArray[np.bool_]:
        """Which of some hashes are members, (H,)."""
        first, second = _places(hashes, len(self.table))
        found: NDArray[np.bool_] = (self._bit(first) & self._bit(second)).astype(bool)
        return found

    def _bit(self, place: NDArray[np.int64]) -> NDArray[np.uint8]:
        bit: NDArray[np.uint8] = self.table[place >> 3] >> (place & 7).astype(np.uint8) & 1
        return bit


def _places(hashes: Hashes, size: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    mask = np.uint64(size * 8 - 1)
    return (hashes & mask).astype(np.int64), (hashes >> np.uint64(32) & mask).astype(np.int64)
