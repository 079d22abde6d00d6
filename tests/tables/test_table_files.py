from __future__ import annotations

import math

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from aes_dynloss.errors import DataError
from aes_dynloss.tables.atomic import atomic_file
from aes_dynloss.tables.formats import WRITTEN_SUFFIXES, column_names, read_cells, write_table
from aes_dynloss.tables.provenance import Provenance, seal

SAFE_TEXT = st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cs"]), min_size=1).filter(str.strip)


def file(folder, name, text, encoding="utf-8"):
    path = folder / name
    path.write_bytes(text.encode(encoding))
    return path


@pytest.mark.parametrize("suffix", WRITTEN_SUFFIXES)
@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows=st.lists(st.tuples(SAFE_TEXT, st.floats(allow_nan=False, allow_infinity=False)), min_size=1))
def test_tables_come_back_digit_for_digit(tmp_path, suffix, rows):
    table = pd.DataFrame(rows, columns=["essay_id", "raw"])
    write_table(table, tmp_path / f"t{suffix}")
    found = read_cells(tmp_path / f"t{suffix}")
    assert list(found["essay_id"]) == [name for name, _ in rows]
    assert [float(cell) for cell in found["raw"]] == [value for _, value in rows]


LINE_ENDS = ["a\rb", "\r", "a\r\nb", "\r\n", "a\nb\n", 'say "so"\r, twice', ",", '"', "a\r", "\rb", "plain"]


@pytest.mark.parametrize("suffix", WRITTEN_SUFFIXES)
def test_texts_come_back_with_their_line_ends_quotes_and_commas(tmp_path, suffix):
    texts = [f"({text})" for text in LINE_ENDS]
    write_table(pd.DataFrame({"name": texts, "a\rb": texts, "score": None}), tmp_path / f"t{suffix}")
    found = read_cells(tmp_path / f"t{suffix}")
    assert {name: list(found[name]) for name in found} == {"name": texts, "a\rb": texts, "score": [None] * len(texts)}


def test_rows_of_csv_end_by_a_line_feed_alone(tmp_path):
    write_table(
        pd.DataFrame({"essay_id": ["1", "2"], "text": ["plain", "a\r\n"], "raw": [0.1, None]}), tmp_path / "t.csv"
    )
    assert (tmp_path / "t.csv").read_bytes() == b'essay_id,text,raw\n1,plain,0.1\n2,"a\r\n",\n'


@pytest.mark.parametrize("suffix", [*WRITTEN_SUFFIXES, ".CSV"])
def test_blanks_stay_blank_and_text_stays_text(tmp_path, suffix):
    table = pd.DataFrame({"essay_id": ["007", "NA", "nan", "1e5"], "reference": [1.0, math.nan, 3.0, 4.5]})
    write_table(table, tmp_path / f"t{suffix}")
    found = read_cells(tmp_path / f"t{suffix}")
    assert list(found["essay_id"]) == ["007", "NA", "nan", "1e5"]
    assert found["reference"].isna().tolist() == [False, True, False, False]


def test_csv_as_spreadsheets_write_it(tmp_path):
    path = file(tmp_path, "t.csv", '\ufeffessay_id,raw\r\n"a,b",1\r\n\r\n"say ""so""",2\r\n"two\nlines",3\r\n')
    assert read_cells(path).to_dict("list") == {"essay_id": ["a,b", 'say "so"', "two\nlines"], "raw": ["1", "2", "3"]}


def test_blank_lines_before_a_header(tmp_path):
    path = file(tmp_path, "t.csv", "\n\nessay_id,raw\n\n1,2\n")
    assert read_cells(path).to_dict("list") == {"essay_id": ["1"], "raw": ["2"]}


def test_a_name_too_long_for_its_temporary_file(tmp_path):
    with pytest.raises(DataError, match=r"Cannot write .*: File name too long"):
        write_table(pd.DataFrame({"a": [1]}), tmp_path / f"{'x' * 248}.csv")


def test_jsonl_keys_that_a_line_lacks_are_blank(tmp_path):
    path = file(tmp_path, "t.jsonl", '{"essay_id": "1", "raw": 1.5}\n\n{"essay_id": 2, "score": 3, "raw": " "}\n')
    found = read_cells(path)
    assert found.to_dict("records") == [
        {"essay_id": "1", "raw": 1.5, "score": None},
        {"essay_id": 2, "raw": None, "score": 3},
    ]


def test_a_big_whole_number_of_parquet_does_not_pass_through_a_float(tmp_path):
    big = 2**60 + 1
    pd.DataFrame({"essay_id": pd.array([big, None], dtype="Int64")}).to_parquet(tmp_path / "t.parquet")
    assert read_cells(tmp_path / "t.parquet")["essay_id"].tolist() == [big, None]


