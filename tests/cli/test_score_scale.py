"""`aes-dynloss score --scale`: scores on a reported scale beside the score points."""

from __future__ import annotations

import csv
import io
import re
from pathlib import Path

import pytest
from command_line import command
from facts import facts
from small_run import write_rows
from tiny_encoder import write_tiny_encoder
from tiny_scorer import tiny_scorer

from aes_dynloss.essays.scoring import run as run_module

ROWS = [
    {"essay_id": str(n), "prompt_id": ("letter", "notice")[n % 2], "text": f"An otter {'by the river ' * n}."}
    for n in range(12)
] + [{"essay_id": "blank", "prompt_id": "letter", "text": ""}]


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("scale")
    tiny_scorer(write_tiny_encoder(folder / "encoder")).save_pretrained(folder / "model")
    write_rows(folder / "essays.csv", ROWS)
    return folder


def rows_of(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text)))


def test_a_line_from_the_range(place):
    outcome = command("score", place / "model", place / "essays.csv", "--scale", "0:100", "--scale", "notice=0:10:0.5")
    rows = rows_of(outcome.out)
    assert list(rows[0])[:6] == ["essay_id", "prompt_id", "raw", "score", "reported", "withheld"]
    for row in rows[:-1]:
        score = float(row["score"])
        assert float(row["reported"]) == (20 * (score - 1) if row["prompt_id"] == "letter" else 5 * score)
    assert (rows[-1]["score"], rows[-1]["reported"]) == ("", "")  # withheld
    plain = rows_of(command("score", place / "model", place / "essays.csv").out)
    assert plain == [{name: cell for name, cell in row.items() if name != "reported"} for row in rows]


def test_a_prompt_without_a_scale_is_blank(place):
    outcome = command("score", place / "model", place / "essays.csv", "--scale", "notice=0:10")
    assert {row["reported"] == "" for row in rows_of(outcome.out) if row["prompt_id"] == "letter"} == {True}


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--scale", "100"], facts("LOW:HIGH")),
        (["--scale", "0:100", "--scale", "0:10"], facts("--scale", "twice")),
        (["--scale", "poem=0:100"], facts("--scale", "'poem'", "letter, notice")),
    ],
)
def test_scales_that_are_none(place, words, message):
    outcome = command("score", place / "model", place / "essays.csv", *words)
    assert outcome.code == 2
    assert re.search(message, outcome.err)


def test_a_run_is_resumed_on_its_own_scale(place, tmp_path, monkeypatch):
    words = ["score", place / "model", place / "essays.csv", "-o", tmp_path / "scores.csv", "--scale"]

    def stopped(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(run_module, "write_windows", stopped)
        assert command(*words, "0:100").code != 0
    outcome = command(*words, "0:10", "--resume")
    assert outcome.code == 2
    assert "made with other settings (scale)" in outcome.err
    assert command(*words, "0:100", "--resume").code == 0
    assert "reported" in rows_of((tmp_path / "scores.csv").read_text())[0]
