"""An append-only log of JSON lines that shows whether a line was changed, removed, moved or cut off.

Each line ends in the hash of the line before and in its own, over all of its bytes before it. FILE.head has the number
of lines and of bytes and the last hash; it is written after the lines. So a head may be behind an intact log, by what
one process wrote before it was killed, and the next writer brings it up; a head that is ahead of its log tells of lines
that were cut off. Whoever can write both files can forge both: keep copies of FILE.head where others cannot write.
A writer reads the whole log before its first line, and refuses to add to one in which anything was changed.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, BinaryIO

from filelock import FileLock

from aes_dynloss.errors import DataError
from aes_dynloss.tables.atomic import write_text

# What the first line is chained to.
BEGINNING = "0" * 64
_LINE = re.compile(rb'(\{"number": ([0-9]{1,15}), .*"previous": "([0-9a-f]{64})", )"hash": "([0-9a-f]{64})"\}\n')
_TAIL = len(f'"hash": "{BEGINNING}"}}\n')
# Seconds for which one writer waits for others.
_PATIENCE = 60


@dataclass(frozen=True)
class Head:
    """What FILE.head says: where a log ends.

    Args:
        lines: Number of lines.
        size: Number of bytes.
        hash: The last line's, in hexadecimal.
    """

    lines: int = 0
    size: int = 0
    hash: str = BEGINNING

    @classmethod
    def read(cls, path: Path) -> Head:
        """Read a file.

        Raises:
            DataError: It cannot be read, or is no head.
        """
        try:
            text = path.read_text(encoding="ascii")
            found = cls(**json.loads(text))
            if not all(type(value) is kind for value, kind in zip(vars(found).values(), (int, int, str), strict=True)):
                raise ValueError("it needs two numbers and a hash")
            if found.text() != text:
                raise ValueError("it is not in the form in which it is written")
        except (OSError, ValueError, TypeError) as error:
            raise DataError(f"{path} is damaged: {error}.") from None
        return found

    def text(self) -> str:
        """The file's content."""
        return json.dumps({"lines": self.lines, "size": self.size, "hash": self.hash}) + "\n"

    def after(self, line: bytes) -> Head:
        """The end of the log when a line has been added."""
        return Head(self.lines + 1, self.size + len(line), line[-67:-3].decode("ascii", "replace"))


@dataclass(frozen=True)
class Verification:
    """What a log's lines and head say of it.

    Args:
        lines: Lines that are there.
        faults: What is wrong, in the order of the lines; none where the log is intact.
        notes: What a process that was killed left, which the next writer mends.
    """

    lines: int
    faults: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


