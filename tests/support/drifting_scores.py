"""Made-up administrations of one population of essays, some of which have drifted."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pandas as pd

from aes_dynloss.essays.model.model_folder import CONFIG, FORMAT, MODEL, VERSION
from aes_dynloss.programme.administrations import Scores
from aes_dynloss.tables.score_range import ScoreRange

RANGES = {"a": ScoreRange(1, 6), "b": ScoreRange(0, 30)}


def administration(
    name: str,
    seed: int,
    essays: int = 150,
    *,
    lengths: float = 0.0,
    group_y: float = 0.0,
    too_long: float = 0.01,
    machine_error: float = 0.4,
    human: bool = False,
) -> Scores:
    """Essays on both prompts in groups x and y, with lengths, a feature and advisories.

    Args:
        name: What they are called.
        seed: Of the essays.
        essays: On each prompt.
        lengths: SDs by which essays on prompt a are longer.
        group_y: SDs by which scores of group y are higher.
        too_long: Share of essays with that advisory.
        machine_error: SD of the machine's error, in SDs of quality.
        human: Whether humans scored all of them.
    """
    parts = []
    for prompt, span in RANGES.items():
        random = np.random.default_rng([seed, ord(prompt)])
        quality, error, other = random.standard_normal((3, essays))
        groups = np.where(random.random(essays) < 0.4, "y", "x")
        middle, unit = (span.low + span.high) / 2, (span.high - span.low) / 5
        raw = middle + unit * (quality + machine_error * error + group_y * (groups == "y"))
        long = np.where(random.random(essays) < too_long, "too_long", "")
        parts.append(
            pd.DataFrame(
                {
                    "essay_id": [f"{prompt}{number}" for number in range(essays)],
                    "prompt_id": prompt,
                    "raw": raw,
                    "score": span.to_point(raw),
                    "reference": span.to_point(middle + unit * quality),
                    "words": np.round(np.exp(5.5 + 0.4 * (quality + other + lengths * (prompt == "a")))),
                    "spelling": random.gamma(2, 1 + 0.1 * quality**2),
                    "group": groups,
                    "advisories": [frozenset({kind} - {""}) for kind in long],
                    "withheld": False,
                }
            )
        )
    table = pd.concat(parts, ignore_index=True)
    return Scores(name, table, RANGES, ["spelling"], table if human else None)


def write_scores(folder: Path, name: str, seed: int, **settings: float) -> Path:
    """The file that ``score --keep-columns`` would write, and human_NAME with human scores of every third essay."""
    table = administration(name, seed, **settings).table
    texts = ["word " * int(words) for words in table["words"]]
    kept = table.drop(columns=["reference", "words"]).assign(
        advisories=["; ".join(sorted(kinds)) for kinds in table["advisories"]], text=texts
    )
    path = folder / name
    kept.to_csv(path, index=False)
    table.iloc[::3][["essay_id", "prompt_id", "reference"]].to_csv(folder / f"human_{name}", index=False)
    return path


def write_run(folder: Path, seed: int = 0, essays: int = 150) -> Path:
    """A run whose model is there in name alone, and whose predictions of test are whole."""
    prompts = [{"prompt": {"id": prompt, "range": asdict(span), "text": None}} for prompt, span in RANGES.items()]
    (folder / MODEL).mkdir(parents=True)
    values = {"format": FORMAT, "version": VERSION, "prompts": prompts}
    (folder / MODEL / CONFIG).write_text(json.dumps(values), encoding="utf-8")
    table = administration("test", seed, essays).table
    columns = ["essay_id", "prompt_id", "reference", "raw", "score", "words", "group"]
    table[columns].to_csv(folder / "predictions_test.csv", index=False)
    return folder
