from __future__ import annotations

import csv
import io
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aes_dynloss.errors import DataError
from aes_dynloss.tables.csv_cells import CsvCells

CELL = st.text(st.sampled_from('ab ,"\n\r;ä🦦'), max_size=5)


@given(st.lists(st.lists(CELL, min_size=2, max_size=2), min_size=1), st.sampled_from(["\n", "\r\n"]), st.data())
def test_one_cell_changes_and_no_other_byte(rows, end, data):
    rows = [["a", "b"], *rows]
    stream = io.StringIO(newline="")
    quoting = csv.QUOTE_MINIMAL if end == "\r\n" else csv.QUOTE_ALL  # with \n alone csv leaves \r bare
    csv.writer(stream, lineterminator=end, quoting=quoting).writerows(rows)
    cells = CsvCells.parse(stream.getvalue(), "t.csv")
    assert [cells.row(number) for number in range(len(cells.places))] == rows
    assert cells.filled({}) == stream.getvalue().encode()
    row, column, value = data.draw(st.integers(0, len(rows) - 1)), data.draw(st.integers(0, 1)), data.draw(CELL)
    begin, finish = cells.places[row][column]
    found = cells.filled({(row, column): value}).decode()
    assert (found[:begin], found[len(found) - len(cells.text) + finish :]) == (cells.text[:begin], cells.text[finish:])
    rows[row][column] = value
    assert list(csv.reader(io.StringIO(found, newline=""))) == rows


@pytest.mark.parametrize("text", ['a,b\n"c,d\n', 'a,b\n"c"d,e\n', 'a,b\nc"d,e"\n,"\n'])
def test_quotes_that_do_not_fit(text):
    with pytest.raises(DataError, match=r"Row \d of t\.csv: quotes do not fit"):
        CsvCells.parse(text, "t.csv")


def test_a_byte_order_mark_and_another_encoding_stay(tmp_path):
    for content, encoding in ((b"\xef\xbb\xbfid,g\n1,\n", "utf-8"), ("id,g\nä,\n".encode("cp1252"), "cp1252")):
        (tmp_path / "t.csv").write_bytes(content)
        cells = CsvCells.read(tmp_path / "t.csv", encoding)
        assert cells.row(0) == ["id", "g"]
        assert cells.filled({(1, 1): "5"}) == content[:-1] + b"5\n"
    with pytest.raises(DataError, match=r"^t\.csv: expected utf-8 .*\. If it was"):
        CsvCells.read(tmp_path / "t.csv")


@pytest.mark.parametrize("mark", [True, False])
@pytest.mark.parametrize("order", ["le", "be"])
@pytest.mark.parametrize("width", [16, 32])
def test_the_order_of_bytes_stays(tmp_path, width, order, mark):
    written = f"utf-{width}-{order}"
    content = ("\ufeff" * mark + "id,g\r\n\u00e4,\r\n").encode(written)
    (tmp_path / "t.csv").write_bytes(content)
    usual = order == ("le" if sys.byteorder == "little" else "be")
    for encoding in (written, f"utf-{width}") if mark or usual else (written,):
        cells = CsvCells.read(tmp_path / "t.csv", encoding)
        assert cells.filled({}) == content
        assert cells.filled({(1, 1): "4"}) == content.replace("\u00e4,".encode(written), "\u00e4,4".encode(written))
        assert cells.row(0) == ["id", "g"]
        assert CsvCells.read(tmp_path / "t.csv", cells.encoding) == cells


def test_characters_that_the_encoding_lacks(tmp_path):
    (tmp_path / "t.csv").write_bytes("id;gä\n1;\n".encode("latin-1"))
    cells = CsvCells.read(tmp_path / "t.csv", "latin-1")
    assert cells.filled({(1, 1): "🦦"}, "xmlcharrefreplace") == 'id;gä\n1;"&#129446;"\n'.encode("latin-1")
