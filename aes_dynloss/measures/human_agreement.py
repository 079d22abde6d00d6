"""Two humans' agreement on one prompt's essays, and what raters' errors allow a machine, where some were scored twice.

Agreement of humans is that of the essays with two scores. The machine's figures corrected for raters' errors are those
of all essays with one score at least: those with two tell how large the errors are, and all tell how the machine does.
"""

from __future__ import annotations

from itertools import zip_longest
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from aes_dynloss.errors import DataError
from aes_dynloss.measures.agreement import (
    agreement_within,
    none_if_nan,
    pearson,
    quadratic_weighted_kappa,
    sample_sd,
    standardized_mean_difference,
)
from aes_dynloss.measures.breakdowns import confusion_cells
from aes_dynloss.measures.chance_agreement import unweighted_kappa
from aes_dynloss.measures.reliability import (
    disattenuated_correlation,
    prmse,
    qwk_ceiling,
    qwk_of_true_score,
    spearman_brown,
    true_score_variance,
    variance_of_errors,
)
from aes_dynloss.tables.columns import RATINGS_COLUMN
from aes_dynloss.tables.score_range import STEPS, ScoreRange, infer_range

Array = NDArray[np.float64]

# Where the reference was resolved from two raters it is no rater's, and they may use another scale.
_RATER_PAIRS = (("rater1", "rater2"), ("reference", "second_reference"))
# In this share of essays the reference is what it is said to be made of; the others were adjudicated.
MOSTLY = 0.9
LIMITS = ("pearson_disattenuated", "prmse", "qwk_ceiling", "qwk_of_true_score")


def human_entry(essays: pd.DataFrame, score_range: ScoreRange) -> dict[str, Any] | None:
    """Agreement of two humans, and what the machine loses against it, on the essays that were scored twice.

    Human-human figures are those of two single raters where both are there, or of reference and second_reference;
    human-machine ones those of reference and score (kappa) or raw (r). Degradation = human-human less human-machine
    (Williamson, Xi and Breyer, 2012, flag more than .10), both on the same essays, so that it does not
    measure which essays were scored twice.

    Args:
        essays: Checked predictions of one prompt.
        score_range: Its score points.

    Returns:
        ``n`` essays that were scored twice; ``qwk``, ``human_machine_qwk`` and ``degradation``; ``pearson``,
        ``human_machine_pearson`` and ``pearson_degradation``; ``kappa``, ``exact_agreement``, ``adjacent_agreement``
        and ``smd`` (second less first) of the two humans, ``mean`` and ``sd`` of ``first`` and ``second``, and their
        ``confusion`` (first, second, essays) over the score points of ``range``; None where undefined. Or None where
        the table holds no two humans' scores.

    Examples:
        >>> essays = pd.DataFrame({"rater1": [1, 2, 3, 4], "rater2": [1, 3, 3, 4], "reference": [1, 2, 3, 4]})
        >>> essays["raw"], essays["score"] = [1.2, 2.4, 2.9, 3.5], [1, 2, 3, 4]
        >>> entry = human_entry(essays, ScoreRange(1, 4))
        >>> round(entry["qwk"], 3), entry["human_machine_qwk"], round(entry["degradation"], 3)
        (0.9, 1.0, -0.1)
        >>> entry["exact_agreement"], entry["confusion"]
        (0.75, [[1.0, 1.0, 1], [2.0, 3.0, 1], [3.0, 3.0, 1], [4.0, 4.0, 1]])
    """
    pair, twice = _scored_twice(essays)
    if pair is None:
        return None
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
        **(_two_humans(first, second, score_range) if len(twice) else {}),
    }


def _two_humans(first: Array, second: Array, score_range: ScoreRange) -> dict[str, Any]:
    """What else is told of two humans' scores; agreement of score points where they are such."""
    entry: dict[str, Any] = {"smd": none_if_nan(standardized_mean_difference(first, second))}
    for name, scores in (("first", first), ("second", second)):
        entry |= {f"mean_{name}": float(scores.mean()), f"sd_{name}": none_if_nan(sample_sd(scores))}
    span = _span_of(first, second, score_range)
    if span is None:
        return entry
    return entry | {
        "kappa": float(unweighted_kappa(first, second, span)),
        "exact_agreement": float(agreement_within(first, second, 0)),
        "adjacent_agreement": float(agreement_within(first, second, span.step)),
        "range": span,
        "confusion": confusion_cells(first, second, span),
    }


