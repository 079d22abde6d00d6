from __future__ import annotations

import json
import math

import numpy as np
import pandas as pd
import pandas.testing as pdt
import pytest
from facts import facts
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from aes_dynloss.errors import DataError
from aes_dynloss.reports.predictions import check_predictions, read_predictions, write_predictions
from aes_dynloss.reports.prompts import build_report
from aes_dynloss.tables.columns import ColumnNames
from aes_dynloss.tables.score_range import ScoreRange

RANGES = {"1": ScoreRange(1, 6), "2": ScoreRange(0, 3)}
HEADER = "essay_id,prompt_id,reference,raw,score\n"


@pytest.fixture
def csv(tmp_path):
    def write(text, name="p.csv"):
        path = tmp_path / name
        path.write_text(text, encoding="utf-8")
        return path

    return write


def test_a_whole_file(csv):
    found = read_predictions(csv(HEADER + "007,1,4,3.6,4\nNA,2,0,1.5,2\n"), ranges=RANGES)
    assert found.table.to_dict("list") == {
        "essay_id": ["007", "NA"],
        "prompt_id": ["1", "2"],
        "reference": [4, 0],
        "raw": [3.6, 1.5],
        "score": [4, 2],
    }
    assert (found.ranges, found.inferred, found.notes) == (RANGES, frozenset(), ())


def test_raw_alone_is_trimmed_and_rounded_half_up(csv):
    rows = "".join(f"{row},{prompt},{raw}\n" for row, (prompt, raw) in enumerate([(1, 2.5), (1, 9), (2, 0.5), (2, -4)]))
    found = read_predictions(csv("essay_id,prompt_id,raw\n" + rows), ranges=RANGES)
    assert found.table["score"].tolist() == [3, 6, 1, 0]
    assert found.table["reference"].isna().all()
    assert found.notes == ("No score column in p.csv: score is raw, trimmed to the range and rounded half up.",)


def test_score_alone_serves_as_raw(csv):
    found = read_predictions(csv("essay_id,prompt_id,reference,score\na,1,4,3\n"), ranges={"1": RANGES["1"]})
    assert found.table["raw"].tolist() == [3]
    assert found.notes == ("No raw column in p.csv: measures on raw predictions use the score.",)


def test_without_a_prompt_column_all_is_one_prompt(csv):
    found = read_predictions(csv("essay_id,reference,raw\na,4,3\nb,2,2.2\n"), ranges={"all": ScoreRange(1, 6)})
    assert found.table["prompt_id"].tolist() == ["all", "all"]
    assert found.notes[0] == "No prompt column in p.csv: all essays count as one prompt, 'all'."


def test_without_ranges_the_grid_spans_the_scores_seen(csv):
    found = read_predictions(csv(HEADER + "a,1,4,3.6,5\nb,1,2,1,1\nc,2,0,1.5,2\n"))
    assert found.ranges == {"1": ScoreRange(1, 5), "2": ScoreRange(0, 2)}
    assert found.inferred == {"1", "2"}
    assert "No score range was given for p.csv: the grid spans the scores seen (1: 1 to 5, 2: 0 to 2)" in found.notes[0]


def test_a_range_for_some_prompts_and_one_for_nothing(csv):
    given_ranges = {"1": ScoreRange(1, 6), "9": ScoreRange(0, 1)}
    found = read_predictions(csv(HEADER + "a,1,4,3.6,5\nc,2,0,1.5,2\n"), ranges=given_ranges)
    assert found.ranges == {"1": ScoreRange(1, 6), "2": ScoreRange(0, 2)}
    assert "(2: 0 to 2)" in found.notes[0]
    assert found.notes[1] == "Ranges are given for prompts without essays in p.csv: 9."


def test_columns_by_other_names(csv):
    path = csv("id,set,score,pred\na,1,4,3.6\n")
    names = ColumnNames(essay_id="id", prompt_id="set", reference="score", raw="pred")
    found = read_predictions(path, columns=names, ranges=RANGES)
    assert found.table.to_dict("records") == [
        {"essay_id": "a", "prompt_id": "1", "reference": 4, "raw": 3.6, "score": 4}
    ]


