"""Essays that were there before, found in a stream of any size in constant memory.

Where a stream is scored in pieces, its hashes are enough to find them beforehand.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from aes_dynloss.errors import ConfigError
from aes_dynloss.essays.screening.kinds import Advisory, advisory
from aes_dynloss.essays.screening.training_statistics import MOST_CHARACTERS, digest, hash_words, mixed, normal_text

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
        # row: 0 in a free cell; id: empty where it is not remembered.
        kinds = [("key", np.uint64), ("row", np.int64), ("id", f"S{ID_BYTES}"), ("prompt", np.int32)]
        self._table = np.zeros((remembered // _WAYS, _WAYS), dtype=kinds)
        self._numbers: dict[str, int] = {}  # of prompts, in the order in which they came
        self.seen = 0

    @property
    def nbytes(self) -> int:
        """Bytes of the table."""
        return self._table.nbytes

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
        return self.find_hashed(hash_texts(texts), essay_ids, prompt_ids)

    def find_hashed(
        self, hashes: Sequence[int | None], essay_ids: Sequence[str], prompt_ids: Sequence[str]
    ) -> list[Advisory | None]:
        """Look the next essays of the stream up by their hashes, as :meth:`find` does by their texts.

        Args:
            hashes: Of N essays, see :func:`hash_texts`.
            essay_ids: Their ids.
            prompt_ids: The prompt of each.
        """
        advisories = []
        for key, name in zip(hashes, zip(essay_ids, prompt_ids, strict=True), strict=True):
            self.seen += 1
            advisories.append(None if key is None else self._look_up(key, name))
        return advisories

    def _look_up(self, key: int, name: tuple[str, str]) -> Advisory | None:
        """The advisory on an essay that was there before; one that was not is remembered."""
        cells = self._table[key % len(self._table)]
        same = np.flatnonzero((cells["key"] == np.uint64(key)) & (cells["row"] > 0))
        if len(same):
            cell = cells[same[0]]
            row, essay_id = int(cell["row"]), cell["id"].decode("utf-8", "surrogatepass")
            prompt_id = list(self._numbers)[cell["prompt"]]
            if not essay_id or (essay_id, prompt_id) == name:
                return advisory("duplicate", row, 0, other=f"the {_ordinal(row)} essay of this input")
            return advisory("duplicate", row, 0, other=f"essay {essay_id} of prompt {prompt_id}, earlier in this input")
        essay_id = name[0].encode("utf-8", "surrogatepass")
        if len(essay_id) > ID_BYTES or essay_id.endswith(b"\0"):  # numpy would cut longer ids, and zeros at the end
            essay_id = b""
        prompt = self._numbers.setdefault(name[1], len(self._numbers))
        cells[cells["row"].argmin()] = (key, self.seen, essay_id, prompt)
        return None


class KnownDuplicates:
    """The duplicates of a stream that were found beforehand.

    Args:
        advisories: By the essay's place in the stream, from 0.

    Examples:
        >>> hashes = hash_texts(["It is a text of more than eight words."] * 2)
        >>> found = DuplicateFinder().find_hashed(hashes, ["a", "b"], ["1", "1"])
        >>> KnownDuplicates({1: found[1]}).find(["", ""], ["a", "b"], ["1", "1"]) == found
        True
    """

    def __init__(self, advisories: Mapping[int, Advisory]) -> None:
        self._advisories = advisories
        self._seen = 0

    def find(
        self, texts: Sequence[str], _essay_ids: Sequence[str], _prompt_ids: Sequence[str]
    ) -> list[Advisory | None]:
        """The advisories on the next essays of the stream, as :meth:`DuplicateFinder.find` returns them."""
        first, self._seen = self._seen, self._seen + len(texts)
        return [self._advisories.get(place) for place in range(first, self._seen)]


def hash_texts(texts: Sequence[str]) -> list[int | None]:
    """Hashes of the words of essays, 8 bytes each, equal where two texts are the same to a :class:`DuplicateFinder`.

    Args:
        texts: N essays.

    Returns:
        For each its hash, or None for one of so few words that many write them.

    Examples:
        >>> text = "It is a text of more than eight words."
        >>> one, same, short = hash_texts([text, text.upper(), "No"])
        >>> one == same, short
        (True, None)
    """
    words = hash_words([normal_text(text) for text in texts])
    # The order of words counts: each hash is mixed with its position before they are added up.
    positions = np.arange(len(words.words)) - np.repeat(np.cumsum(words.counts) - words.counts, words.counts)
    keys = np.zeros(len(texts), dtype=np.uint64)
    np.add.at(keys, words.essays, mixed(words.words ^ mixed(positions.astype(np.uint64))))
    # What is too long to be hashed word by word counts by a digest of its rest.
    rests = [digest(text[MOST_CHARACTERS:]) if len(text) > MOST_CHARACTERS else 0 for text in texts]
    found = zip(mixed(keys).tolist(), rests, words.counts.tolist(), strict=True)
    return [key ^ rest if count >= FEWEST_WORDS else None for key, rest, count in found]


def _ordinal(number: int) -> str:
    ending = "th" if number % 100 in {11, 12, 13} else {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th")
    return f"{number:,}{ending}"
