"""Fairness by subgroups as sections of a page: groups, tests, and how many comparisons there are."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import chain

from aes_dynloss.reports.blocks import Block, Gallery, Section, Words
from aes_dynloss.reports.criteria import Criterion
from aes_dynloss.reports.figures import fairness_figures
from aes_dynloss.reports.model import ColumnFairness, Fairness, Report
from aes_dynloss.reports.row_words import RowWords
from aes_dynloss.reports.table import (
    NOTHING,
    Column,
    Table,
    count,
    measure_cell,
    measure_column,
    number,
    p_value,
    words,
    words_column,
)

TESTS = ("osa", "osd", "csd")
_SMALL = "small"


def fairness_blocks(report: Report, *, pictures: bool = True) -> list[Block]:
    """How many comparisons were made, and a part of a page for each column of groups; none where no column was named.

    Args:
        report: What ``build_report`` returned.
        pictures: Whether groups are also drawn.
    """
    measured = {prompt: entry.fairness for prompt, entry in report.prompts.items() if entry.fairness}
    columns = dict.fromkeys(column for fairness in measured.values() for column in fairness.columns)
    if not columns:
        return []
    drawings = fairness_figures(report) if pictures else {}
    explained = "Dots with intervals; the band is the criterion. Hollow dots are small groups."
    blocks: list[Block] = [Words(_multiplicity_words(list(measured.values()), report.rows.noun))]
    for position, column in enumerate(columns, start=1):
        by_prompt = {prompt: one.columns[column] for prompt, one in measured.items() if column in one.columns}
        name, drawn = f"fairness-{position}", drawings.get(column)
        criteria = report.judged_by.criteria
        tables = [_group_table(name, column, by_prompt, report.rows, criteria)]
        if report.stands_for is None:  # tests have no weighted form
            tables.append(_test_table(name, column, by_prompt, report.rows))
        gallery = Gallery(f"{name}-pictures", "", explained, drawn) if drawn else None
        blocks.append(Section(name, column, [*tables, gallery]))
    return blocks


def _multiplicity_words(measured: list[Fairness], noun: str) -> str:
    """How many comparisons were made, and what that means."""
    groups = sum(len(part.groups) for one in measured for part in one.columns.values())
    tests = sum(one.comparisons for one in measured)
    small = measured[0].small_group
    family = "of all columns" if len(measured) == 1 else f"of all columns within a {noun}"
    return (
        f"{groups} groups and {tests} p values are shown, so that some will look remarkable by chance alone: Holm p "
        f"corrects for the tests {family}, intervals are not corrected. Groups of fewer than {small} essays are marked "
        f"“{_SMALL}”; read their intervals rather than their figures."
    )


def _group_table(
    name: str, column: str, parts: Mapping[str, ColumnFairness], called: RowWords, criteria: Mapping[str, Criterion]
) -> Table:
    rows = []
    for prompt, part in parts.items():
        for group, entry in part.groups.items():
            cells = [measure_cell(entry, measure) for measure in ("mean_reference", "mean_raw")]
            for measure in ("dsm", "smd"):
                rule = criteria.get(f"subgroup_{measure}")
                missed = rule is not None and entry[measure] is not None and not rule.met_by(entry[measure])
                cells.append(measure_cell(entry, measure, mark="flag" if missed else ""))
            cells += [measure_cell(entry, measure) for measure in ("qwk", "pearson")]
            small = words(_SMALL) if entry.small else NOTHING
            rows.append([words(group), words(prompt), count(entry.n), small, *cells])
    columns = [
        words_column("group", "Group"),
        called.column,
        Column("n", "Essays"),
        words_column("size", "Size"),
        *map(measure_column, ("mean_reference", "mean_raw", "subgroup_dsm", "subgroup_smd", "qwk", "pearson")),
    ]
    return Table(f"{name}-groups", f"Groups of {column}", columns, rows)


def _test_table(name: str, column: str, parts: Mapping[str, ColumnFairness], called: RowWords) -> Table:
    rows = []
    for prompt, part in parts.items():
        tests = [part[test] for test in TESTS]
        cells = [(number(one.r_squared_adjusted), p_value(one.p), p_value(one.p_holm)) for one in tests]
        rows.append([words(prompt), *chain.from_iterable(cells)])
    columns = [called.column]
    for test in TESTS:
        columns += [
            measure_column(test),
            Column(f"{test}_p", f"{test.upper()} p"),
            measure_column("p_holm", f"{test.upper()} Holm p", f"{test}_p_holm"),
        ]
    return Table(f"{name}-tests", f"What {column} explains of the machine's errors (adjusted R²)", columns, rows)
