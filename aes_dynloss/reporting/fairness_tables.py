"""Fairness by subgroups as sections of a page: groups, tests, and how many comparisons there are."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from aes_dynloss.evaluation.comparison_text import p_words
from aes_dynloss.evaluation.flags import CRITERIA
from aes_dynloss.reporting.figures import fairness_figures
from aes_dynloss.reporting.pictures import Picture
from aes_dynloss.reporting.tables import Cell, Entry, Heading, Table, count, heading, number, words

TESTS = ("osa", "osd", "csd")
_SMALL = "small"


@dataclass(frozen=True)
class FairnessSection:
    """What a page says about one column of groups.

    Args:
        name: Its name in the page's address.
        column: The column.
        groups: Figures of its groups, by prompt.
        tests: What groups explain of the errors, by prompt.
        pictures: One a prompt.
    """

    name: str
    column: str
    groups: Table
    tests: Table
    pictures: tuple[Picture, ...]


def fairness_sections(report: Mapping[str, Any]) -> list[FairnessSection]:
    """A section for each column of groups; none where no column was named.

    Args:
        report: What ``build_report`` returned.
    """
    found = {prompt: entry["fairness"] for prompt, entry in report["prompts"].items() if entry.get("fairness")}
    columns = dict.fromkeys(column for fairness in found.values() for column in fairness["columns"])
    pictures = fairness_figures(report) if columns else {}
    sections = []
    for place, column in enumerate(columns):
        parts = {prompt: one["columns"][column] for prompt, one in found.items() if column in one["columns"]}
        name = f"fairness-{place + 1}"
        groups, tests = _group_table(name, column, parts), _test_table(name, column, parts)
        sections.append(FairnessSection(name, column, groups, tests, pictures.get(column, ())))
    return sections


def multiplicity_words(report: Mapping[str, Any]) -> str:
    """How many comparisons were made, and what that means; empty without subgroups."""
    found = [entry["fairness"] for entry in report["prompts"].values() if entry.get("fairness")]
    if not found:
        return ""
    groups = sum(len(part["groups"]) for one in found for part in one["columns"].values())
    tests = sum(one["comparisons"] for one in found)
    small = found[0]["small_group"]
    family = "of all columns" if len(found) == 1 else "of all columns within a prompt"
    return (
        f"{groups} groups and {tests} p values are shown, so that some will look remarkable by chance alone: Holm p "
        f"corrects for the tests {family}, intervals are not corrected. Groups of fewer than {small} essays are marked "
        f"“{_SMALL}”; read their intervals rather than their figures."
    )


def _group_table(name: str, column: str, parts: Mapping[str, Entry]) -> Table:
    rows = []
    for prompt, part in parts.items():
        for group, entry in part["groups"].items():
            means = [number(entry["mean_reference"]), number(entry["mean_raw"])]
            judged = [_judged(entry, measure) for measure in ("dsm", "smd")]
            others = [number(entry[measure], entry[f"{measure}_interval"]) for measure in ("qwk", "pearson")]
            small = words(_SMALL) if entry["small"] else Cell("")
            rows.append([words(group), words(prompt), count(entry["n"]), small, *means, *judged, *others])
    columns = [
        Heading("Group", numeric=False),
        Heading("Prompt", numeric=False),
        Heading("Essays"),
        Heading("Size", numeric=False),
        *map(heading, ("mean_reference", "mean_raw", "subgroup_dsm", "subgroup_smd", "qwk", "pearson")),
    ]
    return Table(f"{name}-groups", f"Groups of {column}", columns, rows)


def _judged(entry: Entry, measure: str) -> Cell:
    """A group's mean difference, set off where it misses the criterion."""
    value = entry[measure]
    missed = value is not None and not CRITERIA[f"subgroup_{measure}"].met_by(value)
    return number(value, entry[f"{measure}_interval"], mark="flag" if missed else "")


def _test_table(name: str, column: str, parts: Mapping[str, Entry]) -> Table:
    rows = []
    for prompt, part in parts.items():
        cells = []
        for test in TESTS:
            found = part[test]
            cells += [number(found["r_squared_adjusted"]), _p_cell(found["p"]), _p_cell(found["p_holm"])]
        rows.append([words(prompt), *cells])
    titles = [title for test in TESTS for title in (heading(test), Heading(f"{test.upper()} p"), _holm(test))]
    caption = f"What {column} explains of the machine's errors (adjusted R²)"
    return Table(f"{name}-tests", caption, [Heading("Prompt", numeric=False), *titles], rows)


def _holm(test: str) -> Heading:
    return Heading(f"{test.upper()} Holm p", hint=heading("p_holm").hint)


def _p_cell(p: float | None) -> Cell:
    return number(None) if p is None else Cell(p_words(p), p)