class AuditLog:
    """A log that several processes may write to.

    Args:
        path: The file; its head and its lock lie beside it.

    Examples:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "audit.jsonl"
        >>> AuditLog(path).append([{"essay_id": "a"}, {"essay_id": "b"}])
        >>> verify_log(path)
        Verification(lines=2, faults=[], notes=[])
        >>> _ = path.write_bytes(path.read_bytes().replace(b'"b"', b'"c"'))
        >>> verify_log(path).faults
        ['line 2 was changed']
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._head = head_path(path)
        self._intact = Head()  # so far this writer has read the log, and found it as it was written

    def append(self, entries: Sequence[Mapping[str, Any]]) -> None:
        """Add a line for each entry; all are on the disk at the end.

        Args:
            entries: Plain values; ``number``, ``time``, ``previous`` and ``hash`` are added.

        Raises:
            DataError: A line of the log was changed, moved or cut off, or it cannot be written.
        """
        if not entries:
            return
        with self._open() as (file, end):
            time = datetime.now(UTC).isoformat(timespec="milliseconds")
            head, lines = end, []
            for entry in entries:
                lines.append(_line({"number": head.lines + 1, "time": time, **entry, "previous": head.hash}))
                head = head.after(lines[-1])
            file.write(b"".join(lines))
            file.flush()
            os.fsync(file.fileno())
            write_text(self._head, head.text())
            self._intact = head

    def check(self) -> None:
        """Look whether lines can be added.

        Raises:
            DataError: As for :meth:`append`.
        """
        with self._open():
            pass

    def count(self, key: str, value: str) -> int:
        """How many lines have a value at a key.

        Args:
            key: Of the entries.
            value: A word.

        Raises:
            DataError: As for :meth:`append`.
        """
        written = f"{json.dumps(key)}: {json.dumps(value, ensure_ascii=False)}".encode("utf-8", "backslashreplace")
        with self._open() as (file, _):
            file.seek(0)
            return sum(written in line and json.loads(line).get(key) == value for line in file)

    @contextmanager
    def _open(self) -> Iterator[tuple[BinaryIO, Head]]:
        """The file at its end, and what its head is to say; other writers wait."""
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with FileLock(self.path.with_name(f".{self.path.name}.lock"), timeout=_PATIENCE):
                if not self._head.exists() and (not self.path.exists() or self.path.stat().st_size == 0):
                    write_text(self._head, Head().text())  # before the first line: a log without a head has lost it
                with self.path.open("a+b") as file:
                    yield file, self._brought_up(file)
        except TimeoutError:
            raise DataError(f"Other processes hold {self.path} for more than {_PATIENCE} s. Look at them.") from None
        except OSError as error:
            raise DataError(f"Cannot write the audit log {self.path}: {error.strerror or error}.") from error

    def _brought_up(self, file: BinaryIO) -> Head:
        """The end of the log, also where a process was killed before it wrote the head, or half of a line.

        What this writer has not read yet is held against the chain.
        """
        advice = f"Nothing was added. Look with aes-dynloss audit verify {self.path}; keep both files, begin another."
        if not self._head.exists():
            raise DataError(f"The audit log {self.path} has lost its head, {self._head.name}. {advice}")
        head = Head.read(self._head)
        file.seek(0)
        if (fault := _misfit(file, head)) is not None:
            raise DataError(f"The audit log {self.path} was changed: {fault}. {advice}")
        end = self._intact if self._intact.size <= head.size else Head()
        file.seek(end.size)
        for line in file:
            if not line.endswith(b"\n"):  # half of a line, behind the head
                file.truncate(end.size)
                break
            if (fault := _fault(line, end)) is not None:
                raise DataError(f"The audit log {self.path} was changed: {fault}. {advice}")
            end = end.after(line)
            if end.size == head.size and end != head:
                raise DataError(f"The audit log {self.path} was changed: its head tells of other lines. {advice}")
        file.seek(0, os.SEEK_END)
        self._intact = end
        return end


def head_path(path: Path) -> Path:
    """The file that says where a log ends."""
    return path.with_name(f"{path.name}.head")


def verify_log(path: Path) -> Verification:
    """Look for lines that were changed, are missing, stand elsewhere or were cut off.

    Args:
        path: The log.

    Raises:
        DataError: There is neither a log nor a head, or one cannot be read.
    """
    head_file = head_path(path)
    if not path.exists() and not head_file.exists():
        raise DataError(f"There is no audit log {path}. Name the file that --audit wrote.")
    faults, head = [], None
    if head_file.exists():
        try:
            head = Head.read(head_file)
        except DataError as error:
            faults.append(str(error).rstrip("."))
    else:
        faults.append(f"the head {head_file.name} is missing")
    try:
        with (path if path.exists() else Path(os.devnull)).open("rb") as file:
            return _verified(file, head, faults)
    except OSError as error:
        raise DataError(f"Cannot read {path}: {error.strerror or error}.") from error


def _verified(file: BinaryIO, head: Head | None, faults: list[str]) -> Verification:
    end, notes, ends = Head(), [], {(0, 0): BEGINNING}
    for line in file:
        if not line.endswith(b"\n"):
            notes.append(f"after line {end.lines} there is half of a line, of a process that was killed")
            break
        if (fault := _fault(line, end)) is not None:
            faults.append(fault)
        parts = _LINE.fullmatch(line)
        after = end.after(line)
        # Behind a fault the lines are held against one another.
        end = after if parts is None else Head(int(parts[2]), after.size, after.hash)
        if head is not None and end.size == head.size:
            ends[end.lines, end.size] = end.hash
    if head is not None and not faults:
        if end.size < head.size or end.lines < head.lines:
            faults.append(f"the end was cut off: the head counts {head.lines} lines, {end.lines} are there")
        elif ends.get((head.lines, head.size)) != head.hash:
            faults.append("the head was changed, or is another log's")
        elif end.lines > head.lines:
            notes.append(f"the head is {end.lines - head.lines} lines behind, of a process that was killed")
    return Verification(end.lines, faults, notes)


def _line(entry: Mapping[str, Any]) -> bytes:
    """An entry with its hash, and the line's end."""
    begun = json.dumps(entry, ensure_ascii=False, allow_nan=False)[:-1].encode("utf-8", "backslashreplace") + b", "
    return begun + f'"hash": "{hashlib.sha256(begun).hexdigest()}"}}\n'.encode("ascii")


def _fault(line: bytes, before: Head) -> str | None:
    """What is wrong with the line behind a place."""
    number = before.lines + 1
    parts = _LINE.fullmatch(line)
    if parts is None or hashlib.sha256(parts[1]).hexdigest().encode("ascii") != parts[4]:
        return f"line {number} was changed"
    if int(parts[2]) != number:
        return f"where line {number} is expected there is line {int(parts[2])}"
    if parts[3].decode("ascii") != before.hash:
        return f"line {number} does not follow the line before it"
    return None


def _misfit(file: BinaryIO, head: Head) -> str | None:
    """What is wrong with the place at which a head says that the log ended."""
    size = os.fstat(file.fileno()).st_size
    if size < head.size:
        return f"its end was cut off; the head counts {head.size} bytes, {size} are there"
    if head.lines == 0:
        return None if head == Head() else "the head is damaged"
    file.seek(max(0, head.size - _TAIL))
    expected = f'"hash": "{head.hash}"}}\n'.encode("ascii")
    return None if file.read(_TAIL) == expected else "the line that the head ends with is another"
