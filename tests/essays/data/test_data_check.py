from __future__ import annotations

import json

import numpy as np
import pytest
from essay_files import config, csv_file

from aes_dynloss.errors import ConfigError, DataError
from aes_dynloss.essays.data.data_check import DataReport, LostRow, check_data
from aes_dynloss.essays.data.data_config import DataConfig

PROMPTS = {"1": {"low": 0, "high": 4}, "2": {"low": 1, "high": 6}}


def essays(count: int = 10) -> list[dict[str, object]]:
    return [
        {"essay_id": f"e{number}", "prompt_id": number % 2 + 1, "text": "word " * (number + 1), "score": number % 4 + 1}
        for number in range(count)
    ]


def checked(tmp_path, rows: list[dict[str, object]], *, check_splits: bool = False, **values: object) -> DataReport:
    source = csv_file(tmp_path, rows)
    return check_data(config(source, **{"prompts": PROMPTS, **values}), check_splits=check_splits)


def test_sound_essays(tmp_path):
    report = checked(tmp_path, essays())
    assert report.clean
    assert (report.source, report.rows, report.used, report.lost, report.errors) == ("essays.csv", 10, 10, [], [])
    assert (report.ranges_given, report.splits, report.leaks) == (True, None, [])
    assert (report.repeated_ids, report.swallowing, report.same_texts, report.hidden_characters) == ([], [], [], {})
    one = report.prompts["1"]
    scores = np.array([1, 3, 1, 3, 1])
    assert (one.n, one.range, one.low, one.high) == (5, "0 to 4", 1, 3)
    assert (one.mean, one.sd) == (pytest.approx(scores.mean()), pytest.approx(np.std(scores, ddof=1)))
    assert one.score_counts == {"1": 3, "3": 2}
    assert one.words == (1, 3, 5, 7, 9)


def test_every_lost_row_is_told(tmp_path):
    rows = essays(40)
    for row in rows[:30]:
        row["score"] = 9
    report = checked(tmp_path, rows)
    assert not report.clean
    assert (report.rows, report.used, len(report.lost)) == (40, 10, 30)
    assert report.lost[0] == LostRow(
        2, "e0", "score 9 is outside prompt 1's range 0 to 4. Fix the row or the range in data.prompts."
    )
    assert [lost.row for lost in report.lost] == list(range(2, 32))


def test_lost_rows_of_every_kind_are_counted(tmp_path):
    path = tmp_path / "essays.jsonl"
    lines = [json.dumps(row) for row in essays(4)]
    path.write_text(
        "\n".join([lines[0], "{", lines[1].replace("word", ""), lines[2], lines[2], lines[3].replace('"e3"', '"e0"')])
    )
    report = check_data(DataConfig(source=str(path)), check_splits=False)
    assert (report.rows, report.used, report.repeated_ids, report.ranges_given) == (6, 2, ["e2"], False)
    assert [(lost.row, lost.essay_id) for lost in report.lost] == [(2, None), (3, "e1"), (6, "e0")]


def test_an_early_end_is_an_error_beside_what_was_read(tmp_path):
    path = tmp_path / "essays.csv"
    path.write_bytes(b"essay_id,prompt_id,text,score\n1,1,x,2\n2,1,y,3\n" + b"3,1,z,4\n" * 2000 + b"4,1,\xff,1\n")
    report = check_data(DataConfig(source=str(path)), check_splits=False)
    assert report.used == 3
    assert len(report.errors) == 1
    assert report.errors[0].startswith("Reading ended early. Line 2004 of essays.csv (byte ")


def test_left_out_prompts(tmp_path):
    report = checked(tmp_path, essays(), keep_prompts=["2"])
    assert (report.rows, report.used, report.left_out, set(report.prompts), report.clean) == (10, 5, 5, {"2"}, True)
    report = checked(tmp_path, essays(), keep_prompts=["3"])
    assert (report.left_out, report.used, report.clean) == (10, 0, False)
    assert "holds no essay of prompt '3'" in report.errors[0]


def test_oddities(tmp_path):
    rows = essays(4)
    rows[0]["text"] = "One  text"
    rows[1]["text"] = "one text\ufeff"
    rows[2]["text"] = "ONE TEXT"
    rows[3]["text"] = "line\nline\ttab\u200b \ue000 \ufffd\x07"
    report = checked(tmp_path, rows)
    assert report.clean
    assert report.same_texts == [["e0", "e2"]]
    assert report.hidden_characters == {
        "U+0007 without name": ["e3"],
        "U+200B ZERO WIDTH SPACE": ["e3"],
        "U+E000 without name": ["e3"],
        "U+FEFF ZERO WIDTH NO-BREAK SPACE": ["e1"],
        "U+FFFD REPLACEMENT CHARACTER": ["e3"],
    }


