"""Essays that were there before, found in a stream of any size in constant memory."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np

from aes_dynloss.errors import ConfigError
from aes_dynloss.essays.screening.kinds import Advisory, advisory
from aes_dynloss.essays.screening.training_statistics import MOST_CHARACTERS, hash_words, mixed, normal_text

# Essays that are remembered; 56 bytes each.
REMEMBERED = 1 << 20
# Shorter texts, such as "I do not know", are written by many.
FEWEST_WORDS = 8
# Ids that are longer in UTF-8 are not remembered: a UUID with its hyphens just is.
ID_BYTES = 36
_WAYS = 64


class DuplicateFinder:
    """Remembers 8-byte hashes of the essays of a stream, the latest 1,048,576 of them or so, with their ids.

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
        shape = (remembered // _WAYS, _WAYS)
        self._keys = np.zeros(shape, dtype=np.uint64)
        self._rows = np.zeros(shape, dtype=np.int64)  # 0: a free place
        self._ids = np.zeros(shape, dtype=f"S{ID_BYTES}")  # empty: an id that is not remembered
        self._prompts = np.zeros(shape, dtype=np.int32)
        self._numbers: dict[str, int] = {}  # of prompts, in the order in which they came
        self.seen = 0

    @property
    def nbytes(self) -> int:
        """Bytes of the table."""
        return sum(part.nbytes for part in (self._keys, self._rows, self._ids, self._prompts))

    def find(self, texts: Sequence[str], essay_ids: Sequence[str], prompt_ids: Sequence[str]) -> list[Advisory | None]:
        """Look the next essays of the stream up, and remember them.

        Args:
            texts: N essays.
            essay_ids: Their ids, by which a reason names them.
            prompt_ids: The prompt of each.

        Returns:
            For each the advisory ``duplicate``, whose value is the number of the earlier one in the stream counted from
            1, or None.
        """
        words = hash_words([normal_text(text) for text in texts])
        # The order of words counts: each hash is mixed with its place before they are added up.
        places = np.arange(len(words.words)) - np.repeat(np.cumsum(words.counts) - words.counts, words.counts)
        keys = np.zeros(len(texts), dtype=np.uint64)
        np.add.at(keys, words.essays, mixed(words.words ^ mixed(places.astype(np.uint64))))
        names = zip(essay_ids, prompt_ids, strict=True)
        found = []
        for text, key, count, name in zip(texts, mixed(keys).tolist(), words.counts.tolist(), names, strict=True):
            self.seen += 1
            found.append(self._look_up(_whole(text, key), name) if count >= FEWEST_WORDS else None)
        return found

    def _look_up(self, key: int, name: tuple[str, str]) -> Advisory | None:
        """The advisory on an essay that was there before; one that was not is remembered."""
        bucket = key % len(self._keys)
        keys, rows = self._keys[bucket], self._rows[bucket]
        same = np.flatnonzero((keys == np.uint64(key)) & (rows > 0))
        if len(same):
            place = (bucket, int(same[0]))
            return advisory("duplicate", int(self._rows[place]), 0, other=self._words(place, name))
        place = (bucket, int(rows.argmin()))
        self._keys[place], self._rows[place] = key, self.seen
        self._ids[place] = _stored(name[0])
        self._prompts[place] = self._numbers.setdefault(name[1], len(self._numbers))
        return None

    def _words(self, place: tuple[int, int], name: tuple[str, str]) -> str:
        """The essay of a place in words that tell it from the one that has a name."""
        essay_id = self._ids[place].decode("utf-8", "surrogatepass")
        prompt_id = list(self._numbers)[self._prompts[place]]
        if not essay_id or (essay_id, prompt_id) == name:
            return f"the {_ordinal(int(self._rows[place]))} essay of this input"
        return f"essay {essay_id} of prompt {prompt_id}, earlier in this input"


def _stored(essay_id: str) -> bytes:
    """An id as it is remembered; empty where it is too long, or numpy would cut it."""
    encoded = essay_id.encode("utf-8", "surrogatepass")
    return b"" if len(encoded) > ID_BYTES or encoded.endswith(b"\0") else encoded


def _ordinal(number: int) -> str:
    ending = "th" if number % 100 in {11, 12, 13} else {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th")
    return f"{number:,}{ending}"


def _whole(text: str, key: int) -> int:
    """The key of a text that is longer than what was hashed of it."""
    if len(text) <= MOST_CHARACTERS:
        return key
    digest = hashlib.blake2b(text[MOST_CHARACTERS:].encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return (key ^ int.from_bytes(digest, "little")) & (2**64 - 1)
