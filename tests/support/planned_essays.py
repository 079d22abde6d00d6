"""Made-up scored essays for double-scoring plans, and sheets that are filled in with scores that are known."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from aes_dynloss.tables.score_range import ScoreRange

RANGES = {"a": ScoreRange(1, 6), "b": ScoreRange(0, 4)}
OPTIONS = ["--assume-qwk", "0.8", "--range", "a=1:6", "--range", "b=0:4"]


def scored_table(essays: int = 150, seed: int = 0, first_id: int = 0) -> pd.DataFrame:
    """What ``score --keep-columns`` writes, with the scores that humans would give in ``human``."""
    parts = []
    for prompt, span in RANGES.items():
        random = np.random.default_rng([seed, ord(prompt)])
        quality, error = random.standard_normal((2, essays))
        middle, unit = (span.low + span.high) / 2, (span.high - span.low) / 5
        raw = np.round(middle + unit * (0.9 * quality + 0.35 * error), 6)
        ids = [f"{number:03}" for number in range(first_id, first_id + essays)]
        table = pd.DataFrame({"essay_id": ids, "prompt_id": prompt})
        table = table.assign(raw=raw, score=span.to_point(raw), certainty=random.random(essays).round(3))
        table = table.assign(withheld="false", advisories="", text=[f"Essay {prompt} {int(n)}." for n in ids])
        table.loc[0, ["raw", "score", "certainty", "withheld", "advisories"]] = [None, None, None, "true", "off_topic"]
        table.loc[1, "advisories"] = "too_long; duplicate"
        groups = np.where(np.arange(essays) % 4 == 0, "x", "y")
        parts.append(table.assign(group=groups, human=span.to_point(middle + unit * quality)))
    return pd.concat(parts, ignore_index=True)


def write_scored(folder: Path, **settings: int) -> tuple[Path, pd.Series]:
    """The file of scores, and humans' scores by prompt and essay."""
    table = scored_table(**settings)
    path = folder / "scores.csv"
    table.drop(columns="human").to_csv(path, index=False)
    return path, table.set_index(["prompt_id", "essay_id"])["human"]


def read_sheet(path: Path) -> pd.DataFrame:
    return pd.read_csv(path, dtype={"essay_id": str, "prompt_id": str})


def fill_in(folder: Path, human: pd.Series, changed: dict[tuple[str, str, str], float] | None = None) -> None:
    """Fill in all sheets of a plan.

    Args:
        folder: The plan's folder.
        human: The scores that everybody gives.
        changed: Other scores, by sheet, prompt and essay; NaN leaves one blank.
    """
    for path in (folder / "sheets").glob("*.csv"):
        sheet = read_sheet(path)
        keys = list(zip(sheet["prompt_id"], sheet["essay_id"], strict=True))
        sheet["human_score"] = [(changed or {}).get((path.stem, *key), human[key]) for key in keys]
        sheet.to_csv(path, index=False)
