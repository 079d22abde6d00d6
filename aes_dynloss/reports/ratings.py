"""What a learned loss made of training essays' ratings: by rater in a report, as a table, and in words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import pandas as pd
from scipy.stats import t

from aes_dynloss.measures.raters import MOST_RATERS, RaterFigures, rater_effects
from aes_dynloss.measures.shrinkage import Estimate
from aes_dynloss.reports.blocks import Bullets, Section, Words
from aes_dynloss.reports.entry import Entry
from aes_dynloss.reports.table import Column, Table, count, measure_cell, measure_column, number, words, words_column

TRUSTED, UNTRUSTED = "trusted", "untrusted"
# Words are about weights below this, of raters, and of extreme scores of so many essays at least.
LITTLE, NOTHING_BELOW, LEAST_ESSAYS = 0.5, 0.05, 10
_FRACTIONS = {2: "half", 3: "a third", 4: "a quarter", 5: "a fifth", 10: "a tenth", 20: "a twentieth"}
_MOST_PARTS = 50
_MOST_NAMED = 10


class RaterWeight(Entry):
    """What the loss made of a rater's ``n`` scores: mean weight, and that of its lowest and highest scores.

    Severity and consistency are beside the model's predictions, as :func:`aes_dynloss.measures.raters.rater_effects`
    has them; trusted essays have none.
    """

    rater: str
    n: int
    weight: float
    weight_lowest: float | None
    weight_highest: float | None
    severity: float | None = None
    severity_interval: list[float] | None = None
    consistency: float | None = None
    consistency_interval: list[float] | None = None
    remarks: str = ""


class Ratings(Entry):
    """Raters as a learned loss left them, trusted essays first, and in words what that means."""

    raters: list[RaterWeight]
    conclusions: list[str]


class WeightOverRuns(Entry):
    """A rater's mean weight over ``runs`` of a grid, with a t interval over them (none of a single run)."""

    runs: int
    weight: float
    weight_interval: list[float] | None


def weights_over_runs(found: Sequence[Ratings], confidence: float) -> dict[str, WeightOverRuns]:
    """Each rater's weight over the runs of an arm.

    The interval is Student's, mean +- t SD / sqrt(runs). Runs of other folds share essays, so that it is too narrow for
    the population of essays; it says how much the weight depends on fold and seed.

    Args:
        found: Of each run.
        confidence: Of the intervals, between 0 and 1.

    Examples:
        >>> runs = [Ratings([RaterWeight("r8", 19, weight, None, None)], []) for weight in (0.04, 0.06)]
        >>> over = weights_over_runs(runs, 0.95)["r8"]
        >>> over.runs, round(over.weight, 3), [round(end, 3) for end in over.weight_interval]
        (2, 0.05, [-0.077, 0.177])
    """
    weights: dict[str, list[float]] = {}
    for run in found:
        for one in run.raters:
            weights.setdefault(one.rater, []).append(one.weight)
    entries = {}
    for rater, values in weights.items():
        mean, ends = float(np.mean(values)), None
        if len(values) > 1:
            half = float(t.ppf((1 + confidence) / 2, len(values) - 1) * np.std(values, ddof=1) / len(values) ** 0.5)
            ends = [mean - half, mean + half]
        entries[rater] = WeightOverRuns(len(values), mean, ends)
    return entries


def over_runs_table(arms: Mapping[str, Mapping[str, WeightOverRuns]], level: str) -> Table:
    """A row an arm and rater."""
    columns = [
        words_column("arm", "Arm"),
        words_column("rater", "Rater"),
        Column("runs", "Runs"),
        Column("weight", "Weight", explanation="Mean over runs of the mean weight of a score, 1 as a trusted one's."),
    ]
    rows = [
        [words(arm), words(rater), count(one.runs), measure_cell(one, "weight")]
        for arm, raters in arms.items()
        for rater, one in raters.items()
    ]
    return Table(
        "raters-table", "Raters in the learned losses, intervals over seeds and folds", columns, rows, (), level
    )


