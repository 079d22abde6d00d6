"""What a learned loss makes of each training essay's score, and the scores that it distrusts: suspects.csv."""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from aes_dynloss.essays.data.essay_table import EssayTable

SUSPECTS = "suspects.csv"
# Where no trusted essay has a weight, one is told beside one that so many of all essays do not reach.
_QUANTILE = 0.9


def believed_ratings(part: EssayTable, raw: NDArray[np.float64], weights: NDArray[np.float64]) -> pd.DataFrame:
    """Training essays with what a learned loss makes of their scores.

    A weight is told beside the median of trusted essays' weights, cut to [0, 1]; 1: the score counts as theirs do. An
    essay whose score is as predicted pulls on nothing; its weight counts as 1. And

        suspicion = (1 - weight) |score - raw| / SD of the prompt's scores,

    so that an essay is suspected for a score that its rater, its level or its loss makes worth little, and that is far
    from what the student says. Under a forward correction 1 - weight is the probability that the score is wrong. The
    student has learned from these scores: a loss that gives wrong ones a small weight keeps it from fitting them, but
    where it fits them all the same, nothing is suspected. Predictions of heads that were trained without the essay
    (model.cross_fit) have no part in that.

    Args:
        part: The N training essays.
        raw: Predictions on the original scale, (N,).
        weights: Of ``LearnedLoss.weights``, (N,); NaN where there is nothing to weigh.

    Returns:
        The essays in their order: essay_id, prompt_id, rater (None where the data do not say it), trusted (1 or 0),
        score, raw, weight, suspicion.
    """
    trusted = np.zeros(len(part), dtype=bool) if part.trusted is None else part.trusted
    known = np.isfinite(weights)
    beside = known & trusted
    judged, quantile = (weights[beside], 0.5) if beside.any() else (weights[known], _QUANTILE)
    unit = np.quantile(judged, quantile) if len(judged) else 1.0
    relative = np.where(known, np.clip(weights / max(float(unit), np.finfo(np.float64).tiny), 0.0, 1.0), 1.0)
    scores, prompts = part.scores, pd.Series(part.values("prompt_id"))
    spread = pd.Series(scores).groupby(prompts.to_numpy()).transform(lambda own: own.std(ddof=0)).to_numpy()
    distance = np.divide(np.abs(scores - raw), spread, out=np.zeros(len(scores)), where=spread > 0)
    return pd.DataFrame(
        {
            "essay_id": part.essay_ids,
            "prompt_id": prompts,
            **part.trait_column,
            "rater": pd.Series(part.raters, index=range(len(part)), dtype=object),
            "trusted": trusted.astype(int),
            "score": scores,
            "raw": raw,
            "weight": relative,
            "suspicion": (1 - relative) * distance,
        }
    )


def suspects(ratings: pd.DataFrame) -> pd.DataFrame:
    """The essays that are not trusted, the most suspicious first, and of equal ones those farthest from the prediction.

    Args:
        ratings: Of :func:`believed_ratings`.
    """
    distance = (ratings["score"] - ratings["raw"]).abs()
    order = ratings.assign(distance=distance).sort_values(["suspicion", "distance"], ascending=False, kind="stable")
    return order[order["trusted"] == 0].drop(columns="distance").reset_index(drop=True)
