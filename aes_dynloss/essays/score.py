"""Scoring essays from tables, a window at a time: any number of essays in constant memory."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from aes_dynloss.errors import DataError
from aes_dynloss.essays.data.readers import UnscoredEssay
from aes_dynloss.essays.model.scorer import Scorer

logger = logging.getLogger(__name__)

# Essays that are sorted by length together: enough that padding is small, few enough to hold in memory.
WINDOW = 2048


@dataclass(frozen=True)
class ScoredWindow:
    """Scores of some essays in the order of the input.

    Args:
        columns: essay_id, prompt_id, raw, score, and dropped_tokens where the model has a cap.
    """

    columns: dict[str, list[str] | list[float] | list[int]]

    def __len__(self) -> int:
        """Number of essays."""
        return len(self.columns["essay_id"])


def score_essays(scorer: Scorer, essays: Iterable[UnscoredEssay], *, window: int = WINDOW) -> Iterator[ScoredWindow]:
    """Score a stream of essays.

    Args:
        scorer: The scorer; each of its processes must be given the same essays, and answers all scores.
        essays: Essays; one without a prompt answers the model's only one.
        window: Essays scored together.

    Yields:
        Scores, in the order of the essays.

    Raises:
        DataError: An essay's prompt is unknown to the model, or not given though the model knows several.
    """
    stream = iter(essays)
    while part := list(itertools.islice(stream, window)):
        prompt_ids = _prompts_of(scorer, part)
        scores = scorer.score([essay.text for essay in part], prompt_ids, progress="score essays")
        columns: dict[str, list[str] | list[float] | list[int]] = {
            "essay_id": [essay.essay_id for essay in part],
            "prompt_id": prompt_ids,
            "raw": scores.raw.tolist(),
            "score": scores.score.tolist(),
        }
        if scorer.capped:
            columns["dropped_tokens"] = scores.dropped_tokens.tolist()
        yield ScoredWindow(columns)


def _prompts_of(scorer: Scorer, essays: Sequence[UnscoredEssay]) -> list[str]:
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
