"""What a worker of a cluster does, in a module that a new process finds wherever it starts."""

from __future__ import annotations

from pathlib import Path

from aes_dynloss.essays.benchmark.ray_cluster import _run_there


def run_all_there(cells: list[bytes], place: Path, plugins: str) -> None:
    """Run cells of a grid as a worker does."""
    for cell in cells:
        _run_there(cell, place, plugins)
