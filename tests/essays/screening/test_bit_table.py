"""Members are never missed, and others hardly ever taken for them."""

from __future__ import annotations

import numpy as np
import pytest

from aes_dynloss.essays.screening.training_statistics import LARGEST, SMALLEST, BitTable


@pytest.mark.parametrize("count", [0, 1, 1000, 100_000])
def test_members_and_others(count: int) -> None:
    generator = np.random.default_rng(0)
    members, others = (generator.integers(0, 2**64, size, dtype=np.uint64) for size in (count, 100_000))
    table = BitTable.of(members)
    assert table.holds(members).all()
    assert table.holds(others).mean() < 1 / 50
    assert SMALLEST <= len(table.table) <= LARGEST
    assert len(table.table) & (len(table.table) - 1) == 0


def test_the_empty_set_holds_nothing() -> None:
    assert not BitTable.of(np.zeros(0, dtype=np.uint64)).holds(np.arange(100, dtype=np.uint64)).any()
