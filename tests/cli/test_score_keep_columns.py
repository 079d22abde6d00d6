"""`aes-dynloss score --keep-columns`: the input's columns behind the scores, as they were read, row by row."""

from __future__ import annotations

import csv
import datetime
import io
import json
from pathlib import Path

import pandas as pd
import pyarrow.parquet as pq
import pytest
from command_line import command
from essay_files import write_rows
from tiny_encoder import write_tiny_encoder
from tiny_scorer import tiny_scorer

from aes_dynloss.essays.scoring import run as run_module
from aes_dynloss.essays.scoring import score as module
from aes_dynloss.tables.formats import read_cells

TEXTS = ["An otter by the river.", "", 'She said "phones", twice.\nOn two lines.', "The head teacher's lesson.", "Fish"]
CLASSES = ["007", "NA", "", "1e5", "8b"]
KEYWORDS = module.score_essays.__kwdefaults__


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("keep")
    tiny_scorer(write_tiny_encoder(folder / "encoder")).save_pretrained(folder / "model")
    with (folder / "essays.csv").open("w", encoding="utf-8", newline="") as file:
        lines = csv.writer(file)
        lines.writerow(["class", "essay_id", "score", "prompt_id", "text"])
        lines.writerows([name, f"e{n}", f"0{n}", "letter", TEXTS[n]] for n, name in enumerate(CLASSES))
    return folder


@pytest.fixture(autouse=True)
def small_windows(monkeypatch):
    monkeypatch.setattr(module.score_essays, "__kwdefaults__", KEYWORDS | {"window": 2})


def score(place, *words, inputs=("essays.csv",)):
    outcome = command("score", place / "model", *(place / name for name in inputs), *words)
    assert outcome.code == 0, outcome.err
    return outcome


def rows_of(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text, newline="")))


def test_columns_of_the_input_stand_behind_those_of_the_scores(place):
    plain, kept = (rows_of(score(place, *words).out) for words in ((), ("--keep-columns",)))
    names = list(plain[0])
    assert list(kept[0]) == [*names, "class", "input_score", "text"]
    assert [{name: row[name] for name in names} for row in kept] == plain
    assert [row["class"] for row in kept] == CLASSES
    assert [row["input_score"] for row in kept] == [f"0{n}" for n in range(len(TEXTS))]
    assert [row["text"] for row in kept] == TEXTS


def test_a_file_and_standard_output_are_the_same(place, tmp_path):
    for name in ("scores.csv", "scores.jsonl"):
        score(place, "--keep-columns", "-o", tmp_path / name)
        streamed = score(place, "--keep-columns", "--format", name.split(".")[1]).out
        assert (tmp_path / name).read_bytes().decode() == streamed


def test_columns_named_otherwise_are_kept_under_their_own_names(place, tmp_path):
    rows = [{"key": 7, "input_raw": "a", "raw": "b", "essay": "An otter"}]
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    named = ["--id-column", "key", "--text-column", "essay", "--prompt", "letter"]
    outcome = command("score", place / "model", tmp_path / "a.jsonl", *named, "--format", "jsonl", "--keep-columns")
    row = json.loads(outcome.out)
    assert row["essay_id"] == "7"
    assert {name: row[name] for name in ("key", "input_raw", "input_input_raw", "essay")} == {
        "key": 7,
        "input_raw": "a",
        "input_input_raw": "b",
        "essay": "An otter",
    }


MIXED = [
    {"essay_id": "a", "prompt_id": "letter", "text": "An otter", "age": 14, "tags": ["x", "y"], "odd": "007"},
    {"essay_id": "b", "prompt_id": "letter", "text": "A town", "age": 14.5, "tags": [1], "odd": 7, "late": True},
    {"essay_id": "c", "prompt_id": "letter", "text": "A fish", "age": None, "odd": 2**70},
]


@pytest.fixture
def mixed(place):
    (place / "mixed.jsonl").write_text("".join(json.dumps(row) + "\n" for row in MIXED), encoding="utf-8")
    return ("essays.csv", "mixed.jsonl")


def test_several_inputs_have_all_their_columns(place, mixed, tmp_path):
    score(place, "--keep-columns", "-o", tmp_path / "all.jsonl", inputs=mixed)
    rows = [json.loads(line) for line in (tmp_path / "all.jsonl").read_text(encoding="utf-8").splitlines()]
    assert list(rows[0])[-7:] == ["class", "input_score", "text", "age", "tags", "odd", "late"]
    assert all(row.keys() == rows[0].keys() for row in rows)
    assert [row["class"] for row in rows] == [*CLASSES, None, None, None]
    for row, given in zip(rows[len(TEXTS) :], MIXED, strict=True):
        assert {name: row[name] for name in ("age", "tags", "odd", "late")} == {
            name: given.get(name) for name in ("age", "tags", "odd", "late")
        }


def test_a_parquet_column_has_one_type(place, mixed, tmp_path):
    score(place, "--keep-columns", "-o", tmp_path / "all.parquet", inputs=mixed)
    table = pq.read_table(tmp_path / "all.parquet").slice(len(TEXTS)).to_pydict()
    assert table["age"] == [14.0, 14.5, None]
    assert table["tags"] == ['["x", "y"]', "[1]", None]
    assert table["odd"] == ["007", "7", str(2**70)]
    assert table["late"] == [None, True, None]


def test_a_csv_has_lists_as_text(place, mixed, tmp_path):
    score(place, "--keep-columns", "-o", tmp_path / "all.csv", inputs=mixed)
    rows = rows_of((tmp_path / "all.csv").read_bytes().decode())[len(TEXTS) :]
    assert [row["tags"] for row in rows] == ["x; y", "[1]", ""]
    assert [row["late"] for row in rows] == ["", "true", ""]