def test_essays_scored_twice_and_once(csv):
    text = "essay_id,prompt_id,reference,second_reference,score\na,1,4,5,4\nb,1,3,,3\n"
    found = read_predictions(csv(text), ranges=RANGES).table["second_reference"]
    np.testing.assert_array_equal(found, [5, math.nan])


def test_half_points(csv):
    path = csv("essay_id,reference,score\na,4.5,5\n")
    assert read_predictions(path, ranges={"all": ScoreRange(0, 9, 0.5)}).table["reference"].tolist() == [4.5]
    assert read_predictions(path).ranges["all"] == ScoreRange(4.5, 5, 0.5)  # human scores tell the step
    unrounded = csv("essay_id,reference,score\na,4.5,5\nb,4,4.25\n")
    with pytest.raises(DataError, match=r"The score 4.25 of prompt all in p.csv is no multiple of 0.5, and no range"):
        read_predictions(unrounded)
    with pytest.raises(DataError, match=r"The score 4.25 of prompt all in p.csv is not whole"):
        read_predictions(csv("essay_id,reference,score\na,4,5\nb,4,4.25\n"))


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (
            "c,1,7,3,3",
            r"Row 3 of p.csv \(essay 'c'\): reference 7 is no score point of prompt 1's range 1 to 6. Fix the row",
        ),
        ("c,2,1,3,4", r"Row 3 of p.csv \(essay 'c'\): score 4 is no score point of prompt 2's range 0 to 3"),
        ("c,2,1,3,2.5", r"score 2.5 is no score point of prompt 2's range"),
        ("c,1,x,3,3", r"Row 3 of p.csv \(essay 'c'\): reference 'x' is not a finite number"),
        ("c,1,3,nan,3", r"Row 3 of p.csv \(essay 'c'\): raw 'nan' is not a finite number"),
        ("c,1,3,3,inf", r"score 'inf' is not a finite number"),
        ("c,1,,3,3", r"Row 3 of p.csv \(essay 'c'\): reference is blank \(so in 1 rows\). Fill it in"),
        ("c,1,3,,3", r"Row 3 of p.csv \(essay 'c'\): raw is blank"),
        ("c,1,3,3, ", r"score is blank"),
        (",1,3,3,3", "Row 3 of p.csv: essay_id is empty"),
        ("c,,3,3,3", "Row 3 of p.csv: prompt_id is empty"),
        ("a,1,3,3,3", "p.csv has more than one row for essay 'a' of prompt '1'. Keep one row an essay"),
    ],
)
def test_rows_that_cannot_be_used(csv, row, message):
    with pytest.raises(DataError, match=message):
        read_predictions(csv(HEADER + "a,1,4,3.6,4\n" + row + "\n"), ranges=RANGES)


def test_an_id_may_come_again_in_another_prompt(csv):
    assert len(read_predictions(csv(HEADER + "a,1,4,3.6,4\na,2,1,1,1\n"), ranges=RANGES).table) == 2


def test_a_file_without_predictions(csv):
    with pytest.raises(DataError, match=r"Neither a column raw nor a column score in p.csv"):
        read_predictions(csv("essay_id,reference\na,3\n"))
    with pytest.raises(DataError, match=r"p.csv has no column 'essay_id'; "):
        read_predictions(csv("id,reference,raw\na,3,3\n"))


def test_raw_alone_without_references_needs_a_range(csv):
    with pytest.raises(DataError, match=r"no score to tell the range of prompt all in p.csv from"):
        read_predictions(csv("essay_id,raw\na,3.3\n"))


@pytest.mark.parametrize("column", ["essay_id", "prompt_id"])
def test_a_table_without_ids(column):
    table = pd.DataFrame({"essay_id": ["a"], "prompt_id": ["1"], "raw": [2.0]}).drop(columns=column)
    with pytest.raises(DataError, match=f"No column {column} in the predictions; found"):
        check_predictions(table)