def measure_ratings(essays: pd.DataFrame) -> Ratings | None:
    """Raters' weights in a learned loss, and their severity and consistency.

    Args:
        essays: Training essays with the columns prompt_id, rater (None: unknown), trusted (1 or 0), score, raw and
            weight, a share of what a trusted score counts.

    Returns:
        None where no essay is untrusted, or raters are more than MOST_RATERS.

    Examples:
        >>> essays = pd.DataFrame({"prompt_id": "1", "rater": ["r1", "r8"] * 20, "score": [1.0, 1.0, 3.0, 1.0] * 10})
        >>> essays = essays.assign(trusted=[1] * 2 + [0] * 38, raw=2.0, weight=[1.0, 0.05] * 20)
        >>> found = measure_ratings(essays)
        >>> [(one.rater, one.n, round(one.weight, 3)) for one in found.raters]
        [('trusted', 2, 0.525), ('r1', 19, 1.0), ('r8', 19, 0.05)]
        >>> found.conclusions
        ["r8's scores count a twentieth of the trusted ones."]
    """
    cheap = essays[essays["trusted"] == 0]
    names = cheap["rater"].fillna(UNTRUSTED).astype(str)
    if cheap.empty or names.nunique() > MOST_RATERS:
        return None
    effects = rater_effects(names, cheap["prompt_id"], cheap["score"], cheap["raw"])
    low, high = (essays.groupby("prompt_id")["score"].transform(end) for end in ("min", "max"))
    known = {one.rater: one for one in effects.raters}
    groups = {name: cheap[names == name] for name in known}
    trusted = essays[essays["trusted"] == 1]
    figures = [_rater(name, own, low, high, known[name]) for name, own in groups.items()]
    if len(trusted):
        figures = [_rater(TRUSTED, trusted, low, high, None), *figures]
    return Ratings(figures, _conclusions(figures))


def _rater(name: str, own: pd.DataFrame, low: pd.Series, high: pd.Series, effects: RaterFigures | None) -> RaterWeight:
    extremes = [own.loc[own["score"] == end.loc[own.index], "weight"] for end in (low, high)]
    lowest, highest = (float(one.mean()) if len(one) >= LEAST_ESSAYS else None for one in extremes)
    weighed = RaterWeight(name, len(own), float(own["weight"].mean()), lowest, highest)
    if effects is None:
        return weighed
    severity, consistency = (_figure(one) for one in (effects.severity, effects.consistency))
    return replace(
        weighed,
        severity=severity[0],
        severity_interval=severity[1],
        consistency=consistency[0],
        consistency_interval=consistency[1],
        remarks=", ".join(effects.remarks),
    )


def _figure(estimate: Estimate | None) -> tuple[float | None, list[float] | None]:
    return (None, None) if estimate is None else (estimate.value, [estimate.low, estimate.high])


def _conclusions(figures: Sequence[RaterWeight]) -> list[str]:
    """Who counts little, and whose extreme scores do though others of theirs count."""
    beside = "trusted ones" if figures[0].rater == TRUSTED else "most believed ones"
    cheap = sorted((one for one in figures if one.rater != TRUSTED), key=lambda one: one.weight)
    said = [f"{one.rater}'s scores count {_share(one.weight)} the {beside}." for one in cheap if one.weight < LITTLE]
    for end in ("lowest", "highest"):
        for one in cheap:
            weight = one[f"weight_{end}"]
            if weight is not None and weight < LITTLE * min(1.0, one.weight) and not one.weight < NOTHING_BELOW:
                says = "says nothing" if weight < NOTHING_BELOW else f"counts {_share(weight)} the {beside}"
                said.append(f"A {end} score from {one.rater} {says}.")
    if not said:
        return [f"No rater's scores count less than half of the {beside}."]
    more = [f"{len(said) - _MOST_NAMED} more are in the table."] if len(said) > _MOST_NAMED else []
    return said[:_MOST_NAMED] + more


def _share(weight: float) -> str:
    """A weight below 1 in words."""
    if weight < 1 / _MOST_PARTS:
        return "next to nothing beside"
    parts = round(1 / weight)
    return f"{_FRACTIONS.get(parts, f'1/{parts}')} of"


def ratings_section(ratings: Ratings) -> Section:
    """Raters as a section of a page."""
    explained = (
        "What the learned loss made of the scores that the model was trained on. A weight is told beside that of a "
        "trusted score. Severity and consistency are beside the model's own predictions of these essays, which it has "
        "learned from: they flatter. suspects.csv lists the scores, the most suspicious first."
    )
    return Section("ratings", "Ratings", [Words(explained), Bullets(ratings.conclusions), ratings_table(ratings)])


def ratings_table(ratings: Ratings) -> Table:
    """A row a rater."""
    columns = [
        words_column("rater", "Rater"),
        Column("n", "Essays"),
        Column("weight", "Weight", explanation="Mean weight of a score, 1 as that of a trusted one."),
        Column("weight_lowest", "Weight, lowest", explanation="Of scores that are the lowest of their prompt."),
        Column("weight_highest", "Weight, highest", explanation="Of scores that are the highest of their prompt."),
        measure_column("rater_severity", key="severity"),
        measure_column("rater_consistency", key="consistency"),
        words_column("remarks", "Remarks"),
    ]
    rows = [
        [
            words(one.rater),
            count(one.n),
            *(number(one[key]) for key in ("weight", "weight_lowest", "weight_highest")),
            *(measure_cell(one, key) for key in ("severity", "consistency")),
            words(one.remarks),
        ]
        for one in ratings.raters
    ]
    return Table("ratings-table", "Raters in the learned loss, 95 % intervals below", columns, rows).known_columns()
