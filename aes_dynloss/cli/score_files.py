"""The files that ``aes-dynloss score`` writes: none over another, over what is read, or over an earlier one."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from aes_dynloss.errors import ConfigError


def check_apart(written: Mapping[str, Path | None], read: Mapping[str, Sequence[str | Path | None]]) -> None:
    """Refuse to write two things into one file, or over what is read.

    Args:
        written: Files by option.
        read: Files and folders by what they are; where INPUT is --output, --review or --explain, others say so.

    Raises:
        ConfigError: One is.
    """
    known: dict[str, str] = {}
    for option, path in written.items():
        # Path.resolve raises RuntimeError for a link to itself.
        if path is not None and (first := known.setdefault(os.path.realpath(path), option)) != option:
            raise ConfigError(f"{option} and {first} name one file, {path}. Choose another {option}.")
    for option, sources in read.items():
        for source in sources:
            other = None if source is None else known.get(os.path.realpath(source))
            if other is not None and not (option == "INPUT" and other in {"--output", "--review", "--explain"}):
                raise ConfigError(f"{other} names {source}, which is read as {option}. Choose another {other}.")


def check_explain(
    path: Path | None,
    others: tuple[Path | None, ...],
    inputs: tuple[str, ...],
    precision: str,
    *,
    resume: bool,
    force: bool,
) -> bool:
    """Whether nothing is left to explain; a file that cannot be written and essays not to be read twice are refused."""
    if path is None:
        return True
    if precision != "float32":
        raise ConfigError(
            "--explain explains scores in float32. Leave --precision out, or explain by aes-dynloss explain."
        )
    if any(other is not None and other.resolve() == path.resolve() for other in others):
        raise ConfigError(f"--explain names a file that is written already, {path}. Choose another --explain.")
    if "-" in inputs:
        raise ConfigError("--explain reads INPUT a second time, which standard input does not allow. Name a file.")
    check_path("--explain", path, inputs, force or resume)
    from aes_dynloss.essays.explaining.run import is_explained

    return resume and is_explained(path)


def is_complete(
    output: Path | None, review: Path | None, inputs: tuple[str, ...], *, resume: bool, force: bool
) -> bool:
    """Whether --resume has nothing left to do, but to remove what a run killed at its very end has left.

    Paths that would overwrite what they should not are refused.
    """
    from aes_dynloss.essays.scoring.resume import remove_leftovers, unfinished

    if output is None:
        if resume:
            raise ConfigError("--resume needs a file of scores to resume. Name it with --output.")
        if review is not None:
            raise ConfigError("--review needs a file of scores too. Name one with --output.")
        return False
    if resume and force:
        raise ConfigError("--resume resumes a run and --force begins it again; give one of them.")
    complete = resume and output.exists() and not unfinished(output)
    replaceable = force or complete or (resume and unfinished(output))
    check_path("--output", output, inputs, replaceable)
    if review is not None:
        check_path("--review", review, inputs, replaceable)
        if review.resolve() == output.resolve():
            raise ConfigError(f"--review and --output name one file, {output}. Choose another --review.")
        if complete and not review.exists():
            raise ConfigError(f"{output} is complete, but there is no {review}. Score again with --force for both.")
    if complete:
        remove_leftovers(output)
    return complete


def check_path(option: str, path: Path, inputs: tuple[str, ...], replaceable: bool) -> None:
    """Refuse a path that is a folder, that is there already, that is read, or that cannot be written."""
    if path.is_dir():
        raise ConfigError(f"Cannot write {path}: it is a folder. Name a file with {option}.")
    if path.exists() and not replaceable:
        raise ConfigError(f"{path} is there already. Choose another {option}, or replace it by --force.")
    if any(path.exists() and Path(source).exists() and path.samefile(source) for source in inputs):
        raise ConfigError(f"{option} {path} is an INPUT too; its essays would be lost. Choose another {option}.")
    folder = next(one for one in Path(os.path.realpath(path)).parents if one.exists())
    if not (path.exists() or os.access(folder, os.W_OK)):  # a review sheet would fail when all is scored
        raise ConfigError(f"Cannot write {path}: {folder} cannot be written to. Choose another {option}.")
