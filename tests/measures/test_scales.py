from __future__ import annotations

import re

import numpy as np
import pytest
from facts import facts
from hypothesis import given
from hypothesis import strategies as st

from aes_dynloss.errors import ConfigError, DataError
from aes_dynloss.measures.scales import ConversionTable, equipercentile_table, linear_table, smoothed
from aes_dynloss.tables.score_range import ScoreRange


def repeated(shares: list[float], low: float = 0, count: int = 100) -> list[float]:
    return [low + point for point, share in enumerate(shares) for _ in range(round(share * count))]


def test_equipercentile_as_computed_by_hand():
    """Two forms of scores 0 to 5, worked out on paper by the percentile ranks of their points."""
    new, form = [0.2, 0.3, 0.2, 0.2, 0.1, 0.0], [0.1, 0.2, 0.2, 0.3, 0.1, 0.1]
    # P: .1, .35, .6, .8, .95, 1; G: .1, .3, .5, .8, .9, 1
    by_hand = [
        1 - 0.5 + 0,  # G(0) = .1 is not above .1, so y = 1: (.1 - .1) / .2
        2 - 0.5 + 0.05 / 0.2,
        3 - 0.5 + 0.1 / 0.3,
        4 - 0.5 + 0,
        5 - 0.5 + 0.05 / 0.1,
        5,  # nobody is above: 5.5, trimmed to the form's highest
    ]
    found = equipercentile_table(repeated(new), ScoreRange(0, 5), repeated(form), ScoreRange(0, 5))
    np.testing.assert_allclose(found.reported, by_hand, atol=1e-6)


def test_equipercentile_of_other_ranges_and_steps():
    """Steps of .5 from 0 to 1, to a form of 10, 20, 30: the same shares give the same places."""
    scores = [0.0, 0.5, 0.5, 1.0]
    found = equipercentile_table(scores, ScoreRange(0, 1, 0.5), [10, 20, 20, 30], ScoreRange(10, 30, 10))
    np.testing.assert_allclose(found.reported, [10, 20, 30])


def test_gaps_of_the_form_are_passed_over():
    found = equipercentile_table([1, 1, 2, 2], ScoreRange(1, 2), [1, 1, 4, 4], ScoreRange(1, 4))
    np.testing.assert_allclose(found.reported, [1, 4])


@given(st.lists(st.integers(1, 6), min_size=1), st.lists(st.integers(0, 9), min_size=1))
def test_equating_keeps_the_order_and_a_form_to_itself(scores, form):
    found = equipercentile_table(scores, ScoreRange(1, 6), form, ScoreRange(0, 9)).reported
    assert sorted(found) == list(found)
    assert 0 <= min(found) <= max(found) <= 9
    own = equipercentile_table(scores, ScoreRange(1, 6), scores, ScoreRange(1, 6)).apply(ScoreRange(1, 6), scores)
    np.testing.assert_allclose(own, scores, atol=1e-6)


def test_scores_that_cannot_be_equated():
    with pytest.raises(DataError, match=facts("score 7", "1 to 6", "reference form")):
        equipercentile_table([1], ScoreRange(1, 6), [7], ScoreRange(1, 6))
    with pytest.raises(DataError, match="there are no scores"):
        equipercentile_table([], ScoreRange(1, 6), [1], ScoreRange(1, 6))


def test_lines():
    assert linear_table(ScoreRange(1, 6), ScoreRange(0, 100)).reported == (0, 20, 40, 60, 80, 100)
    assert linear_table(ScoreRange(0, 2, 0.5), ScoreRange(0, 10, 0.5)).reported == (0, 2.5, 5, 7.5, 10)
    table = linear_table(ScoreRange(1, 6), ScoreRange(0, 100))
    assert table.apply(ScoreRange(1, 6), [6, 1, 4]).tolist() == [100, 0, 60]
    assert ConversionTable.from_dict(table.to_dict()) == table


@pytest.mark.parametrize(
    ("method", "reported", "message"),
    [("curve", (1.0,), "method"), ("table", (), "finite numbers"), ("table", (1.0, float("nan")), "finite numbers"),
     ("table", (1.0, 3.0, 2.0), "1, 3, 2 fall and rise")],
)  # fmt: skip
def test_tables_that_are_none(method, reported, message):
    with pytest.raises(ConfigError, match=re.escape(message)):
        ConversionTable(method, reported)


def test_a_table_of_another_range():
    assert ConversionTable("table", (6.0, 1.0)).apply(ScoreRange(0, 1), [0, 1]).tolist() == [6, 1]  # falling: as marks
    with pytest.raises(ConfigError, match=facts(2, "1 to 6")):
        ConversionTable("table", (6.0, 1.0)).apply(ScoreRange(1, 6), [1])


@given(st.lists(st.integers(0, 40), min_size=4, max_size=30), st.integers(1, 6))
def test_smoothing_keeps_moments_and_leaves_no_gaps(counts, moments):
    given_shares = np.array(counts) / max(sum(counts), 1)
    if (given_shares > 0).sum() <= moments:
        with pytest.raises(DataError, match="different scores"):
            smoothed(given_shares, moments)
        return
    curve = smoothed(given_shares, moments)
    points = np.linspace(-1, 1, len(counts))
    for power in range(moments + 1):
        assert curve @ points**power == pytest.approx(given_shares @ points**power, abs=1e-8)
    assert (curve > 0).all()
    differences = np.diff(np.log(curve), n=moments + 1)  # a polynomial of that degree
    assert differences == pytest.approx(0, abs=1e-4)


def test_with_as_many_moments_as_steps_nothing_is_smoothed():
    shares = [0.1, 0.4, 0.1, 0.4]
    assert smoothed(shares, 3) == pytest.approx(shares)


def test_a_smoothed_table_is_nearer_to_that_of_all_essays_than_an_uneven_one():
    """Two forms of one bell-shaped distribution, the second half a point harder: 60 essays each, 200 times."""
    random, span = np.random.default_rng(0), ScoreRange(0, 20)
    points = np.arange(1, 20)
    off = {None: [], 3: []}
    for _ in range(200):
        own, form = (np.clip(np.rint(random.normal(mean, 3, 60)), 0, 20) for mean in (9.5, 10))
        for moments, errors in off.items():
            reported = np.array(equipercentile_table(own, span, form, span, moments).reported)[points]
            errors.append(np.sqrt(np.mean((reported - points - 0.5)[4:14] ** 2)))
    assert np.mean(off[3]) < 0.9 * np.mean(off[None])
