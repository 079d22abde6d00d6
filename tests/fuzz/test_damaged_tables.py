"""Damaged tables given to `data check`, `evaluate` and `score`: an answer or one clear message, never a traceback."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest
from command_line import Outcome, command
from damage import CASES, damage_place, damaged_bytes, damaged_table
from tiny_encoder import write_tiny_encoder
from tiny_scorer import tiny_scorer

from aes_dynloss.errors import AesDynlossError
from aes_dynloss.essays.readers import iterate_unscored

ESSAYS = [
    {"essay_id": f"e{n}", "prompt_id": ("letter", "notice")[n % 2], "text": f'The "otter", {n}\nand the bridge. ' * 3, "score": n % 3 + 1}
    for n in range(12)
]
PREDICTIONS = [
    {"essay_id": f"e{n}", "prompt_id": str(n % 2), "reference": n % 4, "raw": n % 4 + 0.3 * (n % 3), "score": min(3, (n + n % 3) % 4)}
    for n in range(12)
]  # fmt: skip


def damage(rows: list[dict[str, object]], path: Path, chance: random.Random) -> None:
    """Write a damaged table."""
    path.write_bytes(damaged_table(rows, path.suffix, chance))
    kind = chance.random()
    if kind < 0.35:
        sound = damaged_table(rows, path.suffix, NoDamage())
        path.write_bytes(damaged_bytes(sound, chance))
    elif kind < 0.42:
        damage_place(path, chance)


class NoDamage(random.Random):
    """Chooses to repeat a row, which is no damage to how a table is written."""

    def choice(self, options):
        return "repeat" if "repeat" in options else options[0]

    def random(self):
        return 1.0


def judge(outcome: Outcome, *, report: bool = False) -> None:
    """Success, or an error in words."""
    assert outcome.code in {0, 2}
    assert "Traceback" not in outcome.err
    if outcome.code == 2 and not (report and outcome.out):
        assert len(outcome.error) > 20
        assert len(outcome.error) < 20_000


def cases(name: str) -> list[tuple[str, random.Random]]:
    suffixes = [".csv", ".tsv", ".jsonl", ".parquet"]
    return [(suffixes[n % 4], random.Random(f"{name} {n}")) for n in range(CASES[name])]


def test_data_check(tmp_path):
    ends = {0: 0, 2: 0}
    for number, (suffix, chance) in enumerate(cases("data check")):
        path = tmp_path / str(number) / f"essays{suffix}"
        path.parent.mkdir()
        damage(ESSAYS, path, chance)
        options = chance.choice([[], ["--range", "letter=0:6", "--range", "notice=0:3:0.5"], ["--json"], ["--keep-prompt", "letter"]])
        outcome = command("data", "check", path, *options)
        judge(outcome, report=True)
        ends[outcome.code] += 1
    assert sum(ends.values()) == CASES["data check"]
    assert min(ends.values()) > 50
