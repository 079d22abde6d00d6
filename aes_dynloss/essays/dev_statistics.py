"""What a trained scorer takes from dev: how its scores are rounded, how far off it is, and how sure it can be."""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from aes_dynloss.essays.data.essay_table import EssayTable
from aes_dynloss.essays.model.postprocessing import fit_postprocessing
from aes_dynloss.essays.model.scorer import EssayScorer, chances_of
from aes_dynloss.evaluation.certainty import equal_points, fit_certainty
from aes_dynloss.evaluation.conformal import fit_intervals


def learn_from_dev(
    scorer: EssayScorer,
    dev: EssayTable,
    outputs: Tensor,
    groups: NDArray[np.int64],
    postprocessing: Literal["none", "rescale", "cut_points"],
) -> None:
    """Give a scorer its postprocessing, prediction intervals and certainty.

    Args:
        scorer: The scorer, trained.
        dev: N dev essays.
        outputs: The model's outputs for them, (N, D).
        groups: Number of each essay's prompt, (N,).
        postprocessing: Its kind.
    """
    prompt_ids = dev.values("prompt_id")
    ranges = {prompt.id: prompt.range for prompt in scorer.prompts.values()}
    raw = scorer.raw_scores(outputs, groups)
    scorer.postprocessing = fit_postprocessing(
        postprocessing, ranges, np.array(prompt_ids, dtype=object), raw, dev.scores
    )
    scorer.intervals = fit_intervals(prompt_ids, raw, dev.scores)
    probabilities = scorer.probabilities(outputs)
    score = scorer.score_points(raw, groups)
    chances = chances_of(scorer.prompts, scorer.intervals, prompt_ids, raw, score, probabilities)
    same = equal_points(ranges, prompt_ids, score, dev.scores)
    scorer.certainty = fit_certainty(prompt_ids, chances, same)
