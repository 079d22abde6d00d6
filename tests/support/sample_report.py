"""Reports on made-up essays: everything that a report can hold, or the least."""

from __future__ import annotations

import numpy as np
import pandas as pd

from aes_dynloss.reports.entry import Entry
from aes_dynloss.reports.prompts import build_report
from aes_dynloss.tables.score_range import ScoreRange

EIGHT_RANGES = {
    "1": ScoreRange(2, 12),
    "2": ScoreRange(1, 6),
    "3": ScoreRange(0, 3),
    "4": ScoreRange(0, 3),
    "5": ScoreRange(0, 4),
    "6": ScoreRange(0, 4),
    "7": ScoreRange(0, 30),
    "8": ScoreRange(0, 60),
}


def made_up_essays(ranges, essays=200, seed=6, part="e"):
    """Human scores twice, predictions that shrink, lengths and two columns of groups."""
    parts = []
    for number, (prompt, span) in enumerate(ranges.items()):
        random = np.random.default_rng([seed, number])
        width, middle = span.high - span.low, (span.high + span.low) / 2
        true = random.normal(middle, 0.22 * width, essays)
        first, second = (span.to_point(true + random.normal(0, 0.07 * width, essays)) for _ in range(2))
        raw = middle + 0.72 * (true - middle) + random.normal(0, (0.06 + 0.01 * number) * width, essays)
        words = np.rint(np.exp(5.2 + 0.5 * (true - middle) / (0.22 * width) / 2 + random.normal(0, 0.25, essays)))
        language = np.array(["Arabic", "Chinese", "English", "Korean"])[
            random.choice(4, essays, p=[0.15, 0.3, 0.45, 0.1])
        ]
        raw = raw + np.where(language == "Korean", 0.06 * width, 0)
        parts.append(
            pd.DataFrame(
                {
                    "essay_id": [f"{part}{1000 * (number + 1) + place}" for place in range(essays)],
                    "prompt_id": prompt,
                    "reference": first,
                    "second_reference": second,
                    "raw": raw,
                    "score": span.to_point(raw),
                    "words": words,
                    "L1": language,
                    "gender": np.array(["f", "m"])[random.choice(2, essays)],
                }
            )
        )
    return pd.concat(parts, ignore_index=True)


def full_report(ranges=None, essays=200, resamples=60, subgroups=("L1", "gender")):
    """Dev, a second rater, lengths, subgroups and floors."""
    ranges = EIGHT_RANGES if ranges is None else ranges
    dev = made_up_essays(ranges, max(60, essays // 4), seed=7, part="d")
    floors = {
        "length": {"prompts": dict.fromkeys(ranges, 0.4), "mean": 0.4},
        "mode": {"prompts": dict.fromkeys(ranges, 0.0), "mean": 0.0},
    }
    return build_report(
        made_up_essays(ranges, essays),
        ranges=ranges,
        dev=dev.drop(columns=["L1", "gender"]),
        floors=floors,
        subgroups=subgroups,
        resamples=resamples,
    )


def bare_report(essays=12):
    """One prompt without dev, second rater, lengths, groups, floors or intervals."""
    table = made_up_essays({"1": ScoreRange(1, 4)}, essays)[["essay_id", "prompt_id", "reference", "raw", "score"]]
    return build_report(table, ranges={"1": ScoreRange(1, 4)}, resamples=0)


def renamed(value, names):
    """The same report under other ids or group names, in keys and values."""
    if isinstance(value, Entry):
        return type(value).from_dict(renamed(value.to_dict(), names))
    if isinstance(value, dict):
        return {names.get(key, key): renamed(one, names) for key, one in value.items()}
    if isinstance(value, list):
        return [renamed(one, names) for one in value]
    return names.get(value, value) if isinstance(value, str) else value
