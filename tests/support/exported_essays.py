"""Tables of predictions to export to RSMTool, and what was exported."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
from rated_essays import sample

from aes_dynloss.reports.predictions import PredictionTable, check_predictions
from aes_dynloss.tables.score_range import ScoreRange

WHOLE, HALF = ScoreRange(1, 6), ScoreRange(0, 4.5, 0.5)
HALVES = "halves/ä"
RANGES = {"1": WHOLE, HALVES: HALF}
SUBGROUPS = ["L1", "first language"]


def essays_of(prompt, span, essays, seed, part=""):
    """Essays of one prompt, all scored twice."""
    ratings, raw, _, groups = sample(essays, seed)
    low, width = span.low, (span.high - span.low) / 5
    human = span.to_point(low + width * (ratings[:, :2] - 1))
    # Away from exact halves, which RSMTool rounds to the even score.
    return pd.DataFrame({
        "essay_id": [f"{part}{number:04d}" for number in range(essays)], "prompt_id": prompt,
        "reference": human[:, 0], "second_reference": human[:, 1], "raw": low + width * (raw - 1) + 1e-4,
        "L1": groups, "first language": np.where(groups == "c", "None", groups),
    })  # fmt: skip


def checked(table, ranges=RANGES, subgroups=SUBGROUPS):
    """A checked table that keeps its columns of subgroups."""
    kept = check_predictions(table, ranges=ranges)
    columns = {name: table[name].to_numpy() for name in subgroups if name in table}
    return PredictionTable(kept.table.assign(**columns), kept.ranges, kept.inferred, kept.notes)


def two_prompts():
    return checked(pd.concat([essays_of("1", WHOLE, 240, 6), essays_of(HALVES, HALF, 150, 3)], ignore_index=True))


def dev_of_one():
    return checked(essays_of("1", WHOLE, 100, 7, "d"), {"1": WHOLE})


def one(**columns):
    return checked(essays_of("1", WHOLE, 30, 6).assign(**columns), {"1": WHOLE})


def config_of(path):
    return json.loads(path.read_text(encoding="utf-8"))


def csv_of(path, key="predictions_file", **options):
    """A table that the configuration names, as RSMTool reads it."""
    return pd.read_csv(path.parent / config_of(path)[key], **options)
