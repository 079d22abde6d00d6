from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from aes_dynloss.essays.data.row_values import RowError, id_value, nearest, number_value, optional_number, text_value


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_every_float_is_read_back(value):
    assert number_value({"x": repr(value)}, "x") == value == number_value({"x": value}, "x")


@example("0\x1f")  # strip() takes the separator off, float() does not
@given(st.text(max_size=8))
def test_numbers_are_what_float_takes_in_ascii(text):
    try:
        value = number_value({"x": text}, "x")
    except RowError:
        pass
    else:
        assert value == float(text)


def test_missing_columns():
    for read in (id_value, text_value, number_value, optional_number):
        with pytest.raises(RowError, match="there is no 'x'; found none"):
            read({}, "x")


def test_nearest():
    assert nearest("SCORE", ["essay", "score"]) == "did you mean 'score'?"
    assert nearest("zzz", [f"a{number:02}" for number in range(30)]).endswith("'a19' and 10 more.")
