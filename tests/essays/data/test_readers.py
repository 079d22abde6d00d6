from __future__ import annotations

import inspect
import io
import logging
from decimal import Decimal

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from essay_files import PROMPTS, ROWS, config, csv_file, jsonl_file
from facts import facts

from aes_dynloss.errors import DataError
from aes_dynloss.essays.data.data_config import Columns, DataConfig
from aes_dynloss.essays.data.essay_table import EssayTable, Prompt
from aes_dynloss.essays.data.readers import UnscoredEssay, iterate_unscored, read_essays
from aes_dynloss.tables.rows import FaultLog
from aes_dynloss.tables.score_range import ScoreRange


@pytest.fixture
def piped(monkeypatch):
    """Puts bytes on standard input."""
    return lambda content: monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(content)))


class TestScoredTables:
    def check(self, table: EssayTable) -> None:
        assert table.essay_ids == ["007", "NA", "a b"]
        assert table.values("prompt_id") == ["1", "2", "1"]
        assert table.values("text") == [row["text"] for row in ROWS]
        assert table.scores.tolist() == [2.0, 0.5, 4.0]
        assert table.prompts == {"1": Prompt("1", ScoreRange(1, 6), "Write."), "2": Prompt("2", ScoreRange(0, 2, 0.5))}
        assert {name: feature.dtype for name, feature in table.essays.features.items()} == {
            "essay_id": "string", "prompt_id": "string", "text": "string", "score": "float64",
        }  # fmt: skip
        assert (len(table), table.left_out, table.rater_columns) == (3, frozenset(), None)

    def test_csv(self, tmp_path):
        self.check(read_essays(config(csv_file(tmp_path, ROWS), prompts=PROMPTS)))

    def test_jsonl_with_numbers(self, tmp_path):
        rows = [{**row, "prompt_id": int(row["prompt_id"]), "score": float(row["score"])} for row in ROWS]
        self.check(read_essays(config(jsonl_file(tmp_path, rows), prompts=PROMPTS)))

    def test_parquet(self, tmp_path):
        rows = [{**row, "score": Decimal(row["score"]), "more": 1} for row in ROWS]
        pq.write_table(pa.Table.from_pylist(rows), tmp_path / "essays.parquet")
        self.check(read_essays(config(tmp_path / "essays.parquet", prompts=PROMPTS)))

    def test_standard_input(self, tmp_path, monkeypatch):
        monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(csv_file(tmp_path, ROWS).read_bytes())))
        self.check(read_essays(config("-", prompts=PROMPTS)))

    def test_other_column_names(self, tmp_path):
        names = {"essay_id": "ID", "prompt_id": "set", "text": "essay", "score": "grade"}
        rows = [{names[name]: value for name, value in row.items()} for row in ROWS]
        self.check(read_essays(config(csv_file(tmp_path, rows), prompts=PROMPTS, columns=names)))

    def test_select_keeps_order_and_prompts(self, tmp_path):
        table = read_essays(config(csv_file(tmp_path, ROWS), prompts=PROMPTS)).select([2, 0])
        assert table.essay_ids == ["a b", "007"]
        assert set(table.prompts) == {"1", "2"}
        assert len(table.select([])) == 0

    def test_nothing_is_written(self, tmp_path, monkeypatch):
        """Tables stay in memory: reading and selecting must not fill anybody's cache."""
        path = csv_file(tmp_path, ROWS)
        monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path / "cache"))
        table = read_essays(config(path, prompts=PROMPTS)).select([2, 0])
        assert not table.essays.cache_files
        assert not (tmp_path / "cache").exists()


