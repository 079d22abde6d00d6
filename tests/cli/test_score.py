"""`aes-dynloss score`: the same scores whatever the form of the essays and of the scores."""

from __future__ import annotations

import csv
import io
import json
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
from command_line import command
from small_run import write_rows
from tiny_encoder import write_tiny_encoder
from tiny_scorer import tiny_scorer

from aes_dynloss.essays.model.scorer import EncoderScorer
from aes_dynloss.essays.scoring import score as module

ROWS = [
    {
        "essay_id": f"{number:03}",
        "prompt_id": ("letter", "notice")[number % 3 // 2],
        "text": f'The "otter", {number}\nand the bridge; ' * (number % 7 + 1),
    }
    for number in range(30)
]
COLUMNS = ["essay_id", "prompt_id", "raw", "score", "withheld", "advisories", "reasons"]
KEYWORDS = module.score_essays.__kwdefaults__


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    """A folder with a model and the same essays in every form."""
    folder = tmp_path_factory.mktemp("score")
    encoder = write_tiny_encoder(folder / "encoder")
    tiny_scorer(encoder).save_pretrained(folder / "model")
    tiny_scorer(encoder, max_tokens=24).save_pretrained(folder / "capped")
    for name in ("essays.csv", "essays.jsonl"):
        write_rows(folder / name, ROWS)
    table = pd.DataFrame(ROWS)
    table.to_csv(folder / "essays.tsv", sep="\t", index=False)
    table.to_parquet(folder / "essays.parquet")
    (folder / "letters").mkdir()
    for row in ROWS:
        (folder / "letters" / f"{row['essay_id']}.txt").write_text(row["text"])
    return folder


def read_json_lines(path: Path, **_: object) -> pd.DataFrame:
    """pandas' own reader loses the last digit of a number."""
    return pd.DataFrame([json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()])


def rows_of(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text)))


@pytest.fixture(scope="module")
def expected(place) -> str:
    outcome = command("score", place / "model", place / "essays.csv")
    assert (outcome.code, outcome.err.splitlines()[-1]) == (0, "Scored 30 essays.")
    return outcome.out


def test_what_comes_out(place, expected):
    rows = rows_of(expected)
    assert list(rows[0]) == COLUMNS
    assert [row["essay_id"] for row in rows] == [row["essay_id"] for row in ROWS]
    assert [row["prompt_id"] for row in rows] == [row["prompt_id"] for row in ROWS]
    scorer = EncoderScorer.from_pretrained(place / "model")
    scores = scorer.score([row["text"] for row in ROWS], [row["prompt_id"] for row in ROWS])
    assert [float(row["raw"]) for row in rows] == scores.raw.tolist()
    assert [float(row["score"]) for row in rows] == scores.score.tolist()
    assert len({row["raw"] for row in rows}) > 5


@pytest.mark.parametrize("name", ["essays.tsv", "essays.jsonl", "essays.parquet"])
def test_every_table_gives_the_same(place, expected, name):
    assert command("score", place / "model", place / name).out == expected


def test_standard_input(place, expected):
    for name in ("essays.csv", "essays.jsonl"):
        assert command("score", place / "model", "-", stdin=(place / name).read_bytes()).out == expected


def test_a_folder_of_texts(place, expected):
    outcome = command("score", place / "model", place / "letters", "--prompt", "letter")
    found = {row["essay_id"]: row for row in rows_of(outcome.out)}
    assert list(found) == [row["essay_id"] for row in ROWS]
    letters = [row for row in rows_of(expected) if row["prompt_id"] == "letter"]
    for row in letters:
        assert float(found[row["essay_id"]]["raw"]) == pytest.approx(float(row["raw"]), abs=1e-5)