def _span_of(first: Array, second: Array, score_range: ScoreRange) -> ScoreRange | None:
    """The score points of two raters: the prompt's, or where they use others those seen; None where there are none."""
    if all(score_range.is_score_point(scores).all() for scores in (first, second)):
        return score_range
    try:
        return infer_range([first, second], "two raters", STEPS)
    except DataError:
        return None


def limit_entries(prompt: str, essays: pd.DataFrame, score_range: ScoreRange) -> tuple[dict[str, Any], list[str]]:
    """The machine's agreement corrected for the raters' errors, and the ceilings that these set.

    The reliability behind ``pearson_disattenuated`` and the ceilings is r between two raters on the essays that were
    scored twice. Where the reference is the sum of both (in MOSTLY of those essays whose sum is not between them, as of
    zeros it is), or their mean (in MOSTLY of those on which they differ, and no rater's own score there), it is stepped
    up by Spearman and Brown for the harmonic mean of the essays' numbers of ratings, for the variance of a mean's error
    is proportional to 1 / number. r of humans and machine, PRMSE and its variances are those of all rated essays.

    Args:
        prompt: The prompt's id, for notes.
        essays: Checked predictions of one prompt; of ``ratings_by_rater``, where it is there, all ratings count.
        score_range: Its score points.

    Returns:
        The figures of LIMITS, None where there are no two humans' scores or one is undefined, with ``human_ratings``:
        ``n`` essays with a rating, ``n_twice`` with two or more, all ``ratings``, ``error_variance`` and
        ``true_variance``; and notes.

    References:
        Loukina et al. (2020), BEA 2020, 18-29. RSMTool's ``get_true_score_evaluations``, and its
        ``compute_disattenuated_correlations`` of r over all responses.

    Examples:
        >>> essays = pd.DataFrame({"rater1": [1, 2, 3, 4], "rater2": [1, 3, 3, 4], "reference": [1, 2.5, 3, 4]})
        >>> essays["raw"], essays["score"] = [1.2, 2.4, 2.9, 3.5], [1, 2, 3, 4]
        >>> limits, notes = limit_entries("1", essays, ScoreRange(1, 4))
        >>> {name: round(limits[name], 3) for name in LIMITS}, notes
        ({'pearson_disattenuated': 1.017, 'prmse': 0.99, 'qwk_ceiling': 0.98, 'qwk_of_true_score': 0.98}, [])
        >>> limits["human_ratings"]["n"], limits["human_ratings"]["ratings"]
        (4, 8)
    """
    limits: dict[str, Any] = {**dict.fromkeys(LIMITS), "human_ratings": None}
    pair, twice = _scored_twice(essays)
    if pair is None or len(twice) < 2:
        return limits, []
    resolved = pair == _RATER_PAIRS[0]
    every = _all_ratings(essays, pair)
    rated = ~np.isnan(every).all(axis=1)
    every, reference, raw = every[rated], *(essays[one].to_numpy()[rated] for one in ("reference", "raw"))
    both, resolution = twice[list(pair)].to_numpy(dtype=np.float64), twice["reference"].to_numpy()
    summed = resolved and _is_sum(both, resolution, score_range)
    averaged = resolved and _is_mean(both, resolution, score_range)
    counts = (~np.isnan(every)).sum(axis=1)
    # Raters whose scores run against each other are as reliable as those that have nothing in common.
    single = np.maximum(pearson(both[:, 0], both[:, 1]), 0.0)
    reliability = spearman_brown(single, float(1 / (1 / counts).mean()) if summed or averaged else 1.0)
    limits["pearson_disattenuated"] = none_if_nan(disattenuated_correlation(pearson(reference, raw), reliability))
    limits["qwk_ceiling"] = none_if_nan(qwk_ceiling(reliability))
    limits["qwk_of_true_score"] = none_if_nan(qwk_of_true_score(reliability))
    limits["human_ratings"] = {
        "n": len(every),
        "n_twice": int((counts > 1).sum()),
        "ratings": int(counts.sum()),
        "error_variance": none_if_nan(variance_of_errors(every)),
        "true_variance": none_if_nan(true_score_variance(every)),
    }
    ones = (counts == 1) & (np.nansum(every, axis=1) != 0)  # 0 is the same on both scales
    if summed and ones.any() and _is_mostly(np.nansum(every[ones], axis=1), reference[ones], score_range):
        limits["pearson_disattenuated"] = None
        return limits, [
            f"Prompt {prompt}: prmse and the disattenuated r are null, as the reference is the sum of two ratings and, "
            "where there is one, that rating: two scales."
        ]
    if resolved and not summed and not _on_one_scale(both, resolution):
        return limits, [
            f"Prompt {prompt}: prmse is null, as the raters' scores are on another scale than the reference, and it is "
            "not their sum."
        ]
    # The raters' scale is that of single ratings; a sum of two is on twice that scale.
    limits["prmse"] = none_if_nan(prmse(raw / (2.0 if summed else 1.0), every))
    return limits, []


