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


SCALES = ("a/form", "a/style", "b/form")


def write_traits(folder: Path) -> tuple[Path, pd.Series]:
    """A file of scores of two traits, of prompt b of one, and humans' scores by prompt and trait and essay."""
    form, style = scored_table(), scored_table(seed=1)
    table = form[["essay_id", "prompt_id", "withheld", "advisories", "text", "group"]].copy()
    for name, own, least in (("form", form, 3), ("style", style, 4)):
        known = own["prompt_id"].isin([scale[0] for scale in SCALES if scale.endswith(name)])
        for column, behind in (("score", ""), ("raw", "_raw"), ("certainty", "_certainty")):
            table[name + behind] = own[column].where(known)
        table.loc[table.index % 150 == least, f"{name}_certainty"] = 0.0
    path = folder / "traits.csv"
    table.to_csv(path, index=False)
    human = pd.concat(
        [
            own.assign(prompt_id=own["prompt_id"] + f"/{name}").set_index(["prompt_id", "essay_id"])["human"]
            for name, own in (("form", form), ("style", style))
        ]
    )
    return path, human[human.index.get_level_values(0).isin(SCALES)]


def read_sheet(path: Path) -> pd.DataFrame:
    return pd.read_csv(path, dtype={"essay_id": str, "prompt_id": str})


def fill_in(folder: Path, human: pd.Series, changed: dict[tuple[str, str, str], float] | None = None) -> None:
    """Fill in all sheets of a plan.

    Args:
        folder: The plan's folder.
        human: The scores that everybody gives.
        changed: Other scores, by sheet, prompt (or prompt and trait) and essay; NaN leaves one blank.
    """
    for path in (folder / "sheets").glob("*.csv"):
        sheet = read_sheet(path)
        for column in sheet.columns.drop(["essay_id", "prompt_id", "text"], errors="ignore"):
            scales = sheet["prompt_id"] if column == "human_score" else sheet["prompt_id"] + f"/{column}"
            keys = list(zip(scales, sheet["essay_id"], strict=True))
            sheet[column] = [(changed or {}).get((path.stem, *key), human.get(key)) for key in keys]
        sheet.to_csv(path, index=False)
