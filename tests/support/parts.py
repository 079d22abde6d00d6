"""A folder of tables of essays, some of which stand in several, and what is made of it."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pandas as pd
from essay_files import write_rows

WORDS = ("otter", "bridge", "river", "head", "teacher", "phone", "lesson", "town", "fish", "letter")


def made_up(first: int, count: int, prompt: str = "a") -> list[dict[str, Any]]:
    """Essays with ids from a number on, one in 17 of them blank."""
    generator = random.Random(first)
    return [
        {
            "essay_id": str(number),
            "prompt_id": prompt,
            "text": " ".join(generator.choices(WORDS, k=12)) if number % 17 else "",
            "class": f"0{number % 3}",
        }
        for number in range(first, first + count)
    ]


def write_parts(folder: Path, names: list[str], count: int = 20, prompt: str = "a") -> list[Path]:
    """Write as many essays into each part; its second essay is its fourth too, and its tenth the first part's third."""
    folder.mkdir()
    common = ""
    for place, name in enumerate(names):
        rows = made_up(place * count + 1, count, prompt)
        common = common or rows[2]["text"]
        rows[3]["text"], rows[9]["text"] = rows[1]["text"].upper(), f"{common}!"
        if name.endswith(".parquet"):
            pd.DataFrame(rows).to_parquet(folder / name, index=False)
        else:
            write_rows(folder / name, rows)
    return [folder / name for name in names]


def entries(log: Path) -> list[dict[str, Any]]:
    """The lines of an audit log, without what is another each time."""
    lines = [json.loads(line) for line in log.read_text(encoding="utf-8").splitlines()]
    return [{name: line[name] for name in line if name not in {"time", "run", "previous", "hash"}} for line in lines]


def products(folder: Path) -> dict[str, bytes]:
    """The files of a folder of scores but for that which tells where they come from."""
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir()) if path.name != "provenance.json"}