def test_an_empty_table():
    with pytest.raises(DataError, match="No rows in the predictions"):
        check_predictions(pd.DataFrame({"essay_id": [], "prompt_id": [], "raw": []}))


def test_a_table_from_memory_is_left_as_it_is():
    table = pd.DataFrame(
        {"essay_id": [3, 4], "prompt_id": [1, 1], "reference": [2, 3], "raw": np.float32([2.25, 9])}, index=[7, 7]
    )
    before = table.copy()
    checked = check_predictions(table, ranges=RANGES)
    assert checked.table.to_dict("list") == {
        "essay_id": ["3", "4"], "prompt_id": ["1", "1"], "reference": [2, 3], "raw": [2.25, 9], "score": [2, 6],
    }  # fmt: skip
    pdt.assert_frame_equal(table, before)


numbers = st.floats(-1e6, 1e6)


@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".parquet"])
@pytest.mark.parametrize("known", [True, False])
@settings(max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    rows=st.lists(st.tuples(numbers, st.integers(1, 6), st.integers(1, 6), st.none() | st.integers(1, 6)), min_size=1)
)
def test_written_and_read_back(tmp_path, suffix, known, rows):
    table = pd.DataFrame(rows, columns=["raw", "score", "reference", "second_reference"])
    table.insert(0, "prompt_id", "1")
    table.insert(0, "essay_id", [f"{row:03d}" for row in range(len(rows))])
    table["second_reference"] = table["second_reference"].astype(float)
    if not known:
        table["reference"] = math.nan
    checked = check_predictions(table, ranges=RANGES)
    write_predictions(checked.table, tmp_path / f"p{suffix}")
    pdt.assert_frame_equal(read_predictions(tmp_path / f"p{suffix}", ranges=RANGES).table, checked.table)


def test_what_is_written(tmp_path):
    table = pd.DataFrame(
        {
            "model": ["m"],
            "score": [3],
            "raw": [0.1 + 0.2],
            "prompt_id": ["1"],
            "essay_id": ["007"],
            "reference": [math.nan],
        }
    )
    write_predictions(table, tmp_path / "p.csv")
    assert (tmp_path / "p.csv").read_text() == (
        "essay_id,prompt_id,reference,raw,score,model\n007,1,,0.30000000000000004,3.0,m\n"
    )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"raw": None}, "need essay_id, prompt_id, raw and score; raw is missing"),
        ({"raw": [math.inf]}, r"Row 1 of the table for p.csv \(essay 'a'\): raw inf is not a finite number"),
        ({"score": [math.nan]}, r"Row 1 of the table for p.csv \(essay 'a'\): score is blank"),
    ],
)
def test_what_cannot_be_written(tmp_path, change, message):
    columns = {"essay_id": ["a"], "prompt_id": ["1"], "raw": [1.0], "score": [1.0], **change}
    table = pd.DataFrame({name: cells for name, cells in columns.items() if cells is not None})
    with pytest.raises(DataError, match=message):
        write_predictions(table, tmp_path / "p.csv")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("column", ["raw", "rater1"])
@pytest.mark.parametrize("number", [-1e51, 1e308])
def test_numbers_beyond_measure(column, number):
    """Their squares, or the sums of such, are infinite, which no report can hold."""
    columns = {"essay_id": ["a", "b"], "prompt_id": ["1", "1"], "reference": [1, 2], "score": [1, 2]}
    numbers = {"raw": [1.0, 2.0], "rater1": [1.0, 2.0], "rater2": [1.0, 2.0], column: [1e50, number]}
    table = pd.DataFrame({**columns, **numbers})
    with pytest.raises(DataError, match=facts("Row 2", "p.csv", "'b'", column, "1e+50")):
        check_predictions(table, ranges={"1": ScoreRange(1, 6)}, source="p.csv")
    table[column] = [1e50, -1e50]
    checked = check_predictions(table, ranges={"1": ScoreRange(1, 6)}, source="p.csv")
    assert "Infinity" not in json.dumps(build_report(checked, resamples=0).to_dict())
    assert "NaN" not in json.dumps(build_report(checked, resamples=0).to_dict())
