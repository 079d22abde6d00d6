"""Floors of a split of essays: what simple scorers reach on its test part."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd

from aes_dynloss.essays.data.essay_table import EssayTable
from aes_dynloss.evaluation.floors import measure_floors
from aes_dynloss.evaluation.score_range import ScoreRange


def essay_floors(parts: Mapping[str, EssayTable], ranges: Mapping[str, ScoreRange]) -> dict[str, dict[str, Any]]:
    """Fit simple scorers on train, tune them on dev and measure them on test.

    Args:
        parts: Essays of ``train``, ``dev`` and ``test``.
        ranges: Score points by prompt.

    Returns:
        What :func:`aes_dynloss.evaluation.floors.measure_floors` answers.

    Raises:
        DataError: A prompt of test has too few essays in train or dev.
    """
    train, dev, test = (_columns(parts[name]) for name in ("train", "dev", "test"))
    return measure_floors(train, dev, test, ranges)


def _columns(part: EssayTable) -> pd.DataFrame:
    return pd.DataFrame({"prompt_id": part.values("prompt_id"), "text": part.values("text"), "reference": part.scores})