def test_nan_and_empty_text_of_parquet_are_blank(tmp_path):
    columns = {"essay_id": pa.array(["1", "", None]), "raw": pa.array([1.5, math.nan, None])}
    pq.write_table(pa.table(columns), tmp_path / "t.parquet")
    assert read_cells(tmp_path / "t.parquet").to_dict("list") == {
        "essay_id": ["1", None, None],
        "raw": [1.5, None, None],
    }


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("t.txt", "x", "t.txt must end in one of .csv, .tsv, .jsonl, .ndjson, .parquet, .xlsx"),
        ("t.csv", "", "t.csv is empty"),
        ("t.csv", "essay_id,raw\n", "t.csv holds a header .* but no rows"),
        ("t.csv", "essay_id,raw,raw\n1,2,3\n", "header of t.csv names the column 'raw' 2 times"),
        ("t.csv", "essay_id,raw\n1,2\n2\n", "Row 3 of t.csv: expected 2 values as in the header, found 1"),
        ("t.csv", "essay_id,raw\n1,2,5\n", "Row 2 of t.csv: expected 2 values as in the header, found 3"),
        ("t.csv", "essay_id;raw\n1;2;5\n", "Row 2 of t.csv: expected 2 values .*found 3. Is there a semicolon"),
        ("t.csv", 'essay_id,raw\n"1,2\n', "Row 2 of t.csv .*a quote is opened in it and never closed"),
        ("t.csv", 'essay_id,raw\n"1"x,2\n', "Row 2 of t.csv .*text follows it"),
        ("t.jsonl", "", "t.jsonl is empty"),
        ("t.jsonl", '{"a": 1}\n{"a": }\n', "Row 2 of t.jsonl: .*not valid JSON"),
        ("t.jsonl", '{"a": NaN}\n', "Row 1 of t.jsonl: NaN is no JSON number; write null"),
        ("t.jsonl", "[1]\n", "Row 1 of t.jsonl: expected a JSON object"),
        ("t.jsonl", '{"raw": 1, "raw": 2}\n', "Row 1 of t.jsonl: the key 'raw' comes twice"),
        ("t.parquet", "essay_id,raw\n1,2\n", "t.parquet cannot be read as parquet"),
        ("t.xlsx", "essay_id,raw\n1,2\n", "t.xlsx cannot be read as xlsx"),
    ],
)
def test_files_that_cannot_be_read(tmp_path, name, text, message):
    with pytest.raises(DataError, match=message):
        read_cells(file(tmp_path, name, text))


@pytest.mark.parametrize("name", ["t.csv", "t.jsonl", "t.parquet"])
def test_a_file_that_is_not_there(tmp_path, name):
    with pytest.raises(DataError, match=f"There is no file or folder .*{name}"):
        read_cells(tmp_path / name)


def test_a_folder_of_scores_is_the_tables_that_it_was_filled_with(tmp_path):
    pq.write_table(pa.table({"essay_id": ["3"], "raw": [2.5]}), tmp_path / "b.parquet")
    file(tmp_path, "a.csv", "essay_id,score\n1,2\n2,\n")
    with pytest.raises(DataError, match=r"it is a folder\. Name a file, or a folder of tables .* to its end"):
        read_cells(tmp_path)
    seal(tmp_path, Provenance.now())
    file(tmp_path, "later.csv", "essay_id\n9\n")
    cells = read_cells(tmp_path)
    assert cells.to_dict("list") == {"essay_id": ["1", "2", "3"], "score": ["2", None, None], "raw": [None, None, 2.5]}
    assert cells.index.tolist() == [2, 3, 4]
    assert column_names(tmp_path) == ["essay_id", "score", "raw"]


@pytest.mark.parametrize("other", ["report.json", "parts/a.csv"])
def test_a_folder_that_holds_other_things_is_no_table(tmp_path, other):
    file(tmp_path, "predictions_dev.csv", "essay_id,raw\n1,2\n")
    (tmp_path / other).parent.mkdir(exist_ok=True)
    file(tmp_path, other, "{}")
    seal(tmp_path, Provenance.now())
    with pytest.raises(DataError, match="it is a folder"):
        read_cells(tmp_path)


@pytest.mark.parametrize("name", ["t.csv", "t.jsonl"])
def test_a_file_that_is_not_utf_8(tmp_path, name):
    text = 'essay_id,raw\n"caf\u00e9",1\n' if name == "t.csv" else '{"essay_id": "caf\u00e9"}\n'
    with pytest.raises(DataError, match=f"Line [12] of {name} .byte 17.: expected utf-8 text, found 0xe9"):
        read_cells(file(tmp_path, name, text, "cp1252"))


def write_half(path):
    with atomic_file(path) as temporary:
        temporary.write_text("half")
        raise KeyboardInterrupt


def test_a_failed_write_leaves_the_old_file_and_no_other(tmp_path):
    path = file(tmp_path, "t.jsonl", "old")
    with pytest.raises(ValueError, match="JSON compliant"):
        write_table(pd.DataFrame({"raw": [math.inf]}), path)
    with pytest.raises(KeyboardInterrupt):
        write_half(path)
    assert path.read_text() == "old"
    assert [other.name for other in tmp_path.iterdir()] == ["t.jsonl"]


def test_missing_folders_are_made_and_an_old_file_is_replaced(tmp_path):
    path = tmp_path / "a" / "b" / "t.csv"
    for value in ("1", "2"):
        write_table(pd.DataFrame({"essay_id": [value]}), path)
    assert path.read_text() == "essay_id\n2\n"
    assert [other.name for other in path.parent.iterdir()] == ["t.csv"]


def test_a_new_file_takes_the_place_of_the_old_one_which_is_not_written_over(tmp_path):
    path = file(tmp_path, "t.csv", "old")
    (tmp_path / "link").hardlink_to(path)
    write_table(pd.DataFrame({"essay_id": ["1"]}), path)
    assert path.read_text() == "essay_id\n1\n"
    assert (tmp_path / "link").read_text() == "old"


def test_a_place_that_cannot_be_written(tmp_path):
    file(tmp_path, "taken", "x")
    with pytest.raises(DataError, match=r"Cannot write .*t.csv: "), atomic_file(tmp_path / "taken" / "t.csv"):
        pass
    with pytest.raises(DataError, match=r"t.txt must end in one of"):
        write_table(pd.DataFrame({"essay_id": ["1"]}), tmp_path / "t.txt")
