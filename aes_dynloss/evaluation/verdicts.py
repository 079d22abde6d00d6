"""What of a report meets the criteria for machine scores, and which essays humans and machine disagree about most."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from aes_dynloss.evaluation.flags import Flag, judge_all, largest_gap
from aes_dynloss.evaluation.score_range import ScoreRange

MOST_WORST = 20


def report_flags(prompts: Mapping[str, Mapping[str, Any]], mean: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Every criterion, judged on every prompt, in the mean over prompts, and on every subgroup.

    Args:
        prompts: The report's entries by prompt.
        mean: Its mean over prompts, on which the criteria of agreement are judged.

    Returns:
        ``Flag.to_dict()`` with ``prompt`` (None: the mean) and ``group`` (None, or column and group), the mean first.
    """
    found = [_placed(flag, None) for flag in judge_all(_agreement(mean), "mean over prompts")]
    for prompt, entry in prompts.items():
        values = _agreement(entry)
        values |= {"smd": entry["smd"], "score_share": largest_gap([row["gap"] for row in entry["score_points"]])}
        found += [_placed(flag, prompt) for flag in judge_all(values, f"prompt {prompt}")]
        for column, part in entry.get("fairness", {}).get("columns", {}).items():
            for group, figures in part["groups"].items():
                judged = {"subgroup_smd": figures["smd"], "subgroup_dsm": figures["dsm"]}
                where = f"prompt {prompt}, {column} {group}"
                found += [_placed(flag, prompt, [column, group]) for flag in judge_all(judged, where)]
    return found


def worst_disagreements(table: pd.DataFrame, ranges: Mapping[str, ScoreRange], most: int = MOST_WORST) -> list[Any]:
    """The essays whose human score and prediction are farthest apart, in score points.

    Args:
        table: Checked predictions of all prompts.
        ranges: Score range by prompt.
        most: At most so many.

    Returns:
        Rows, the farthest first: ``essay_id``, ``prompt_id``, ``reference``, ``raw``, ``score``, and ``words`` and
        ``text`` where the table has them. Of equal ones the first in the table comes first.
    """
    steps = table["prompt_id"].map({prompt: span.step for prompt, span in ranges.items()})
    apart = ((table["raw"] - table["reference"]).abs() / steps).to_numpy(dtype=np.float64)
    order = np.argsort(-apart, kind="stable")[:most]
    columns = ["essay_id", "prompt_id", "reference", "raw", "score"]
    columns += [name for name in ("words", "text") if name in table]
    rows: list[Any] = table.iloc[order][columns].to_dict("records")
    return rows


def _agreement(entry: Mapping[str, Any]) -> dict[str, float | None]:
    human = entry.get("human_human", {})
    return {
        "qwk": entry["qwk"],
        "pearson": entry["pearson"],
        "qwk_degradation": human.get("degradation"),
        "pearson_degradation": human.get("pearson_degradation"),
    }


def _placed(flag: Flag, prompt: str | None, group: list[str] | None = None) -> dict[str, Any]:
    return {**flag.to_dict(), "prompt": prompt, "group": group}
