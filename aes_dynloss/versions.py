"""Versions of installed packages."""

from __future__ import annotations

import importlib.metadata
import subprocess
from functools import cache
from pathlib import Path


def package_version(package: str) -> str | None:
    """The version of a package that is installed; None for another.

    >>> package_version("no-such-package") is None
    True
    """
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


@cache
def source_commit() -> str | None:
    """The commit of this package's source, with ``-dirty`` where files were changed since; None without a checkout.

    >>> isinstance(source_commit(), str | None)
    True
    """
    checkout = Path(__file__).resolve().parent.parent
    if not (checkout / ".git").exists():
        return None
    words = ["git", "-C", str(checkout), "describe", "--always", "--dirty", "--abbrev=40", "--exclude", "*"]
    try:
        told = subprocess.run(words, capture_output=True, text=True, timeout=10, check=True)  # noqa: S603 - our words
    except (OSError, subprocess.SubprocessError):
        return None
    return told.stdout.strip()
