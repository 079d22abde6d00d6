from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aes_dynloss.errors import ConfigError, DataError
from aes_dynloss.tables.score_range import ScoreRange

ranges = st.builds(
    lambda low, count, step: ScoreRange(low, low + count * step, step),
    st.integers(-20, 20),
    st.integers(1, 60),
    st.sampled_from([0.25, 0.5, 1.0, 2.0]),
)


@given(ranges)
def test_points_are_their_own_nearest_points(score_range):
    points = score_range.points
    assert len(points) == score_range.count
    assert all(score_range.is_score_point(point) for point in points)
    np.testing.assert_array_equal(score_range.to_point(points), points)
    np.testing.assert_array_equal(score_range.to_index(points), np.arange(score_range.count))


@given(ranges, st.floats(-100, 100))
def test_nearest_point_is_nearest(score_range, value):
    point = float(score_range.to_point(value))
    assert score_range.is_score_point(point)
    assert abs(point - value) <= np.abs(score_range.points - value).min() + 1e-6


@given(ranges, st.lists(st.floats(-100, 100), min_size=1))
def test_unit_scale_and_back(score_range, values):
    np.testing.assert_allclose(score_range.from_unit(score_range.to_unit(values)), values, atol=1e-9)
    np.testing.assert_allclose(score_range.to_unit([score_range.low, score_range.high]), [0, 1])


def test_halves_go_up_where_numpy_would_round_to_even():
    score_range = ScoreRange(1, 6)
    np.testing.assert_array_equal(score_range.to_point([2.5, 3.5, 2.49, 0.2, 9]), [3, 4, 2, 1, 6])
    assert ScoreRange(0, 1, 0.1).to_point(0.1 + 0.2) == pytest.approx(0.3)


def test_a_half_reached_through_float_arithmetic_goes_up():
    assert ScoreRange(1, 6).to_point(2.5 - 1e-12) == 3


@pytest.mark.parametrize("score", [0, 7, 2.5, math.nan, math.inf])
def test_what_is_no_score_point(score):
    assert not ScoreRange(1, 6).is_score_point(score)


def test_words():
    assert str(ScoreRange(1, 6)) == "1 to 6"
    assert str(ScoreRange(0, 9, 0.5)) == "0 to 9 in steps of 0.5"


def test_nan_has_no_score_point():
    with pytest.raises(DataError, match="NaN has no score point"):
        ScoreRange(1, 6).to_point([2.0, math.nan])


@pytest.mark.parametrize(
    ("numbers", "message"),
    [
        ((1, math.inf), "finite numbers"),
        ((6, 1), "low < high and step > 0"),
        ((1, 1), "low < high and step > 0"),
        ((1, 6, 0), "low < high and step > 0"),
        ((1, 6, 2), "no whole number of steps"),
        ((1, 6, 1e12), "no whole number of steps"),
    ],
)
def test_ranges_that_are_none(numbers, message):
    with pytest.raises(ConfigError, match=message):
        ScoreRange(*numbers)
