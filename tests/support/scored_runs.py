"""Made-up predictions of several arms on the same essays, as tables and as folders of runs."""

from __future__ import annotations

import json
import zlib
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pandas as pd

from aes_dynloss.reports.arms import ScoredRun
from aes_dynloss.reports.predictions import check_predictions
from aes_dynloss.reports.prompts import build_report, write_report
from aes_dynloss.tables.score_range import ScoreRange

RANGES = {"2": ScoreRange(1, 6), "10": ScoreRange(0, 12)}


def essay_table(stratum: str, essays: int = 40, prompts=RANGES, part: str = "t") -> pd.DataFrame:
    """Essays with human scores, the same for every arm."""
    parts = []
    for prompt, score_range in prompts.items():
        random = np.random.default_rng(zlib.crc32(f"{stratum} {prompt} {part}".encode()))
        ids = [f"{part}-{stratum}-{prompt}-{number}" for number in range(essays)]
        human = random.choice(score_range.points, essays)
        parts.append(pd.DataFrame({"essay_id": ids, "prompt_id": prompt, "reference": human}))
    return pd.concat(parts, ignore_index=True)


def predicted(essays: pd.DataFrame, name: str, noise: float, shrink: float = 0.8) -> pd.DataFrame:
    """Essays with predictions that shrink to the middle, with an error of ``noise`` times the range."""
    random = np.random.default_rng(zlib.crc32(name.encode()))
    raw, score = np.empty(len(essays)), np.empty(len(essays))
    for prompt, score_range in RANGES.items():
        rows = (essays["prompt_id"] == prompt).to_numpy()
        middle, width = (score_range.low + score_range.high) / 2, score_range.high - score_range.low
        human = essays["reference"].to_numpy()[rows]
        raw[rows] = middle + shrink * (human - middle) + random.normal(0, noise * width, rows.sum())
        score[rows] = score_range.to_point(raw[rows])
    return essays.assign(raw=raw, score=score)


def scored_run(arm: str, stratum: str = "", seed: str = "", noise: float = 0.15, prompts=RANGES, dev=True) -> ScoredRun:
    """One run of an arm; its predictions hang on all of its names."""
    name = f"{arm} {stratum} {seed}"
    tables = [predicted(essay_table(stratum, 40, prompts, part), f"{name} {part}", noise) for part in ("t", "d")]
    test, own_dev = (check_predictions(table, ranges=prompts) for table in tables)
    return ScoredRun(stratum, seed, test, own_dev if dev else None)


def grid(arm: str, noise: float = 0.15, strata=("fold_0", "fold_1"), seeds=("1", "2"), **settings) -> list[ScoredRun]:
    """An arm's runs over strata and seeds."""
    return [scored_run(arm, stratum, seed, noise, **settings) for stratum in strata for seed in seeds]


def write_run(folder: Path, run: ScoredRun) -> Path:
    """What finetune leaves in a folder that a comparison reads."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "manifest.json").write_text("{}", encoding="utf-8")
    (folder / "model").mkdir(exist_ok=True)
    run.test.table.to_csv(folder / "predictions_test.csv", index=False)
    if run.dev is not None:
        run.dev.table.to_csv(folder / "predictions_dev.csv", index=False)
    report = build_report(run.test, dev=run.dev, resamples=0)
    for prompt, score_range in run.test.ranges.items():
        assert report["prompts"][prompt]["range"] == json.loads(json.dumps(asdict(score_range)))
    write_report(report, folder / "report.json")
    return folder


def put(column, row, value):
    """A change of one cell of a table."""

    def change(table):
        table.loc[row, column] = value
        return table

    return change
