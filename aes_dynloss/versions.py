"""Versions of installed packages."""

from __future__ import annotations

import importlib.metadata


def package_version(package: str) -> str | None:
    """The version of a package that is installed; None for another.

    >>> package_version("no-such-package") is None
    True
    """
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None
