from __future__ import annotations

import pandas as pd
import pytest
from facts import facts

from aes_dynloss.errors import ConfigError, DataError
from aes_dynloss.tables.columns import ID_COLUMNS, NUMBER_COLUMNS, ColumnNames, take_columns

ROLES = (*ID_COLUMNS, *NUMBER_COLUMNS)
CELLS = pd.DataFrame({"essay_id": ["1"], "score": ["3"], "guess": ["4"], "note": ["x"]})


def test_default_names_take_what_is_there_and_leave_the_rest():
    assert list(take_columns(CELLS, ColumnNames(), ROLES, "f.csv")) == ["essay_id", "score"]


def test_a_column_named_for_another_role_is_not_taken_by_its_default_one():
    found = take_columns(CELLS, ColumnNames(reference="score", raw="guess"), ROLES, "f.csv")
    assert found.to_dict("records") == [{"essay_id": "1", "reference": "3", "raw": "4"}]


def test_names_of_other_roles_do_not_matter():
    found = take_columns(CELLS, ColumnNames(reference="score"), ("essay_id", "score"), "f.csv")
    assert list(found) == ["essay_id", "score"]


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (
            ColumnNames(essay_id="id"),
            "f.csv has no column 'id'; .*for essay_id with --map essay_id=COLUMN",
        ),
        (ColumnNames(raw="prediction"), "f.csv has no column 'prediction'; .*for raw with --map raw=COLUMN"),
        (ColumnNames(raw="essay_id"), "f.csv has no column 'essay_id'; "),
        (
            ColumnNames(raw="a", score="b"),
            "no column 'a'; .*--map raw=COLUMN. It has no column 'b'; .*--map score=COLUMN",
        ),
    ],
)
def test_a_column_that_is_missing(names, message):
    cells = CELLS if names.raw != "essay_id" else CELLS.rename(columns={"essay_id": "id"})
    with pytest.raises(DataError, match=message):
        take_columns(cells, names, ROLES, "f.csv")


def test_ids_whose_column_was_named_for_another_role():
    with pytest.raises(DataError, match=facts("'essay_id'", "f.csv", "for raw", "for essay_id")):
        take_columns(CELLS, ColumnNames(raw="essay_id"), ROLES, "f.csv")


def test_a_named_column_may_be_optional():
    assert "prompt_id" not in take_columns(CELLS, ColumnNames(prompt_id="set"), ROLES, "f.csv", optional={"prompt_id"})


def test_one_column_for_two_roles():
    with pytest.raises(ConfigError, match="Column 'x' is named for reference and for score; name it for one"):
        ColumnNames(reference="x", score="x")


@pytest.mark.parametrize("sign", [";", "\t"])
def test_a_header_with_other_separators(sign):
    cells = pd.DataFrame({f"essay_id{sign}raw": [f"1{sign}2"]})
    with pytest.raises(DataError, match=r"has no column 'essay_id'; .* The header is one name: save the"):
        take_columns(cells, ColumnNames(), ["essay_id", "raw"], "p.csv")
