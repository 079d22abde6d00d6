"""Damaged tables given to `data check`, `evaluate` and `score`: an answer or one clear message, never a traceback."""

from __future__ import annotations

import random
from collections import Counter
from pathlib import Path

import pytest
from command_line import command, judge
from damage import CASES, cases, damage_place, damaged_table
from tiny_encoder import write_tiny_encoder
from tiny_scorer import tiny_scorer

from aes_dynloss.errors import DataError
from aes_dynloss.essays.data.readers import iterate_unscored

pytestmark = pytest.mark.slow

SUFFIXES = (".csv", ".tsv", ".jsonl", ".parquet")
PROMPTS = ("letter", "notice")
ESSAYS = [
    {
        "essay_id": f"e{number}",
        "prompt_id": PROMPTS[number % 2],
        "text": f'The "otter", {number}\nand the bridge. ' * 3,
        "score": number % 3 + 1,
    }
    for number in range(12)
]
PREDICTIONS = [
    {
        "essay_id": f"e{number}",
        "prompt_id": PROMPTS[number % 2],
        "reference": number % 4,
        "raw": number % 4 + 0.3 * (number % 3),
        "score": min(3, (number + number % 3) % 4),
    }
    for number in range(12)
]


def damaged_file(folder: Path, number: int, rows: list[dict[str, object]], chance: random.Random) -> Path:
    """A file with damaged rows, or something else in its place."""
    path = folder / str(number) / f"essays{SUFFIXES[number % len(SUFFIXES)]}"
    path.parent.mkdir()
    path.write_bytes(damaged_table(rows, path.suffix, chance))
    if chance.random() < 0.08:
        damage_place(path, chance)
    return path


def check_ends(ends: Counter[int], name: str) -> None:
    """All cases were tried, and the damage neither always nor never mattered."""
    assert ends.total() == CASES[name]
    assert set(ends) == {0, 2}
    assert min(ends.values()) > 20


def test_there_are_enough_cases():
    assert sum(CASES.values()) >= 2000


def test_data_check(tmp_path):
    ends: Counter[int] = Counter()
    ranges = ["--range", "letter=0:6", "--range", "notice=0:3:0.5"]
    for number, chance in cases("data check"):
        path = damaged_file(tmp_path, number, ESSAYS, chance)
        options = chance.choice([[], ranges, ["--json"], ["--keep-prompt", "letter"], ["--split-column", "prompt_id"]])
        outcome = command("data", "check", path, *options)
        if outcome.code == 2 and outcome.out:  # lost rows, in a report
            assert outcome.error == ""
            ends[2] += 1
        else:
            ends[judge(outcome)] += 1
    check_ends(ends, "data check")


def test_evaluate(tmp_path):
    ends: Counter[int] = Counter()
    ranges = ["--range", "letter=0:3", "--range", "notice=0:3"]
    for number, chance in cases("evaluate"):
        path = damaged_file(tmp_path, number, PREDICTIONS, chance)
        options = chance.choice([[], ranges, ["--json"], ["--raw-column", "score"], ["--dev", path]])
        outcome = command("evaluate", path, *options)
        ends[judge(outcome)] += 1
        assert (outcome.out == "") == (outcome.code == 2)
    check_ends(ends, "evaluate")


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("model")
    tiny_scorer(write_tiny_encoder(folder / "tiny")).save_pretrained(folder / "model")
    return folder / "model"


def test_score(model, tmp_path):
    ends: Counter[int] = Counter()
    for number, chance in cases("score"):
        path = damaged_file(tmp_path, number, ESSAYS, chance)
        output = path.parent / "scores.parquet"
        options = chance.choice([[], ["--format", "jsonl"], ["--output", output], ["--quoting", "none"]])
        if chance.random() < 0.15 and path.is_file():
            outcome = command("score", model, "-", *options, stdin=path.read_bytes())
        else:
            outcome = command("score", model, *[path] * chance.choice([1, 1, 2]), *options)
        ends[judge(outcome)] += 1
        # A file of scores is whole or not there.
        assert output.exists() == (outcome.code == 0 and str(output) in map(str, options))
    check_ends(ends, "score")


def test_unscored_essays(tmp_path):
    ends: Counter[int] = Counter()
    encodings = ["utf-8"] * 5 + [
        "cp1252",
        "utf-16",
        "utf-8-sig",
        "ascii",
        "utf-7",
        "cp037",
        "shift_jis",
        "utf-32",
        "big5",
    ]
    for number, chance in cases("unscored"):
        path = damaged_file(tmp_path, number, ESSAYS, chance)
        quoting = chance.choice(["minimal", "none"])
        try:
            essays = list(iterate_unscored(str(path), encoding=chance.choice(encodings), quoting=quoting))
            assert all((essay.text == "" or essay.text.strip()) and essay.essay_id.strip() for essay in essays)
            ends[0] += 1
        except DataError:
            ends[2] += 1
    check_ends(ends, "unscored")
