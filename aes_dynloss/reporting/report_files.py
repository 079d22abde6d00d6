"""A report on disk: report.json, the same numbers as report.csv, and report.html for readers."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
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
