"""What two humans' scores of the same essays say: how well they agree, and what that makes of a machine's agreement."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from aes_dynloss.evaluation.agreement import none_if_nan, pearson, quadratic_weighted_kappa
from aes_dynloss.evaluation.measurement import (
    disattenuated_correlation,
    qwk_ceiling,
    qwk_of_true_score,
    spearman_brown,
)
from aes_dynloss.evaluation.score_range import ScoreRange
from aes_dynloss.evaluation.true_scores import prmse

# Where the reference was resolved from two raters it is no rater's, and they may use another scale.
_RATER_PAIRS = (("rater1", "rater2"), ("reference", "second_reference"))
# In this share of essays the reference is what it is said to be made of; the others were adjudicated.
MOSTLY = 0.9
LIMITS = ("pearson_disattenuated", "prmse", "qwk_ceiling", "qwk_of_true_score")


def human_entry(essays: pd.DataFrame) -> dict[str, Any] | None:
    """Agreement of two humans, and what the machine loses against it, on the essays that were scored twice.

    Human-human figures are those of two single raters where both are there, or of reference and second_reference;
    human-machine ones those of reference and score (kappa) or raw (r). Degradation = human-human less human-machine
    (Williamson, Xi and Breyer, 2012, flag more than .10), both on the same essays, lest it measure which essays were
    scored twice.

    Args:
        essays: Checked predictions of one prompt.

    Returns:
        ``n`` essays that were scored twice; ``qwk``, ``human_machine_qwk`` and ``degradation``; ``pearson``,
        ``human_machine_pearson`` and ``pearson_degradation``, None where undefined; or None where the table holds no
        two humans' scores.
    """
    pair = _rater_pair(essays)
    if pair is None:
        return None
    twice = essays[essays[list(pair)].notna().all(axis=1)]
    first, second, reference, raw, score = (twice[name].to_numpy() for name in (*pair, "reference", "raw", "score"))
    qwk = human_qwk = r = human_r = None
    if len(twice):
        human_qwk = float(quadratic_weighted_kappa(first, second))
        qwk = float(quadratic_weighted_kappa(reference, score))
        human_r, r = none_if_nan(pearson(first, second)), none_if_nan(pearson(reference, raw))
    return {
        "n": len(twice),
        "qwk": human_qwk,
        "human_machine_qwk": qwk,
        "degradation": _lost(human_qwk, qwk),
        "pearson": human_r,
        "human_machine_pearson": r,
        "pearson_degradation": _lost(human_r, r),
    }


def limit_entries(prompt: str, essays: pd.DataFrame, score_range: ScoreRange) -> tuple[dict[str, Any], list[str]]:
    """What the raters' errors make of a machine's agreement, and how far any machine's can go.

    The reliability behind ``pearson_disattenuated`` and the ceilings is r between two raters, stepped up by Spearman
    and Brown where the reference is a sum or a mean of both (in MOSTLY of the essays).

    Args:
        prompt: The prompt's id, for notes.
        essays: Checked predictions of one prompt.
        score_range: Its score points.

    Returns:
        The figures of LIMITS, None where there are no two humans' scores or one is undefined; and notes.
    """
    found: dict[str, Any] = dict.fromkeys(LIMITS)
    pair = _rater_pair(essays)
    if pair is None:
        return found, []
    twice = essays[essays[list(pair)].notna().all(axis=1)]
    if len(twice) < 2:
        return found, []
    reference, raw = twice["reference"].to_numpy(), twice["raw"].to_numpy()
    ratings = twice[list(pair)].to_numpy(dtype=np.float64)
    summed = pair == _RATER_PAIRS[0] and _is_mostly(ratings.sum(axis=1), reference, score_range)
    averaged = pair == _RATER_PAIRS[0] and _is_mostly(ratings.mean(axis=1), reference, score_range)
    # Raters whose scores run against each other are as reliable as those that have nothing in common.
    single = np.maximum(pearson(ratings[:, 0], ratings[:, 1]), 0.0)
    reliability = spearman_brown(single, 2.0 if summed or averaged else 1.0)
    found["pearson_disattenuated"] = none_if_nan(disattenuated_correlation(pearson(reference, raw), reliability))
    found["qwk_ceiling"] = none_if_nan(qwk_ceiling(reliability))
    found["qwk_of_true_score"] = none_if_nan(qwk_of_true_score(reliability))
    # The raters' scale is that of single ratings; a sum of two is on twice that scale.
    scale = 2.0 if summed else 1.0
    if summed or pair != _RATER_PAIRS[0] or _on_one_scale(ratings, reference):
        found["prmse"] = none_if_nan(prmse(raw / scale, ratings))
        return found, []
    return found, [
        f"Prompt {prompt}: prmse is null, as the raters' scores are on another scale than the reference, and it is "
        "not their sum."
    ]


def _rater_pair(essays: pd.DataFrame) -> tuple[str, str] | None:
    return next((pair for pair in _RATER_PAIRS if set(pair) <= set(essays.columns)), None)


def _lost(human: float | None, machine: float | None) -> float | None:
    return None if human is None or machine is None else human - machine


def _is_mostly(made: NDArray[np.float64], reference: NDArray[np.float64], score_range: ScoreRange) -> bool:
    """Whether the reference is what was made of the ratings, up to rounding, in most essays."""
    return bool((np.abs(made - reference) <= 0.5 * score_range.step + 1e-6).mean() >= MOSTLY)


def _on_one_scale(ratings: NDArray[np.float64], reference: NDArray[np.float64]) -> bool:
    """Whether the reference lies between the ratings in most essays, as a resolved score does."""
    low, high = ratings.min(axis=1) - 1e-6, ratings.max(axis=1) + 1e-6
    return bool(((low <= reference) & (reference <= high)).mean() >= MOSTLY)
