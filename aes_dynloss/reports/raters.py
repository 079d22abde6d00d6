"""Raters as tables: their labels, severity, consistency and what is remarkable about them; and a part of a page."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from aes_dynloss.measures.raters import RaterEffects, RaterFigures
from aes_dynloss.measures.shrinkage import Estimate
from aes_dynloss.reports.blocks import Bullets, Gallery, Section, Words
from aes_dynloss.reports.figures import rater_picture
from aes_dynloss.reports.human_entries import RaterEntry, RaterReport
from aes_dynloss.reports.row_words import RowWords
from aes_dynloss.reports.table import (
    NOTHING,
    Cell,
    Column,
    Table,
    count,
    measure_column,
    number,
    p_value,
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


def rater_entry(figures: RaterFigures) -> RaterEntry:
    """A rater for report.json.

    Args:
        figures: Of ``rater_effects``.
    """
    severity, consistency = figures.severity, figures.consistency
    return RaterEntry(
        rater=figures.rater,
        n=figures.n,
        mean=figures.mean,
        sd_ratio=figures.sd_ratio,
        severity=None if severity is None else severity.value,
        severity_interval=_ends(severity),
        consistency=None if consistency is None else consistency.value,
        consistency_interval=_ends(consistency),
        lowest=figures.lowest,
        highest=figures.highest,
        remarks=", ".join(figures.remarks),
    )


def _ends(estimate: Estimate | None) -> list[float] | None:
    return None if estimate is None else [estimate.low, estimate.high]


def rater_table(effects: RaterEffects) -> Table:
    """The raters by name; below them the shares of extreme labels of all.

    Args:
        effects: What ``rater_effects`` returned.
    """
    total = [words("all"), count(sum(one.n for one in effects.raters)), *[NOTHING] * 4]
    foot = [*total, share(effects.lowest), share(effects.highest), NOTHING]
    rows = [_row(rater_entry(one)) for one in effects.raters]
    return Table("raters", "Raters", _COLUMNS, rows, [foot], level=LEVEL)


def _row(one: RaterEntry) -> list[Cell]:
    return [
        words(one.rater),
        count(one.n),
        signed(one.mean),
        number(one.sd_ratio),
        signed(one.severity, one.severity_interval),
        number(one.consistency, one.consistency_interval),
        share(one.lowest),
        share(one.highest),
        words(one.remarks),
    ]


def raters_section(raters: RaterReport, called: RowWords) -> Section:
    """Human raters of the evaluated essays, and the machine beside them.

    Args:
        raters: Of the report.
        called: What the report's rows are called.
    """
    explained = (
        "Each rater, and the machine at the foot as one more, in SDs of the ratings of a prompt, 95 % intervals below. "
        "Severity is from the mean of the human raters and allows for the machine's score of the essays, and for what "
        f"raters of the same essay share. Consistency is the correlation with {_compared(raters)}."
    )
    human = readers_table(raters)
    drawn = Gallery("raters-picture", "", "Dots with intervals; 0 is the mean of the raters.", [rater_picture(raters)])
    more = _drift_table(raters.raters), _adjusted_table(raters, called)
    return Section("raters", "Raters", [Words(explained), Bullets(raters.conclusions), human, drawn, *more])


def readers_table(raters: RaterReport) -> Table:
    """The raters of evaluated essays, and the machine at the foot as one more.

    Args:
        raters: Of the report.
    """
    rows, foot = [_row(one) for one in raters.raters], [_row(raters.machine)]
    return Table("human-raters-table", "Raters, and the machine", _COLUMNS, rows, foot).known_columns()


def _compared(raters: RaterReport) -> str:
    if raters.compared_with == "machine":
        return "the machine's score, as no essay has two ratings"
    return "the mean of an essay's other ratings, adjusted for their severity"


def _drift_table(raters: Sequence[RaterEntry]) -> Table | None:
    rows = [
        [words(one.rater), signed(one.drift, one.drift_interval), p_value(one.drift_p_holm)]
        for one in raters
        if one.drift is not None
    ]
    columns = [
        words_column("rater", "Rater"),
        Column(
            "drift",
            "Drift",
            explanation="Change of severity from the first rating of all to the last, in SDs: above 0, more lenient.",
        ),
        measure_column("p_holm"),
    ]
    return Table("drift-table", "Drift of severity", columns, rows) if rows else None


def _adjusted_table(raters: RaterReport, called: RowWords) -> Table:
    names = ("pearson", "rmse", "qwk")
    rows = [
        [words(prompt), count(one.n), *(number(one[name + end]) for name in names for end in ("", "_adjusted"))]
        for prompt, one in raters.adjusted.items()
    ]
    columns = [called.column, Column("n", "Essays")]
    for name in names:
        plain = measure_column(name)
        columns += [plain, measure_column(name, f"{plain.title}, adjusted", f"{name}_adjusted")]
    caption = "The machine and the mean rating of an essay, as given and adjusted for raters' severity"
    return Table("adjusted-table", caption, columns, rows)