def _all_ratings(essays: pd.DataFrame, pair: tuple[str, str]) -> Array:
    """Ratings of each essay, (n, most that an essay has), NaN beyond those that it has."""
    if RATINGS_COLUMN not in essays:
        return essays[list(pair)].to_numpy(dtype=np.float64)
    own = [[one[1] for one in ratings] for ratings in essays[RATINGS_COLUMN]]
    return np.array(list(zip_longest(*own, fillvalue=np.nan)), dtype=np.float64).T


def _scored_twice(essays: pd.DataFrame) -> tuple[tuple[str, str] | None, pd.DataFrame]:
    """The columns of two humans' scores, None where there are none, and the essays that have both."""
    pairs = _RATER_PAIRS[1:] if RATINGS_COLUMN in essays else _RATER_PAIRS
    pair = next((pair for pair in pairs if set(pair) <= set(essays.columns)), None)
    return pair, essays if pair is None else essays.dropna(subset=list(pair))


def _lost(human: float | None, machine: float | None) -> float | None:
    return None if human is None or machine is None else human - machine


def _is_mostly(made: Array, reference: Array, score_range: ScoreRange) -> bool:
    """Whether the reference is what was made of the ratings, up to rounding, in most essays."""
    return bool((np.abs(made - reference) <= 0.5 * score_range.step + 1e-6).mean() >= MOSTLY)


def _is_sum(ratings: Array, reference: Array, score_range: ScoreRange) -> bool:
    """Whether the reference is the sum of two ratings, up to rounding, where that is not between them as a mean is."""
    total = ratings.sum(axis=1)
    tells = (total < ratings.min(axis=1)) | (total > ratings.max(axis=1))
    return bool(tells.any()) and _is_mostly(total[tells], reference[tells], score_range)


def _is_mean(ratings: Array, reference: Array, score_range: ScoreRange) -> bool:
    """Whether the reference is the mean of two ratings, up to rounding, where they differ: elsewhere all are one score.

    Of neighbouring scores either is the mean rounded up or down, so that it must not mostly be the same rater's.
    """
    differ = ratings[:, 0] != ratings[:, 1]
    own, resolution = ratings[differ], reference[differ]
    if not len(own) or (own == resolution[:, None]).mean(axis=0).max() >= MOSTLY:
        return False
    return _is_mostly(own.mean(axis=1), resolution, score_range)


def _on_one_scale(ratings: Array, reference: Array) -> bool:
    """Whether the reference lies between the ratings in most essays, as a resolved score does."""
    low, high = ratings.min(axis=1) - 1e-6, ratings.max(axis=1) + 1e-6
    return bool(((low <= reference) & (reference <= high)).mean() >= MOSTLY)