def test_standard_output_cannot_get_columns_later(place, mixed):
    outcome = command("score", place / "model", *(place / name for name in mixed), "--keep-columns")
    assert outcome.code == 2
    assert "some essays have the column 'age'" in outcome.error
    assert "--output" in outcome.error


def test_values_of_parquet(place, tmp_path):
    day = datetime.date(2026, 11, 29)
    table = pd.DataFrame({"essay_id": [1, 2], "text": ["An otter", "A town"], "n": [3, 4], "day": [day, None]})
    table["prompt_id"] = "letter"
    table.to_parquet(place / "typed.parquet")
    score(place, "--keep-columns", "-o", tmp_path / "out.parquet", inputs=("typed.parquet",))
    found = pq.read_table(tmp_path / "out.parquet").to_pydict()
    assert found["essay_id"] == ["1", "2"]
    assert found["n"] == [3, 4]
    assert found["day"] == ["2026-11-29", None]


def test_half_a_character_is_refused_with_its_row(place, tmp_path):
    (tmp_path / "a.jsonl").write_text('{"text": "x", "note": "\\ud800"}\n', encoding="utf-8")
    outcome = command("score", place / "model", tmp_path / "a.jsonl", "--prompt", "letter", "--keep-columns")
    assert outcome.code == 2
    assert "row 1" in outcome.error.lower()
    assert "note" in outcome.error


class TestResume:
    def stopped(self, place, output, monkeypatch, *words):
        """A run that ends after its first part."""
        seen = []

        def digest(essays):
            if seen:
                raise KeyboardInterrupt
            seen.append(1)
            return module.window_digest(essays)

        with monkeypatch.context() as patched:
            patched.setattr(run_module, "window_digest", digest)
            assert command("score", place / "model", place / "essays.csv", "-o", output, *words).code == 130

    def test_is_as_without_a_stop(self, place, tmp_path, monkeypatch):
        words = ("--keep-columns", "--review", tmp_path / "review.csv")
        self.stopped(place, tmp_path / "scores.csv", monkeypatch, *words)
        score(place, "-o", tmp_path / "scores.csv", "--resume", *words)
        score(place, "-o", tmp_path / "whole.csv", "--keep-columns", "--review", tmp_path / "whole_review.csv")
        assert (tmp_path / "scores.csv").read_bytes() == (tmp_path / "whole.csv").read_bytes()
        assert (tmp_path / "review.csv").read_bytes() == (tmp_path / "whole_review.csv").read_bytes()
        assert "class" not in rows_of((tmp_path / "review.csv").read_text(encoding="utf-8"))[0]

    def test_needs_the_same_option_and_the_same_cells(self, place, tmp_path, monkeypatch):
        output = tmp_path / "scores.csv"
        self.stopped(place, output, monkeypatch, "--keep-columns")
        outcome = command("score", place / "model", place / "essays.csv", "-o", output, "--resume")
        assert "other settings (keep_columns)" in outcome.error
        changed = tmp_path / "essays.csv"
        changed.write_text((place / "essays.csv").read_text(encoding="utf-8").replace("007", "008"), encoding="utf-8")
        outcome = command("score", place / "model", changed, "-o", output, "--resume", "--keep-columns")
        assert "The essays are not those of the saved scores" in outcome.error


def test_a_workbook_says_what_a_table_says(place, tmp_path):
    """Also of a review sheet; ids and texts that look like numbers and formulas stay what they are."""
    texts = ["=1+1 otter", "+1 by the river", "-", "@head 🦦", "", "007"]
    with (tmp_path / "essays.jsonl").open("w", encoding="utf-8") as file:
        for text in texts:
            file.write(json.dumps({"essay_id": text or "0", "prompt_id": "letter", "text": text}) + "\n")
    words = ["--keep-columns", "--review"]
    for suffix in ("xlsx", "jsonl"):
        output, review = tmp_path / f"scores.{suffix}", tmp_path / f"review.{suffix}"
        assert command("score", place / "model", tmp_path / "essays.jsonl", "-o", output, *words, review).code == 0
    for name in ("scores", "review"):
        sheet, lines = (read_cells(tmp_path / f"{name}.{suffix}") for suffix in ("xlsx", "jsonl"))
        expected = {
            column: ["; ".join(cell) or None if isinstance(cell, list) else cell for cell in cells]
            for column, cells in lines.to_dict("list").items()
        }
        assert sheet.to_dict("list") == expected
    assert read_cells(tmp_path / "scores.xlsx")["essay_id"].tolist() == [text or "0" for text in texts]
    refused = command("score", place / "model", place / "essays.csv", "--format", "xlsx")
    assert refused.code == 2
    assert "xlsx cannot be written to standard output" in refused.err


def test_a_text_that_no_cell_of_a_workbook_holds_is_refused_before_scoring(place, tmp_path):
    texts = [*TEXTS[:3], "long " * 7000, *TEXTS]
    rows = [{"essay_id": f"e{n}", "text": text} for n, text in enumerate(texts)]
    words = ("score", place / "model", write_rows(tmp_path / "input.csv", rows), "--prompt", "letter", "--keep-columns")
    outcome = command(*words, "-o", tmp_path / "long.xlsx")
    assert outcome.code == 2
    assert "--keep-columns, essay e3: a text of 35000 characters, and a cell of .xlsx holds 32767" in outcome.error
    assert {path.name for path in tmp_path.iterdir()} == {"input.csv"}
    assert command(*words, "-o", tmp_path / "long.csv").code == 0
