"""Rows, columns and prompts that do not fit, and what is said about them."""

from __future__ import annotations

import logging

import pytest
from essay_files import PROMPTS, ROWS, config, csv_file, jsonl_file
from facts import facts

from aes_dynloss.errors import DataError
from aes_dynloss.essays.data.essay_table import Prompt
from aes_dynloss.essays.data.readers import read_essays
from aes_dynloss.tables.score_range import ScoreRange


def changed(place: int, **values: object) -> list[dict[str, object]]:
    rows: list[dict[str, object]] = [dict(row) for row in ROWS]
    rows[place].update(values)
    return rows


BAD_ROWS = {
    "outside": (
        {"score": "7"},
        r"score 7 is outside prompt 1's range 1 to 6\. Fix the row or the range in data\.prompts\.",
    ),
    "far outside": ({"score": "1e308"}, r"score 1e\+308 is outside"),
    "no point": (
        {"score": "2.5"},
        r"score 2\.5 is no score point of prompt 1 \(1 to 6, step 1\)\. Fix the row or the step",
    ),
    "no number": ({"score": "good"}, r"score 'good' is not a finite number\. Write it as 3 or 3\.5"),
    "NA": ({"score": "NA"}, "score 'NA' is not a finite number"),
    "nan": ({"score": "nan"}, "score 'nan' is not a finite number"),
    "inf": ({"score": "1e999"}, "score '1e999' is not a finite number"),
    "underscore": ({"score": "1_0"}, "score '1_0' is not a finite number"),
    "other digits": ({"score": "٣"}, "score '٣' is not a finite number"),
    "comma": ({"score": "3,5"}, r"score '3,5' has a decimal comma\. Write 3\.5"),
    "no score": ({"score": " "}, "score is empty; expected a number"),
    "no text": ({"text": " \n"}, r"text is empty\. An essay needs words"),
    "no prompt": ({"prompt_id": ""}, r"prompt_id is empty\. Give each row one"),
    "unknown prompt": (
        {"prompt_id": "3"},
        r"prompt '3' has no range; found '1', '2'\. Fix the row, add it to data\.prompts, or leave it out",
    ),
}


