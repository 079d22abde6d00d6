"""Damaged configurations, overrides and files of prompts: an answer or one clear message, never a traceback."""

from __future__ import annotations

import json
from collections import Counter

import pytest
import yaml
from command_line import command, judge
from damage import CASES, VALUES, cases, damage_place, damaged_bytes, damaged_values

pytestmark = pytest.mark.slow

CONFIGURATION = {
    "data": {
        "source": "essays.csv",
        "columns": {"text": "essay"},
        "prompts": {"letter": {"low": 1, "high": 6}, "2": {"low": 0, "high": 3, "step": 0.5, "text": "Write."}},
        "keep_prompts": ["letter", "2"],
        "split": {"fractions": {"train": 0.6, "dev": 0.2, "test": 0.2}, "seed": 3},
    },
    "model": {"encoder": "tiny", "window": 32, "max_tokens": 64, "head": "ordinal", "hidden": 8, "frozen_layers": 1},
    "loss": {
        "terms": {
            "stde": {"schedule": "morris", "a": 1.0, "b": 0.15, "c": 1.1},
            "cross_entropy": {"schedule": "linear", "start": 0, "end": 1},
            "mse": "rest",
        },
        "standardise": True,
    },
    "training": {"epochs": 3, "learning_rate": 1e-4, "clip_norm": None, "averaging": 0.9, "trackers": [], "seed": 1},
    "evaluation": {"resamples": 100, "confidence": 0.9, "floors": False},
}
KEYS = [
    *(
        "data.source",
        "data.prompts",
        "data.keep_prompts",
        "loss.terms",
        "loss.terms.mse",
        "model.head",
        "training.seed",
    ),
    *("training", "data.prompts.letter.low", "data.split.fractions", "training.epochs.x", "x", "a.b.c", "", ".."),
]
PROMPTS = {"letter": {"low": 1, "high": 6}, "2": {"low": 0, "high": 3, "step": 0.5, "prompt": "Write."}}
ROWS = [
    f"{number},{'letter' if number % 2 else 2},word {number},{1 + number % 3},{1 + number % 2}" for number in range(8)
]


def test_the_sound_configuration(tmp_path):
    path = tmp_path / "run.yaml"
    path.write_text(yaml.safe_dump(CONFIGURATION))
    assert command("finetune", path, "--print-config").code == 0


def test_configurations(tmp_path):
    ends: Counter[int] = Counter()
    path = tmp_path / "run.yaml"
    for _, chance in cases("configurations"):
        kind = chance.random()
        if kind < 0.45:
            path.write_bytes(damaged_bytes(yaml.safe_dump(CONFIGURATION).encode(), chance))
        else:
            values = damaged_values(CONFIGURATION, chance)
            text = json.dumps(values) if kind < 0.7 else yaml.safe_dump(values, allow_unicode=True)
            path.write_text(text, encoding="utf-8")
        if kind > 0.95:
            damage_place(path, chance)
        outcome = command("finetune", path, "--print-config")
        ends[judge(outcome)] += 1
        if outcome.code == 0:  # what is printed means the same
            path.write_text(outcome.out, encoding="utf-8")
            assert command("finetune", path, "--print-config") == outcome
        if path.is_symlink() or path.is_dir():
            damage_place(path, Empty())
    assert ends.total() == CASES["configurations"]
    assert min(ends[0], ends[2]) > 20


class Empty:
    """Chooses an empty file."""

    def choice(self, _: object) -> str:
        return "empty"


def test_overrides(tmp_path):
    ends: Counter[int] = Counter()
    path = tmp_path / "run.yaml"
    path.write_text(yaml.safe_dump(CONFIGURATION))
    for _, chance in cases("overrides"):
        value = chance.choice(VALUES)
        text = value if isinstance(value, str) else json.dumps(value if value != 10**400 else "9" * 400)
        if chance.random() < 0.3:
            text = damaged_bytes(text.encode(), chance).decode("utf-8", "surrogateescape")
        word = f"{chance.choice(KEYS)}={text}".replace("\0", "")  # no process can be given a NUL
        ends[judge(command("finetune", path, "--print-config", "--", word))] += 1
    assert ends.total() == CASES["overrides"]
    assert min(ends[0], ends[2]) > 3


def test_files_of_prompts(tmp_path):
    ends: Counter[int] = Counter()
    essays = tmp_path / "essays.csv"
    essays.write_text("\n".join(["essay_id,prompt_id,text,score,raw", *ROWS]))
    for number, chance in cases("prompts"):
        path = tmp_path / str(number) / chance.choice(["prompts.yaml", "prompts.json", "prompts.txt"])
        path.parent.mkdir()
        sound = json.dumps(PROMPTS) if path.suffix == ".json" else yaml.safe_dump(PROMPTS)
        if chance.random() < 0.5:
            path.write_bytes(damaged_bytes(sound.encode(), chance))
        else:
            path.write_text(json.dumps(damaged_values(PROMPTS, chance)))
        if chance.random() < 0.1:
            damage_place(path, chance)
        if chance.random() < 0.5:
            outcome = command("evaluate", essays, "--prompts", path, "--reference-column", "score")
        else:
            outcome = command("data", "check", essays, "--prompts", path)
        if outcome.code == 2 and outcome.out:  # lost rows, in a report
            ends[2] += 1
        else:
            ends[judge(outcome)] += 1
    assert ends.total() == CASES["prompts"]
    assert min(ends[0], ends[2]) > 3
