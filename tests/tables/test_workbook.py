from __future__ import annotations

import io
import re
import sys
import zipfile
from pathlib import Path

import openpyxl
import pytest
from facts import facts
from hypothesis import given
from hypothesis import strategies as st

from aes_dynloss.errors import DataError
from aes_dynloss.tables import workbook
from aes_dynloss.tables.workbook import sheet_rows, write_sheet

HOSTILE = [
    *(
        "007",
        "=1+1",
        '=HYPERLINK("http://x")',
        "+1",
        "-1",
        "@SUM(A1)",
        "#N/A",
        "#REF!",
        "TRUE",
        "1e5",
        "12%",
        "2011-05-01",
    ),
    *("🦦 otter", " two  spaces ", "one\r\ntwo\rthree\nfour\tfive", "a\x1bb\x0b", "\ufffe"),
    *("_x000D_", "_x005F_x000D_", "x_x0041_"),
]


def there_and_back(rows):
    stream = io.BytesIO()
    write_sheet(rows, stream)
    return [list(row.values()) for _, row in sheet_rows(Path("t.xlsx"), stream)]


def test_hostile_text_comes_back_as_text():
    rows = [["essay_id", "=raw"], *([text, text] for text in HOSTILE)]
    assert there_and_back(rows) == rows[1:]


@given(st.lists(st.tuples(st.text(st.characters(codec="utf-8", exclude_characters="\0")), st.floats(), st.integers())))
def test_any_text_and_number_come_back(rows):
    table = [[f"{number}", text, *numbers] for number, (text, *numbers) in enumerate(rows)]
    expected = [[None if value in ("", float("inf"), -float("inf")) or value != value else value for value in row]
                for row in table]  # fmt: skip
    if table:
        assert there_and_back([["id", "text", "raw", "count"], *table]) == expected


def test_no_cell_is_a_formula_or_an_error():
    stream = io.BytesIO()
    write_sheet([["text"], *([text] for text in HOSTILE)], stream)
    sheet = openpyxl.load_workbook(stream).active
    assert {cell.data_type for row in sheet.iter_rows() for cell in row} == {"s"}


def test_blanks_and_truth():
    assert there_and_back([["a", "b", "c"], [None, True, False], ["", None, 1.5]]) == [
        [None, True, False],
        [None, None, 1.5],
    ]


def test_a_text_that_no_cell_holds():
    assert there_and_back([["text"], ["x" * 32_767]]) == [["x" * 32_767]]
    for text in ("x" * 32_768, "🦦" * 16_384, "\r" * 5_000):
        with pytest.raises(DataError, match=facts("Row 2", "32767", "parquet")):
            write_sheet([["text"], [text]], io.BytesIO())


def test_a_table_that_no_sheet_holds(monkeypatch):
    monkeypatch.setattr(workbook, "_LAST_ROW", 2)
    with pytest.raises(DataError, match=r"A sheet of \.xlsx holds 2 rows"):
        write_sheet([["id"], ["1"], ["2"]], io.BytesIO())


def test_escapes_as_spreadsheets_write_them():
    book, stream = openpyxl.Workbook(), io.BytesIO()
    for row in (["text"], ["one_x000D_\ntwo"], ["_x0000_ _xD83D_"]):
        book.active.append(row)
    book.save(stream)
    assert [row["text"] for _, row in sheet_rows(Path("t.xlsx"), stream)] == ["one\r\ntwo", "_x0000_ _xD83D_"]


def test_without_openpyxl(monkeypatch):
    monkeypatch.setitem(sys.modules, "openpyxl", None)
    with pytest.raises(DataError, match=facts("Writing .xlsx needs openpyxl", "aes-dynloss[excel]", "csv")):
        write_sheet([["id"]], io.BytesIO())
    with pytest.raises(DataError, match=facts("t.xlsx: reading .xlsx needs openpyxl", "save the sheet as csv")):
        list(sheet_rows(Path("t.xlsx"), io.BytesIO()))


@pytest.mark.parametrize("claimed", ["A1", "A1:C3", "B2:B2"])
def test_cells_outside_the_dimension_that_a_sheet_claims_are_read(claimed):
    """Writers of streams leave it at A1."""
    book, plain, changed = openpyxl.Workbook(), io.BytesIO(), io.BytesIO()
    for row in (["id", "text", "score", "group"], ["1", "one", 3, "f"], [], ["2", "two", None, "m"]):
        book.active.append(row)
    book.save(plain)
    with zipfile.ZipFile(plain) as source, zipfile.ZipFile(changed, "w") as target:
        for name in source.namelist():
            dimension = b'<dimension ref="%s"' % claimed.encode()
            target.writestr(name, re.sub(rb'<dimension ref="[^"]*"', dimension, source.read(name)))
    assert list(sheet_rows(Path("t.xlsx"), changed)) == [
        (2, {"id": "1", "text": "one", "score": 3, "group": "f"}),
        (4, {"id": "2", "text": "two", "score": None, "group": "m"}),
    ]
