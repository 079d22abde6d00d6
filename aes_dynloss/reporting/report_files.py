"""A report on disk: report.json, the same numbers as report.csv, and report.html for readers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from aes_dynloss.errors import DataError
from aes_dynloss.evaluation.report import write_report
from aes_dynloss.evaluation.table_files import write_table
from aes_dynloss.reporting.flat import report_rows
from aes_dynloss.reporting.page import Picture, report_page, write_page

REPORT, TABLE, PAGE = "report.json", "report.csv", "report.html"


def write_report_files(
    report: Mapping[str, Any],
    folder: Path,
    *,
    title: str,
    pictures: Sequence[Picture] = (),
    about: Mapping[str, Any] | None = None,
    page: bool = True,
) -> None:
    """Write what readers and programs take of a report; report.json comes last, and marks the others complete.

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
    write_table(pd.DataFrame(report_rows(report)), folder / TABLE)
    if page:
        write_page(report_page(report, title=title, pictures=pictures, about=about), folder / PAGE)
    write_report(report, folder / REPORT)


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
