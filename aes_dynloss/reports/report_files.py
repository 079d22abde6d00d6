"""A report on disk: report.json, the same numbers as rows of report.csv and features.csv, report.html for readers."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pandas as pd

from aes_dynloss.errors import DataError
from aes_dynloss.reports.drivers import Drivers, with_groups
from aes_dynloss.reports.features import FEATURE_COLUMNS, feature_rows
from aes_dynloss.reports.human_entries import RaterReport
from aes_dynloss.reports.model import Report
from aes_dynloss.reports.page import Picture, report_page, write_page
from aes_dynloss.reports.prompts import write_report
from aes_dynloss.reports.traits import by_scale
from aes_dynloss.tables.formats import write_table

Entry = Mapping[str, Any]
Row = dict[str, float | str | None]

COLUMNS = ("prompt", "column", "group", "table", "item", "measure", "value", "low", "high")
# Lists of an entry, and the keys that name a row of them; a bin is named by both its ends.
_LISTS = {
    "score_points": ("point",),
    "score_levels": ("low", "high"),
    "residuals_by_score": ("reference",),
    "residuals_by_length": ("words_from", "words_to"),
    "reliability": ("raw_from", "raw_to"),
}
_MAPPINGS = ("range", "human_human", "human_ratings", "prediction_interval")


def report_rows(report: Report) -> list[Row]:
    """Every number of a report but those of features, one a row.

    Args:
        report: What ``build_report`` returned.

    Returns:
        Rows of COLUMNS: ``prompt`` (None: the mean, or the whole report; with traits PROMPT/TRAIT), ``column`` and
        ``group`` of a subgroup, ``table`` (where in the report: ``agreement``, ``score_points``, ``confusion``, ...),
        ``item`` (the row there, as text: a score point, ``human x machine`` of a cell, a bin, a score version, a
        criterion, an essay), ``measure``, ``value``, and ``low`` and ``high``, the interval; None where there is none
        or the value is undefined. Verdicts are told by ``flagged``: 1, 0, or None for unknown.
    """
    rows: list[Row] = []
    rows += _trait_rows(report)
    report = by_scale(report)
    for prompt, entry in report.prompts.items():
        rows += _entry_rows(entry, prompt=prompt)
    rows += _entry_rows(report.mean, prompt=None)
    for name, floor in report.floors.items():
        for prompt, qwk in floor.prompts.items():
            rows += _rows({"qwk": qwk}, "floors", prompt=prompt, item=name)
        rows += _rows({"qwk": floor.mean}, "floors", item=name)
    for flag in report.flags:
        column, group = flag.group or (None, None)
        figures = {"value": flag.value, "threshold": flag.threshold}
        figures["flagged"] = {"pass": 0, "flag": 1}.get(flag.verdict)
        rows += _rows(figures, "flags", prompt=flag.prompt, item=flag.criterion, column=column, group=group)
    for essay in report.worst:
        figures = {measure: getattr(essay, measure) for measure in ("reference", "raw", "score", "reported", "words")}
        rows += _rows(figures, "worst", prompt=essay.prompt_id, item=essay.essay_id)
    rows += _rows({**report.settings, "min_group": report.judged_by.min_group}, "settings")
    if report.adjudicated:
        rows += _adjudication_rows(report.adjudicated)
    if report.robustness:
        rows += _robustness_rows(report.robustness)
    for rater in report.ratings.raters if report.ratings else ():
        rows += _rows(rater, "ratings", item=rater.rater)
    rows += _rater_rows(report.raters)
    if report.drivers:
        rows += _driver_rows(report.drivers)
    return rows


def _rater_rows(raters: RaterReport | None) -> Iterator[Row]:
    """Rows of human raters and the machine, of whether raters were assigned by chance, and of adjusted scores."""
    if raters is None:
        return
    yield from _rows(raters, "raters")
    for rater in (*raters.raters, raters.machine):
        yield from _rows(rater, "raters", item=rater.rater)
    for name, test in raters.assignment.items():
        yield from _rows(test, "rater_assignment", item=name)
    for prompt, figures in raters.adjusted.items():
        yield from _rows(figures, "adjusted", prompt=prompt)


def _driver_rows(drivers: Drivers) -> Iterator[Row]:
    """Rows of what drives scores: of parts of essays and of groups of features."""
    for prompt, column, group, found in with_groups(drivers):
        yield from _rows({"n": found.n}, "drivers", prompt=prompt, column=column, group=group)
        for item, effect in (found.parts | found.features).items():
            yield from _rows(effect, "drivers", prompt=prompt, column=column, group=group, item=item)


def _trait_rows(report: Report) -> Iterator[Row]:
    """Rows of means over prompts by trait, and over traits."""
    for name, trait in (report.traits or {}).items():
        yield from (row | {"item": name} for row in _entry_rows(trait.mean, prompt=None))
    means = report.trait_means
    if means is not None:
        yield from _rows({"mcrmse": means.mcrmse}, "traits")
        other = "mean over traits first"
        yield from (row | {"item": other} for row in _entry_rows(means.over_traits_first, prompt=None))


def _entry_rows(entry: Entry, prompt: str | None) -> Iterator[Row]:
    """Rows of one prompt's entry, or of the mean's."""
    measures = {name: value for name, value in entry.items() if name not in {*_LISTS, *_MAPPINGS}}
    yield from _rows(measures, "agreement", prompt=prompt)
    for name in _MAPPINGS:
        yield from _rows(entry.get(name) or {}, name, prompt=prompt)
    for version, figures in entry.get("score_versions", {}).items():
        yield from _rows(figures, "score_versions", prompt=prompt, item=version)
    yield from _confusion_rows(entry, "confusion", prompt)
    human = entry.get("human_human") or {}
    yield from _confusion_rows(human, "human_confusion", prompt)
    yield from _rows(human.get("range") or {}, "human_range", prompt=prompt)
    for name, keys in _LISTS.items():
        for figures in entry.get(name) or ():
            item = " to ".join(f"{figures[key]:.12g}" for key in keys)
            yield from _rows(figures, name, prompt=prompt, item=item)
    fairness = entry.get("fairness") or {"columns": {}}
    for column, part in fairness["columns"].items():
        for group, figures in part["groups"].items():
            yield from _rows(figures, "fairness", prompt=prompt, column=column, group=group)
        for test, figures in part.items():
            if test != "groups":
                yield from _rows(figures, "fairness", prompt=prompt, column=column, item=test)
    yield from _rows(fairness, "fairness", prompt=prompt)


def _confusion_rows(entry: Entry, table: str, prompt: str | None) -> Iterator[Row]:
    """Rows of how many essays have each pair of two scores."""
    for first, second, essays in entry.get("confusion", ()):
        yield from _rows({"n": essays}, table, prompt=prompt, item=f"{first:g} x {second:g}")


def _adjudication_rows(adjudicated: Entry) -> Iterator[Row]:
    """Rows of what humans decided, and of the figures before and after."""
    yield from _rows(adjudicated, "adjudicated")
    for prompt, entry in {**adjudicated["prompts"], None: adjudicated["mean"]}.items():
        yield from _rows(entry, "adjudicated", prompt=prompt)
        for which in ("machine", "final"):
            yield from _rows(entry[which] or {}, "adjudicated", prompt=prompt, item=which)


def _robustness_rows(robustness: Entry) -> Iterator[Row]:
    """Rows of each kind of change, in total and by prompt, and over all kinds that a score should answer alike."""
    yield from _rows(robustness["settings"], "robustness")
    for prompt, essays in robustness["essays"].items():
        yield from _rows({"essays": essays}, "robustness", prompt=prompt)
    for group, entry in robustness["expected"].items():
        yield from _change_rows(entry, None, group)
    for kind, entry in robustness["kinds"].items():
        yield from _rows({"worthless": entry["worthless"]}, "robustness", item=kind)
        for prompt, figures in {None: entry["total"], **entry["prompts"]}.items():
            yield from _change_rows(figures, prompt, kind)


def _change_rows(figures: Entry, prompt: str | None, item: str) -> Iterator[Row]:
    yield from _rows(figures, "robustness", prompt=prompt, item=item)
    for measure, share in figures.items():
        if isinstance(share, Mapping):
            bounded = {measure: share["share"], f"{measure}_interval": (share["low"], share["high"])}
            yield from _rows(bounded, "robustness", prompt=prompt, item=item)


def _rows(figures: Entry, table: str, **names: str | None) -> Iterator[Row]:
    """A row for each number of a mapping, with its interval; words and parts are left out, and truth is 1 or 0."""
    for measure, value in figures.items():
        if not measure.endswith("_interval") and not isinstance(value, str | Mapping | Sequence):
            low, high = figures.get(f"{measure}_interval") or (None, None)
            number = int(value) if isinstance(value, bool) else value
            row = {"table": table, "measure": measure, "value": number, "low": low, "high": high}
            yield {**dict.fromkeys(COLUMNS), **names, **row}


REPORT, TABLE, PAGE, FEATURES = "report.json", "report.csv", "report.html", "features.csv"


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

    Features have a table of their own. A report without them removes that of an earlier report.

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
    names = [TABLE, *([] if html is None else [PAGE]), *([FEATURES] if report.features else []), REPORT]
    stale = [] if report.features or not _is_feature_table(folder / FEATURES) else [FEATURES]
    with replacing_together(folder, names, stale) as new:
        write_table(rows, new / TABLE)
        if report.features:
            write_table(pd.DataFrame(feature_rows(report.features)), new / FEATURES)
        if html is not None:
            write_page(html, new / PAGE)
        write_report(report, new / REPORT)


def _is_feature_table(path: Path) -> bool:
    """Whether a report wrote the file; others of its name are a user's own."""
    if not path.is_file():
        return False
    with path.open("rb") as file:
        return file.readline().rstrip() == ",".join(FEATURE_COLUMNS).encode()


_NEW = ".report."  # begins the names of temporary folders


@contextmanager
def replacing_together(folder: Path, names: Sequence[str], removed: Sequence[str] = ()) -> Iterator[Path]:
    """A temporary folder whose files take their places when the block ends without an error.

    So a process that is killed leaves no new file beside an old one: the old files are gone, the last one first, before
    the new ones are put there, the last one, which says that the others are whole, after them.

    Args:
        folder: Where the files are to be; made if absent. No other process is writing it: what earlier ones that were
            killed left there is removed.
        names: Their names, all of which the block writes; existing files are replaced.
        removed: Files that are to be gone then.

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
        for left in folder.glob(f"{_NEW}*"):
            shutil.rmtree(left, ignore_errors=True)
        with tempfile.TemporaryDirectory(prefix=_NEW, dir=folder) as temporary:
            yield Path(temporary)
            for name in (*reversed(names), *removed):
                (folder / name).unlink(missing_ok=True)
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