@pytest.mark.parametrize("suffix", ["csv", "jsonl", "parquet"])
def test_every_output_says_the_same(place, expected, tmp_path, suffix):
    path = tmp_path / "new" / f"scores.{suffix}"
    outcome = command("score", place / "model", place / "essays.csv", "--output", path)
    assert (outcome.code, outcome.out) == (0, "")
    read = {"csv": pd.read_csv, "jsonl": read_json_lines, "parquet": None}[suffix]
    # As text: the csv parser of pandas 2 rounds the last digit.
    kinds = {"essay_id": str, "raw": str if suffix == "csv" else float}
    table = pd.read_parquet(path) if read is None else read(path, dtype=kinds)
    rows = rows_of(expected)
    assert list(table.columns) == COLUMNS
    assert table["essay_id"].tolist() == [row["essay_id"] for row in rows]
    assert [float(raw) for raw in table["raw"]] == [float(row["raw"]) for row in rows]
    assert table["score"].tolist() == [float(row["score"]) for row in rows]
    if suffix != "parquet":
        printed = command("score", place / "model", place / "essays.csv", "--format", suffix)
        assert printed.out.encode() == path.read_bytes()
    named = tmp_path / "scores"
    assert command("score", place / "model", place / "essays.csv", "-o", named, "--format", suffix).code == 0
    assert named.read_bytes() == path.read_bytes()


def test_jsonl_keeps_every_character(place, tmp_path):
    rows = [{"essay_id": 'é "x", y', "prompt_id": "letter", "text": "The bridge."}]
    path = write_rows(tmp_path / "essays.jsonl", rows)
    outcome = command("score", place / "model", path, "--format", "jsonl")
    assert json.loads(outcome.out)["essay_id"] == 'é "x", y'
    assert rows_of(command("score", place / "model", path).out)[0]["essay_id"] == 'é "x", y'


def test_several_inputs_and_several_windows(place, expected, tmp_path, monkeypatch):
    first, second = write_rows(tmp_path / "a.csv", ROWS[:11]), write_rows(tmp_path / "b.jsonl", ROWS[11:])
    essays = (place / "essays.csv").read_bytes()
    together = command("score", place / "model", first, second, "-", first, stdin=essays)
    lines = expected.splitlines()
    assert [row["essay_id"] for row in rows_of(together.out)] == [row["essay_id"] for row in ROWS + ROWS + ROWS[:11]]
    monkeypatch.setattr(module.score_essays, "__kwdefaults__", KEYWORDS | {"window": 7})
    windows = command("score", place / "model", place / "essays.csv")
    assert windows.out.splitlines()[0] == lines[0]
    for row, other in zip(rows_of(windows.out), rows_of(expected), strict=True):
        assert float(row["raw"]) == pytest.approx(float(other["raw"]), abs=1e-5)
        assert {**row, "raw": ""} == {**other, "raw": ""}


def test_columns_by_other_names(place, expected, tmp_path):
    rows = [{"id": row["essay_id"], "task": row["prompt_id"], "essay": row["text"], "text": "not this"} for row in ROWS]
    path = write_rows(tmp_path / "essays.csv", rows)
    named = ["--id-column", "id", "--prompt-column", "task", "--text-column", "essay"]
    assert command("score", place / "model", path, *named).out == expected


def test_without_ids_rows_are_numbered(place, tmp_path):
    path = write_rows(tmp_path / "essays.csv", [{"text": "One."}, {"text": "Two."}])
    outcome = command("score", place / "model", path, "--prompt", "notice")
    assert [row["essay_id"] for row in rows_of(outcome.out)] == ["2", "3"]
    assert "essays are numbered by their rows" in outcome.err


def test_a_cap_is_reported(place):
    outcome = command("score", place / "capped", place / "essays.csv")
    rows = rows_of(outcome.out)
    assert list(rows[0]) == [*COLUMNS, "dropped_tokens"]
    dropped = [int(row["dropped_tokens"]) for row in rows]
    assert min(dropped) == 0
    assert max(dropped) > 24


def test_encoding_and_quoting(place, tmp_path):
    path = tmp_path / "essays.tsv"
    path.write_bytes('essay_id\tprompt_id\ttext\n1\tletter\tA "caf\xe9\n'.encode("cp1252"))
    assert command("score", place / "model", path, "--encoding", "cp1252", "--quoting", "none").code == 0
    assert "Line 2 of essays.tsv" in command("score", place / "model", path, "--quoting", "none").error


