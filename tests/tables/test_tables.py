from __future__ import annotations

import csv
import io
import json
import logging
import string
import tracemalloc
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from table_files import read, write

from aes_dynloss.errors import DataError
from aes_dynloss.tables.formats import iterate_rows, source_name
from aes_dynloss.tables.rows import FaultLog

NAMES = st.lists(st.text(string.ascii_letters + "_ ,\"'é", min_size=1, max_size=8), min_size=1, max_size=4, unique=True)
# Whatever a file may hold: no NUL (refused), no lone surrogates (no text).
TEXTS = st.one_of(
    st.sampled_from(
        ["007", "NA", "null", "nan", "", " ", "1e5", "True", '"', '""', "a\r\nb", "\r", "\ufeff", "\u2028", "\x1c"]
    ),
    st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=30),
)


@st.composite
def tables(draw: st.DrawFn) -> tuple[list[str], list[dict[str, str]]]:
    names = draw(NAMES)
    rows = draw(st.lists(st.fixed_dictionaries(dict.fromkeys(names, TEXTS)), min_size=1, max_size=6))
    return names, rows


@settings(max_examples=100, deadline=None)
@given(
    tables(),
    st.sampled_from([",", "\t"]),
    st.booleans(),
    st.sampled_from(["\r\n", "\n"]),
    st.sampled_from(["utf-8", "utf-8-sig", "utf-16"]),
)
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


def test_rows_of_parquet_that_share_a_long_text_are_not_many_in_memory(monkeypatch):
    monkeypatch.setattr("aes_dynloss.tables.formats._BATCH_BYTES", 2**21)
    stream = io.BytesIO()
    pq.write_table(pa.table({"text": ["a" * 2**17] * 200}), stream)
    assert len(stream.getvalue()) < 2**18
    tracemalloc.start()
    try:
        assert all(len(row["text"]) == 2**17 for _, row in iterate_rows("t.parquet", content=stream.getvalue()))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 2**22  # all would be 25 * 2**20


def test_jsonl_and_parquet_keep_types(tmp_path):
    row = {"a": 7, "b": 1.5, "c": None, "d": True, "e": ["x"], "f": "007"}
    assert read(write(tmp_path, "t.ndjson", json.dumps(row))) == [(1, row)]
    pq.write_table(pa.Table.from_pylist([row]), tmp_path / "t.parquet")
    assert read(tmp_path / "t.parquet") == [(1, row)]


def test_no_quoting_leaves_quotes_alone(tmp_path):
    path = write(tmp_path, "t.tsv", 'id\ttext\n1\t"open\n2\tclosed"\n3\t""\n')
    expected = [(2, {"id": "1", "text": '"open'}), (3, {"id": "2", "text": 'closed"'}), (4, {"id": "3", "text": '""'})]
    assert read(path, quoting="none") == expected
    assert (
        len(
            read(
                write(tmp_path, "u.tsv", path.read_text().replace("\n3", "\t\n3").replace("open\n2", "open 2")),
                quoting="none",
                on_fault=FaultLog(),
            )
        )
        == 1
    )


def test_rows_are_numbered_as_in_a_spreadsheet(tmp_path):
    path = write(tmp_path, "t.csv", '\nid,text\n\n1,"two\n\nlines"\n2,x\n')
    assert [number for number, _ in read(path)] == [4, 5]
    path = write(tmp_path, "t.jsonl", '\n{"a": 1}\n\n{"a": 2}\n')
    assert [number for number, _ in read(path)] == [2, 4]


def test_lone_carriage_returns_end_lines(tmp_path):
    assert read(write(tmp_path, "t.csv", "id,text\r1,a\r2,b\r")) == [
        (2, {"id": "1", "text": "a"}),
        (3, {"id": "2", "text": "b"}),
    ]


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
        monkeypatch.setattr(
            Path, "read_bytes", lambda path: (_ for _ in ()).throw(PermissionError(13, "Permission denied"))
        )
        with pytest.raises(DataError, match=r"Row 1 of .*: a\.txt cannot be read: .*Permission denied"):
            read(tmp_path)

    def test_no_texts(self, tmp_path):
        (tmp_path / "sub.txt").mkdir()
        with pytest.raises(DataError, match=r"holds no \.txt files\. Give a file, or a folder"):
            read(tmp_path)

    def test_unreadable_folder(self, tmp_path, monkeypatch):
        monkeypatch.setattr(
            Path, "iterdir", lambda path: (_ for _ in ()).throw(PermissionError(13, "Permission denied"))
        )
        with pytest.raises(DataError, match="cannot be read: Permission denied"):
            read(tmp_path)


def test_only_wanted_columns_are_read(tmp_path):
    pq.write_table(pa.table({"a": ["x"], "b": ["y"], "c": ["z"]}), tmp_path / "t.parquet")
    assert read(tmp_path / "t.parquet", wanted=["c", "a"]) == [(1, {"a": "x", "c": "z"})]
    assert set(read(tmp_path / "t.parquet", wanted=["a", "missing"])[0][1]) == {"a", "b", "c"}


def test_short_columns_are_read_beside_the_wanted_ones(tmp_path):
    columns = {
        "text": ["x" * 9, "y" * 9],
        "class": pa.array(["1b", None]).dictionary_encode(),
        "year": [2026, 2027],
        "late": [True, None],
        "number": [7.0, None],
        "points": [0.5, 2.0],
        "none": pa.nulls(2),
        "prompt": ["short", "p" * 9],
        "vector": [[1.0], [2.0]],
        "picture": [b"a", b"b"],
    }
    pq.write_table(pa.table(columns), tmp_path / "t.parquet")
    assert list(read(tmp_path / "t.parquet", wanted=["text"], short=8)[0][1]) == [*columns][:5]
    assert read(tmp_path / "t.parquet", wanted=["text"], short=9)[1][1]["prompt"] == "p" * 9


def test_source_names():
    assert [source_name(source) for source in ("-", "a/b.csv", Path("c/"), "owner/name", ".")] == [
        "standard input",
        "b.csv",
        "c",
        "name",
        ".",
    ]
