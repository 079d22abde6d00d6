"""finetune, benchmark and score killed at random moments, again and again: in the end they say what they always say.

AES_DYNLOSS_KILLS says how often each is killed; a release is tried with 50.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import time
from pathlib import Path

import pytest
from forked import finish, start
from small_grid import write_small_grid
from small_run import write_rows
from tiny_scorer import tiny_scorer

pytestmark = pytest.mark.slow

KILLS = int(os.environ.get("AES_DYNLOSS_KILLS", "3"))
WORDS = ("otter", "bridge", "river", "head", "teacher", "phone", "lesson", "town", "fish", "letter")
# Words of the command, what it leaves that must be the same, and what marks its end.
COMMANDS = {
    "finetune": (["finetune", "run.yaml", "--output-dir", "OUT", "--resume"], ["predictions_dev.csv"], "report.json"),
    "benchmark": (["benchmark", "grid.yaml", "-o", "OUT"], [], "benchmark.json"),
    "score": (
        ["score", "model", "many.jsonl", "-o", "OUT/scores.jsonl", "--review", "OUT/review.jsonl", "--resume"],
        ["scores.jsonl", "review.jsonl"],
        "scores.jsonl",
    ),
}


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("killed")
    write_small_grid(folder)
    tiny_scorer(folder / "encoder").save_pretrained(folder / "model")
    generator = random.Random(0)
    rows = [
        {"essay_id": f"{n}", "prompt_id": "letter", "text": " ".join(generator.choices(WORDS, k=12)) if n % 99 else ""}
        for n in range(7000)
    ]
    write_rows(folder / "many.jsonl", rows)
    return folder


def figures(folder: Path) -> object:
    """A grid's report without what it cost."""
    report = json.loads((folder / "benchmark.json").read_text(encoding="utf-8"))
    return {name: values for name, values in report.items() if name in {"arms", "mixtures", "floors"}}


def without_cost(values: object) -> object:
    if isinstance(values, dict):
        return {key: without_cost(value) for key, value in values.items() if "second" not in key and key != "cost"}
    return [without_cost(value) for value in values] if isinstance(values, list) else values


@pytest.mark.parametrize("name", COMMANDS)
def test_killed_at_random_moments(place, name):
    words, same, last = COMMANDS[name]
    began = time.monotonic()
    whole = place / f"{name}_whole"
    assert finish(start(*(word.replace("OUT", whole.name) for word in words), folder=place)) == 0
    usual = time.monotonic() - began
    folder = place / name
    mine = [word.replace("OUT", folder.name) for word in words]
    generator = random.Random(name)
    killed = 0
    while killed < KILLS:
        process = start(*mine, folder=place)
        process.join(generator.uniform(0, 0.7) * usual)
        if process.is_alive():
            os.kill(process.pid, signal.SIGKILL)
            process.join()
            killed += 1
        assert process.exitcode in {0, -signal.SIGKILL}, (place / "err").read_text()
        if (folder / last).exists():  # it was done before: begin again
            check(name, folder, whole, same)
            shutil.rmtree(folder)
    assert finish(start(*mine, folder=place)) == 0, (place / "err").read_text()
    check(name, folder, whole, same)
    assert "Traceback" not in (place / "err").read_text()
    assert not [path for path in folder.rglob("*") if path.name.endswith((".tmp", ".parts", ".partial"))]


def check(name: str, folder: Path, whole: Path, same: list[str]) -> None:
    for file in same:
        assert (folder / file).read_bytes() == (whole / file).read_bytes()
    if name == "benchmark":
        assert without_cost(figures(folder)) == without_cost(figures(whole))
    if name == "score":
        ids = [json.loads(line)["essay_id"] for line in (folder / "scores.jsonl").read_text().splitlines()]
        assert ids == [f"{n}" for n in range(7000)]
