"""The tables of a report on predictions.

Fairness by subgroups as sections of a page: groups, tests, and how many comparisons there are.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from aes_dynloss.reports.comparison_text import p_words
from aes_dynloss.reports.drawing import Picture
from aes_dynloss.reports.figures import fairness_figures
from aes_dynloss.reports.flags import CRITERIA
from aes_dynloss.reports.measure_list import MEASURES, SECOND_SCORE
from aes_dynloss.reports.table import (
    NOTHING,
    Cell,
    Entry,
    Heading,
    Reasons,
    Table,
    count,
    heading,
    minus,
    number,
    point,
    words,
)

Report = Mapping[str, Any]

# Title and measures of each table; the first also says what was measured.
AGREEMENT = {
    "agreement-qwk": (
        "Quadratic weighted kappa",
        ("qwk", "qwk_rescaled", "qwk_cut_points", "qwk_variance_matched"),
    ),
    "agreement-points": (
        "Other agreement of score points",
        ("exact_agreement", "adjacent_agreement", "kappa", "gwet_ac1", "gwet_ac2"),
    ),
    "agreement-raw": (
        "Predictions before rounding",
        (
            *("pearson", "pearson_without_length", "spearman", "rmse", "smd", "sd_ratio"),
            *("mean_reference", "mean_raw"),
        ),
    ),
}
LIMIT_MEASURES = ("qwk_ceiling", "qwk_of_true_score", "pearson_disattenuated", "prmse")
# Key of the entry's human_human, and the measure that it is.
HUMAN_COLUMNS = (
    ("qwk", Heading("Human-human QWK")),
    ("human_machine_qwk", Heading("Human-machine QWK", hint="On the essays that were scored twice.")),
    ("degradation", heading("degradation")),
    ("pearson", Heading("Human-human r")),
    ("human_machine_pearson", Heading("Human-machine r", hint="On the essays that were scored twice.")),
    ("pearson_degradation", heading("pearson_degradation")),
)
VERSIONS = {
    "raw": "raw",
    "raw_trim": "raw, trimmed",
    "raw_trim_round": "raw, trimmed and rounded",
    "scale": "rescaled",
    "scale_trim": "rescaled, trimmed",
    "scale_trim_round": "rescaled, trimmed and rounded",
}
COVERAGE = {"stated": "Coverage stated", "measured": "Coverage measured", "mean_width": "Mean width (points)"}
_PROMPT, _MEAN = Heading("Prompt", numeric=False), "Mean over prompts"


def prompt_rows(report: Report) -> list[tuple[str | None, Entry]]:
    """Prompts with their entries, and the mean as None, if there are several prompts to take it over."""
    rows: list[tuple[str | None, Entry]] = list(report["prompts"].items())
    return [*rows, (None, report["mean"])] if len(rows) > 1 else rows


def agreement_tables(report: Report) -> list[Table]:
    """Agreement of score points, and of the predictions before rounding."""
    reasons = Reasons(report["notes"])
    tables: list[Table] = []
    for name, (title, names) in AGREEMENT.items():
        first, rows = not tables, list[list[Cell]]()
        for prompt, entry in prompt_rows(report):
            size = [NOTHING, NOTHING] if prompt is None else [count(entry["n"]), words(range_words(entry["range"]))]
            cells = [_measure(entry, measure, prompt, reasons) for measure in names]
            rows.append([_place(prompt), *(size if first else []), *cells])
        sizes = [Heading("Essays"), Heading("Range", numeric=False)] if first else []
        drawn = report["settings"]["resamples"] and any(cell.small for row in rows for cell in row)
        level = f", {100 * report['settings']['confidence']:g} % intervals below" if drawn else ""
        tables.append(_with_foot(name, title + level, [_PROMPT, *sizes, *map(heading, names)], rows, report))
    return tables


def coverage_table(report: Report) -> Table | None:
    """How often the human score lay in the machine's prediction interval; None where no prompt has any."""
    entries = {prompt: entry.get("prediction_interval") for prompt, entry in report["prompts"].items()}
    if not any(entry and entry["measured"] is not None for entry in entries.values()):
        return None
    why = MEASURES["prediction_interval"].needs
    rows = [
        [_place(prompt), *(number(entry[key], why=f"Unknown: it needs {why}.") for key in COVERAGE)]
        for prompt, entry in entries.items()
        if entry
    ]
    titles = (Heading(title, hint=MEASURES["prediction_interval"].definition) for title in COVERAGE.values())
    return Table("coverage-table", "Prediction intervals of single essays", [_PROMPT, *titles], rows)


