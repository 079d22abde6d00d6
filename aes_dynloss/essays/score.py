"""Scoring essays from tables, a window at a time: any number of essays in constant memory."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from aes_dynloss.errors import DataError
from aes_dynloss.essays.data.readers import UnscoredEssay
from aes_dynloss.essays.model.scorer import Scorer, Scores
from aes_dynloss.evaluation.conformal import COVERAGE

logger = logging.getLogger(__name__)

# Every column that a row of scores may have, in their order: low and high are the ends of the prediction interval where
# the model has one, dropped_tokens is there where the model has a cap.
COLUMN_KINDS: Mapping[str, type] = {
    "essay_id": str,
    "prompt_id": str,
    "raw": float,
    "score": float,
    "low": float,
    "high": float,
    "dropped_tokens": int,
}
# Essays that are sorted by length together: enough that padding is small, few enough to hold in memory.
WINDOW = 2048


@dataclass(frozen=True)
class ScoredWindow:
    """Scores of some essays in the order of the input.

    Args:
        columns: Those of COLUMN_KINDS that the scorer can answer, all of one length; None is a blank.
    """

    columns: dict[str, list[Any]]

    def __len__(self) -> int:
        """Number of essays."""
        return len(self.columns["essay_id"])


def score_essays(
    scorer: Scorer, essays: Iterable[UnscoredEssay], *, coverage: float | None = COVERAGE, window: int = WINDOW
) -> Iterator[ScoredWindow]:
    """Score a stream of essays.

    Args:
        scorer: The scorer; each of its processes must be given the same essays, and answers all scores.
        essays: Essays; one without a prompt answers the model's only one.
        coverage: Stated coverage of the prediction intervals, between 0 and 1; None for none.
        window: Essays scored together.

    Yields:
        Scores, in the order of the essays.

    Raises:
        ConfigError: The coverage is not between 0 and 1.
        DataError: An essay's prompt is unknown to the model, or not given though the model knows several.
    """
    stream = iter(essays)
    while part := list(itertools.islice(stream, window)):
        prompt_ids = prompts_of(scorer, part)
        scores = scorer.score([essay.text for essay in part], prompt_ids, progress="score essays")
        columns: dict[str, list[Any]] = {
            "essay_id": [essay.essay_id for essay in part],
            "prompt_id": prompt_ids,
            "raw": scores.raw.tolist(),
            "score": scores.score.tolist(),
        }
        if coverage is not None and scorer.intervals.prompts:
            columns |= _interval_columns(scorer, prompt_ids, scores, coverage)
        if scorer.capped:
            columns["dropped_tokens"] = scores.dropped_tokens.tolist()
        yield ScoredWindow(columns)


def _interval_columns(scorer: Scorer, prompt_ids: Sequence[str], scores: Scores, coverage: float) -> dict[str, Any]:
    """Ends of the prediction intervals, the score among them; None where a prompt has none."""
    low: list[float | None] = [None] * len(prompt_ids)
    high: list[float | None] = [None] * len(prompt_ids)
    answered = np.asarray(prompt_ids, dtype=object)
    for prompt in dict.fromkeys(prompt_ids):
        mine = np.flatnonzero(answered == prompt)
        bounds = scorer.intervals.bounds(prompt, scores.raw[mine], scorer.prompts[prompt].range, coverage)
        if bounds is None:
            continue
        # Rescaling or tuned cut points may move the score beyond the interval around raw.
        ends = zip(
            mine, np.minimum(bounds[0], scores.score[mine]), np.maximum(bounds[1], scores.score[mine]), strict=True
        )
        for place, lowest, highest in ends:
            low[place], high[place] = float(lowest), float(highest)
    return {"low": low, "high": high}


def prompts_of(scorer: Scorer, essays: Sequence[UnscoredEssay]) -> list[str]:
    """The prompt of each essay; one without answers the model's only one.

    Raises:
        DataError: A prompt is unknown to the model, or not given though the model knows several.
    """
    known = list(scorer.prompts)
    prompt_ids = []
    for essay in essays:
        if essay.prompt_id is None and len(known) > 1:
            raise DataError(
                f"Essay {essay.essay_id} names no prompt, and the model knows {', '.join(known)}. Name the prompt of "
                "all essays with --prompt, or the column of prompts with --prompt-column."
            )
        prompt_ids.append(essay.prompt_id if essay.prompt_id is not None else known[0])
    scorer.check_prompts(prompt_ids)
    return prompt_ids
