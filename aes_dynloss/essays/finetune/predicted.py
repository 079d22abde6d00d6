"""Predictions of a part of the essays, and what a scorer learns of itself from those of dev."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from aes_dynloss.essays.data.essay_table import EssayTable, Prompt
from aes_dynloss.essays.features.linguistic import MOST_SD, describe_columns
from aes_dynloss.essays.model.classical_scorer import ClassicalScorer
from aes_dynloss.essays.model.prompt_scales import Postprocessing
from aes_dynloss.essays.model.protocol import agreement_probability
from aes_dynloss.essays.model.scorer import EncoderScorer
from aes_dynloss.measures.intervals import (
    Certainty,
    Intervals,
    equal_points,
    fit_certainty,
    fit_intervals,
    fit_pooled_intervals,
)
from aes_dynloss.reports.features import FeatureTable

SELECT_BY = "qwk"
# Changed copies of training essays: learned from, and in no statistic of them, nor in any floor.
AUGMENTED = "augmented"
# Folder of a run in which heads are trained without a part of train each.
CROSS_FIT = "cross_fit"
# Folder of a run in which scorers are fitted without a part of all essays each.
FOLDS = "folds"
# Column of predictions: an essay's probabilities by score point, as JSON, where the head gives them.
PROBABILITIES = "probabilities"

TrainedScorer = EncoderScorer | ClassicalScorer


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


class Calibrated(Protocol):
    """A scorer whose intervals and certainty can be set: one model, or an ensemble."""

    intervals: Intervals
    certainty: Certainty

    @property
    def prompts(self) -> dict[str, Prompt]:
        """Its prompts by id."""

    @property
    def postprocessing(self) -> Postprocessing:
        """From raw to score."""


def learn_from_dev(
    scorer: Calibrated,
    prompt_ids: Sequence[str],
    reference: NDArray[np.float64],
    predicted: Predicted,
    *,
    pooled: bool = False,
) -> None:
    """Give a scorer its prediction intervals and certainty; without a dev essay, none.

    Args:
        scorer: The scorer, with its postprocessing.
        prompt_ids: Prompt of each of N dev essays.
        reference: Human scores, (N,).
        predicted: The scorer's predictions of them.
        pooled: Whether they were made without the essay's prompt, so that the errors on all prompts together tell those
            on any prompt.
    """
    ranges = {prompt.id: prompt.range for prompt in scorer.prompts.values()}
    if pooled:
        scorer.intervals = fit_pooled_intervals(ranges, prompt_ids, predicted.raw, reference)
    else:
        scorer.intervals = fit_intervals(prompt_ids, predicted.raw, reference)
    if not len(prompt_ids):
        return
    score = scorer.postprocessing.points(scorer.prompts, prompt_ids, predicted.raw)
    chances = agreement_probability(
        scorer.prompts, scorer.intervals, prompt_ids, predicted.raw, score, predicted.probabilities
    )
    scorer.certainty = fit_certainty(prompt_ids, chances, equal_points(ranges, prompt_ids, score, reference))


def feature_table(
    part: EssayTable,
    names: Sequence[str],
    values: NDArray[np.floating[Any]],
    scales: Mapping[str, tuple[NDArray[np.float64], NDArray[np.float64]]],
    compared_with: str = "the training essays of the same prompt",
) -> FeatureTable | None:
    """Features of a part's essays, for the report.

    Args:
        part: N essays.
        names: F names.
        values: (N, F).
        scales: Means and standard deviations by prompt that the model standardises them by, (F,) each.
        compared_with: The essays whose these are, in words.

    Returns:
        None where there is no feature.
    """
    if not names:
        return None
    ids = [part.values("prompt_id"), part.essay_ids]
    index = pd.MultiIndex.from_arrays(ids, names=["prompt_id", "essay_id"])
    features = pd.DataFrame(values.astype(np.float64), index=index, columns=list(names))
    mean, sd = (
        pd.DataFrame([scale[number] for scale in scales.values()], index=list(scales), columns=features.columns)
        for number in (0, 1)
    )
    return FeatureTable(features, mean, sd, compared_with, MOST_SD, describe_columns(names))
