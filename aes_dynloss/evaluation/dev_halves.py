"""Dev essays in halves, each measured with calibrations fitted on the other: for tuning, which must not see test."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable
from dataclasses import replace

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from aes_dynloss.errors import DataError
from aes_dynloss.evaluation.arm_cells import ScoredRun

HALVES = ("a", "b")


def dev_halves(run: ScoredRun) -> list[ScoredRun]:
    """Two runs whose essays are the halves of one run's dev essays; its test essays are in neither.

    Within a prompt, essays are numbered in the order of SHA-256 of prompt and id, and even numbers are half a. So the
    halves of a prompt differ by one essay at most, and runs with the same dev essays have the same halves, whatever
    their arm, seed and order of rows.

    Args:
        run: A run with dev predictions, two essays or more of each prompt.

    Returns:
        Runs of the strata ``STRATUM/a`` and ``STRATUM/b``: in each, its own half is ``test`` and the other is ``dev``.

    Raises:
        DataError: There are no dev predictions, or a prompt has a single dev essay.
    """
    where = f"the run of stratum {run.stratum!r} and seed {run.seed!r}"
    if run.dev is None:
        raise DataError(f"There are no dev predictions to be halved in {where}. Run it with dev essays.")
    table = run.dev.table
    counts = table["prompt_id"].value_counts()
    if counts.min() < 2:
        prompt = counts.index[int(counts.to_numpy().argmin())]
        raise DataError(f"Prompt {prompt!r} has a single dev essay in {where}: it cannot be halved. Give it more.")
    half = _half_of(table)
    # Noted once, for what is measured: its other half was read from the same file.
    first, second = (
        replace(run.dev, table=table[half == number].reset_index(drop=True)) for number in range(len(HALVES))
    )
    return [
        ScoredRun(f"{run.stratum}/{name}", run.seed, own, replace(other, notes=()))
        for name, own, other in zip(HALVES, (first, second), (second, first), strict=True)
    ]


def are_dev_halves(strata: Iterable[str]) -> bool:
    """Whether strata have the names that :func:`dev_halves` gives, both halves of each."""
    names = set(strata)
    whole = {name.rpartition("/")[0] for name in names}
    return bool(names) and names == {f"{name}/{half}" for name in whole for half in HALVES}


def _half_of(table: pd.DataFrame) -> NDArray[np.int64]:
    """Number of each essay's half, shape (n,)."""
    essays = list(zip(table["prompt_id"], table["essay_id"], strict=True))
    # No id holds a line break, so that no other prompt and id are joined to the same text.
    keys = [hashlib.sha256(f"{prompt}\n{essay}".encode()).digest() for prompt, essay in essays]
    halves = np.empty(len(essays), dtype=np.int64)
    before: Counter[str] = Counter()
    for row in sorted(range(len(essays)), key=keys.__getitem__):
        prompt = essays[row][0]
        halves[row] = before[prompt] % len(HALVES)
        before[prompt] += 1
    return halves