class TestBadRows:
    @pytest.mark.parametrize("case", BAD_ROWS)
    def test_row_and_essay_are_named(self, tmp_path, case):
        values, message = BAD_ROWS[case]
        with pytest.raises(DataError, match=r"^Row 4 of essays\.csv \(essay a b\): " + message):
            read_essays(config(csv_file(tmp_path, changed(2, **values)), prompts=PROMPTS))

    def test_empty_id(self, tmp_path):
        with pytest.raises(DataError, match=r"^Row 3 of essays\.csv: essay_id is empty"):
            read_essays(config(csv_file(tmp_path, changed(1, essay_id="")), prompts=PROMPTS))

    @pytest.mark.parametrize(
        ("values", "message"),
        [
            ({"score": True}, "score True is not a finite number"),
            ({"score": None}, r"score is empty"),
            ({"score": 10**400}, r"score 1000+\.\.\. is not a finite number"),
            ({"score": [1]}, r"score \[1\] is not a finite number"),
            ({"text": 5}, "text is 5; expected text"),
            ({"text": None}, r"text is empty"),
            ({"text": "\ud800 half"}, "character 0 of text is half of a surrogate pair"),
            ({"prompt_id": 1.0}, r"prompt_id is 1\.0; expected text or a whole number"),
            ({"prompt_id": True}, "prompt_id is True; expected text or a whole number"),
        ],
    )
    def test_wrong_types(self, tmp_path, values, message):
        with pytest.raises(DataError, match=r"^Row 3 of essays\.jsonl \(essay a b\): " + message):
            read_essays(config(jsonl_file(tmp_path, changed(2, **values)), prompts=PROMPTS))

    def test_a_key_missing_in_one_line(self, tmp_path):
        rows = [*ROWS, {"essay_id": "z", "prompt_id": "1", "Text": "x", "score": 1}]
        with pytest.raises(DataError, match=facts("Row 4", "essays.jsonl", "essay z", "'text'", "'Text'")):
            read_essays(config(jsonl_file(tmp_path, rows), prompts=PROMPTS))

    def test_one_id_with_two_texts(self, tmp_path):
        rows = [*ROWS, {**ROWS[0], "text": "other"}]
        with pytest.raises(DataError, match=facts("Row 5", "essays.csv", "essay 007", "row 2", "same id")):
            read_essays(config(csv_file(tmp_path, rows), prompts=PROMPTS))

    def test_one_row_twice_is_used_once_and_said(self, tmp_path, caplog):
        with caplog.at_level(logging.WARNING):
            table = read_essays(config(csv_file(tmp_path, [*ROWS, ROWS[0]]), prompts=PROMPTS))
        assert table.essay_ids == ["007", "NA", "a b"]
        assert "essays.csv repeats 1 rows exactly; each is used once: 007" in caplog.text

    def test_all_faults_are_told_at_once(self, tmp_path):
        path = csv_file(
            tmp_path,
            [*changed(0, score="9"), *({**ROWS[0], "essay_id": f"x{number}", "text": ""} for number in range(24))],
        )
        path.write_bytes(path.read_bytes() + b"only one value\r\n")
        with pytest.raises(DataError) as caught:
            read_essays(config(path, prompts=PROMPTS))
        lines = str(caught.value).splitlines()
        assert lines[0] == "26 rows of essays.csv cannot be used:"
        assert lines[1].startswith("  Row 2 of essays.csv (essay 007): score 9")
        assert lines[2].startswith("  Row 5 of essays.csv (essay x0): text is empty")
        assert lines[21].startswith("  ... and 6 more")
        assert len(lines) == 22

    def test_faults_before_the_reading_ended_are_told_too(self, tmp_path):
        path = tmp_path / "essays.csv"
        path.write_text('essay_id,prompt_id,text,score\n1,1,x,9\n2,1,"open,3\n')
        with pytest.raises(
            DataError,
            match=r"(?s)^1 row of essays\.csv.*\n  Row 2 .*score 9 .*\n  Row 3 .*quote",
        ):
            read_essays(config(path, prompts=PROMPTS))


class TestColumns:
    def test_nearest_name(self, tmp_path):
        rows = [{("Score" if name == "score" else name): value for name, value in row.items()} for row in ROWS]
        with pytest.raises(
            DataError,
            match=facts("essays.csv", "'score'", "'Score'", "data.columns.score"),
        ):
            read_essays(config(csv_file(tmp_path, rows)))

    def test_missing_column_is_told_even_after_a_bad_row(self, tmp_path):
        path = tmp_path / "essays.csv"
        path.write_text("essay_id,prompt_id,text,mark\n1\n2,1,x,3\n3,1,y,2\n")
        with pytest.raises(DataError, match=r"(?s)^1 row of.*essays\.csv has no column 'score'") as caught:
            read_essays(config(path))
        assert str(caught.value).count("'score'") == 1

    def test_no_prompt_column(self, tmp_path):
        rows = [{name: value for name, value in row.items() if name != "prompt_id"} for row in changed(1, score="3")]
        path = csv_file(tmp_path, rows)
        with pytest.raises(
            DataError, match=r"no column 'prompt_id'; .* or the one prompt of all essays in data\.prompt\."
        ):
            read_essays(config(path))
        table = read_essays(config(path, prompt=1, prompts=PROMPTS))
        assert table.values("prompt_id") == ["1", "1", "1"]

    def test_prompts_named_twice(self, tmp_path):
        with pytest.raises(DataError, match=facts("'prompt_id'", "data.prompt", "'1'")):
            read_essays(config(csv_file(tmp_path, ROWS), prompt="1"))

    def test_split_column(self, tmp_path):
        rows = [{**row, "part": part} for row, part in zip(ROWS, ["train", "", "teacher_dev"], strict=True)]
        path = csv_file(tmp_path, rows)
        assert read_essays(config(path, prompts=PROMPTS, split={"column": "part"})).values("split") == [
            "train",
            None,
            "teacher_dev",
        ]
        with pytest.raises(DataError, match=facts("'prt'", "'part'", "data.split.column")):
            read_essays(config(path, prompts=PROMPTS, split={"column": "prt"}))
        rows[1]["part"] = "valid"
        with pytest.raises(
            DataError, match=r"Row 3 .*part is 'valid'; expected train, dev, test, teacher_dev, or nothing"
        ):
            read_essays(config(csv_file(tmp_path, rows), prompts=PROMPTS, split={"column": "part"}))


