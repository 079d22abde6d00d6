"""How images are set apart from train."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aes_dynloss.errors import ConfigError

pytestmark = pytest.mark.usefixtures("recipes_in_reach")

FRACTIONS = st.fixed_dictionaries({"teacher_dev": st.floats(0, 0.4), "dev": st.floats(0.01, 0.4)})


@given(
    classes=st.lists(st.integers(0, 4), min_size=1, max_size=120),
    fractions=FRACTIONS,
    most=st.none() | st.integers(10, 150),
    seed=st.integers(0, 2**31),
)
def test_parts_are_apart(classes: list[int], fractions: dict[str, float], most: int | None, seed: int) -> None:
    """Disjoint, complete, each class in proportion, and the same for the same seed."""
    from splits import apart

    try:
        parts = apart(classes, fractions, most=most, seed=seed)
    except ConfigError as error:
        # No class is so large that it must reach into the part that would be empty.
        (name,) = [name for name in ("train", *fractions) if f"none is left for {name}." in str(error)]
        share = fractions.get(name, 1 - sum(fractions.values()))
        assert most is not None or max(classes.count(kind) for kind in set(classes)) * share < 1 + 1e-9
        return
    rows = np.concatenate(list(parts.values()))
    assert parts.keys() == {"teacher_dev", "dev", "train"}
    assert len(np.unique(rows)) == len(rows) == min(len(classes), most or len(classes))
    assert rows.min() >= 0
    assert rows.max() < len(classes)
    kinds = np.asarray(classes)
    for name, part in parts.items():
        assert np.array_equal(part, np.sort(part))
        share = fractions.get(name, 1 - sum(fractions.values()))
        for kind in set(classes):
            assert abs((kinds[part] == kind).sum() - share * (kinds[rows] == kind).sum()) < 1 + 1e-6
    again = apart(classes, fractions, most=most, seed=seed)
    assert all(np.array_equal(again[name], parts[name]) for name in parts)


def test_another_seed_divides_otherwise() -> None:
    from splits import apart

    first, other = (apart([0, 1] * 50, {"dev": 0.2}, seed=seed) for seed in (0, 1))
    assert not np.array_equal(first["dev"], other["dev"])
    assert len(first["dev"]) == len(other["dev"]) == 20
