from __future__ import annotations

import numpy as np
import pytest

from aes_dynloss.errors import DataError
from aes_dynloss.measures.differences import (
    DIFFERENCES,
    difference_entries,
    difference_entry,
    holm_adjusted,
    smallest_p,
    two_sided_p,
)
from aes_dynloss.measures.paired_bootstrap import Figure


def figure(value, draws, by_seed=None):
    return Figure(np.array([value, *draws], dtype=float), by_seed)


def test_holm_by_hand():
    """.005 x 4, .01 x 3, .03 x 2, then .04 x 1, which must not come below .06."""
    np.testing.assert_allclose(holm_adjusted([0.01, 0.04, 0.03, 0.005]), [0.03, 0.06, 0.06, 0.02])
    np.testing.assert_allclose(holm_adjusted([0.6, 0.5]), [1.0, 1.0])
    np.testing.assert_allclose(holm_adjusted([0.02]), [0.02])
    assert holm_adjusted([]).size == 0


def test_holm_is_never_below_p_nor_above_bonferroni():
    p = np.random.default_rng(0).random(30) ** 3
    adjusted = holm_adjusted(p)
    assert (adjusted >= p).all()
    assert (adjusted <= np.minimum(1, 30 * p)).all()
    assert (np.diff(adjusted[np.argsort(p)]) >= 0).all()


@pytest.mark.parametrize(
    ("draws", "expected"),
    [
        (np.ones(99), 2 / 100),  # never 0
        (-np.ones(99), 2 / 100),
        (np.zeros(99), 1.0),
        ([-1.0] * 3 + [1.0] * 96, 8 / 100),
        ([-1.0] * 96 + [1.0] * 3, 8 / 100),
        ([-1.0] * 2 + [0.0] + [1.0] * 96, 8 / 100),  # a zero speaks against both signs
        ([-1.0, 1.0] * 50, 1.0),
    ],
)
def test_p_by_hand(draws, expected):
    assert two_sided_p(draws) == pytest.approx(expected)


def test_p_of_nothing():
    with pytest.raises(DataError, match="at least one draw"):
        two_sided_p([])


def test_smallest_p_is_that_of_draws_that_all_agree():
    assert smallest_p(99) == two_sided_p(np.ones(99))
    assert smallest_p(1) == two_sided_p([1.0]) == 1.0


def test_an_entry():
    entry = difference_entry(figure(0.25, np.arange(101) / 100, {"1": 0.25}), 0.9)
    assert entry["difference"] == 0.25
    assert entry["interval"] == pytest.approx([0.05, 0.95])
    assert entry["p"] == pytest.approx(2 * 2 / 102)
    assert entry["by_seed"] == {"1": 0.25}


FIGURES = {
    ("control", "qwk"): figure(0.5, [0.5] * 99, {"1": 0.5}),
    ("control", "qwk_rescaled"): figure(0.6, [0.6] * 99, {"1": 0.6}),
    ("clear", "qwk"): figure(0.9, [0.9] * 99, {"1": 0.9}),
    ("clear", "qwk_rescaled"): figure(0.8, [0.8] * 99, {"1": 0.8}),
    ("unsure", "qwk"): figure(0.5, [0.4, 0.6] * 49 + [0.6], {"2": 0.5}),
}


def test_each_question_takes_its_own_versions():
    wanted = {
        "qwk": {"clear": 0.4, "unsure": 0.0},
        "qwk_rescaled": {"clear": 0.2, "unsure": None},
        "qwk_minus_rescaled": {"control": -0.1, "clear": 0.3, "unsure": -0.1},
    }
    for name, expected in wanted.items():
        found = difference_entries(DIFFERENCES[name], "control", {"7": FIGURES}, FIGURES, 0.95)
        for part in (lambda one: one["mean"], lambda one: one["prompts"]["7"]):
            entries = {arm: part(one) for arm, one in found["arms"].items()}
            values = {arm: None if one is None else one["difference"] for arm, one in entries.items()}
            assert values == {arm: None if value is None else pytest.approx(value) for arm, value in expected.items()}
        assert "control" in found["difference"]


def test_families_hold_the_known_comparisons_of_one_kind():
    prompts = {"1": FIGURES, "2": {side: one for side, one in FIGURES.items() if side[0] != "unsure"}, "3": FIGURES}
    found = difference_entries(DIFFERENCES["qwk"], "control", prompts, FIGURES, 0.95)
    assert found["comparisons"] == {"mean": 2, "prompts": 5}
    clear, unsure = found["arms"]["clear"], found["arms"]["unsure"]
    assert clear["mean"]["p"] == pytest.approx(0.02)
    assert clear["mean"]["p_holm"] == pytest.approx(0.04)
    assert clear["prompts"]["3"]["p_holm"] == pytest.approx(0.1)
    assert unsure["mean"]["p_holm"] == unsure["mean"]["p"] == 1.0
    assert unsure["prompts"]["2"] is None
    own = difference_entries(DIFFERENCES["qwk_minus_rescaled"], "control", prompts, FIGURES, 0.95)
    assert own["comparisons"] == {"mean": 3, "prompts": 8}


def test_by_seed_where_both_have_the_same_seeds():
    found = difference_entries(DIFFERENCES["qwk"], "control", {"7": FIGURES}, FIGURES, 0.95)["arms"]
    assert found["clear"]["mean"]["by_seed"] == {"1": pytest.approx(0.4)}
    assert found["unsure"]["mean"]["by_seed"] is None
