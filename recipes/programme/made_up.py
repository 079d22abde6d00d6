"""Made-up administrations: essays with their true scores, readers of them, and what is planted.

Essays are those of ASAP, or made by code of the bundled ones. Readers give an essay its own score, but for their
severity and an error. In the last year essays on the second prompt are shorter, on the first one two regions drift
apart. `tamper` changes a line of an audit log.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from aes_dynloss.essays.samples import ESSAYS

ASAP = Path("data/asap/asap_aes.parquet")
YEARS = ("2024", "2025", "2026")
KEYS = ["prompt_id", "essay_id"]
REGIONS = ("north", "south")
# SDs of essays' scores by which a reader is more lenient than the others; the SD of every reader's error.
READERS = {"Ann": -0.6, "Ben": -0.1, "Cleo": 0.0, "Dora": 0.1, "Emil": 0.6}
ERROR = 0.2


@dataclass(frozen=True)
class Source:
    """Essays that a programme is made of.

    Args:
        spans: Lowest and highest score by prompt: on the first regions drift apart, on the second essays get shorter.
        train: Essays of a prompt that the model is fitted to.
        year: Essays of a prompt in a year.
        essays: With essay_id, prompt_id, text and score.
    """

    spans: Mapping[str, tuple[int, int]]
    train: int
    year: int
    essays: pd.DataFrame


def asap_essays() -> Source:
    """Two prompts of ASAP."""
    spans = {"4": (0, 3), "6": (0, 4)}
    table = pd.read_parquet(ASAP, columns=["essay_id", "essay_set", "essay", "domain1_score"]).astype(
        {"essay_set": str, "essay_id": str}
    )
    table.columns = pd.Index(["essay_id", "prompt_id", "text", "score"])
    return Source(spans, 500, 350, table[table["prompt_id"].isin(spans)])


def made_up_essays(random: np.random.Generator) -> Source:
    """Essays of 6 to 14 sentences out of bundled essays with the same score: their length says nothing of it."""
    spans = {"phones": (1, 6), "river": (0, 4)}
    train, year = 150, 150
    rows: list[dict[str, object]] = []
    bundled = pd.read_json(ESSAYS, lines=True)
    for (prompt, score), own in bundled.groupby(["prompt_id", "score"]):
        sentences = [one for text in own["text"] for one in re.split(r"(?<=[.!?])\s+", text)]
        low, high = spans[str(prompt)]
        for _ in range(-(-(train + 4 * year) // (high - low + 1))):
            text = " ".join(random.choice(sentences, min(int(random.integers(6, 15)), len(sentences)), replace=False))
            rows.append({"essay_id": f"e{len(rows):04}", "prompt_id": prompt, "text": text, "score": score})
    return Source(spans, train, year, pd.DataFrame(rows))


class Programme:
    """A programme's essays with their true scores, and its readers.

    Args:
        source: Where essays come from.
        random: Source of randomness.
    """

    def __init__(self, source: Source, random: np.random.Generator) -> None:
        self.spans, self.source, self.random = source.spans, source, random
        table = source.essays.assign(words=source.essays["text"].str.split().map(len))
        table["sd"] = table.groupby("prompt_id")["score"].transform("std")
        for place, name in enumerate(("low", "high")):
            table[name] = [source.spans[prompt][place] for prompt in table["prompt_id"]]
        self.essays = table.set_index(KEYS, drop=False).rename_axis([None, None])

    def write_essays(self, folder: Path) -> None:
        """Write train.csv, with scores of one reader each, and YEAR/essays.csv; no essay is there twice."""
        parts: dict[str, list[pd.DataFrame]] = {"train": [], **{year: [] for year in YEARS}}
        for prompt, own in self.essays.groupby("prompt_id", sort=False):
            rest = own
            for part in reversed(parts):  # what is planted in the last year is drawn first
                drawn = self._drawn(rest, part, list(self.spans).index(str(prompt)))
                rest = rest.drop(drawn.index)
                parts[part].append(drawn)
        columns = ["essay_id", "prompt_id", "text", "region"]
        for year in YEARS:
            (folder / year).mkdir()
            pd.concat(parts[year])[columns].to_csv(folder / year / "essays.csv", index=False)
        train = pd.concat(parts["train"])
        readers = self.random.choice(list(READERS), len(train))
        scored = train.assign(score=self.readings(train, readers))
        scored[[*columns, "score"]].to_csv(folder / "train.csv", index=False)

    def _drawn(self, essays: pd.DataFrame, part: str, number: int) -> pd.DataFrame:
        """Essays of a prompt, by its number, for a year or for training; in the last year what is planted."""
        size, weights = self.source.train if part == "train" else self.source.year, None
        if (part, number) == (YEARS[-1], 1):  # rather short ones of each score
            weights = np.exp(-2 * essays.groupby("score")["words"].rank(pct=True))
        drawn = essays.sample(size, weights=weights, random_state=self.random)
        chance = np.full(size, 0.5)
        if (part, number) == (YEARS[-1], 0):  # nine in ten of the weaker half are of the south
            chance = np.where(drawn["score"].rank(method="first", pct=True) <= 0.5, 0.9, 0.1)
        return drawn.assign(region=np.where(self.random.random(size) < chance, *reversed(REGIONS)))

    def readings(self, essays: pd.DataFrame, readers: object) -> pd.Series:
        """The scores that readers, one or one an essay, give to essays."""
        severity = pd.Series(readers, index=essays.index).map(READERS)
        off = essays["sd"] * (severity + ERROR * self.random.standard_normal(len(essays)))
        return (essays["score"] + off).round().clip(essays["low"], essays["high"]).astype(int)

    def fill_in(self, plan: Path) -> None:
        """Fill in the sheets of a plan that are still blank, as its readers would."""
        for path in sorted(plan.glob("sheets/*.csv")):
            sheet = pd.read_csv(path, dtype=str)
            if sheet["human_score"].isna().all():
                own = self.essays.loc[pd.MultiIndex.from_frame(sheet[KEYS])]
                sheet["human_score"] = self.readings(own, path.stem.rpartition("_")[2]).to_numpy()
                sheet.to_csv(path, index=False)


def tamper(log: Path) -> int:
    """Change a score behind the middle of an audit log; returns the number of its line."""
    lines = log.read_text(encoding="utf-8").splitlines(keepends=True)
    scored = re.compile(r'("event": "score".*"score": )(\d)')
    number = next(n for n in range(len(lines) // 2, len(lines)) if scored.search(lines[n]))
    lines[number] = scored.sub(lambda found: f"{found[1]}{(int(found[2]) + 1) % 4}", lines[number])
    log.write_text("".join(lines), encoding="utf-8")
    return number + 1
