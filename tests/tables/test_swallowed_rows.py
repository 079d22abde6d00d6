from __future__ import annotations

import pytest

from aes_dynloss.tables.csv_jsonl import DelimitedRow, swallowed_line


@pytest.mark.parametrize(
    ("row", "line"),
    [
        ({"id": "12", "set": "4", "text": "open\n13\t5\tmore\t2", "score": "1"}, "13\t5\tmore\t2"),
        ({"id": "e12", "text": "open\n\ne7\tmore\t2\r\nlast", "score": "1"}, "e7\tmore\t2\r"),
        ({"id": "12", "set": "4", "text": "open\n13\tmore\t5\t2"}, None),
        ({"id": "12", "text": "open\nFirst\tmore"}, None),
        ({"id": "12", "text": "13\tmore"}, None),
        ({"id": "12", "text": "two\n13"}, None),
        ({"id": "anna", "text": "open\nThen\tmore"}, None),
        ({"text": "open\nmore\t3", "score": "3"}, None),
        ({"id": "12", "text": 5}, None),
    ],
)
def test_lines_that_begin_as_their_row_does(row, line):
    assert swallowed_line(DelimitedRow(row.items(), "\t"), "text") == line
    assert swallowed_line(row, "text") is None