def human_tables(report: Report) -> list[Table]:
    """Agreement of humans with each other, what the machine loses against it, and what the humans' errors allow."""
    reasons = Reasons(report["notes"])
    why = f"Unknown: it needs {SECOND_SCORE}."
    human_rows, limit_rows = [], []
    for prompt, entry in prompt_rows(report):
        human = entry.get("human_human") or {}
        # The mean has no count, and no human-machine figures on those essays.
        twice = NOTHING if prompt is None else count(human.get("n", 0))
        kept = human.keys() if prompt is None and human else [key for key, _ in HUMAN_COLUMNS]
        own = [number(human.get(key), why=why) if key in kept else NOTHING for key, _ in HUMAN_COLUMNS]
        human_rows.append([_place(prompt), twice, *own])
        limit_rows.append([_place(prompt), *(_measure(entry, name, prompt, reasons) for name in LIMIT_MEASURES)])
    human_columns = [_PROMPT, Heading("Scored twice"), *(title for _, title in HUMAN_COLUMNS)]
    limit_columns = [_PROMPT, *map(heading, LIMIT_MEASURES)]
    return [
        _with_foot("human-table", "Two human raters, and the machine beside them", human_columns, human_rows, report),
        _with_foot("limit-table", "What the raters' errors allow a machine", limit_columns, limit_rows, report),
    ]


def version_table(report: Report) -> Table:
    """Agreement of the six score versions, by prompt."""
    names = ("mean", "sd", "qwk", "exact_agreement", "pearson", "rmse", "smd", "sd_ratio")
    titles = {"mean": Heading("Mean"), "sd": Heading("sd")}
    rows = [
        [
            words(prompt),
            words(VERSIONS.get(version, version)),
            *(_version_figure(version, name, found[name]) for name in names),
        ]
        for prompt, entry in report["prompts"].items()
        for version, found in entry["score_versions"].items()
    ]
    columns = [_PROMPT, Heading("Version", numeric=False), *(titles.get(name) or heading(name) for name in names)]
    return Table("versions-table", "Agreement of each version with the human scores", columns, rows)


def point_table(report: Report) -> Table:
    """Essays at each score point, by prompt."""
    rows = []
    for prompt, entry in report["prompts"].items():
        for row in entry["score_points"]:
            shares = [number(row[rater] / entry["n"]) for rater in ("human", "machine")]
            counts = [count(row[rater]) for rater in ("human", "machine")]
            rows.append([words(prompt), point(row["point"]), *counts, *shares, number(row["gap"])])
    titles = ("Score point", "Human n", "Machine n", "Human share", "Machine share")
    columns = [_PROMPT, *map(Heading, titles), heading("score_share")]
    return Table("points-table", "Essays and shares at each score point", columns, rows)


def floor_table(report: Report) -> Table | None:
    """QWK of scorers that any machine should beat; None without them."""
    floors: Mapping[str, Entry] = report["floors"]
    if not floors:
        return None
    prompts = list(report["prompts"])
    rows = [
        [words(name), number(floor["mean"]), *(number(floor["prompts"].get(prompt)) for prompt in prompts)]
        for name, floor in floors.items()
    ]
    own = (number(report["prompts"][prompt]["qwk"]) for prompt in prompts)
    foot = [[words("this machine"), number(report["mean"]["qwk"]), *own]]
    columns = [Heading("Scorer", numeric=False), Heading("Mean"), *(Heading(f"Prompt {name}") for name in prompts)]
    return Table("floors-table", "QWK of floors on the same essays", columns, rows, foot)


def worst_table(report: Report) -> Table | None:
    """Essays whose human score and prediction are farthest apart; None without any."""
    found: Sequence[Entry] = report["worst"]
    if not found:
        return None
    lengths = any(row.get("words") is not None for row in found)
    rows = []
    for row in found:
        scores = [
            point(row["reference"]),
            number(row["raw"]),
            point(row["score"]),
            number(row["raw"] - row["reference"]),
        ]
        length = [count(row.get("words"))] if lengths else []
        rows.append([words(row["essay_id"]), words(row["prompt_id"]), *scores, *length])
    titles = ("Human score", "Prediction", "Machine score", "Difference", *(["Words"] if lengths else []))
    columns = [Heading("Essay", numeric=False), _PROMPT, *map(Heading, titles)]
    return Table("worst-table", f"The {len(rows)} largest differences of prediction and human score", columns, rows)


def range_words(span: Entry) -> str:
    """A prompt's score points, short."""
    step = "" if span["step"] == 1 else f" by {span['step']:g}"
    return minus(f"{span['low']:g}") + " to " + minus(f"{span['high']:g}") + step


def _place(prompt: str | None) -> Cell:
    return words(_MEAN if prompt is None else prompt)


def _measure(entry: Entry, name: str, prompt: str | None, reasons: Reasons) -> Cell:
    """A measure of a prompt or of the mean; nothing where a mean would mean nothing."""
    if prompt is None and name not in entry:
        return NOTHING
    value = entry.get(name)
    return number(value, entry.get(f"{name}_interval"), reasons.of(name, prompt) if value is None else "")


def _version_figure(version: str, name: str, value: float | None) -> Cell:
    rounded = version.endswith("_round")
    if name in {"qwk", "exact_agreement"} and not rounded:
        return number(value, why="Only rounded scores are score points.")
    return number(value)


def _with_foot(
    name: str, caption: str, columns: Sequence[Heading], rows: Sequence[Sequence[Cell]], report: Report
) -> Table:
    """A table whose last row, if it is the mean, is its foot."""
    prompts = len(report["prompts"])
    return Table(name, caption, columns, rows[:prompts], rows[prompts:])


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
