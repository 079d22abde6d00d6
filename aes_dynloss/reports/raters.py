"""Raters as a table: their labels, severity, consistency and what is remarkable about them."""

from __future__ import annotations

from dataclasses import replace

from aes_dynloss.measures.raters import RaterEffects
from aes_dynloss.measures.shrinkage import Estimate
from aes_dynloss.reports.table import (
    NOTHING,
    Cell,
    Column,
    Table,
    count,
    measure_column,
    number,
    share,
    signed,
    words,
    words_column,
)

LEVEL = "95 % CI"
_COLUMNS = (
    words_column("rater", "Rater", "rater"),
    Column("n", "Labels", "n"),
    Column("mean", "Mean label", "mean", explanation="In SDs of all labels of their prompt, from its mean."),
    Column("sd_ratio", "SD ratio", explanation="SD within prompts as a share of all raters'."),
    replace(measure_column("rater_severity", key="severity"), ends=("severity_low", "severity_high")),
    replace(measure_column("rater_consistency", key="consistency"), ends=("consistency_low", "consistency_high")),
    Column("lowest", "Lowest label", "lowest", explanation="Share of labels that are their prompt's lowest."),
    Column("highest", "Highest label", "highest", explanation="Share of labels that are their prompt's highest."),
    words_column("remarks", "Remarks", "remarks"),
)
SHOWN = (
    *("rater", "n", "mean", "sd_ratio", "severity", "severity_interval", "consistency", "consistency_interval"),
    *("lowest", "highest", "remarks"),
)


def rater_table(effects: RaterEffects) -> Table:
    """The raters by name; below them the shares of extreme labels of all.

    Args:
        effects: What ``rater_effects`` returned.
    """
    rows = [
        [
            words(one.rater),
            count(one.n),
            signed(one.mean),
            number(one.sd_ratio),
            _estimate(one.severity, sign=True),
            _estimate(one.consistency),
            share(one.lowest),
            share(one.highest),
            words(", ".join(one.remarks)),
        ]
        for one in effects.raters
    ]
    total = [words("all"), count(sum(one.n for one in effects.raters)), *[NOTHING] * 4]
    foot = [[*total, share(effects.lowest), share(effects.highest), NOTHING]]
    return Table("raters", "Raters", _COLUMNS, rows, foot, level=LEVEL)


def _estimate(estimate: Estimate | None, *, sign: bool = False) -> Cell:
    if estimate is None:
        return number(None)
    return number(estimate.value, (estimate.low, estimate.high), form="signed" if sign else "figure")