class TestSecondScores:
    def test_gaps_are_none(self, tmp_path):
        rows = [{**row, "again": again} for row, again in zip(ROWS, ["3", "", " "], strict=True)]
        table = read_essays(config(csv_file(tmp_path, rows), prompts=PROMPTS, columns={"second_score": "again"}))
        assert table.values("second_score") == [3.0, None, None]
        assert table.rater_columns == ("score", "second_score")

    def test_null_and_nan_are_gaps(self, tmp_path):
        pq.write_table(
            pa.Table.from_pylist(
                [{**row, "again": again} for row, again in zip(ROWS, [float("nan"), None, 6.0], strict=True)]
            ),
            tmp_path / "e.parquet",
        )
        table = read_essays(config(tmp_path / "e.parquet", prompts=PROMPTS, columns={"second_score": "again"}))
        assert table.values("second_score") == [None, None, 6.0]

    def test_they_are_on_the_scale(self, tmp_path):
        rows = [{**row, "again": "7"} for row in ROWS[:1]]
        with pytest.raises(DataError, match=facts("Row 2", "essays.csv", "essay 007", "again 7", "prompt 1", "1 to 6")):
            read_essays(config(csv_file(tmp_path, rows), prompts=PROMPTS, columns={"second_score": "again"}))


class TestSubgroups:
    def test_they_are_kept_as_words_and_gaps_are_none(self, tmp_path):
        rows = [
            {**row, "l1": group, "grade": grade}
            for row, group, grade in zip(ROWS, ["en", " xy ", ""], [8, 9, None], strict=True)
        ]
        table = read_essays(config(csv_file(tmp_path, rows), prompts=PROMPTS, subgroups=["l1", "grade"]))
        assert table.values("l1") == ["en", "xy", None]
        assert table.values("grade") == ["8", "9", None]

    def test_whole_numbers_that_became_floats_are_whole_again(self, tmp_path):
        rows = [{**row, "grade": grade} for row, grade in zip(ROWS, [8.0, float("nan"), 9.5], strict=True)]
        pq.write_table(pa.Table.from_pylist(rows), tmp_path / "e.parquet")
        table = read_essays(config(tmp_path / "e.parquet", prompts=PROMPTS, subgroups=["grade"]))
        assert table.values("grade") == ["8", None, "9.5"]

    def test_a_column_must_be_there(self, tmp_path):
        with pytest.raises(DataError, match=r"^essays\.csv has no column 'l1'; .* one in data\.subgroups"):
            read_essays(config(csv_file(tmp_path, ROWS), prompts=PROMPTS, subgroups=["l1"]))

    def test_a_group_is_a_word(self, tmp_path):
        rows = [{**row, "l1": ["en"]} for row in ROWS]
        with pytest.raises(DataError, match=r"l1 is \['en'\]; expected the name of a group"):
            read_essays(config(jsonl_file(tmp_path, rows), prompts=PROMPTS, subgroups=["l1"]))


