"""A set of hashes in few bits, from which no member can be read (B. H. Bloom, 1970)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from aes_dynloss.essays.screening.word_hashes import Hashes

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
