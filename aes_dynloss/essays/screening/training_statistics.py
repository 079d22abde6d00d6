"""Statistics of training essays: hashed words, document frequencies, thresholds.

A word is a run of letters, digits and apostrophes without regard to case; each Chinese, Japanese or Korean character is
a word. All digits count as one. Words become 8-byte hashes, a whole batch at once, the same on every machine; no word
can be read from a hash. A `BitTable` is a set of hashes in few bits, without a list of its members (B. H. Bloom, 1970).

A threshold is exceeded by about 0.2 % of genuine essays, estimated on essays that took no part in what it is a
threshold of.
"""

from __future__ import annotations

import hashlib
import re
import tomllib
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from aes_dynloss.errors import DataError

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
_POWERS = np.cumprod(np.full(_WORD_LENGTH, _MULTIPLIER, dtype=np.uint64))


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
        for offset in range(length):
            hashes = mixed(hashes + self.words[offset : offset + runs])
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
    if (codes >= _SPACELESS[0][0]).any():
        alone = np.any([(codes >= low) & (codes <= high) for low, high in _SPACELESS], axis=0)
        first |= alone
        first[1:] |= inside[1:] & alone[:-1]
    starts = np.flatnonzero(first)
    if len(starts) == 0:
        empty = np.zeros(0, dtype=np.int64)
        return WordHashes(empty.astype(np.uint64), empty, np.zeros(len(texts), dtype=np.int64))
    positions = np.arange(starts[0], len(codes)) - np.repeat(starts, np.diff(starts, append=len(codes)))
    terms = characters[starts[0] :] * _POWERS[positions % _WORD_LENGTH]
    words = mixed(np.add.reduceat(terms, starts - starts[0]))
    essays = np.searchsorted(np.cumsum(lengths), starts, side="right")
    return WordHashes(words, essays, np.bincount(essays, minlength=len(texts)))


def normal_text(text: str) -> str:
    """A text without regard to case, to Unicode's compatible forms and to invisible characters."""
    if text.isascii():
        return text.lower()
    return unicodedata.normalize("NFKC", _UNSEEN.sub("", text)).casefold()


@cache
def word_lists(section: str) -> dict[str, Hashes]:
    """Hashes of the words of each list of a section of words.toml, beside this module."""
    lists = tomllib.loads(Path(__file__).with_name("words.toml").read_text(encoding="utf-8"))[section]
    return {name: np.unique(hash_words([normal_text(words)]).words) for name, words in lists.items()}