class TestUnscored:
    def test_ids_and_prompts_of_the_table(self, tmp_path):
        rows = [{"essay_id": "007", "prompt_id": 1, "text": "NA"}, {"essay_id": 8, "prompt_id": "2", "text": " x "}]
        found = list(iterate_unscored(str(jsonl_file(tmp_path, rows))))
        assert found == [UnscoredEssay("007", "1", "NA"), UnscoredEssay("8", "2", " x ")]

    def test_ids_default_to_row_numbers_and_it_is_said(self, tmp_path, caplog):
        path = csv_file(tmp_path, [{"text": "x"}, {"text": "y"}])
        with caplog.at_level(logging.WARNING):
            assert list(iterate_unscored(str(path), prompt="p")) == [("2", "p", "x", {}, {}), ("3", "p", "y", {}, {})]
        assert "essays.csv has no column 'essay_id'; essays are numbered by their rows. --id-column" in caplog.text

    def test_repeated_ids_are_let_through(self, piped):
        piped(b"essay_id,text\n1,x\n1,x\n1,y\n")
        assert [essay.text for essay in iterate_unscored("-")] == ["x", "x", "y"]

    def test_named_columns_must_be_there(self, tmp_path):
        path = str(csv_file(tmp_path, [{"ID": "1", "text": "x"}]))
        assert list(iterate_unscored(path, columns=Columns(essay_id="ID"))) == [("1", None, "x", {}, {})]
        for columns, option in (
            (Columns(essay_id="Id"), "--id-column"),
            (Columns(prompt_id="Id"), "--prompt-column"),
            (Columns(text="Id"), "--text-column"),
        ):
            found = r"essays\.csv has no column 'Id'; did you mean 'ID'\? "
            words = rf"{found}Name the right one with {option} \(in Python: columns=\{{"
            with pytest.raises(DataError, match=words):
                list(iterate_unscored(path, columns=columns))

    def test_prompts_given_twice(self, tmp_path):
        with pytest.raises(DataError, match="has a column 'prompt_id', and the prompt '1' is given for all rows"):
            list(iterate_unscored(str(csv_file(tmp_path, ROWS)), prompt="1"))

    def test_bad_rows(self, piped):
        lines = b'{"essay_id": "1", "text": 7}\n{"text": "x"}\nx\n{"essay_id": "2", "text": "y"}\n'
        piped(lines)
        with pytest.raises(DataError, match=r"^Row 1 of standard input: text is 7; expected text"):
            list(iterate_unscored("-"))
        log = FaultLog()
        piped(lines)
        assert list(iterate_unscored("-", on_fault=log)) == [("2", None, "y", {}, {})]
        assert [fault.row for fault in log.faults] == [1, 2, 3]
        assert "'essay_id' stands in some rows only" in log.faults[1].reason

    def test_a_blank_text_is_an_essay_without_words(self, piped):
        piped(b'{"essay_id": "1", "text": " \\n"}\n{"essay_id": "2", "text": null}\n')
        assert list(iterate_unscored("-")) == [("1", None, "", {}, {}), ("2", None, "", {}, {})]

    @pytest.mark.parametrize("sign", [";", "\t"])
    def test_a_csv_with_semicolons_or_tabs(self, tmp_path, sign):
        rows = [
            ["essay_id", "prompt_id", "text", "score"],
            ["1", "p", "Otters, and more", "2"],
            ["2", "p", "a, b", "3"],
        ]
        (tmp_path / "t.csv").write_text("".join(f"{sign.join(row)}\n" for row in rows))
        assert [essay.text for essay in iterate_unscored(str(tmp_path / "t.csv"))] == ["Otters, and more", "a, b"]
        assert read_essays(DataConfig(source=str(tmp_path / "t.csv"))).essay_ids == ["1", "2"]

    def test_a_tsv_with_semicolons(self, tmp_path):
        (tmp_path / "t.tsv").write_text("essay_id;prompt_id;text;score\n1;p;x;2\n")
        advice = "The header is one name: save the table with commas between columns as .csv"
        for read in (lambda path: list(iterate_unscored(path)), lambda path: read_essays(DataConfig(source=path))):
            with pytest.raises(DataError, match=f"t.tsv has no column '.*'; .* {advice}"):
                read(str(tmp_path / "t.tsv"))

    def test_all_missing_columns_are_named(self, tmp_path):
        (tmp_path / "t.csv").write_text("id,essay\n1,x\n")
        with pytest.raises(DataError, match=r"no column 'body'; .*--text-column.* no column 'key'; .*--id-column"):
            list(iterate_unscored(str(tmp_path / "t.csv"), columns=Columns(text="body", essay_id="key")))

    def test_a_semicolon_in_the_name_of_the_only_column(self, tmp_path):
        (tmp_path / "t.csv").write_text('"essay; in full"\n"Otters, and more"\n')
        (essay,) = iterate_unscored(str(tmp_path / "t.csv"), columns=Columns(text="essay; in full"))
        assert essay.text == "Otters, and more"

    def test_it_streams(self, piped):
        piped(b"text\nx\n" + b"y\n" * 10_000 + b"\xff")
        rows = iterate_unscored("-")
        assert next(rows) == ("2", None, "x", {}, {})
        with pytest.raises(DataError, match=r"Line 10003 of standard input \(byte 20007\)"):
            list(rows)

    def test_is_a_generator(self):
        assert inspect.isgenerator(iterate_unscored("none.csv"))
