from __future__ import annotations

import csv
import io
import json
import logging
import string
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aes_dynloss.errors import DataError
from aes_dynloss.essays.rows import FaultLog, RowFault
from aes_dynloss.essays.tables import iterate_rows, source_name

NAMES = st.lists(st.text(string.ascii_letters + "_ ,\"'é", min_size=1, max_size=8), min_size=1, max_size=4, unique=True)
# Whatever a file may hold: no NUL (refused), no lone surrogates (no text).
TEXTS = st.one_of(
    st.sampled_from(["007", "NA", "null", "nan", "", " ", "1e5", "True", '"', '""', "a\r\nb", "\r", "\ufeff", "\u2028", "\x1c"]),
    st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=30),
)


@st.composite
def tables(draw: st.DrawFn) -> tuple[list[str], list[dict[str, str]]]:
    names = draw(NAMES)
    rows = draw(st.lists(st.fixed_dictionaries({name: TEXTS for name in names}), min_size=1, max_size=6))
    return names, rows


def write(tmp_path: Path, name: str, content: bytes | str) -> Path:
    path = tmp_path / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def read(path: Path | str, **options) -> list[tuple[int, dict[str, object]]]:
    return list(iterate_rows(path, **options))


@settings(max_examples=100, deadline=None)
@given(tables(), st.sampled_from([",", "\t"]), st.booleans(), st.sampled_from(["\r\n", "\n"]), st.sampled_from(["utf-8", "utf-8-sig", "utf-16"]))
def test_delimited_tables_round_trip(tmp_path_factory, table, delimiter, quote_all, line_end, encoding):
    names, rows = table
    # Python's writer quotes a lone \r only if line ends hold one.
    style = csv.QUOTE_ALL if quote_all or line_end == "\n" else csv.QUOTE_MINIMAL
    buffer = io.StringIO(newline="")
    writer = csv.DictWriter(buffer, names, delimiter=delimiter, quoting=style, lineterminator=line_end)
    writer.writeheader()
    writer.writerows(rows)
    path = tmp_path_factory.mktemp("csv") / ("t.csv" if delimiter == "," else "t.tsv")
    path.write_bytes(buffer.getvalue().encode(encoding))
    assert read(path, encoding="utf-16" if encoding == "utf-16" else "utf-8") == list(enumerate(rows, start=2))


@settings(max_examples=100, deadline=None)
@given(tables(), st.booleans())
def test_jsonl_round_trips(tmp_path_factory, table, ascii_only):
    _, rows = table
    path = tmp_path_factory.mktemp("jsonl") / "t.jsonl"
    path.write_bytes("\n".join(json.dumps(row, ensure_ascii=ascii_only) for row in rows).encode())
    assert read(path) == list(enumerate(rows, start=1))


@settings(max_examples=50, deadline=None)
@given(tables(), st.integers(1, 3))
def test_parquet_round_trips(tmp_path_factory, table, row_group_size):
    names, rows = table
    path = tmp_path_factory.mktemp("parquet") / "t.parquet"
    pq.write_table(pa.table({name: [row[name] for row in rows] for name in names}), path, row_group_size=row_group_size)
    assert read(path) == list(enumerate(rows, start=1))


def test_jsonl_and_parquet_keep_types(tmp_path):
    row = {"a": 7, "b": 1.5, "c": None, "d": True, "e": ["x"], "f": "007"}
    assert read(write(tmp_path, "t.ndjson", json.dumps(row))) == [(1, row)]
    pq.write_table(pa.Table.from_pylist([row]), tmp_path / "t.parquet")
    assert read(tmp_path / "t.parquet") == [(1, row)]


def test_no_quoting_leaves_quotes_alone(tmp_path):
    path = write(tmp_path, "t.tsv", 'id\ttext\n1\t"open\n2\tclosed"\n3\t""\n')
    expected = [(2, {"id": "1", "text": '"open'}), (3, {"id": "2", "text": 'closed"'}), (4, {"id": "3", "text": '""'})]
    assert read(path, quoting="none") == expected
    assert len(read(write(tmp_path, "u.tsv", path.read_text().replace("\n3", "\t\n3").replace("open\n2", "open 2")), quoting="none", on_fault=FaultLog())) == 1


