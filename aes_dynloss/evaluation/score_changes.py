"""What changes of essays did to their scores: how often they rise, fall and stay, and how far."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from aes_dynloss.evaluation.proportions import clustered_interval

# Columns of a table of changes, which has a row for each changed essay.
CHANGE_COLUMNS = (
    "essay",  # its number, the same for all changes of one essay
    "prompt_id",
    "score",  # score points and raw predictions before ...
    "raw",
    "changed_score",  # ... and after
    "changed_raw",
    "lowest",  # the prompt's lowest score point
    "unit",  # sd of the prompt's raw predictions before; NaN if undefined
    "tolerance",  # how far raw may move without having changed
)


def change_figures(changes: pd.DataFrame, confidence: float) -> dict[str, Any]:
    """Shares and mean changes over any rows of a table of changes.

    Args:
        changes: Rows with the columns `CHANGE_COLUMNS`; there may be none.
        confidence: Of the intervals, between 0 and 1.

    Returns:
        n (rows), essays (different ones), already_lowest (rows whose score could not fall), each share with its
        interval, and mean changes in sd of the prompt's predictions before; None is undefined. ``to_lowest`` is the
        share that gets the lowest score after the change.
    """
    moved = np.sign((changes.changed_score - changes.score).to_numpy(float))
    raw_change = (changes.changed_raw - changes.raw).to_numpy(float)
    raw_moved = np.where(np.abs(raw_change) > changes.tolerance.to_numpy(float), np.sign(raw_change), 0.0)
    essays, lowest = changes.essay.to_numpy(), changes.lowest.to_numpy(float)
    unit = changes.unit.to_numpy(float)
    shares = {
        "rises": moved > 0,
        "falls": moved < 0,
        "stays": moved == 0,
        "raw_rises": raw_moved > 0,
        "raw_falls": raw_moved < 0,
        "to_lowest": changes.changed_score.to_numpy(float) <= lowest,
    }
    return {
        "n": len(changes),
        "essays": len(np.unique(essays)),
        "already_lowest": int(np.sum(changes.score.to_numpy(float) <= lowest)),
        **{name: share_of(judged, essays, confidence) for name, judged in shares.items()},
        "score_change_sd": _mean((changes.changed_score - changes.score).to_numpy(float) / unit),
        "raw_change_sd": _mean(raw_change / unit),
    }


def prompt_change_figures(changes: pd.DataFrame, confidence: float) -> dict[str, Any]:
    """The same over one prompt's rows, with means on its own scale: before, after, and of the change."""
    return {
        **change_figures(changes, confidence),
        "mean_score": _mean(changes.score.to_numpy(float)),
        "mean_changed_score": _mean(changes.changed_score.to_numpy(float)),
        "mean_score_change": _mean((changes.changed_score - changes.score).to_numpy(float)),
        "mean_raw_change": _mean((changes.changed_raw - changes.raw).to_numpy(float)),
    }


def share_of(judged: NDArray[np.bool_], essays: NDArray[Any], confidence: float) -> dict[str, float] | None:
    """The share of judgements that are true, with the interval of `clustered_interval`; None if there are none.

    Args:
        judged: Judgements, (n,).
        essays: The essay that each is about, (n,).
        confidence: Between 0 and 1.
    """
    if len(judged) == 0:
        return None
    _, numbers = np.unique(essays, return_inverse=True)
    totals = np.bincount(numbers)
    counts = np.bincount(numbers, weights=judged).astype(np.int64)
    low, high = clustered_interval(counts, totals, confidence)
    return {"share": float(np.mean(judged)), "low": low, "high": high}


def _mean(values: NDArray[np.float64]) -> float | None:
    """The mean of what is defined."""
    defined = values[np.isfinite(values)]
    return float(defined.mean()) if len(defined) else None
