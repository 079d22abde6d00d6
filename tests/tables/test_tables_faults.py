"""Tables that cannot be read, wholly or in part: what is said, and where reading goes on."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from facts import facts
from table_files import read, write

from aes_dynloss.errors import DataError
from aes_dynloss.tables.formats import column_names, iterate_rows, read_cells
from aes_dynloss.tables.rows import FaultLog, RowFault

BAD_TABLES = {
    "empty csv": ("t.csv", "", r"t\.csv is empty\. Give a table with a header"),
    "blank csv": ("t.csv", "\n\n", r"t\.csv is empty"),
    "header only": ("t.csv", "a,b\n", r"t\.csv holds a header \(a, b\) but no rows"),
    "empty jsonl": ("t.jsonl", " \n", r"t\.jsonl is empty\. Write one JSON object a line"),
    "double column": ("t.csv", "a,b,a\n1,2,3\n", r"The header of t\.csv names the column 'a' 2 times"),
    "too few": (
        "t.csv",
        "a,b\n1,2\n3\n",
        r"^Row 3 of t\.csv: expected 2 values as in the header, found 1\. Is there a comma",
    ),
    "too many": (
        "t.tsv",
        "a\tb\n1\t2\t3\n",
        r"^Row 2 of t\.tsv: expected 2 values as in the header, found 3\. Is there a tab",
    ),
    "blank line in one column": ("t.csv", "a\n\nx\n", r"^Row 2 of t\.csv: expected 1 value as in the header, found 0"),
    "open quote": (
        "t.csv",
        'a,b\n"1\n",2\n3,"4\n5,6\n',
        r"^Row 3 of t\.csv \(from line 4\): a quote is opened in it and never closed\..*quoting: none",
    ),
    "text after quote": (
        "t.csv",
        'a,b\n"x"y,2\n',
        r"^Row 2 of t\.csv \(from line 2\): a quoted value ends and text follows it.*quoting: none",
    ),
    "nul": ("t.csv", "a,b\n1,2\n3,\0\n", r"^Line 3 of t\.csv holds a NUL character"),
    "encoding": (
        "t.csv",
        b"a,b\r\n1,x\r\n2,caf\xe9\r\n",
        r"^Line 3 of t\.csv \(byte 15\): expected utf-8 text, found 0xe9 .*encoding: cp1252",
    ),
    "utf-16": (
        "t.csv",
        "a,b\n1,2\n".encode("utf-16"),
        r"^Line 1 of t\.csv \(byte 0\): expected utf-8 text, found 0xff.*encoding: utf-16",
    ),
    "bad json": (
        "t.jsonl",
        '{"a": 1}\n{"a" 2}\n',
        r"^Row 2 of t\.jsonl: column 6 is not valid JSON: .*Write one JSON object a line",
    ),
    "no object": (
        "t.jsonl",
        "[1, 2]\n",
        r"^Row 1 of t\.jsonl: expected a JSON object such as \{\.\.\.\}, found \[1, 2\]",
    ),
    "nan": ("t.jsonl", '{"a": NaN}\n', r"^Row 1 of t\.jsonl: NaN is no JSON number"),
    "double key": ("t.jsonl", '{"a": 1, "a": 2}\n', r"^Row 1 of t\.jsonl: the key 'a' comes twice"),
    "deep json": ("t.jsonl", '{"a": ' + "[" * 100_000, r"^Row 1 of t\.jsonl: nested too deeply"),
    "long number": ("t.jsonl", '{"a": ' + "9" * 5000 + "}", r"^Row 1 of t\.jsonl: Exceeds the limit"),
    "no parquet": ("t.parquet", "PAR1", r"t\.parquet cannot be read as parquet: .*Save it again"),
    "unknown suffix": ("t.xls", "", r"t\.xls: expected \.csv, .* or a folder of \.txt, found a \.xls file"),
    "no suffix": ("t", "", r"found a file without suffix"),
}


@pytest.mark.parametrize("case", BAD_TABLES)
def test_bad_tables_are_refused(tmp_path, case):
    name, content, message = BAD_TABLES[case]
    with pytest.raises(DataError, match=message):
        read(write(tmp_path, name, content))


@pytest.mark.parametrize("reader", [read_cells, column_names])
@pytest.mark.parametrize(
    ("content", "place"),
    [("a,b\n1,café\n".encode("cp1252"), "Line 2 of t.csv (byte 9)"), ("a\n1\n".encode("utf-16"), "Line 1 of t.csv")],
)
def test_where_no_encoding_can_be_named_none_is_advised(tmp_path, reader, content, place):
    with pytest.raises(DataError, match=facts(place, "expected utf-8 text", "Save it as UTF-8.")) as caught:
        reader(write(tmp_path, "t.csv", content))
    assert "encoding:" not in str(caught.value)


def test_byte_and_line_of_a_bad_byte_far_in(tmp_path):
    """Past the decoder's chunks, where offsets are easily lost."""
    good = "".join(f"{number},é{'x' * (number % 90)}\r\n" for number in range(20_000)).encode()
    path = write(tmp_path, "t.csv", b"a,b\r\n" + good + b"1,\x81\r\n")
    with pytest.raises(DataError, match=rf"Line 20002 of t\.csv \(byte {5 + len(good) + 2}\)"):
        read(path)
    path = write(tmp_path, "u.csv", b"a,b\r" + b"1,x\r" * 9_000 + b"1,\x81\r")
    # The header, 9000 rows, and the bad one.
    with pytest.raises(DataError, match=facts("Line 9002", "u.csv", "byte 36006", "cp1252", "0x81", "encoding: utf-8")):
        read(path, encoding="cp1252")


