from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
from facts import facts
from hypothesis import given
from hypothesis import strategies as st

from aes_dynloss.errors import DataError
from aes_dynloss.tables.cells import parse_ids, parse_numbers


def test_ids_stay_letter_for_letter():
    assert parse_ids(["007", "NA", " x ", "1e5", 7, np.int64(8)], "essay_id", "f.csv") == [
        "007", "NA", " x ", "1e5", "7", "8",
    ]  # fmt: skip


@pytest.mark.parametrize("blank", [None, "", "  ", math.nan, pd.NA])
def test_blank_ids(blank):
    with pytest.raises(DataError, match=r"Row 2 of f.csv: prompt_id is empty"):
        parse_ids(["1", blank], "prompt_id", "f.csv")


@pytest.mark.parametrize("cell", [1.5, True, ["1"]])
def test_what_is_no_id(cell):
    with pytest.raises(DataError, match=r"Row 1 of f.csv: essay_id is .*; expected text or a whole number"):
        parse_ids([cell], "essay_id", "f.csv")


@pytest.mark.parametrize("cell", ["a\nb", "a\rb"])
def test_an_id_on_two_lines(cell):
    with pytest.raises(DataError, match=r"Row 1 of f.csv: essay_id .* holds a line break"):
        parse_ids([cell], "essay_id", "f.csv")


@pytest.mark.parametrize("sign", ["\0", "\x1b", "\x85"])
def test_an_id_with_a_control_character(sign):
    with pytest.raises(DataError, match=r"Row 2 of f.csv: prompt_id 'a.*' holds the control character .* Take it out"):
        parse_ids(["a\tb", f"a{sign}b"], "prompt_id", "f.csv")


@given(st.lists(st.floats(allow_nan=False, allow_infinity=False)))
def test_numbers_come_through_as_text_and_as_numbers(values):
    ids = [str(row) for row in range(len(values))]
    np.testing.assert_array_equal(parse_numbers([repr(value) for value in values], "raw", ids, "f"), values)
    np.testing.assert_array_equal(parse_numbers(values, "raw", ids, "f"), values)


def test_blanks_are_nan():
    cells = [None, "", " ", math.nan, pd.NA, np.float32("nan"), 3, np.int64(4), np.float32(0.5), " 5 "]
    found = parse_numbers(cells, "raw", [str(row) for row in range(10)], "f.csv")
    np.testing.assert_array_equal(found, [math.nan] * 6 + [3, 4, 0.5, 5])


@pytest.mark.parametrize(
    "cell", ["nan", "inf", "-Infinity", math.inf, "1_000", "3,5", "three", True, np.True_, [3], "1e999", 10**400]
)
def test_what_is_no_number(cell):
    with pytest.raises(DataError, match=facts("Row 2", "f.csv", "'007'", "raw") + "(?=.*(number|decimal comma))"):
        parse_numbers([1, cell], "raw", ["1", "007"], "f.csv")
