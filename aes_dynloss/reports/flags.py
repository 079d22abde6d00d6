"""Criteria that a machine's scores should meet before they are used, each judged: pass, flag or unknown.

A report's flags, and the essays that humans and machine disagree about most.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
import pandas as pd

from aes_dynloss.errors import DataError
from aes_dynloss.reports.model import Direction, Disagreement, Flag, MeanEntry, PromptEntry, Verdict
from aes_dynloss.reports.row_words import PROMPT_ROWS, RowWords
from aes_dynloss.tables.score_range import ScoreRange

# .8 - .7 is .10000000000000009, and is no more than .1.
FLOAT_NOISE = 1e-9
WILLIAMSON = "Williamson, Xi and Breyer (2012)"


@dataclass(frozen=True)
class Criterion:
    """A threshold and the side of it on which a value should lie.

    Args:
        title: What is judged, in words.
        direction: "at least" or "at most" the threshold, or "within" it on both sides of 0; the threshold passes.
        threshold: The threshold.
        source: Whose criterion it is.
        percent: Whether the value is a share, to be told in percentage points.
    """

    title: str
    direction: Direction
    threshold: float
    source: str = WILLIAMSON
    percent: bool = False

    def met_by(self, value: float) -> bool:
        """Whether a value meets the criterion."""
        if self.direction == "at least":
            return value >= self.threshold - FLOAT_NOISE
        return (abs(value) if self.direction == "within" else value) <= self.threshold + FLOAT_NOISE

    def __str__(self) -> str:
        """Words for a reader: ``at least 0.70``, ``from -0.15 to 0.15``, ``within 5 percentage points``."""
        if self.percent:
            return f"{self.direction} {100 * self.threshold:g} percentage points"
        if self.direction == "within":
            return f"from -{self.threshold:.2f} to {self.threshold:.2f}"
        return f"{self.direction} {self.threshold:.2f}"


# The share criterion is a convention of assessment programmes beside those of Williamson et al.; the DSM's threshold is
# the one from which RSMTool's report by group marks a value.
CRITERIA: Mapping[str, Criterion] = {
    "qwk": Criterion("QWK", "at least", 0.70),
    "pearson": Criterion("r", "at least", 0.70),
    "qwk_degradation": Criterion("QWK lost against human-human agreement", "at most", 0.10),
    "pearson_degradation": Criterion("r lost against human-human agreement", "at most", 0.10),
    "smd": Criterion("SMD", "within", 0.15),
    "subgroup_smd": Criterion("SMD of a subgroup", "within", 0.10),
    "subgroup_dsm": Criterion("DSM of a subgroup", "within", 0.10, source="RSMTool"),
    "score_share": Criterion("Largest gap of a score point's share", "within", 0.05, "programmes' convention", True),
}


def judge(name: str, value: float | None, where: str = "") -> Flag:
    """Hold a value against a criterion.

    Args:
        name: The criterion, a name of ``CRITERIA``.
        value: The value; None or NaN where it is unknown, such as a degradation without a second human score.
        where: What was judged, such as "prompt 3" or "gender f"; empty for all essays.

    Returns:
        The verdict. A value equal to the threshold passes.

    Raises:
        DataError: There is no such criterion, or the value is infinite.

    References:
        Williamson, Xi and Breyer (2012), A framework for evaluation and use of automated scoring, Educational
        Measurement: Issues and Practice 31(1), 2-13.
    """
    if name not in CRITERIA:
        raise DataError(f"There is no criterion {name!r}. Choose from {', '.join(CRITERIA)}.")
    criterion = CRITERIA[name]
    known = None if value is None or np.isnan(value) else float(value)
    if known is not None and np.isinf(known):
        raise DataError(f"The criterion {name} needs a finite value or None, found {known}. Look for its cause.")
    title = f"{criterion.title} ({where})" if where else criterion.title
    if known is None:
        verdict: Verdict = "unknown"
        words = f"{title} is unknown (criterion: {criterion})."
    else:
        verdict = "pass" if criterion.met_by(known) else "flag"
        verb = "meets" if verdict == "pass" else "misses"
        words = f"{title} is {value_words(known, criterion)} and {verb} the criterion ({criterion})."
    return Flag(name, where, known, criterion.threshold, criterion.direction, verdict, words, criterion.source)


def value_words(value: float, criterion: Criterion) -> str:
    """A value with as many decimals as show on which side of the threshold it is: three, or more close to it.

    Args:
        value: The value, finite.
        criterion: What it is held against.

    Returns:
        ``0.701``, ``0.6996``, or in percentage points with one decimal or more.
    """
    scale = 100 if criterion.percent else 1
    text = ""
    for digits in range(1 if criterion.percent else 3, 12):
        text = f"{scale * value:.{digits}f}"
        if criterion.met_by(float(text) / scale) == criterion.met_by(value):
            break
    if float(text) == 0:
        text = text.removeprefix("-")
    return f"{text} percentage points" if criterion.percent else text


def judge_all(values: Mapping[str, float | None], where: str = "") -> list[Flag]:
    """Hold several values against their criteria.

    Args:
        values: Values by name of criterion; None or NaN where unknown.
        where: What was judged.

    Returns:
        A verdict for each value, in the order of ``CRITERIA``.

    Raises:
        DataError: There is no such criterion, or a value is infinite.
    """
    return [judge(name, values[name], where) for name in sorted(values, key=[*CRITERIA, *values].index)]


MOST_WORST = 20


def report_flags(prompts: Mapping[str, PromptEntry], mean: MeanEntry, called: RowWords = PROMPT_ROWS) -> list[Flag]:
    """Every criterion, judged on every prompt, in the mean over prompts, and on every subgroup.

    Args:
        prompts: The report's entries by prompt.
        mean: Its mean over prompts, on which the criteria of agreement are judged.
        called: What the prompts, or traits, are called.

    Returns:
        Flags, the mean first.
    """
    flags = judge_all(_agreement(mean), f"mean over {called.kind}s")
    for prompt, entry in prompts.items():
        values = _agreement(entry) | {
            "smd": entry.smd,
            "score_share": max((one.gap for one in entry.score_points), key=abs),
        }
        flags += [replace(flag, prompt=prompt) for flag in judge_all(values, called.within(prompt))]
        for column, part in entry.fairness.columns.items() if entry.fairness else ():
            for group, figures in part.groups.items():
                judged = {"subgroup_smd": figures.smd, "subgroup_dsm": figures.dsm}
                verdicts = judge_all(judged, f"{called.within(prompt)}, {column} {group}")
                flags += [replace(flag, prompt=prompt, group=[column, group]) for flag in verdicts]
    return flags


def worst_disagreements(
    table: pd.DataFrame, ranges: Mapping[str, ScoreRange], most: int = MOST_WORST
) -> list[Disagreement]:
    """The essays whose human score and prediction are farthest apart, in score points.

    Args:
        table: Checked predictions of all prompts.
        ranges: Score range by prompt.
        most: At most so many.

    Returns:
        The farthest first, with ``words`` and ``text`` where the table has them. Of equal ones the first in the table
        comes first.
    """
    steps = table["prompt_id"].map({prompt: span.step for prompt, span in ranges.items()})
    apart = ((table["raw"] - table["reference"]).abs() / steps).to_numpy(dtype=np.float64)
    order = np.argsort(-apart, kind="stable")[:most]
    columns = [one.name for one in fields(Disagreement) if one.name in table]
    rows: list[Any] = table[columns].iloc[order].to_dict("records")
    return [Disagreement(**row) for row in rows]


def _agreement(entry: PromptEntry | MeanEntry) -> dict[str, float | None]:
    human = entry.human_human
    return {
        "qwk": entry.qwk,
        "pearson": entry.pearson,
        "qwk_degradation": human.degradation if human else None,
        "pearson_degradation": human.pearson_degradation if human else None,
    }