def mixed(hashes: Hashes) -> Hashes:
    """Hashes whose every bit depends on all bits of those given (the finaliser of SplitMix64)."""
    hashes = hashes * np.uint64(_MULTIPLIER)
    hashes = (hashes ^ (hashes >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    hashes = (hashes ^ (hashes >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return hashes ^ (hashes >> np.uint64(31))


def digest(text: str) -> int:
    """8 bytes that identify a text, the same on every machine."""
    return int.from_bytes(hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "little")


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
        for chosen in _bits(hashes, size):
            bits[chosen] = 1
        return cls(np.packbits(bits, bitorder="little"))

    def holds(self, hashes: Hashes) -> NDArray[np.bool_]:
        """Which of some hashes are members, (H,)."""
        first, second = (self.table[bit >> 3] >> (bit & 7).astype(np.uint8) for bit in _bits(hashes, len(self.table)))
        members: NDArray[np.bool_] = (first & second & 1).astype(bool)
        return members


def _bits(hashes: Hashes, size: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Indices of the two bits of each hash in a table of so many bytes."""
    mask = np.uint64(size * 8 - 1)
    return (hashes & mask).astype(np.int64), (hashes >> np.uint64(32) & mask).astype(np.int64)


# Share of genuine essays that one kind of advisory may flag.
FLAGGED_SHARE = 0.002
# The tail is taken to fall exponentially from the first of these shares on, at the rate between the two. Neither the
# handful of training essays that are themselves nonsense nor a small training set can move the threshold far.
_TAIL = (0.1, 0.01)


def tail_threshold(values: ArrayLike, side: Literal["low", "high"]) -> float:
    """The value beyond which a share of genuine essays, `FLAGGED_SHARE`, is expected to lie.

        t = q(.1) + (q(.01) - q(.1)) log(.1 / share) / log(.1 / .01)

    with q(p) the value that a share p of the essays is beyond; where there are enough essays to see the share itself,
    that is 1 / share of them, the nearer of t and q(share).

    Args:
        values: Measured on essays that did not take part in what they are measured by, (n,), n >= 1.
        side: Whether suspicious essays have low or high values.

    Raises:
        DataError: There is no value, or one is not finite.
    """
    measured = np.asarray(values, dtype=np.float64)
    if measured.ndim != 1 or measured.size == 0 or not np.isfinite(measured).all():
        raise DataError(f"A threshold needs finite values of at least one essay, found {measured.size} values.")
    sign = 1.0 if side == "low" else -1.0
    near, far, exact = np.quantile(sign * measured, [*_TAIL, FLAGGED_SHARE])
    steps = np.log(_TAIL[0] / FLAGGED_SHARE) / np.log(_TAIL[0] / _TAIL[1])
    threshold = near + (far - near) * steps
    if measured.size * FLAGGED_SHARE >= 1:
        threshold = max(threshold, exact)
    return float(sign * threshold)


def learn_distance_threshold(distances: ArrayLike) -> float:
    """The distance that only a small share of genuine essays exceeds, for the kind ``unlike_training``.

    Args:
        distances: Of training essays of one prompt from the others, (n,): an essay must not be among those that its
            distance is measured from.

    Raises:
        DataError: As `tail_threshold` does.
    """
    return tail_threshold(distances, "high")


Values = NDArray[np.float64]
Indices = NDArray[np.int64]

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
    prompts: Indices
    prompt_count: int

    @property
    def sizes(self) -> Indices:
        """Essays of each prompt, (P,)."""
        return np.bincount(self.prompts, minlength=self.prompt_count)


@dataclass(frozen=True)
class Counted:
    """Distinct items of N essays.

    Args:
        items: Hashes, ascending, (U,).
        index: Of each occurrence the index of its item, (I,).
        essays: In how many essays of each prompt an item stands, (U, P).
    """

    items: Hashes
    index: Indices
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


def count_essays(items: Hashes, of_essay: Indices, essays: Essays) -> Counted:
    """In how many essays of each prompt each item stands.

    Args:
        items: Hashes of words or runs of words, (I,).
        of_essay: The essay of each, (I,).
        essays: The essays.
    """
    distinct, index = np.unique(items, return_inverse=True)
    count = max(len(essays.prompts), 1)
    once = np.unique(index.astype(np.int64) * count + of_essay)
    counts = count_cells(once // count, essays.prompts[once % count], (len(distinct), essays.prompt_count))
    return Counted(distinct, index, counts)


def count_cells(rows: Indices, columns: Indices, shape: tuple[int, int]) -> Indices:
    """How often each pair of a row and a column occurs, a matrix of this shape."""
    return np.bincount(rows * shape[1] + columns, minlength=shape[0] * shape[1]).reshape(shape)


def weighed_share(chosen: Values | Indices, totals: Indices, average: float | Values = 0.0) -> Values:
    """Shares that a few items move little: `AVERAGE_ITEMS` average ones are added to each essay's.

    Args:
        chosen: Chosen items of each essay, or what they add up to, (N,).
        totals: Items of each essay, (N,).
        average: What an item has on average.
    """
    weighed: Values = (chosen + AVERAGE_ITEMS * np.asarray(average)) / (totals + AVERAGE_ITEMS)
    return weighed


def shares(chosen: NDArray[np.bool_], of_essay: Indices, count: int, average: float = 0.0) -> tuple[Values, Values]:
    """Each essay's share of chosen items, as it is judged (`weighed_share`) and as it is.

    Args:
        chosen: Whether an item is chosen, (I,).
        of_essay: The essay of each item, (I,).
        count: Number of essays, N.
        average: Share of an average essay.
    """
    totals = np.bincount(of_essay, minlength=count)
    sums = np.bincount(of_essay[chosen], minlength=count)
    return weighed_share(sums, totals, average), sums / np.maximum(totals, 1)


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
    thresholds: Values = np.array([tail_threshold(values[group], side) for group in [*chosen, pooled]])
    if mildest is not None:
        thresholds = np.minimum(thresholds, mildest) if side == "low" else np.maximum(thresholds, mildest)
    return thresholds
