"""A report on disk: report.json, the same numbers as rows of report.csv, and report.html for readers."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pandas as pd

from aes_dynloss.errors import DataError
from aes_dynloss.reports.model import Report
from aes_dynloss.reports.page import Picture, report_page, write_page
from aes_dynloss.reports.prompts import write_report
from aes_dynloss.reports.table import Cell, Column, Record, Table, table_records, words_column
from aes_dynloss.tables.formats import write_table

Entry = Mapping[str, Any]
Row = list[Cell]

_NAMES = ("prompt", "column", "group", "table", "item", "measure")
_ENDS = ("low", "high")
COLUMNS = (*_NAMES, "value", *_ENDS)
# Lists of an entry, and the keys that name a row of them; a bin is named by both its ends.
_LISTS = {
    "score_points": ("point",),
    "residuals_by_score": ("reference",),
    "residuals_by_length": ("words_from", "words_to"),
    "reliability": ("raw_from", "raw_to"),
}
_MAPPINGS = ("range", "human_human", "prediction_interval")
_APART = {"score_versions", "confusion", "fairness", *_LISTS, *_MAPPINGS}


def report_rows(report: Report) -> list[Record]:
    """Every number of a report, one a row.

    Args:
        report: What ``build_report`` returned.

    Returns:
        Rows of COLUMNS: ``prompt`` (None: the mean, or the whole report), ``column`` and ``group`` of a subgroup,
        ``table`` (where in the report: ``agreement``, ``score_points``, ``confusion``, ...), ``item`` (the row there,
        as text: a score point, ``human x machine`` of a cell, a bin, a score version, a criterion, an essay),
        ``measure``, ``value``, and ``low`` and ``high``, the interval; None where there is none or the value is
        undefined. Verdicts are told by ``flagged``: 1, 0, or None for unknown.
    """
    rows: list[Row] = []
    for prompt, entry in report.prompts.items():
        rows += _entry_rows(prompt, entry)
    rows += _entry_rows(None, report.mean)
    for name, floor in report.floors.items():
        rows += [_row("floors", "qwk", value, prompt=prompt, item=name) for prompt, value in floor.prompts.items()]
        rows.append(_row("floors", "qwk", floor.mean, item=name))
    rows += _flag_rows(report.flags)
    rows += _worst_rows(report.worst)
    rows += _measure_rows(report.settings, "settings")
    if report.adjudicated:
        rows += _adjudication_rows(report.adjudicated)
    if report.robustness:
        rows += _robustness_rows(report.robustness)
    columns = [*(words_column(name, name) for name in _NAMES), Column("value", "value", ends=_ENDS)]
    return table_records(Table("report", "Report", columns, rows))


def _entry_rows(prompt: str | None, entry: Entry) -> Iterator[Row]:
    """One prompt's entry, or the mean's."""
    yield from _measure_rows({name: value for name, value in entry.items() if name not in _APART}, "agreement", prompt)
    for name in _MAPPINGS:
        yield from _measure_rows(entry.get(name) or {}, name, prompt)
    for version, found in entry.get("score_versions", {}).items():
        yield from _measure_rows(found, "score_versions", prompt, version)
    for human, machine, essays in entry.get("confusion", ()):
        yield _row("confusion", "n", essays, prompt=prompt, item=f"{human:g} x {machine:g}")
    for name, keys in _LISTS.items():
        for found in entry.get(name) or ():
            item = " to ".join(f"{found[key]:.12g}" for key in keys)
            yield from _measure_rows(found, name, prompt, item)
    fairness = entry.get("fairness")
    if fairness:
        yield from _fairness_rows(prompt, fairness)


def _fairness_rows(prompt: str | None, fairness: Entry) -> Iterator[Row]:
    """Groups of each column, and the tests on them."""
    for column, part in fairness["columns"].items():
        for group, found in part["groups"].items():
            yield from _measure_rows(found, "fairness", prompt, column=column, group=group)
        for test, found in part.items():
            if test != "groups":
                yield from _measure_rows(found, "fairness", prompt, test, column=column)
    yield from _measure_rows({key: fairness[key] for key in ("comparisons", "small_group")}, "fairness", prompt)


def _flag_rows(flags: Sequence[Entry]) -> Iterator[Row]:
    for flag in flags:
        column, group = flag["group"] or (None, None)
        flagged = {"pass": 0, "flag": 1}.get(flag["verdict"])
        for measure, value in (("value", flag["value"]), ("threshold", flag["threshold"]), ("flagged", flagged)):
            place = {"prompt": flag["prompt"], "column": column, "group": group}
            yield _row("flags", measure, value, item=flag["criterion"], **place)


def _worst_rows(worst: Sequence[Entry]) -> Iterator[Row]:
    for essay in worst:
        for measure in ("reference", "raw", "score", "words"):
            yield _row("worst", measure, essay.get(measure), prompt=essay["prompt_id"], item=essay["essay_id"])


def _adjudication_rows(found: Entry) -> Iterator[Row]:
    """What humans decided, and the figures before and after."""
    yield from _measure_rows(found, "adjudicated")
    for prompt, entry in {**found["prompts"], None: found["mean"]}.items():
        yield from _measure_rows(entry, "adjudicated", prompt)
        for which in ("machine", "final"):
            yield from _measure_rows(entry[which] or {}, "adjudicated", prompt, which)


def _robustness_rows(robustness: Entry) -> Iterator[Row]:
    """Figures of each kind of change, in total and by prompt, and over all kinds that a score should answer alike."""
    yield from _measure_rows(robustness["settings"], "robustness")
    for prompt, essays in robustness["essays"].items():
        yield _row("robustness", "essays", essays, prompt=prompt)
    for group, entry in robustness["expected"].items():
        yield from _change_rows(entry, None, group)
    for kind, found in robustness["kinds"].items():
        yield _row("robustness", "worthless", int(found["worthless"]), item=kind)
        for prompt, entry in {None: found["total"], **found["prompts"]}.items():
            yield from _change_rows(entry, prompt, kind)


def _change_rows(entry: Entry, prompt: str | None, item: str) -> Iterator[Row]:
    yield from _measure_rows(entry, "robustness", prompt, item)
    for measure, found in entry.items():
        if isinstance(found, Mapping):
            ends = [found["low"], found["high"]]
            yield _row("robustness", measure, found["share"], ends, prompt=prompt, item=item)


def _measure_rows(
    entry: Entry,
    table: str,
    prompt: str | None = None,
    item: str | None = None,
    *,
    column: str | None = None,
    group: str | None = None,
) -> Iterator[Row]:
    """The measures of a mapping, each with its interval; words are left out, and truth is 1 or 0."""
    for measure, value in entry.items():
        if measure.endswith("_interval") or isinstance(value, str | Mapping | Sequence):
            continue
        number = int(value) if isinstance(value, bool) else value
        ends = entry.get(f"{measure}_interval")
        yield _row(table, measure, number, ends, prompt=prompt, item=item, column=column, group=group)


def _row(
    table: str,
    measure: str,
    value: float | None,
    ends: Sequence[float] | None = None,
    *,
    prompt: str | None = None,
    item: str | None = None,
    column: str | None = None,
    group: str | None = None,
) -> Row:
    return [*map(Cell, (prompt, column, group, table, item, measure)), Cell(value, interval=ends)]


REPORT, TABLE, PAGE = "report.json", "report.csv", "report.html"


def write_report_files(
    report: Report,
    folder: Path,
    *,
    title: str,
    pictures: Sequence[Picture] = (),
    about: Mapping[str, Any] | None = None,
    page: bool = True,
) -> None:
    """Write what readers and programs take of a report, together; report.json marks the others complete.

    Args:
        report: What ``build_report`` returned.
        folder: Where to; made if absent. Files of these names are replaced.
        title: The page's title.
        pictures: Further pictures for the page.
        about: Words for its foot.
        page: Whether report.html is written; drawing it takes seconds.

    Raises:
        DataError: A file cannot be written, or a picture is no svg.
    """
    rows = pd.DataFrame(report_rows(report))
    html = report_page(report, title=title, pictures=pictures, about=about) if page else None
    with replacing_together(folder, (TABLE, *([] if html is None else [PAGE]), REPORT)) as new:
        write_table(rows, new / TABLE)
        if html is not None:
            write_page(html, new / PAGE)
        write_report(report, new / REPORT)


@contextmanager
def replacing_together(folder: Path, names: Sequence[str]) -> Iterator[Path]:
    """A temporary folder whose files take their places when the block ends without an error.

    So a process that is killed leaves no new file beside an old one of another report: the last file, which says that
    the others are whole, is gone before they are replaced, and is put there after them.

    Args:
        folder: Where the files are to be; made if absent.
        names: Their names, all of which the block writes; existing files are replaced.

    Yields:
        Folder to write to.

    Raises:
        DataError: The folder or a file cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name in names:
            if (folder / name).is_dir():
                raise DataError(f"{folder / name} is a folder, where a file is to be. Move it, or choose another one.")
        with tempfile.TemporaryDirectory(prefix=".report.", dir=folder) as temporary:
            yield Path(temporary)
            (folder / names[-1]).unlink(missing_ok=True)
            for name in names:
                (Path(temporary) / name).replace(folder / name)
    except OSError as error:
        raise DataError(f"Cannot write {folder}: {error.strerror or error}. Choose a folder to write to.") from error


def refuse_existing(folder: Path, names: Sequence[str]) -> None:
    """Refuse to write over an earlier report.

    Raises:
        DataError: One of the files is there.
    """
    for name in names:
        if (folder / name).exists():
            raise DataError(
                f"{folder / name} is there already. Choose another --output-dir, or give --force to replace it."
            )
