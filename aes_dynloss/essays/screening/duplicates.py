"""Essays that were there before, found in a stream of any size in constant memory."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np

from aes_dynloss.errors import ConfigError
from aes_dynloss.essays.screening.kinds import Advisory, advisory
from aes_dynloss.essays.screening.word_hashes import MOST_CHARACTERS, hash_words, mixed, normal_text

# Essays that are remembered; 16 bytes each.
REMEMBERED = 1 << 20
# Shorter texts, such as "I do not know", are written by many.
FEWEST_WORDS = 8
_WAYS = 64


class DuplicateFinder:
    """Remembers 8-byte hashes of the essays of a stream, the latest 1,048,576 of them or so.

    Two texts are the same if their words are, in their order, without regard to case, spaces, punctuation and digits'
    values. Memory is taken once. A hash has one place among 64 in a table; where all are taken, the earliest essay of
    them is forgotten, so that among the latest half million one in a million is missed, and one in 60 of those that
    came three quarters of a million before. A pair of different essays is taken as one with a probability of
    1 : 10^19; among a million essays, 1 : 10^7.

    Args:
        remembered: Essays to remember, a power of 2 from 64 on.

    Raises:
        ConfigError: It is not.
    """

    def __init__(self, remembered: int = REMEMBERED) -> None:
        if remembered < _WAYS or remembered & (remembered - 1):
            raise ConfigError(f"The essays to remember must be a power of 2 from {_WAYS} on, found {remembered}.")
        self._keys = np.zeros((remembered // _WAYS, _WAYS), dtype=np.uint64)
        self._rows = np.zeros((remembered // _WAYS, _WAYS), dtype=np.int64)  # 0: a free place
        self.seen = 0

    @property
    def nbytes(self) -> int:
        """Bytes of the table."""
        return self._keys.nbytes + self._rows.nbytes

    def find(self, texts: Sequence[str]) -> list[Advisory | None]:
        """Look the next essays of the stream up, and remember them.

        Args:
            texts: N essays.

        Returns:
            For each the advisory ``duplicate``, whose value is the row of the earlier one counted from 1, or None.
        """
        words = hash_words([normal_text(text) for text in texts])
        # The order of words counts: each hash is mixed with its place before they are added up.
        places = np.arange(len(words.words)) - np.repeat(np.cumsum(words.counts) - words.counts, words.counts)
        keys = np.zeros(len(texts), dtype=np.uint64)
        np.add.at(keys, words.essays, mixed(words.words ^ mixed(places.astype(np.uint64))))
        found = []
        for text, key, count in zip(texts, mixed(keys).tolist(), words.counts.tolist(), strict=True):
            self.seen += 1
            known = self._remember(_whole(text, key), self.seen) if count >= FEWEST_WORDS else 0
            found.append(advisory("duplicate", known, 0) if known else None)
        return found

    def _remember(self, key: int, row: int) -> int:
        """The row of an essay that was there before, else 0."""
        bucket = key % len(self._keys)
        keys, rows = self._keys[bucket], self._rows[bucket]
        same = np.flatnonzero((keys == np.uint64(key)) & (rows > 0))
        if len(same):
            return int(rows[same[0]])
        place = int(rows.argmin())
        keys[place], rows[place] = key, row
        return 0


def _whole(text: str, key: int) -> int:
    """The key of a text that is longer than what was hashed of it."""
    if len(text) <= MOST_CHARACTERS:
        return key
    digest = hashlib.blake2b(text[MOST_CHARACTERS:].encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return (key ^ int.from_bytes(digest, "little")) & (2**64 - 1)