def test_rows_are_numbered_as_in_a_spreadsheet(tmp_path):
    path = write(tmp_path, "t.csv", '\nid,text\n\n1,"two\n\nlines"\n2,x\n')
    assert [number for number, _ in read(path)] == [4, 5]
    path = write(tmp_path, "t.jsonl", '\n{"a": 1}\n\n{"a": 2}\n')
    assert [number for number, _ in read(path)] == [2, 4]


def test_lone_carriage_returns_end_lines(tmp_path):
    assert read(write(tmp_path, "t.csv", "id,text\r1,a\r2,b\r")) == [(2, {"id": "1", "text": "a"}), (3, {"id": "2", "text": "b"})]


def test_fields_may_be_huge(tmp_path):
    text = "word " * 400_000
    assert read(write(tmp_path, "t.csv", f'id,text\n1,"{text}"\n'))[0][1]["text"] == text


def test_memory_holds_few_rows(tmp_path):
    """The first rows come before the end of the stream is touched."""

    class Endless(io.RawIOBase):
        def readable(self):
            return True

        def readinto(self, buffer):
            buffer[:4] = b"1,a\n"
            return 4

    rows = iterate_rows("-", stdin=io.BufferedReader(Endless(), buffer_size=64))
    assert next(rows) == (2, {"1": "1", "a": "a"})
    rows.close()


class TestStandardInput:
    def test_csv_and_jsonl_are_told_apart(self):
        assert read("-", stdin=io.BytesIO(b"\n a,b\n1,2\n")) == [(3, {" a": "1", "b": "2"})]
        assert read("-", stdin=io.BytesIO(b'\n  {"a": 1}\n')) == [(2, {"a": 1})]
        assert read(Path("-"), stdin=io.BytesIO("\ufeff{}".encode())) == [(1, {})]

    def test_system_standard_input_is_the_default(self, monkeypatch):
        monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"a\nb\n")))
        assert read("-") == [(2, {"a": "b"})]

    def test_nothing_is_an_error(self):
        with pytest.raises(DataError, match=r"standard input is empty\. Give a table with a header and rows\."):
            read("-", stdin=io.BytesIO(b" \n\n"[1:]))


class TestFolder:
    def test_files_are_essays(self, tmp_path, caplog):
        write(tmp_path, "b.txt", "\ufeffsecond\r\n")
        write(tmp_path, "a.TXT", "first")
        assert read(tmp_path) == [(1, {"essay_id": "a", "text": "first"}), (2, {"essay_id": "b", "text": "second\r\n"})]
        assert caplog.text == ""
        write(tmp_path, "notes.md", "x")
        with caplog.at_level(logging.WARNING):
            assert len(read(tmp_path)) == 2
        assert "1 entries of the folder" in caplog.text

    def test_faults_name_the_file(self, tmp_path):
        write(tmp_path, "a.txt", b"caf\xe9 au lait")
        write(tmp_path, "b.txt", b"a\0b")
        (tmp_path / "c.txt").symlink_to(tmp_path / "a.txt")
        log = FaultLog()
        assert read(tmp_path, on_fault=log) == []
        assert [fault.row for fault in log.faults] == [1, 2, 3]
        assert "a.txt, byte 3: expected utf-8 text, found 0xe9" in log.faults[0].reason
        assert "b.txt holds a NUL character" in log.faults[1].reason
        assert read(tmp_path, encoding="cp1252", on_fault=log)[0][1]["text"] == "café au lait"

    def test_unreadable_file(self, tmp_path, monkeypatch):
        write(tmp_path, "a.txt", "x")
        monkeypatch.setattr(Path, "read_bytes", lambda path: (_ for _ in ()).throw(PermissionError(13, "Permission denied")))
        with pytest.raises(DataError, match=r"Row 1 of .*: a\.txt cannot be read: .*Permission denied"):
            read(tmp_path)

    def test_no_texts(self, tmp_path):
        (tmp_path / "sub.txt").mkdir()
        with pytest.raises(DataError, match=r"holds no \.txt files\. Give a file, or a folder"):
            read(tmp_path)

    def test_unreadable_folder(self, tmp_path, monkeypatch):
        monkeypatch.setattr(Path, "iterdir", lambda path: (_ for _ in ()).throw(PermissionError(13, "Permission denied")))
        with pytest.raises(DataError, match="cannot be read: Permission denied"):
            read(tmp_path)


