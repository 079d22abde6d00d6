from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from aes_dynloss.teaching.policies import Constant, Cosine, Linear, Morris, Schedule

progress = st.floats(0, 1)
weight = st.floats(-10, 10)


@given(progress, weight)
def test_constant(at, value):
    assert Constant(value=value)(at) == value


@given(weight, weight)
@pytest.mark.parametrize("kind", [Linear, Cosine])
def test_ends_and_middle(kind, start, end):
    schedule = kind(start=start, end=end)
    assert schedule(0.0) == pytest.approx(start)
    assert schedule(1.0) == pytest.approx(end)
    assert schedule(0.5) == pytest.approx((start + end) / 2)


def test_linear_and_cosine_at_a_quarter():
    assert Linear(start=1.0, end=0.0)(0.25) == 0.75
    assert Cosine(start=1.0, end=0.0)(0.25) == pytest.approx(0.5 + math.sqrt(0.125))


def test_morris_as_in_the_runs_behind_the_tables():
    schedule = Morris(a=1.0, b=0.2, c=1.0)
    assert schedule(0.0) == schedule(0.1) == schedule(0.2) == 1.0
    assert schedule(0.6) == pytest.approx(math.exp(-0.4))
    assert schedule(1.0) == pytest.approx(math.exp(-0.8))


def test_morris_as_in_the_figure_is_the_default():
    schedule = Morris()
    assert schedule(0.15) == 1.0
    assert schedule(0.5) == pytest.approx(math.exp(-1.1 * 0.35))
    assert schedule(1.0) == pytest.approx(math.exp(-1.1 * 0.85))


@given(st.floats(0, 5), st.floats(0, 1), st.floats(0, 20), progress, progress)
def test_morris_never_rises(a, b, c, one, other):
    schedule = Morris(a=a, b=b, c=c)
    early, late = sorted((one, other))
    assert 0 <= schedule(late) <= schedule(early) <= a
    assert schedule(min(b, early)) == a


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"schedule": "morris", "a": -0.1}, "greater than or equal to 0"),
        ({"schedule": "morris", "b": 1.1}, "less than or equal to 1"),
        ({"schedule": "morris", "b": -0.1}, "greater than or equal to 0"),
        ({"schedule": "morris", "c": -1}, "greater than or equal to 0"),
        ({"schedule": "linear", "start": 1}, "Field required"),
        ({"schedule": "cosine", "end": 1}, "Field required"),
        ({"schedule": "constant", "value": math.inf}, "finite number"),
        ({"schedule": "linear", "start": math.nan, "end": 1}, "finite number"),
        ({"schedule": "cosine", "start": 0, "end": 1, "value": 3}, "Extra inputs"),
        ({"schedule": "moris"}, "does not match any of the expected tags"),
        ({"a": 1.0}, "Unable to extract tag"),
    ],
)
def test_what_is_refused(values, words):
    with pytest.raises(ValidationError, match=words):
        TypeAdapter(Schedule).validate_python(values)


def test_a_schedule_is_chosen_by_its_name():
    values = {"schedule": "linear", "start": 1, "end": 0.5}
    assert TypeAdapter(Schedule).validate_python(values) == Linear(start=1.0, end=0.5)
