from __future__ import annotations

import math
from decimal import Decimal

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from aes_dynloss.tables.cells import (
    CellError,
    group_value,
    id_value,
    nearest,
    number_value,
    optional_number,
    text_value,
)
from aes_dynloss.tables.columns import missing_columns


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_every_float_is_read_back(value):
    assert number_value({"x": repr(value)}, "x") == value == number_value({"x": value}, "x")


@example("0\x1f")  # strip() takes the separator off, float() does not
@given(st.text(max_size=8))
def test_numbers_are_what_float_takes_in_ascii(text):
    try:
        value = number_value({"x": text}, "x")
    except CellError:
        pass
    else:
        assert value == float(text)


def test_missing_columns():
    for read in (id_value, text_value, number_value, optional_number):
        with pytest.raises(CellError, match="there is no 'x'; found none"):
            read({}, "x")


@pytest.mark.parametrize("value", [math.inf, -math.inf, Decimal("Infinity")])
def test_an_infinite_number_names_no_group(value):
    with pytest.raises(CellError, match=r"^x is .*[Ii]nf.*; expected the name of a group\."):
        group_value({"x": value}, "x")


def test_groups_are_named_by_text_and_by_numbers():
    values = [" a ", "inf", 7, 7.0, Decimal(7), 7.5, 1e300, None, math.nan, ""]
    named = ["a", "inf", "7", "7", "7", "7.5", str(int(1e300)), None, None, None]
    assert [group_value({"x": value}, "x") for value in values] == named


def test_nearest():
    assert nearest("SCORE", ["essay", "score"]) == "did you mean 'score'?"
    assert nearest("zzz", [f"a{number:02}" for number in range(30)]).endswith("'a19' and 10 more.")


@pytest.mark.parametrize("sign", ["\0", "\x1b", "\x85"])
def test_ids_hold_no_control_characters(sign):
    with pytest.raises(CellError, match=f"x 'a.*' holds the control character U[+]00{ord(sign):02X}. Take it out"):
        id_value({"x": f"a{sign}b"}, "x")
    assert id_value({"x": "a\tb"}, "x") == "a\tb"


@pytest.mark.parametrize(
    ("columns", "words"), [(["a;b"], "save the table with commas"), (["a"], ""), (["a;b", "c"], "")]
)
def test_a_header_that_is_one_name(columns, words):
    message = missing_columns("t.tsv", {"x": "Name it.", "y": "Name it too."}, columns)
    assert "no column 'x'" in message
    assert "no column 'y'" in message
    assert words in message
    assert ("The header is one name" in message) == bool(words)
