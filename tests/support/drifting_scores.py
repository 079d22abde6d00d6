"""Made-up administrations of one population of essays, some of which have drifted."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pandas as pd

from aes_dynloss.essays.model.model_folder import CONFIG, FORMAT, MODEL, VERSION
from aes_dynloss.programme.administrations import Scores, score_column
from aes_dynloss.tables.score_range import ScoreRange

RANGES = {"a": ScoreRange(1, 6), "b": ScoreRange(0, 30)}
# Prompt b lacks style.
TRAITS = {"content": "ab", "organization": "ab", "style": "a"}
TRAIT_RANGES = {f"{prompt}/{trait}": RANGES[prompt] for trait, prompts in TRAITS.items() for prompt in prompts}


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


def trait_rows(essays: pd.DataFrame, seed: int, shifts: Mapping[str, float] | None = None) -> pd.DataFrame:
    """Essays with a row for each trait: trait, raw, score and reference are the trait's, prompt_id is the prompt.

    Args:
        essays: The table of an administration.
        seed: Of what tells traits apart.
        shifts: SDs by which scores of a trait are higher.
    """
    parts = []
    for number, (trait, prompts) in enumerate(TRAITS.items()):
        for prompt in prompts:
            own, span = essays[essays["prompt_id"] == prompt], RANGES[prompt]
            quality, error = np.random.default_rng([seed, number, ord(prompt)]).standard_normal((2, len(own)))
            unit = (span.high - span.low) / 5
            human = own["raw"].to_numpy() + 0.5 * unit * quality
            raw = human + unit * (0.3 * error + (shifts or {}).get(trait, 0.0))
            scores = {"raw": raw, "score": span.to_point(raw), "reference": span.to_point(human)}
            parts.append(own.assign(trait=trait, **scores))
    return pd.concat(parts).sort_index(kind="stable").reset_index(drop=True)


def trait_administration(
    name: str, seed: int, essays: int = 150, *, shifts: Mapping[str, float] | None = None, human: bool = False
) -> Scores:
    """An administration that is scored on TRAITS, as ``read_scores`` reads it.

    Args:
        name: What it is called.
        seed: Of the essays.
        essays: On each prompt.
        shifts: SDs by which scores of a trait are higher.
        human: Whether humans scored all of them.
    """
    plain = administration(name, seed, essays)
    rows = trait_rows(plain.table, seed, shifts)
    scores = rows.pivot_table(index=["essay_id", "prompt_id"], columns="trait", values="score")[[*TRAITS]]
    table = plain.table.drop(columns=["raw", "score", "reference"])
    table = table.join(scores.rename(columns=score_column), on=["essay_id", "prompt_id"])
    known = rows.assign(prompt_id=rows["prompt_id"] + "/" + rows["trait"]) if human else None
    return replace(plain, table=table, ranges=TRAIT_RANGES, human=known, traits=[*TRAITS])


def _as_written(table: pd.DataFrame) -> pd.DataFrame:
    """Essays with texts and words for advisories."""
    texts = ["word " * int(words) for words in table["words"]]
    return table.drop(columns="words").assign(
        advisories=["; ".join(sorted(kinds)) for kinds in table["advisories"]], text=texts
    )


def write_scores(folder: Path, name: str, seed: int, **settings: float) -> Path:
    """The file that ``score --keep-columns`` would write, and human_NAME with human scores of every third essay."""
    table = administration(name, seed, **settings).table
    path = folder / name
    _as_written(table.drop(columns="reference")).to_csv(path, index=False)
    table.iloc[::3][["essay_id", "prompt_id", "reference"]].to_csv(folder / f"human_{name}", index=False)
    return path


def write_traits(
    folder: Path, name: str, seed: int, shifts: Mapping[str, float] | None = None, *, long: bool = False
) -> Path:
    """The file that ``score --keep-columns`` would write of several traits, and human_NAME, whose style is called st.

    Args:
        folder: Where to.
        name: The file's name.
        seed: Of the essays.
        shifts: SDs by which scores of a trait are higher.
        long: Whether there is a row for each trait of an essay, in both files, and not a column for each.
    """
    rows = trait_rows(administration(name, seed).table, seed, shifts)
    keys = ["essay_id", "prompt_id"]
    scored, human = rows.drop(columns="reference"), rows[[*keys, "trait", "reference"]]
    if not long:
        columns = ("score", "raw", "reference")
        wide = {column: rows.pivot_table(index=keys, columns="trait", values=column)[[*TRAITS]] for column in columns}
        scored = rows.drop(columns=["trait", "raw", "score", "reference"]).drop_duplicates(keys)
        human = scored[keys].join(wide.pop("reference").rename(columns={"style": "st"}), on=keys)
        scored = scored.join(wide["score"], on=keys).join(wide["raw"].add_suffix("_raw"), on=keys)
    path = folder / name
    _as_written(scored).to_csv(path, index=False)
    sample = human["essay_id"].isin(human["essay_id"].unique()[::2])
    human[sample].to_csv(folder / f"human_{name}", index=False)
    return path


def write_run(folder: Path, seed: int = 0, essays: int = 150, *, traits: bool = False) -> Path:
    """A run whose model is there in name alone, and whose predictions of test are whole; of one score, or of TRAITS."""
    prompts = [
        {"prompt": {"id": scale, "range": asdict(span), "text": None, "trait": scale[2:] or None}}
        for scale, span in (TRAIT_RANGES if traits else RANGES).items()
    ]
    (folder / MODEL).mkdir(parents=True)
    values = {"format": FORMAT, "version": VERSION, "prompts": prompts}
    (folder / MODEL / CONFIG).write_text(json.dumps(values), encoding="utf-8")
    table = administration("test", seed, essays).table
    columns = ["essay_id", "prompt_id", "reference", "raw", "score", "words", "group"]
    if traits:
        table, columns = trait_rows(table, seed), [*columns, "trait"]
    table[columns].to_csv(folder / "predictions_test.csv", index=False)
    return folder
