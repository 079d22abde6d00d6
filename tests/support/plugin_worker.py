"""What a worker of a cluster does, in a module that a new process finds wherever it starts."""

from __future__ import annotations

from pathlib import Path

from aes_dynloss.training.ray_cluster import _run_there


def run_all_there(tasks: list[bytes], place: Path, plugins: str) -> None:
    """Run cells of a grid as a worker does."""
    for task in tasks:
        _run_there(task, place, plugins)
