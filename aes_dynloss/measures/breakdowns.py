"""Breakdowns of one prompt's scores for tables and figures: by score point, residual, length and score version."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from aes_dynloss.measures.agreement import (
    agreement_within,
    none_if_nan,
    pearson,
    quadratic_weighted_kappa,
    rmse,
    sd_ratio,
    standardized_mean_difference,
)
from aes_dynloss.measures.calibration import RescalingLine, score_versions
from aes_dynloss.measures.reliability import (
    disattenuated_correlation,
    prmse,
    qwk_ceiling,
    qwk_of_true_score,
    spearman_brown,
)
from aes_dynloss.tables.score_range import ScoreRange

Column = NDArray[np.float64]
Rows = list[dict[str, Any]]

BINS = 10
# Where the reference was resolved from two raters it is no rater's, and they may use another scale.
_RATER_PAIRS = (("rater1", "rater2"), ("reference", "second_reference"))
# In this share of essays the reference is what it is said to be made of; the others were adjudicated.
MOSTLY = 0.9
GIVEN = "given"
LIMITS = ("pearson_disattenuated", "prmse", "qwk_ceiling", "qwk_of_true_score")


def score_point_rows(reference: Column, score: Column, score_range: ScoreRange) -> Rows:
    """Counts of each score point among human and machine scores.

    Args:
        reference: Human scores, shape (n,), score points of ``score_range``.
        score: Machine scores, shape (n,), score points of ``score_range``.
        score_range: The prompt's score points.

    Returns:
        A row a score point, ascending: ``point``, ``human`` and ``machine`` (essays), ``gap`` (machine's share less the
        humans').

    Examples:
        >>> human, score = np.array([1.0, 2.0, 3.0, 4.0]), np.array([1.0, 2.0, 4.0, 4.0])
        >>> score_point_rows(human, score, ScoreRange(1, 4))[3]
        {'point': 4.0, 'human': 1, 'machine': 2, 'gap': 0.25}
    """
    counts = [np.bincount(score_range.to_index(scores), minlength=score_range.count) for scores in (reference, score)]
    gaps = (counts[1] - counts[0]) / len(reference)
    return [
        {"point": float(point), "human": int(human), "machine": int(machine), "gap": float(gap)}
        for point, human, machine, gap in zip(score_range.points, *counts, gaps, strict=True)
    ]


def confusion_cells(reference: Column, score: Column, score_range: ScoreRange) -> list[list[float | int]]:
    """Essays by human and machine score.

    Args:
        reference: Human scores, shape (n,), score points of ``score_range``.
        score: Machine scores, shape (n,), score points of ``score_range``.
        score_range: The prompt's score points.

    Returns:
        Human score, machine score and number of essays of each cell that has some, ascending.

    Examples:
        >>> human, score = np.array([1.0, 2.0, 3.0, 4.0]), np.array([1.0, 2.0, 4.0, 4.0])
        >>> confusion_cells(human, score, ScoreRange(1, 4))
        [[1.0, 1.0, 1], [2.0, 2.0, 1], [3.0, 4.0, 1], [4.0, 4.0, 1]]
    """
    points, count = score_range.points, score_range.count
    cells = np.zeros((count, count), dtype=np.int64)
    np.add.at(cells, (score_range.to_index(reference), score_range.to_index(score)), 1)
    return [[float(points[row]), float(points[column]), int(cells[row, column])] for row, column in np.argwhere(cells)]


def residuals_by_score(reference: Column, raw: Column) -> Rows:
    """Residuals raw - reference of the essays of each human score.

    Args:
        reference: Human scores, shape (n,).
        raw: Machine scores before rounding, shape (n,).

    Returns:
        A row a human score that occurs, ascending: ``reference``, ``n``, ``mean`` and ``sd`` (divisor n - 1, None for
        one essay) of the residuals.

    Examples:
        >>> rows = residuals_by_score(np.array([1.0, 1.0, 2.0]), np.array([1.0, 2.0, 2.5]))
        >>> [(row["reference"], row["n"], row["mean"]) for row in rows]
        [(1.0, 2, 0.5), (2.0, 1, 0.5)]
    """
    residuals = raw - reference
    return [{"reference": float(point), **_moments(residuals[reference == point])} for point in np.unique(reference)]


def residuals_by_length(reference: Column, raw: Column, words: Column) -> Rows:
    """Residuals raw - reference of the essays of each length.

    Args:
        reference: Human scores, shape (n,).
        raw: Machine scores before rounding, shape (n,).
        words: Essays' lengths in words, shape (n,).

    Returns:
        A row a bin of about n / BINS essays, ascending: ``words_from`` and ``words_to``, the shortest and longest essay
        in it; ``n``, ``mean`` and ``sd`` of the residuals. Essays of one length are in one bin, so there may be fewer.

    Examples:
        >>> rows = residuals_by_length(np.ones(4), np.array([1.0, 2.0, 1.5, 1.5]), np.array([90.0, 90.0, 200.0, 210.0]))
        >>> [(row["words_from"], row["n"], row["mean"]) for row in rows]
        [(90.0, 2, 0.5), (200.0, 1, 0.5), (210.0, 1, 0.5)]
    """
    residuals = raw - reference
    return [{**_ends("words", words[members]), **_moments(residuals[members])} for members in _bins(words)]


def reliability_rows(reference: Column, raw: Column) -> Rows:
    """Human scores of the essays for which the machine predicted about the same: is a 4 a 4 in the mean?

    Args:
        reference: Human scores, shape (n,).
        raw: Machine scores before rounding, shape (n,).

    Returns:
        A row a bin of about n / BINS essays, ascending: ``raw_from``, ``raw_to``, ``n``, ``mean_raw``,
        ``mean_reference``, ``sd_reference``.

    References:
        Murphy and Winkler (1977), Journal of the Royal Statistical Society C 26(1): reliability diagrams.

    Examples:
        >>> rows = reliability_rows(np.array([1.0, 2.0, 4.0]), np.array([1.5, 1.5, 3.0]))
        >>> [(row["mean_raw"], row["mean_reference"]) for row in rows]
        [(1.5, 1.5), (3.0, 4.0)]
    """
    rows = []
    for members in _bins(raw):
        human = _moments(reference[members])
        means = {"mean_raw": float(raw[members].mean()), "mean_reference": human["mean"]}
        rows.append({**_ends("raw", raw[members]), "n": human["n"], **means, "sd_reference": human["sd"]})
    return rows


def version_entries(
    reference: Column, raw: Column, score: Column, score_range: ScoreRange, line: RescalingLine | None
) -> dict[str, dict[str, float | None]]:
    """Agreement of each version of the machine's scores with the human ones.

    Args:
        reference: Human scores, shape (n,), score points of ``score_range``.
        raw: Machine scores before rounding, shape (n,).
        score: Machine scores as they were given, shape (n,), score points too.
        score_range: The prompt's score points.
        line: Rescaling fitted on dev, or None.

    Returns:
        By version (``given``, then ``score_versions``): ``mean``, ``sd``, ``pearson``, ``rmse``, ``smd``, ``sd_ratio``,
        and of rounded ones ``qwk`` and ``exact_agreement``, which are None for the others; None where undefined.

    Examples:
        >>> human, raw = np.array([1.0, 2.0, 3.0, 4.0]), np.array([1.4, 2.0, 3.2, 3.6])
        >>> entries = version_entries(human, raw, np.array([2.0, 2.0, 3.0, 4.0]), ScoreRange(1, 4), line=None)
        >>> entries["raw_trim_round"]["qwk"], entries["given"]["exact_agreement"], entries["raw"]["qwk"]
        (1.0, 0.75, None)
    """
    entries = {}
    for name, scores in {GIVEN: score, **score_versions(raw, score_range, line)}.items():
        rounded = name == GIVEN or name.endswith("_round")
        entries[name] = {
            "mean": float(scores.mean()),
            "sd": float(scores.std(ddof=1)) if len(scores) > 1 else None,
            "qwk": none_if_nan(quadratic_weighted_kappa(reference, scores)) if rounded else None,
            "exact_agreement": none_if_nan(agreement_within(reference, scores, 0)) if rounded else None,
            "pearson": none_if_nan(pearson(reference, scores)),
            "rmse": none_if_nan(rmse(reference, scores)),
            "smd": none_if_nan(standardized_mean_difference(reference, scores)),
            "sd_ratio": none_if_nan(sd_ratio(reference, scores)),
        }
    return entries


def _ends(name: str, values: Column) -> dict[str, float]:
    return {f"{name}_from": float(values.min()), f"{name}_to": float(values.max())}


def _moments(values: Column) -> dict[str, Any]:
    sd = float(values.std(ddof=1)) if len(values) > 1 else None
    return {"n": len(values), "mean": float(values.mean()), "sd": sd}


def _bins(values: Column) -> list[NDArray[np.intp]]:
    """Places of the values, in up to BINS ascending bins; equal values are in one."""
    edges = np.unique(np.quantile(values, np.linspace(0, 1, BINS + 1)[1:-1]))
    numbers = np.searchsorted(edges, values, side="left")
    order = np.argsort(numbers, kind="stable")
    starts = np.flatnonzero(np.diff(numbers[order])) + 1
    return np.split(order, starts)


def human_entry(essays: pd.DataFrame) -> dict[str, Any] | None:
    """Agreement of two humans, and what the machine loses against it, on the essays that were scored twice.

    Human-human figures are those of two single raters where both are there, or of reference and second_reference;
    human-machine ones those of reference and score (kappa) or raw (r). Degradation = human-human less human-machine
    (Williamson, Xi and Breyer, 2012, flag more than .10), both on the same essays, so that it does not
    measure which essays were scored twice.

    Args:
        essays: Checked predictions of one prompt.

    Returns:
        ``n`` essays that were scored twice; ``qwk``, ``human_machine_qwk`` and ``degradation``; ``pearson``,
        ``human_machine_pearson`` and ``pearson_degradation``, None where undefined; or None where the table holds no
        two humans' scores.

    Examples:
        >>> essays = pd.DataFrame({"rater1": [1, 2, 3, 4], "rater2": [1, 3, 3, 4], "reference": [1, 2, 3, 4]})
        >>> essays["raw"], essays["score"] = [1.2, 2.4, 2.9, 3.5], [1, 2, 3, 4]
        >>> entry = human_entry(essays)
        >>> round(entry["qwk"], 3), entry["human_machine_qwk"], round(entry["degradation"], 3)
        (0.9, 1.0, -0.1)
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
    }