class TestPrompts:
    def test_ranges_are_seen_if_none_are_given(self, tmp_path, caplog):
        rows = [
            dict(zip(("essay_id", "prompt_id", "text", "score", "second"), row, strict=True))
            for row in [("a", "1", "x", "2", "5"), ("b", "1", "y", "4", ""), ("c", "2", "z", "0", "1")]
        ]
        with caplog.at_level(logging.WARNING):
            table = read_essays(config(csv_file(tmp_path, rows), columns={"second_score": "second"}))
        assert table.prompts == {"1": Prompt("1", ScoreRange(2, 5)), "2": Prompt("2", ScoreRange(0, 1))}
        assert (
            "No ranges are given in data.prompts; taken from the scores seen in essays.csv:"
            " prompt 1: 2 to 5; prompt 2: 0 to 1"
        ) in caplog.text

    @pytest.mark.parametrize(
        ("scores", "message"),
        [
            (("1", "2.51"), r"score 2\.51 of prompt p in .* is no multiple of 1, 0\.5, .* Give the range"),
            (("1", "20240501"), r"scores of prompt p in .* reach from 1 to 2\.02405e\+07\. If that is meant"),
        ],
    )
    def test_ranges_that_cannot_be_seen(self, tmp_path, scores, message):
        rows = [
            {"essay_id": str(place), "prompt_id": "p", "text": "x", "score": score}
            for place, score in enumerate(scores)
        ]
        with pytest.raises(DataError, match=message):
            read_essays(config(csv_file(tmp_path, rows)))

    def test_a_single_score_is_widened(self, tmp_path):
        rows = [{"essay_id": str(place), "prompt_id": "p", "text": "x", "score": "3"} for place in range(2)]
        table = read_essays(config(csv_file(tmp_path, rows)))
        assert (table.prompts["p"].range.low, table.prompts["p"].range.high) == (2, 4)

    def test_keep_prompts(self, tmp_path, caplog):
        path = csv_file(tmp_path, changed(1, score="so bad that nobody looks"))
        with caplog.at_level(logging.WARNING):
            table = read_essays(config(path, prompts=PROMPTS, keep_prompts=[1]))
        assert (table.essay_ids, table.left_out, set(table.prompts)) == (["007", "a b"], {"NA"}, {"1"})
        assert caplog.text == ""
        with pytest.raises(DataError, match=facts("prompt '3'", "data.keep_prompts", "'1', '2'")):
            read_essays(config(path, prompts={**PROMPTS, "2": {"low": 0, "high": 1}}, keep_prompts=["1", "3"]))

    def test_prompts_without_essays_are_said(self, tmp_path, caplog):
        with caplog.at_level(logging.WARNING):
            table = read_essays(config(csv_file(tmp_path, ROWS), prompts={**PROMPTS, "9": {"low": 0, "high": 1}}))
        assert set(table.prompts) == {"1", "2"}
        assert "holds no essay of the prompts 9" in caplog.text

    def test_hidden_rows_are_said(self, tmp_path, caplog):
        """Rows 3 and 4 hide in the text of row 2, whose score is then row 4's: no fault in the table's form."""
        path = tmp_path / "essays.csv"
        path.write_text(
            'essay_id,prompt_id,text,score\n11,1,"open,5\n12,1,x,4\n13,1,the end",2\n14,1,"a\nb, c, d",3\n15,1,y,3\n'
        )
        with caplog.at_level(logging.WARNING):
            table = read_essays(config(path, prompts=PROMPTS))
        assert table.essay_ids == ["11", "14", "15"]
        assert "essays.csv: in 1 texts, further rows seem to hide: 11. Is a quote" in caplog.text
