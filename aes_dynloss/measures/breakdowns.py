"""Breakdowns of one prompt's scores for tables and figures: by score point, residual, length and score version."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
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
from aes_dynloss.tables.score_range import ScoreRange

Column = NDArray[np.float64]
Rows = list[dict[str, Any]]

BINS = 10
GIVEN = "given"


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


# Wider score ranges are divided into so many levels.
MOST_LEVELS = 12
# Agreement of the middle is compared with that of both ends.
_LEAST_COMPARED = 3


def score_level_rows(reference: Column, score: Column, score_range: ScoreRange, least: int = 1) -> Rows:
    """Agreement at each level of human scores: a score point, or of more than MOST_LEVELS points neighbouring ones.

    Levels of fewer essays than ``least`` are merged with the next one, the last with the one before. Scores agree where
    they are of one level, whatever rows were merged.

    Args:
        reference: Human scores, shape (n,), score points of ``score_range``.
        score: Machine scores, likewise.
        score_range: The prompt's score points.
        least: Essays of a row, at least.

    Returns:
        A row a level, ascending: ``low`` and ``high`` score point, ``n`` essays, ``agreement`` (share of the same
        level) and ``adjacent`` (that or a neighbouring one). None where all essays are fewer than ``least``.

    Examples:
        >>> human, score = np.array([1.0, 1.0, 2.0, 3.0, 4.0, 4.0]), np.array([1.0, 2.0, 1.0, 3.0, 4.0, 4.0])
        >>> rows = score_level_rows(human, score, ScoreRange(1, 4), least=2)
        >>> [(row["low"], row["high"], row["n"], row["agreement"]) for row in rows]
        [(1.0, 1.0, 2, 0.5), (2.0, 3.0, 2, 0.5), (4.0, 4.0, 2, 1.0)]
    """
    width = -(-score_range.count // MOST_LEVELS)
    human, machine = (score_range.to_index(scores) // width for scores in (reference, score))
    rows: list[list[int]] = [[]]
    for level in np.unique(human).tolist():
        if (np.isin(human, rows[-1])).sum() >= least:
            rows.append([])
        rows[-1].append(level)
    if len(rows) > 1 and np.isin(human, rows[-1]).sum() < least:
        last = rows.pop()
        rows[-1] += last
    points, entries = score_range.points, []
    for levels in rows:
        members = np.isin(human, levels)
        apart = np.abs(human - machine)[members]
        entries.append({
            "low": float(points[levels[0] * width]),
            "high": float(points[min((levels[-1] + 1) * width, score_range.count) - 1]),
            "n": int(members.sum()),
            "agreement": float((apart == 0).mean()),
            "adjacent": float((apart <= 1).mean()),
        })  # fmt: skip
    return entries if len(reference) >= least else []


def level_gap(levels: Sequence[Mapping[str, Any]]) -> float | None:
    """Agreement at the lowest and the highest score level less that at those between.

    Args:
        levels: What ``score_level_rows`` returned.

    Returns:
        Above 0 where middle scores agree less than the ends; None of fewer than three levels.

    Examples:
        >>> levels = [{"n": 10, "agreement": 0.8}, {"n": 50, "agreement": 0.3}, {"n": 30, "agreement": 0.6}]
        >>> round(level_gap(levels), 3)
        0.35
    """
    if len(levels) < _LEAST_COMPARED:
        return None
    counts, shares = (np.array([level[key] for level in levels]) for key in ("n", "agreement"))
    ends = float(np.average(shares[[0, -1]], weights=counts[[0, -1]]))
    return ends - float(np.average(shares[1:-1], weights=counts[1:-1]))


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