class TestRefusals:
    @pytest.mark.parametrize(
        ("words", "message"),
        [
            (["none.csv"], "There is no file or folder none.csv"),
            (["essays.csv", "--prompt", "letter"], "has a column 'prompt_id', and the prompt 'letter' is given"),
            (["letters"], "names no prompt, and the model knows letter, notice. Name the prompt of all essays"),
            (["letters", "--prompt", "poem"], "The model was not trained on prompt 'poem'; it knows letter, notice"),
            (["essays.csv", "--text-column", "txt"], "no column 'txt'; did you mean 'text'?"),
            (["essays.csv", "--text-column", "essay_id"], "two of the columns have one name"),
            (["essays.csv", "--encoding", "klingon"], "--encoding: there is no text encoding 'klingon'"),
            (["essays.csv", "--encoding", "rot13"], "--encoding: there is no text encoding 'rot13'"),
            (["essays.csv", "--format", "parquet"], "parquet cannot be written to standard output"),
            (["essays.csv", "-o", "scores.txt"], "expected a suffix out of .csv, .jsonl, .parquet"),
            (["essays.csv", "-o", "essays.csv/x.csv"], "Cannot write essays.csv/x.csv"),
            (["essays.csv", "-o", "./essays.csv", "--force"], "--output essays.csv is an INPUT too; its essays would"),
            (["essays.csv", "-o", "letters", "--format", "csv", "--force"], "Cannot write letters"),
        ],
    )
    def test_words(self, place, monkeypatch, words, message):
        monkeypatch.chdir(place)
        before = sorted(place.rglob("*"))
        outcome = command("score", "model", *words)
        assert (outcome.code, outcome.out) == (2, "")
        assert message in outcome.error
        assert sorted(place.rglob("*")) == before
        assert len(rows_of((place / "essays.csv").read_text())) == 30

    def test_a_model_that_is_none(self, place):
        assert "There is no model folder" in command("score", place / "none", place / "essays.csv").error
        assert "is not that of an essay scorer" in command("score", place / "encoder", place / "essays.csv").error
        assert "has no config.json" in command("score", place / "letters", place / "essays.csv").error

    def test_output_that_is_there(self, place, tmp_path):
        path = tmp_path / "scores.csv"
        path.write_text("precious")
        outcome = command("score", place / "model", place / "essays.csv", "--output", path)
        assert (outcome.code, outcome.error) == (
            2,
            f"{path} is there already. Choose another --output, or replace it by --force.",
        )
        assert path.read_text() == "precious"
        assert command("score", place / "model", place / "essays.csv", "--output", path, "--force").code == 0
        assert len(rows_of(path.read_text())) == 30

    @pytest.mark.parametrize("suffix", ["csv", "jsonl", "parquet"])
    def test_a_bad_row_at_the_end_leaves_no_file(self, place, tmp_path, monkeypatch, suffix):
        monkeypatch.setattr(module.score_essays, "__kwdefaults__", KEYWORDS | {"window": 7})
        rows = [*ROWS, ROWS[0] | {"text": 5}]
        path = write_rows(tmp_path / "essays.jsonl", rows)
        outcome = command("score", place / "model", path, "--output", tmp_path / f"scores.{suffix}")
        assert outcome.code == 2
        assert "Row 31 of essays.jsonl" in outcome.error
        assert "4 finished parts are kept" in outcome.err
        assert sorted(found.name for found in tmp_path.iterdir()) == ["essays.jsonl", f"scores.{suffix}.parts"]

    def test_standard_input_for_two(self, place, monkeypatch):
        monkeypatch.setattr("accelerate.Accelerator.num_processes", 2)
        assert "Standard input reaches one process only" in command("score", place / "model", "-").error

    def test_closed_standard_output(self, place):
        words = [sys.executable, "-m", "aes_dynloss", "score", str(place / "model"), str(place / "essays.csv")]
        done = subprocess.run(["sh", "-c", '"$@" >&-', "sh", *words], stderr=subprocess.PIPE, text=True, check=False)
        assert done.returncode == 2
        assert "Error: Standard output is closed. Name a file with --output." in done.stderr
        assert "Traceback" not in done.stderr