def test_missing_file(tmp_path):
    with pytest.raises(DataError, match=r"There is no file or folder .*none\.csv"):
        iterate_rows(tmp_path / "none.csv")


def test_unreadable_file(tmp_path, monkeypatch):
    path = write(tmp_path, "t.csv", "a\n1\n")
    monkeypatch.setattr(Path, "open", lambda *_: (_ for _ in ()).throw(PermissionError(13, "Permission denied")))
    with pytest.raises(DataError, match=r"t\.csv cannot be read: Permission denied"):
        read(path)


def test_stream_that_breaks():
    class Broken(io.RawIOBase):
        def readable(self):
            return True

        def readinto(self, buffer):
            raise OSError("the pipe broke")

    with pytest.raises(DataError, match="standard input cannot be read: the pipe broke"):
        read("-", stdin=io.BufferedReader(Broken()))


def test_longer_fields_than_python_takes(tmp_path, monkeypatch):
    before = csv.field_size_limit(100)
    monkeypatch.setattr(csv, "field_size_limit", lambda *_: 100)
    with pytest.raises(DataError, match=r"Row 2 of t\.csv \(from line 2\): field larger than field limit \(100\)\."):
        read(write(tmp_path, "t.csv", "a\n" + "x" * 101))
    monkeypatch.undo()
    csv.field_size_limit(before)


class TestParquet:
    def test_no_rows(self, tmp_path):
        pq.write_table(pa.table({"a": pa.array([], pa.string())}), tmp_path / "t.parquet")
        with pytest.raises(DataError, match=r"t\.parquet holds no rows"):
            read(tmp_path / "t.parquet")

    def test_double_column(self, tmp_path):
        pq.write_table(
            pa.Table.from_arrays([pa.array(["x"]), pa.array(["y"])], names=["a", "a"]), tmp_path / "t.parquet"
        )
        with pytest.raises(DataError, match=r"names the column 'a' 2 times"):
            read(tmp_path / "t.parquet")

    def test_damage_behind_a_sound_footer(self, tmp_path):
        path = tmp_path / "t.parquet"
        table = pa.table({"a": [f"text {number}" for number in range(2000)]})
        pq.write_table(table, path, compression="none", use_dictionary=False, write_page_checksum=True)
        assert len(read(path)) == 2000
        content = path.read_bytes()
        assert content.count(b"text 1234") == 1
        path.write_bytes(content.replace(b"text 1234", b"text 7234"))
        with pytest.raises(DataError, match=r"t\.parquet cannot be read as parquet"):
            read(path)

    def test_rows_that_are_not_there(self, tmp_path, monkeypatch):
        path = tmp_path / "t.parquet"
        pq.write_table(pa.table({"a": [str(number) for number in range(600)]}), path)
        whole = pq.ParquetFile.iter_batches
        monkeypatch.setattr(pq.ParquetFile, "iter_batches", lambda self, **options: list(whole(self, **options))[:1])
        with pytest.raises(DataError, match=r"t\.parquet should hold 600 rows, but 256 were found"):
            read(path)


class TestFaults:
    def test_reading_goes_on_after_bad_rows(self, tmp_path):
        log = FaultLog()
        path = write(tmp_path, "t.csv", "a,b\n1\n2,3\n4,5,6\n7,8\n")
        assert [number for number, _ in read(path, on_fault=log)] == [3, 5]
        assert [(fault.source, fault.row) for fault in log.faults] == [("t.csv", 2), ("t.csv", 4)]
        log = FaultLog()
        path = write(tmp_path, "t.jsonl", '{"a": 1}\nx\n{"a": 2}\n')
        assert [number for number, _ in read(path, on_fault=log)] == [1, 3]
        assert [fault.row for fault in log.faults] == [2]

    def test_a_table_of_bad_rows_alone_is_not_called_empty(self, tmp_path):
        log = FaultLog()
        assert read(write(tmp_path, "t.csv", "a,b\n1\n"), on_fault=log) == []
        assert len(log.faults) == 1

    def test_log_reports_the_first_and_counts_the_rest(self):
        log = FaultLog()
        log.raise_if_any()
        log(RowFault("t.csv", 2, "is odd.", "e2"))
        with pytest.raises(DataError, match=r"^Row 2 of t\.csv \(essay e2\): is odd\.$"):
            log.raise_if_any()
        for number in range(3, 32):
            log(RowFault("t.csv", number, "is odd."))
        with pytest.raises(DataError, match=r"^30 rows of t\.csv.*\n(  .*\n){20}.*\b10\b") as caught:
            log.raise_if_any()
        assert "Row 21 of" in str(caught.value)
        assert "Row 22 of" not in str(caught.value)

    def test_log_reports_what_ended_the_reading(self):
        with pytest.raises(DataError, match=r"^the end$"):
            FaultLog(stopped="the end").raise_if_any()
        log = FaultLog([RowFault("t.csv", 2, "is odd.")], stopped="the end")
        with pytest.raises(
            DataError, match=r"^1 row of t\.csv cannot be used:\n  Row 2 of t\.csv: is odd\.\n  the end$"
        ):
            log.raise_if_any()


def test_closed_standard_input(monkeypatch):
    """Python has no sys.stdin in a process that was started without one."""
    monkeypatch.setattr("sys.stdin", None)
    with pytest.raises(DataError, match=r"Standard input is closed\. Lead the essays into it, or name a file"):
        read("-")


def test_an_array_on_standard_input():
    with pytest.raises(DataError, match=r"^Row 1 of standard input: expected a JSON object such as .*, found \[\{"):
        read("-", stdin=io.BytesIO(b'[{"text": "a"}, {"text": "b"}]'))
