"""Predictions of a part of the essays, and what a scorer learns of itself from those of dev."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from aes_dynloss.essays.model.classical_scorer import ClassicalScorer
from aes_dynloss.essays.model.protocol import agreement_probability
from aes_dynloss.essays.model.scorer import EssayScorer
from aes_dynloss.measures.intervals import equal_points, fit_certainty, fit_intervals

SELECT_BY = "qwk"
# Changed copies of training essays: learned from, and in no statistic of them, nor in any floor.
AUGMENTED = "augmented"

TrainedScorer = EssayScorer | ClassicalScorer


@dataclass(frozen=True)
class Predicted:
    """Predictions of N essays.

    Args:
        raw: On the original scale, (N,).
        probabilities: Of each prompt's score points, (N, P), where the head gives them.
        dropped_tokens: Tokens that the model's cap cut off, (N,), where it has one.
    """

    raw: NDArray[np.float64]
    probabilities: NDArray[np.float64] | None = None
    dropped_tokens: NDArray[np.int64] | None = None


def learn_from_dev(
    scorer: TrainedScorer, prompt_ids: Sequence[str], reference: NDArray[np.float64], predicted: Predicted
) -> None:
    """Give a scorer its prediction intervals and certainty.

    Args:
        scorer: The scorer, with its postprocessing.
        prompt_ids: Prompt of each of N dev essays.
        reference: Human scores, (N,).
        predicted: The scorer's predictions of them.
    """
    ranges = {prompt.id: prompt.range for prompt in scorer.prompts.values()}
    scorer.intervals = fit_intervals(prompt_ids, predicted.raw, reference)
    score = scorer.postprocessing.points(scorer.prompts, prompt_ids, predicted.raw)
    chances = agreement_probability(
        scorer.prompts, scorer.intervals, prompt_ids, predicted.raw, score, predicted.probabilities
    )
    scorer.certainty = fit_certainty(prompt_ids, chances, equal_points(ranges, prompt_ids, score, reference))
