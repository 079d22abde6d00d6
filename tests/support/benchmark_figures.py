"""Reports of made-up grids, and the same figures by independent code."""

from __future__ import annotations

import numpy as np
from scored_runs import RANGES
from sklearn.metrics import cohen_kappa_score

from aes_dynloss.measures.bootstrap import IntervalSettings
from aes_dynloss.reports.benchmark import build_benchmark_report

SETTINGS = IntervalSettings(480, 0.95, 0)


def build(arms, control="mse", **settings):
    return build_benchmark_report(arms, control, **{"settings": SETTINGS, "protocol": "two folds", **settings})


def sklearn_kappa(prompt, reference, score):
    """An independent kappa, on the numbers of the score points."""
    span = RANGES[prompt]
    columns = [np.round(np.asarray(column) - span.low).astype(int) for column in (reference, score)]
    return cohen_kappa_score(*columns, labels=range(span.count), weights="quadratic")


def half_up(prompt, values):
    return np.clip(np.floor(np.asarray(values) + 0.5), RANGES[prompt].low, RANGES[prompt].high)


def rescaled(prompt, essays, dev):
    """Raw predictions with the human scores' mean and sd on dev, rounded."""
    line = (essays["raw"] - dev["raw"].mean()) / dev["raw"].std() * dev["reference"].std() + dev["reference"].mean()
    return half_up(prompt, line)


def of_prompt(table, prompt):
    return table.table[table.table["prompt_id"] == prompt]


def by_seed(runs, prompt, measure):
    """A measure of each run on one prompt: the mean over strata, by seed."""
    found = {}
    for run in runs:
        found.setdefault(run.seed, []).append(measure(of_prompt(run.test, prompt), of_prompt(run.dev, prompt)))
    return {seed: float(np.mean(values)) for seed, values in found.items()}


# By measure and then by prompt.
MEASURES = {
    "qwk": lambda prompt: lambda test, _: sklearn_kappa(prompt, test["reference"], test["score"]),
    "qwk_rescaled": lambda prompt: (
        lambda test, dev: sklearn_kappa(prompt, test["reference"], rescaled(prompt, test, dev))
    ),
    "pearson": lambda _: lambda test, dev: np.corrcoef(test["reference"], test["raw"])[0, 1],
    "sd_ratio": lambda _: lambda test, dev: test["raw"].std() / test["reference"].std(),
}