def test_hiding_rows(tmp_path):
    rows = essays(4)
    rows[1]["text"] = "open, and on\ne9,2,more of it"
    assert checked(tmp_path, rows).swallowing == ["e1"]


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_rows_behind_a_quote_that_is_not_closed(tmp_path, delimiter):
    path = tmp_path / "essays.csv"
    lines = ["essay_id,prompt_id,text,score", '1,p,"My dog is big,1', '2,p,My cat is small",5', "3,p,A bird,3"]
    path.write_text("\n".join(lines).replace(",", delimiter), encoding="utf-8")
    report = check_data(DataConfig(source=str(path)), check_splits=False)
    assert (report.rows, report.swallowing) == (2, ["1"])


def test_ranges_that_cannot_be_told(tmp_path):
    report = checked(tmp_path, [{**row, "score": 2.51} for row in essays()], prompts=None)
    assert (report.prompts["1"].range, report.used) == (None, 10)
    assert "score 2.51 of prompt 1" in report.errors[0]
    assert checked(tmp_path, essays(1), prompts=None).prompts["1"].sd is None


def test_parts_of_cross_fitting(tmp_path):
    rows = essays(20)
    rows[1]["text"] = rows[0]["text"]
    report = checked(tmp_path, rows, split={"cross_fit": 20}, check_splits=True)
    assert report.splits == {"train": 20, "dev": 0, "test": 0, "teacher_dev": 0}
    (leak,) = report.leaks
    assert {essay_id for _, essay_id in leak} == {"e0", "e1"}


def test_splits(tmp_path):
    rows = essays(20)
    for place, row in enumerate(rows):
        row["part"] = ["train", "train", "train", "dev", "test"][place % 5]
    rows[3]["text"] = rows[0]["text"]
    report = checked(tmp_path, rows, split={"column": "part"}, check_splits=True)
    assert report.splits == {"train": 12, "dev": 4, "test": 4, "teacher_dev": 0}
    assert report.leaks == [(("train", "e0"), ("dev", "e3"))]
    assert report.clean
    rows[4]["part"] = ""
    report = checked(tmp_path, rows, split={"column": "part"}, check_splits=True)
    assert (report.splits, report.clean) == (None, False)
    assert report.errors == [
        "1 essays are in no split: e4. Assign them, or leave them out by data.split.allow_unassigned: true."
    ]


def test_lost_rows_may_stand_in_id_files(tmp_path):
    rows = essays(6)
    rows[0]["score"] = "lost"
    for name, own in {"train": (0, 1, 2), "dev": (3,), "test": (4, 5)}.items():
        (tmp_path / f"{name}_ids.txt").write_text("\n".join(f"e{number}" for number in own))
    report = checked(tmp_path, rows, split={"folds_dir": str(tmp_path)}, check_splits=True)
    assert (report.splits, len(report.lost), report.errors) == (
        {"train": 2, "dev": 1, "test": 2, "teacher_dev": 0},
        1,
        [],
    )


def test_the_report_is_json(tmp_path):
    rows = essays(6)
    rows[0]["score"] = "lost"
    rows[2]["text"] = rows[3]["text"] = "a\u200b"
    report = checked(tmp_path, rows, check_splits=True)
    values = json.loads(json.dumps(report.as_dict(), allow_nan=False))
    assert values["clean"] is False
    assert values["lost"] == [
        {
            "row": 2,
            "essay_id": "e0",
            "reason": "score 'lost' is not a finite number. Write it as 3 or 3.5, in digits 0 to 9.",
        }
    ]
    assert set(values) == {"clean", *DataReport.__dataclass_fields__}


def test_nothing_to_report_on(tmp_path):
    with pytest.raises(DataError, match="There is no file or folder"):
        check_data(DataConfig(source=str(tmp_path / "none.csv")), check_splits=False)
    (tmp_path / "essays.csv").write_text("essay_id,prompt_id,text\n1,1,x\n")
    with pytest.raises(DataError, match="no column 'score'"):
        check_data(DataConfig(source=str(tmp_path / "essays.csv")), check_splits=False)
    with pytest.raises(ConfigError, match=r"data\.hub_split names a split of a hub data set"):
        check_data(DataConfig(source=str(tmp_path / "essays.csv"), hub_split="train"), check_splits=False)


def test_all_rows_lost(tmp_path):
    report = checked(tmp_path, [{**row, "score": ""} for row in essays(3)], check_splits=True)
    assert (report.rows, report.used, len(report.lost), report.prompts) == (3, 0, 3, {})
    assert report.errors == ["essays.csv holds no usable essay."]


def test_texts_as_short_as_answers_are_told(tmp_path):
    rows = essays(40)
    assert checked(tmp_path, rows).may_be_answers
    assert not checked(tmp_path, rows, kind="answers").may_be_answers
    assert not checked(tmp_path, rows[:20]).may_be_answers
    assert not checked(tmp_path, [{**row, "text": f"{row['text']} " * 9} for row in rows]).may_be_answers