def limit_entries(prompt: str, essays: pd.DataFrame, score_range: ScoreRange) -> tuple[dict[str, Any], list[str]]:
    """The machine's agreement corrected for the raters' errors, and the ceilings that these set.

    The reliability behind ``pearson_disattenuated`` and the ceilings is r between two raters, stepped up by Spearman
    and Brown where the reference is a sum or a mean of both (in MOSTLY of the essays).

    Args:
        prompt: The prompt's id, for notes.
        essays: Checked predictions of one prompt.
        score_range: Its score points.

    Returns:
        The figures of LIMITS, None where there are no two humans' scores or one is undefined; and notes.

    Examples:
        >>> essays = pd.DataFrame({"rater1": [1, 2, 3, 4], "rater2": [1, 3, 3, 4], "reference": [1, 2, 3, 4]})
        >>> essays["raw"], essays["score"] = [1.2, 2.4, 2.9, 3.5], [1, 2, 3, 4]
        >>> limits, notes = limit_entries("1", essays, ScoreRange(1, 4))
        >>> {name: round(value, 3) for name, value in limits.items()}, notes
        ({'pearson_disattenuated': 0.999, 'prmse': 0.99, 'qwk_ceiling': 0.98, 'qwk_of_true_score': 0.98}, [])
    """
    limits: dict[str, Any] = dict.fromkeys(LIMITS)
    pair, twice = _scored_twice(essays)
    if pair is None or len(twice) < 2:
        return limits, []
    reference, raw = twice["reference"].to_numpy(), twice["raw"].to_numpy()
    ratings = twice[list(pair)].to_numpy(dtype=np.float64)
    summed = pair == _RATER_PAIRS[0] and _is_mostly(ratings.sum(axis=1), reference, score_range)
    averaged = pair == _RATER_PAIRS[0] and _is_mostly(ratings.mean(axis=1), reference, score_range)
    # Raters whose scores run against each other are as reliable as those that have nothing in common.
    single = np.maximum(pearson(ratings[:, 0], ratings[:, 1]), 0.0)
    reliability = spearman_brown(single, 2.0 if summed or averaged else 1.0)
    limits["pearson_disattenuated"] = none_if_nan(disattenuated_correlation(pearson(reference, raw), reliability))
    limits["qwk_ceiling"] = none_if_nan(qwk_ceiling(reliability))
    limits["qwk_of_true_score"] = none_if_nan(qwk_of_true_score(reliability))
    # The raters' scale is that of single ratings; a sum of two is on twice that scale.
    scale = 2.0 if summed else 1.0
    if summed or pair != _RATER_PAIRS[0] or _on_one_scale(ratings, reference):
        limits["prmse"] = none_if_nan(prmse(raw / scale, ratings))
        return limits, []
    return limits, [
        f"Prompt {prompt}: prmse is null, as the raters' scores are on another scale than the reference, and it is "
        "not their sum."
    ]


def _scored_twice(essays: pd.DataFrame) -> tuple[tuple[str, str] | None, pd.DataFrame]:
    """The columns of two humans' scores, None where there are none, and the essays that have both."""
    pair = next((pair for pair in _RATER_PAIRS if set(pair) <= set(essays.columns)), None)
    return pair, essays if pair is None else essays.dropna(subset=list(pair))


def _lost(human: float | None, machine: float | None) -> float | None:
    return None if human is None or machine is None else human - machine


def _is_mostly(made: NDArray[np.float64], reference: NDArray[np.float64], score_range: ScoreRange) -> bool:
    """Whether the reference is what was made of the ratings, up to rounding, in most essays."""
    return bool((np.abs(made - reference) <= 0.5 * score_range.step + 1e-6).mean() >= MOSTLY)


def _on_one_scale(ratings: NDArray[np.float64], reference: NDArray[np.float64]) -> bool:
    """Whether the reference lies between the ratings in most essays, as a resolved score does."""
    low, high = ratings.min(axis=1) - 1e-6, ratings.max(axis=1) + 1e-6
    return bool(((low <= reference) & (reference <= high)).mean() >= MOSTLY)
