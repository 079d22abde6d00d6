"""The command line, run in this process: what it says and how it ends."""

from __future__ import annotations

import io
import logging
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from unittest import mock

from aes_dynloss.cli.main import run

MODEL_LIBRARIES = {"torch", "transformers", "datasets", "accelerate"}


@dataclass(frozen=True)
class Outcome:
    """Exit code, data and words of one command."""

    code: int
    out: str
    err: str

    @property
    def error(self) -> str:
        """The words after ``Error: ``; nothing if there is no such message."""
        place = f"\n{self.err}".rfind("\nError: ")
        return "" if place < 0 else self.err[place + len("Error: ") :].strip()


def command(*arguments: object, stdin: bytes = b"") -> Outcome:
    """Run ``aes-dynloss`` with these words, as a process would but without starting one; a bug raises."""
    return outcome_of(lambda: run([str(argument) for argument in arguments]), stdin)


def outcome_of(call: Callable[[], int], stdin: bytes = b"", *, terminal: bool = True) -> Outcome:
    """What a call that answers an exit code says: words as a terminal shows them, or with time stamps."""
    out, err = io.BytesIO(), io.BytesIO()
    streams = {
        # Strict as a terminal's and a file's output is; words on errors may hold anything.
        "stdout": io.TextIOWrapper(out, encoding="utf-8", write_through=True),
        "stderr": io.TextIOWrapper(err, encoding="utf-8", errors="backslashreplace", write_through=True),
        "stdin": io.TextIOWrapper(io.BytesIO(stdin), encoding="utf-8"),
    }
    stamps = mock.patch("aes_dynloss.cli.main._is_terminal", return_value=terminal)
    with mock.patch.multiple(sys, **streams), stamps, _logging_as_before():
        code = call()
    return Outcome(code, out.getvalue().decode(), err.getvalue().decode(errors="replace"))


@contextmanager
def _logging_as_before() -> Iterator[None]:
    """Within the block the command may set up logging; afterwards it is pytest's again."""
    root, own = logging.getLogger(), logging.getLogger("aes_dynloss")
    before = list(root.handlers), root.level, own.level
    try:
        yield
    finally:
        root.handlers[:], root.level, own.level = before


def judge(outcome: Outcome) -> int:
    """The exit code of a command that was given something damaged, after a look whether it ended as it should."""
    assert outcome.code in {0, 2}
    assert "Traceback" not in outcome.err
    if outcome.code == 2:
        assert 20 < len(outcome.error) < 20_000
    return outcome.code


def output_without(code: str, heavy: set[str]) -> str:
    """What a new process that runs the code prints; fails where it has then loaded one of the heavy libraries."""
    code += f"\nimport sys\nloaded = {heavy} & set(sys.modules)\nsys.exit(f'loaded {{loaded}}' if loaded else 0)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout
