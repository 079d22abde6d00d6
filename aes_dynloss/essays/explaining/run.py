"""Explanations into a file of lines, which grows essay by essay, so that a run that was stopped goes on; and pages."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from itertools import chain, islice
from pathlib import Path
from typing import IO, Any

from filelock import FileLock, Timeout
from pydantic import BaseModel

from aes_dynloss.errors import ConfigError, DataError
from aes_dynloss.essays.data.readers import UnscoredEssay
from aes_dynloss.essays.explaining.explanation import Explanation, explain_essays
from aes_dynloss.essays.explaining.page import IndexRow, essay_page, index_page
from aes_dynloss.essays.model.protocol import Scorer
from aes_dynloss.essays.scoring.score import window_digest
from aes_dynloss.progress import Progress
from aes_dynloss.reports.page import write_page
from aes_dynloss.tables.atomic import atomic_file
from aes_dynloss.tables.provenance import Provenance, provenance_path, sealed

logger = logging.getLogger(__name__)

LINES, INDEX, PAGES = "explanations.jsonl", "index.html", "essays"
Line = dict[str, Any]
# Told of each essay: its number from 0, its line, and the explanation if it was not made before.
Seen = Callable[[int, Line, Explanation | None], None]
_DIGEST, _LINE = "essay", "line"


def partial_file(path: Path) -> Path:
    """Where lines are kept until all are there."""
    return path.with_name(f".{path.name}.part")


def is_explained(path: Path) -> bool:
    """Whether a file of explanations is there, and no run into it was stopped."""
    return path.exists() and not partial_file(path).exists()


def explain_to_file(
    scorer: Scorer,
    essays: Iterable[UnscoredEssay],
    path: Path,
    options: Mapping[str, Any],
    *,
    model_digest: str,
    sealing: AbstractContextManager[None],
    resume: bool = False,
    force: bool = False,
    begin: Callable[[], None] | None = None,
    seen: Seen | None = None,
    finish: Callable[[], None] | None = None,
) -> int:
    """Explain essays, a line of JSON each.

    Args:
        scorer: The scorer.
        essays: The essays; on resuming those of the run that was stopped, in their order.
        path: The file, which appears when all lines are there; until then they are in :func:`partial_file`.
        options: As :func:`~aes_dynloss.essays.explaining.explanation.explain_essays` takes them.
        model_digest: Of the model's config.json.
        sealing: Is entered when the file is to appear, and seals what there is when it has.
        resume: Go on with a run that was stopped, with the same model and options.
        force: Begin anew where one was stopped, and replace the file; neither goes before the first essay is explained.
        begin: Is called when the first essay that was not explained before is, or there is none: what an earlier run
            left can go. Essays that were explained before have been told of.
        seen: Is told of each essay before its line is kept.
        finish: Is called when all are explained, before the file appears.

    Returns:
        How many essays there are.

    Raises:
        ConfigError: The file is there, or a run was stopped, and it is neither to go on nor to begin anew; or it had
            another model or options; or another process writes the file.
        DataError: It had other essays, what is left of it is damaged, or an essay cannot be scored.
    """
    part, settings = partial_file(path), {"model": model_digest, **{name: _plain(one) for name, one in options.items()}}
    told = seen or (lambda *_: None)
    with _alone(path), ExitStack() as opened:
        if path.exists() and not (resume or force):
            raise ConfigError(f"{path} is there already. Choose another place, or give --force.")
        file: IO[bytes] | None = None
        done: list[str] = []
        if _is_started(part, resume=resume, force=force):
            file = opened.enter_context(_reopened(part, settings))
            for number, row in enumerate(_rows(file, part)):
                told(number, row[_LINE], None)
                done.append(row[_DIGEST])
            if done:
                logger.info("Going on behind %d essays that are explained already.", len(done))
        stream, count = _Essays(essays), len(done)
        explained = explain_essays(scorer, stream, done=done, **options)
        first = [*islice(explained, 1)]  # by now what is wrong with model, options and INPUT has been told
        if file is None:
            file = opened.enter_context(_begun(part, settings))
        if begin is not None:
            begin()
        for one in Progress(chain(first, explained), desc="explain", unit="essay", initial=count):
            line = one.to_dict()
            told(count, line, one)
            row = {_DIGEST: stream.digest, _LINE: line}
            file.write(json.dumps(row).encode() + b"\n")
            file.flush()
            count += 1
        if finish is not None:
            finish()
        file.seek(0)
        next(file)
        with sealing, atomic_file(path) as temporary, temporary.open("w", encoding="utf-8", newline="\n") as lines:
            for kept in file:
                lines.write(json.dumps(json.loads(kept)[_LINE]) + "\n")
        part.unlink()
    return count


def explain_to_folder(
    scorer: Scorer,
    essays: Iterable[UnscoredEssay],
    folder: Path,
    options: Mapping[str, Any],
    *,
    model: str,
    model_digest: str,
    made: Provenance,
    resume: bool = False,
    force: bool = False,
) -> int | None:
    """Explain essays: a page an essay, an index, and a line of JSON an essay, which appear last.

    Args:
        scorer: The scorer.
        essays: The essays.
        folder: Where to.
        options: As :func:`~aes_dynloss.essays.explaining.explanation.explain_essays` takes them.
        model: What the model is called.
        model_digest: Of its config.json.
        made: Where the folder's files come from, which is told beside them.
        resume: Go on with a run that was stopped.
        force: Replace an earlier one.

    Returns:
        How many essays there are; None where all was there, so that nothing was left to do.

    Raises:
        ConfigError, DataError: As :func:`explain_to_file` does.
    """
    if resume and is_explained(folder / LINES):
        return None
    rows: list[IndexRow] = []
    about = {"Model": model}

    def begin() -> None:
        explained = {folder / row.file for row in rows}
        # Of files beside the explanations, such as of a check, the same provenance tells.
        replaced = [provenance_path(folder), folder / LINES] if (folder / LINES).exists() else []
        left = [page for page in (folder / PAGES).glob(f"{'[0-9]' * 5}*.html") if page not in explained]
        for path in (*replaced, folder / INDEX, *left):
            path.unlink(missing_ok=True)

    def seen(number: int, line: Line, explained: Explanation | None) -> None:
        rows.append(IndexRow.of(line, f"{PAGES}/{number + 1:05d}.html"))
        if explained is not None:
            write_page(essay_page(explained, about, f"../{INDEX}"), folder / rows[-1].file)

    return explain_to_file(
        scorer,
        essays,
        folder / LINES,
        options,
        model_digest=model_digest,
        sealing=sealed(made, folder, names=(LINES, INDEX, PAGES)),
        resume=resume,
        force=force,
        begin=begin,
        seen=seen,
        finish=lambda: write_page(index_page(rows, about), folder / INDEX),
    )


class _Essays(Iterator[UnscoredEssay]):
    """Essays one by one, with the digest of the one that was given last."""

    def __init__(self, essays: Iterable[UnscoredEssay]) -> None:
        self._essays = iter(essays)
        self.digest = ""

    def __next__(self) -> UnscoredEssay:
        essay = next(self._essays)
        self.digest = window_digest([essay])
        return essay


def _plain(value: Any) -> Any:  # noqa: ANN401 - an option
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json")
    if isinstance(value, Mapping):
        return {name: table.to_dict() for name, table in value.items()}
    return list(value) if isinstance(value, tuple) else value


@contextmanager
def _alone(path: Path) -> Iterator[None]:
    """Refuse a second process that explains into the same file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(path.with_name(f".{path.name}.lock"))
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise ConfigError(f"Another process is writing {path}. Wait for it, or choose another file.") from None
    try:
        yield
    finally:
        with suppress(OSError):  # before it is free: afterwards the file may be another process's
            Path(lock.lock_file).unlink()
        lock.release()


def _is_started(part: Path, *, resume: bool, force: bool) -> bool:
    """Whether there is a run to go on with; one that is neither to go on nor to begin anew is refused."""
    if force or not part.exists():
        return False
    with part.open("rb") as file:
        started = file.readline().endswith(b"\n")
    if started and not resume:
        raise ConfigError(
            f"{part} holds essays of a run that was stopped. Go on with it by --resume, or begin again with --force."
        )
    return started


def _begun(part: Path, settings: Mapping[str, Any]) -> IO[bytes]:
    """A new file of lines, with its settings."""
    file = part.open("w+b")
    file.write(json.dumps(settings).encode() + b"\n")
    file.flush()
    return file


def _reopened(part: Path, settings: Mapping[str, Any]) -> IO[bytes]:
    """The file of lines so far, read up to its settings."""
    file = part.open("r+b")
    try:
        before = json.loads(file.readline())
    except ValueError:
        before = None
    now = json.loads(json.dumps(settings))
    if before != now:
        file.close()
        names = sorted(name for name in now if not isinstance(before, dict) or before.get(name) != now[name])
        raise ConfigError(
            f"{part} is of a run with another {', '.join(names) or 'set of options'}. Explain as before, or begin "
            "again with --force."
        )
    return file


def _rows(file: IO[bytes], part: Path) -> Iterator[dict[str, Any]]:
    """The rows that are there whole; what a kill left of the last one is cut off."""
    end = file.tell()
    for row in iter(file.readline, b""):
        if not row.endswith(b"\n"):
            break
        end = file.tell()
        try:
            values = json.loads(row)
            yield {_DIGEST: values[_DIGEST], _LINE: values[_LINE]}
        except (ValueError, KeyError, TypeError):
            raise DataError(f"{part} is damaged. Begin again with --force.") from None
    file.seek(end)
    file.truncate(end)