BAD_TABLES = {
    "empty csv": ("t.csv", "", r"t\.csv is empty\. Give a table with a header"),
    "blank csv": ("t.csv", "\n\n", r"t\.csv is empty"),
    "header only": ("t.csv", "a,b\n", r"t\.csv holds a header \(a, b\) but no rows"),
    "empty jsonl": ("t.jsonl", " \n", r"t\.jsonl is empty\. Write one JSON object a line"),
    "double column": ("t.csv", "a,b,a\n1,2,3\n", r"The header of t\.csv names the column 'a' 2 times"),
    "too few": ("t.csv", "a,b\n1,2\n3\n", r"^Row 3 of t\.csv: expected 2 values as in the header, found 1\. Is there a comma"),
    "too many": ("t.tsv", "a\tb\n1\t2\t3\n", r"^Row 2 of t\.tsv: expected 2 values as in the header, found 3\. Is there a tab"),
    "blank line in one column": ("t.csv", "a\n\nx\n", r"^Row 2 of t\.csv: expected 1 value as in the header, found 0"),
    "open quote": ("t.csv", 'a,b\n"1\n",2\n3,"4\n5,6\n', r"^Row 3 of t\.csv \(from line 4\): a quote is opened in it and never closed\..*quoting: none"),
    "text after quote": ("t.csv", 'a,b\n"x"y,2\n', r"^Row 2 of t\.csv \(from line 2\): a quoted value ends and text follows it.*quoting: none"),
    "nul": ("t.csv", "a,b\n1,2\n3,\0\n", r"^Line 3 of t\.csv holds a NUL character"),
    "encoding": ("t.csv", b"a,b\r\n1,x\r\n2,caf\xe9\r\n", r"^Line 3 of t\.csv \(byte 15\): expected utf-8 text, found 0xe9 .*encoding: cp1252"),
    "utf-16": ("t.csv", "a,b\n1,2\n".encode("utf-16"), r"^Line 1 of t\.csv \(byte 0\): expected utf-8 text, found 0xff.*encoding: utf-16"),
    "bad json": ("t.jsonl", '{"a": 1}\n{"a" 2}\n', r"^Row 2 of t\.jsonl: column 6 is not valid JSON: .*Write one JSON object a line"),
    "no object": ("t.jsonl", "[1, 2]\n", r"^Row 1 of t\.jsonl: expected a JSON object such as \{\.\.\.\}, found \[1, 2\]"),
    "nan": ("t.jsonl", '{"a": NaN}\n', r"^Row 1 of t\.jsonl: NaN is no JSON number"),
    "double key": ("t.jsonl", '{"a": 1, "a": 2}\n', r"^Row 1 of t\.jsonl: the key 'a' stands twice"),
    "deep json": ("t.jsonl", '{"a": ' + "[" * 100_000, r"^Row 1 of t\.jsonl: nested too deeply"),
    "long number": ("t.jsonl", '{"a": ' + "9" * 5000 + "}", r"^Row 1 of t\.jsonl: Exceeds the limit"),
    "no parquet": ("t.parquet", "PAR1", r"t\.parquet cannot be read as parquet: .*Save it again"),
    "unknown suffix": ("t.xlsx", "", r"t\.xlsx: expected \.csv, .* or a folder of \.txt, found a \.xlsx file"),
    "no suffix": ("t", "", r"found a file without suffix"),
}


@pytest.mark.parametrize("case", BAD_TABLES)
def test_bad_tables_are_refused(tmp_path, case):
    name, content, message = BAD_TABLES[case]
    with pytest.raises(DataError, match=message):
        read(write(tmp_path, name, content))


def test_byte_and_line_of_a_bad_byte_far_in(tmp_path):
    """Past the decoder's chunks, where offsets are easily lost."""
    good = "".join(f"{number},é{'x' * (number % 90)}\r\n" for number in range(20_000)).encode()
    path = write(tmp_path, "t.csv", b"a,b\r\n" + good + b"1,\x81\r\n")
    with pytest.raises(DataError, match=rf"Line 20002 of t\.csv \(byte {5 + len(good) + 2}\)"):
        read(path)
    path = write(tmp_path, "u.csv", b"a,b\r" + b"1,x\r" * 9_000 + b"1,\x81\r")
    # The header, 9000 rows, and the bad one.
    with pytest.raises(DataError, match=r"Line 9002 of u\.csv \(byte 36006\): expected cp1252 text, found 0x81.*encoding: utf-8"):
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


class TestParquet:
    def test_no_rows(self, tmp_path):
        pq.write_table(pa.table({"a": pa.array([], pa.string())}), tmp_path / "t.parquet")
        with pytest.raises(DataError, match=r"t\.parquet holds no rows"):
            read(tmp_path / "t.parquet")

    def test_double_column(self, tmp_path):
        pq.write_table(pa.Table.from_arrays([pa.array(["x"]), pa.array(["y"])], names=["a", "a"]), tmp_path / "t.parquet")
        with pytest.raises(DataError, match=r"names the column 'a' 2 times"):
            read(tmp_path / "t.parquet")

    def test_damage_behind_a_sound_footer(self, tmp_path):
        path = tmp_path / "t.parquet"
        table = pa.table({"a": [f"text {number}" for number in range(2000)]})
        pq.write_table(table, path, compression="none", use_dictionary=False, write_page_checksum=True)
        content = bytearray(path.read_bytes())
        content[len(content) // 2] ^= 1
        path.write_bytes(content)
        with pytest.raises(DataError, match=r"t\.parquet cannot be read as parquet"):
            read(path)

    def test_rows_that_are_not_there(self, tmp_path, monkeypatch):
        path = tmp_path / "t.parquet"
        pq.write_table(pa.table({"a": [str(number) for number in range(600)]}), path)
        whole = pq.ParquetFile.iter_batches
        monkeypatch.setattr(pq.ParquetFile, "iter_batches", lambda self, **options: list(whole(self, **options))[:1])
        with pytest.raises(DataError, match=r"t\.parquet should hold 600 rows, but 256 were found"):
            read(path)

    def test_only_wanted_columns_are_read(self, tmp_path):
        pq.write_table(pa.table({"a": ["x"], "b": ["y"], "c": ["z"]}), tmp_path / "t.parquet")
        assert read(tmp_path / "t.parquet", wanted=["c", "a"]) == [(1, {"a": "x", "c": "z"})]
        assert set(read(tmp_path / "t.parquet", wanted=["a", "missing"])[0][1]) == {"a", "b", "c"}


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
        with pytest.raises(DataError, match=r"^30 rows of t\.csv cannot be used:\n(  .*\n){20}  \.\.\. and 10 more such rows") as caught:
            log.raise_if_any()
        assert "Row 21 of" in str(caught.value)
        assert "Row 22 of" not in str(caught.value)

    def test_log_reports_what_ended_the_reading(self):
        with pytest.raises(DataError, match=r"^the end$"):
            FaultLog(stopped="the end").raise_if_any()
        log = FaultLog([RowFault("t.csv", 2, "is odd.")], stopped="the end")
        with pytest.raises(DataError, match=r"^1 row of t\.csv cannot be used:\n  Row 2 of t\.csv: is odd\.\n  the end$"):
            log.raise_if_any()


def test_source_names():
    assert [source_name(source) for source in ("-", "a/b.csv", Path("c/"), "owner/name", ".")] == ["standard input", "b.csv", "c", "name", "."]
