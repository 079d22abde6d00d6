"""Rows as they are read, and rows that cannot be used: kept with place and reason, reported together."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from aes_dynloss.errors import DataError

Row = tuple[int, dict[str, object]]


class NoRowsError(DataError):
    """A table is whole and has no rows.

    Args:
        message: For the user.
        columns: Its columns, where the format tells them without rows.
    """

    def __init__(self, message: str, columns: Sequence[str] = ()) -> None:
        super().__init__(message)
        self.columns = tuple(columns)


LISTED_FAULTS = 20


@dataclass(frozen=True)
class RowFault:
    """One row that cannot be used.

    Args:
        source: Name of the file or data set, as messages show it.
        row: Number of the row, as `aes_dynloss.tables.formats` counts.
        reason: What was expected, what was found and what to do.
        essay_id: The row's essay, where its id could be read.
    """

    source: str
    row: int
    reason: str
    essay_id: str | None = None

    def __str__(self) -> str:
        """The fault as one sentence with its place."""
        essay = "" if self.essay_id is None else f" (essay {self.essay_id})"
        return f"Row {self.row} of {self.source}{essay}: {self.reason}"


FaultHandler = Callable[[RowFault], None]


def refuse(fault: RowFault) -> None:
    """The strictest `FaultHandler`: the first fault ends the reading.

    Raises:
        DataError: Always.
    """
    raise DataError(str(fault))


@dataclass
class FaultLog:
    """The `FaultHandler` that collects.

    Args:
        faults: The rows that cannot be used.
        stopped: The error that ended the reading before the source's end, if one did.
    """

    faults: list[RowFault] = field(default_factory=list)
    stopped: str | None = None

    def __call__(self, fault: RowFault) -> None:
        """Keep one fault."""
        self.faults.append(fault)

    def raise_if_any(self) -> None:
        """Report what was collected.

        Raises:
            DataError: Naming the first `LISTED_FAULTS` faults, the count of the rest, and what ended the reading.
        """
        lines = [str(fault) for fault in self.faults[:LISTED_FAULTS]]
        rest = len(self.faults) - len(lines)
        if rest:
            lines.append(f"... and {rest} more such rows; `aes-dynloss data check` lists them all.")
        if self.stopped is not None:
            lines.append(self.stopped)
        if len(lines) == 1:
            raise DataError(lines[0])
        if lines:
            count = "1 row" if len(self.faults) == 1 else f"{len(self.faults)} rows"
            raise DataError(f"{count} of {self.faults[0].source} cannot be used:\n  " + "\n  ".join(lines))


def damaged_table(path: Path, kind: str, error: Exception) -> DataError:
    """The error on a file that its reader cannot read.

    Args:
        path: The file.
        kind: Its format, such as parquet.
        error: What the reader says.
    """
    message = " ".join(str(error).split())[:300]
    return DataError(f"{path.name} cannot be read as {kind}: {message}. Save it again.")
