"""The tables of a folder that is scored part by part, and how they are read."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from aes_dynloss.errors import DataError
from aes_dynloss.essays.data.data_config import Columns
from aes_dynloss.essays.data.readers import UnscoredEssay, columns_to_score, iterate_unscored
from aes_dynloss.tables.columns import ID_COLUMNS
from aes_dynloss.tables.csv_jsonl import Quoting
from aes_dynloss.tables.formats import SUFFIXES, iterate_rows
from aes_dynloss.tables.provenance import PROVENANCE
from aes_dynloss.tables.rows import NoRowsError

logger = logging.getLogger(__name__)


def list_parts(folder: Path) -> list[Path]:
    """The tables of a folder, by name.

    Raises:
        DataError: There is none, one is a folder or a link to nothing, or two would have their scores in one place.
    """
    # Hidden files, marks of Spark, and locks of tables that are open in a spreadsheet are none.
    entries = [path for path in sorted(folder.iterdir()) if not path.name.startswith((".", "_", "~$"))]
    parts = [path for path in entries if path.suffix.lower() in SUFFIXES]
    no_file = next((path for path in parts if not path.is_file()), None)
    if no_file is not None:
        kind = "a folder" if no_file.is_dir() else "a link to nothing, or no regular file"
        raise DataError(f"{no_file} has the name of a table and is {kind}. Move it away, or put the table there.")
    if not parts:
        raise DataError(
            f"The folder {folder} holds neither tables ({', '.join(SUFFIXES)}) nor .txt files. Name a file, or a "
            "folder of either."
        )
    twice = [stem for stem, count in Counter(path.stem for path in parts).items() if count > 1]
    if twice:
        names = " and ".join(path.name for path in parts if path.stem == twice[0])
        raise DataError(f"{folder} holds {names}, whose scores would be hard to tell apart. Rename one.")
    others = sum(not path.name.endswith(PROVENANCE) for path in entries) - len(parts)
    if others:
        logger.warning("%d entries of the folder %s are no tables and are not read.", others, folder.name)
    return parts


@dataclass(frozen=True)
class Reading:
    """How the parts are read, as :func:`aes_dynloss.essays.data.readers.iterate_unscored` takes it.

    Args:
        columns: Names of the columns, those of the first part with rows where they have no usual names.
        prompt: The one prompt of tables without a column of prompts.
        encoding: Of text files.
        quoting: Of csv and tsv.
        features: Numeric columns that the model sees beside the text.
        keep: Whether each essay has its row's other cells with it.
    """

    columns: Columns
    prompt: str | None = None
    encoding: str = "utf-8"
    quoting: Quoting = "minimal"
    features: tuple[str, ...] = ()
    keep: bool = False

    def essays(self, part: Path) -> Iterator[UnscoredEssay]:
        """The essays of a part; none where it has no rows."""
        with suppress(NoRowsError):
            yield from iterate_unscored(str(part), **vars(self))

    def kept_without_rows(self, part: Path) -> list[str]:
        """The columns that stand behind the scores of a part without rows."""
        try:
            next(iterate_rows(part, encoding=self.encoding, quoting=self.quoting))
        except NoRowsError as error:
            ids = {self.columns.essay_id, self.columns.prompt_id} & {*ID_COLUMNS}
            return [column for column in error.columns if self.keep and column not in ids]
        return []

    def plain(self) -> dict[str, Any]:
        """The same as plain values."""
        return vars(self) | {"columns": self.columns.model_dump(), "features": list(self.features)}


def first_columns(
    parts: Sequence[Path], named: Mapping[str, str], say: Callable[[str], None], reading: Reading
) -> Reading:
    """The reading of all parts, with the columns of the first one that has rows.

    Args:
        parts: The tables.
        named: Columns that the user named.
        say: Is told of each column that was found, and why.
        reading: How the parts are read else.

    Raises:
        DataError: It cannot be read, it remains open which column is the text, or no part has rows.
    """
    for path in parts:
        with suppress(NoRowsError):
            columns = columns_to_score(str(path), named, say=say, encoding=reading.encoding, quoting=reading.quoting)
            found = replace(reading, columns=columns)
            if next(found.essays(path), None) is not None:  # the reader says what is missing
                return found
    raise DataError(f"No table of the folder {parts[0].parent} has rows. Name a folder with essays.")
