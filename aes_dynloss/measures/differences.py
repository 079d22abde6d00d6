"""Differences with their uncertainty: arms against a control, shares of essays, and effects of changing essays.

P values of arms are corrected for the number of comparisons (Holm). Intervals of shares allow for several judgements of
one essay.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy.special import ndtri

from aes_dynloss.errors import DataError, ShapeError
from aes_dynloss.measures.bootstrap import percentile_interval
from aes_dynloss.measures.paired_bootstrap import Figure, Side

Entry = dict[str, Any]


@dataclass(frozen=True)
class KappaDifference:
    """A kind of difference: a kappa of an arm minus a kappa of the control.

    Args:
        arm_version: The arm's kappa.
        control_version: The control's kappa, which is taken away.
        description: The difference in words, to be formatted with the control's name.
        includes_control: Whether the control is compared too, with itself.
    """

    arm_version: str
    control_version: str
    description: str
    includes_control: bool = False


DIFFERENCES = {
    "qwk": KappaDifference("qwk", "qwk", "QWK minus that of {control}"),
    "qwk_rescaled": KappaDifference("qwk_rescaled", "qwk_rescaled", "rescaled QWK minus that of {control}"),
    "qwk_minus_rescaled": KappaDifference(
        "qwk", "qwk_rescaled", "QWK as it is minus the rescaled QWK of {control}", includes_control=True
    ),
}


def difference_entries(
    kind: KappaDifference,
    control: str,
    prompts: Mapping[str, Mapping[Side, Figure]],
    mean: Mapping[Side, Figure],
    confidence: float,
) -> Entry:
    """One kind of difference, for every arm, on every prompt and in the mean.

    The means of all arms are one family of comparisons, the prompts of all arms another; Holm's procedure is applied
    within each.

    Args:
        kind: The kind of difference.
        control: The arm that the others are held against.
        prompts: Figures by arm and version, by prompt.
        mean: Those of the mean over prompts.
        confidence: Share of resamples inside an interval, between 0 and 1.

    Returns:
        ``difference`` in words, ``comparisons`` (family sizes ``mean`` and ``prompts``), and ``arms`` by name, each
        with ``mean`` and ``prompts`` by id: ``difference``, ``interval``, ``p``, ``p_holm``, ``by_seed``; or None where
        a version is missing.

    Examples:
        >>> one, control = Figure(np.array([0.75, 0.5, 1.0]), None), Figure(np.full(3, 0.5), None)
        >>> figures = {("a", "qwk"): one, ("c", "qwk"): control}
        >>> entry = difference_entries(DIFFERENCES["qwk"], "c", {"1": figures}, figures, confidence=0.95)
        >>> entry["difference"], entry["comparisons"], entry["arms"]["a"]["mean"]["difference"]
        ('QWK minus that of c', {'mean': 1, 'prompts': 1}, 0.25)
    """
    names = dict.fromkeys(arm for figures in (*prompts.values(), mean) for arm, _ in figures)
    arms = [arm for arm in names if kind.includes_control or arm != control]

    def entry(arm: str, figures: Mapping[Side, Figure]) -> Entry | None:
        sides = (arm, kind.arm_version), (control, kind.control_version)
        if not all(side in figures for side in sides):
            return None
        return difference_entry(figures[sides[0]].minus(figures[sides[1]]), confidence)

    means = {arm: entry(arm, mean) for arm in arms}
    by_prompt = {arm: {prompt: entry(arm, figures) for prompt, figures in prompts.items()} for arm in arms}
    sizes = {
        "mean": fill_holm([one for one in means.values() if one]),
        "prompts": fill_holm([one for entries in by_prompt.values() for one in entries.values() if one]),
    }
    return {
        "difference": kind.description.format(control=control),
        "comparisons": sizes,
        "arms": {arm: {"mean": means[arm], "prompts": by_prompt[arm]} for arm in arms},
    }


def difference_entry(figure: Figure, confidence: float) -> Entry:
    """A difference with its interval, its p value and its values by seed; ``p_holm`` is still to be filled in.

    Args:
        figure: The difference.
        confidence: Share of resamples inside the interval, between 0 and 1.

    Returns:
        The entry.

    Examples:
        >>> entry = difference_entry(Figure(np.array([0.25, 0.0, 0.5]), None), confidence=0.5)
        >>> entry["difference"], entry["interval"]
        (0.25, [0.125, 0.375])
    """
    return {
        "difference": figure.value,
        "interval": percentile_interval(figure.draws, confidence),
        "p": two_sided_p(figure.draws),
        "p_holm": None,
        "by_seed": None if figure.by_seed is None else dict(figure.by_seed),
    }


def two_sided_p(draws: ArrayLike) -> float:
    """Two-sided bootstrap p value of the hypothesis that a difference is 0.

        p = min(1, 2 (1 + min(#{draw <= 0}, #{draw >= 0})) / (1 + resamples))

    The ones keep p above 0, which no finite number of resamples can show; the smallest p is 2 / (1 + resamples).

    Args:
        draws: The difference on resamples, shape (resamples,), >= 1 of them.

    Returns:
        p, 0 < p <= 1.

    Raises:
        DataError: There is no draw.

    References:
        Efron and Tibshirani (1993), An Introduction to the Bootstrap, section 15.4: the level at which the percentile
        interval ends at 0. Davison and Hinkley (1997), Bootstrap Methods and their Application, eq. 4.11: adding one.

    Examples:
        >>> round(float(two_sided_p([0.1, 0.2, 0.3, -0.1, 0.2, 0.4, 0.1, 0.2, 0.3])), 3)
        0.4
    """
    values = np.asarray(draws, dtype=np.float64)
    if values.size == 0:
        raise DataError("A bootstrap p value needs at least one draw.")
    fewer = min(int((values <= 0).sum()), int((values >= 0).sum()))
    return float(min(1.0, 2 * (1 + fewer) / (1 + values.size)))


def smallest_p(resamples: int) -> float:
    """The smallest p value that so many resamples can give.

    Examples:
        >>> round(float(smallest_p(resamples=999)), 3)
        0.002
    """
    return min(1.0, 2 / (1 + resamples))


def holm_adjusted(p_values: ArrayLike) -> NDArray[np.float64]:
    """P values adjusted by Holm's step-down procedure, which bounds the chance of any false rejection in the family.

    With p sorted ascending, adjusted p_(i) = max over j <= i of min(1, (m - j + 1) p_(j)).

    Args:
        p_values: p values of one family, shape (m,), each from 0 to 1.

    Returns:
        Adjusted p values in the same order, shape (m,).

    References:
        Holm (1979), Scandinavian Journal of Statistics 6(2), 65-70.

    Examples:
        >>> holm_adjusted([0.01, 0.04, 0.03]).round(3)
        array([0.03, 0.06, 0.06])
    """
    values = np.asarray(p_values, dtype=np.float64)
    order = np.argsort(values, kind="stable")
    steps = np.minimum(1.0, values[order] * np.arange(values.size, 0, -1))
    adjusted = np.empty_like(values)
    adjusted[order] = np.maximum.accumulate(steps)
    return adjusted


def fill_holm(entries: Sequence[Entry]) -> int:
    """Fill in ``p_holm``, the adjusted p values of one family of comparisons; returns the family's size.

    Args:
        entries: The comparisons, each with its ``p``.

    Examples:
        >>> entries = [{"p": 0.01}, {"p": 0.04}]
        >>> fill_holm(entries), entries
        (2, [{'p': 0.01, 'p_holm': 0.02}, {'p': 0.04, 'p_holm': 0.04}])
    """
    for entry, adjusted in zip(entries, holm_adjusted([entry["p"] for entry in entries]), strict=True):
        entry["p_holm"] = float(adjusted)
    return len(entries)


def wilson_interval(share: float, n: float, confidence: float = 0.95) -> tuple[float, float]:
    """Wilson's score interval of a share.

        (p + z^2 / 2n -+ z sqrt(p (1 - p) / n + z^2 / 4n^2)) / (1 + z^2 / n)

    Args:
        share: Share p of those counted, from 0 to 1.
        n: Number of those counted, > 0; need not be whole.
        confidence: Between 0 and 1.

    Returns:
        Both ends, within 0 and 1.

    References:
        Wilson (1927), Probable inference, the law of succession, and statistical inference.

    Examples:
        >>> [round(end, 3) for end in wilson_interval(0.5, n=10)]
        [0.237, 0.763]
    """
    z = float(ndtri(0.5 + confidence / 2))
    middle = share + z * z / (2 * n)
    half = z * float(np.sqrt(share * (1 - share) / n + z * z / (4 * n * n)))
    low, high = ((middle - half) / (1 + z * z / n), (middle + half) / (1 + z * z / n))
    # Exact at the ends, where rounding would leave 1e-17.
    return (0.0 if share == 0 else max(low, 0.0), 1.0 if share == 1 else min(high, 1.0))


def clustered_interval(
    counts: NDArray[np.int64], totals: NDArray[np.int64], confidence: float = 0.95
) -> tuple[float, float]:
    """Wilson's interval of a share over judgements that come several an essay.

    An essay's judgements depend on each other, so that n is not their number but the effective sample size

        n = p (1 - p) / v,   v = m / (m - 1) * sum_i (c_i - p t_i)^2 / (sum_i t_i)^2

    with v the linearised variance of the ratio p. It is held between the number of essays and that of judgements;
    where the variance says nothing (p is 0 or 1, or there is one essay), it is the number of essays.

    Args:
        counts: Judgements of essay i that are counted, c_i, (m,).
        totals: Its judgements, t_i, (m,); essays without any are left out.
        confidence: Between 0 and 1.

    Returns:
        Both ends.

    Raises:
        ShapeError: The shapes differ, or there is no judgement.

    References:
        Korn and Graubard (1998), Confidence intervals for proportions with small expected number of positive counts
        estimated from survey data. Dean and Pagano (2015), Evaluating confidence interval methods for binomial
        proportions in clustered surveys.

    Examples:
        >>> [round(end, 3) for end in clustered_interval(np.array([2, 0, 1]), np.array([2, 2, 2]))]
        [0.125, 0.875]
    """
    if counts.shape != totals.shape or totals.sum() <= 0:
        raise ShapeError(
            f"Expected counts and totals of one shape and one judgement at least, found {counts.shape}, {totals.shape} "
            f"and {totals.sum()} judgements. Give both by essay."
        )
    counts, totals = counts[totals > 0], totals[totals > 0]
    essays, judgements = len(totals), int(totals.sum())
    share = float(counts.sum() / judgements)
    effective = float(essays)
    if 0 < share < 1 and essays > 1:
        spread = essays / (essays - 1) * float(np.sum((counts - share * totals) ** 2)) / judgements**2
        effective = judgements if spread == 0 else min(max(share * (1 - share) / spread, essays), judgements)
    return wilson_interval(share, effective, confidence)


# Columns of a table of changes, which has a row for each changed essay.
CHANGE_COLUMNS = (
    "essay",  # its number, the same for all changes of one essay
    "prompt_id",
    "score",  # score points and raw predictions before ...
    "raw",
    "changed_score",  # ... and after
    "changed_raw",
    "lowest",  # the prompt's lowest score point
    "unit",  # sd of the prompt's raw predictions before; NaN if undefined
    "tolerance",  # how far raw may move without having changed
)


def change_figures(changes: pd.DataFrame, confidence: float) -> dict[str, Any]:
    """Shares and mean changes over any rows of a table of changes.

    Args:
        changes: Rows with the columns `CHANGE_COLUMNS`; there may be none.
        confidence: Of the intervals, between 0 and 1.

    Returns:
        n (rows), essays (different ones), already_lowest (rows whose score could not fall), each share with its
        interval, and mean changes in sd of the prompt's predictions before; None is undefined. ``to_lowest`` is the
        share that gets the lowest score after the change.

    Examples:
        >>> changes = pd.DataFrame({
        ...     "essay": [0, 1], "prompt_id": "1", "score": [2, 3], "raw": [2.1, 3.0], "changed_score": [1, 3],
        ...     "changed_raw": [1.2, 3.0], "lowest": 1, "unit": 0.5, "tolerance": 0.01,
        ... })
        >>> figures = change_figures(changes, confidence=0.95)
        >>> figures["falls"]["share"], figures["score_change_sd"]
        (0.5, -1.0)
    """
    score_change = (changes.changed_score - changes.score).to_numpy(float)
    raw_change = (changes.changed_raw - changes.raw).to_numpy(float)
    raw_moved = np.where(np.abs(raw_change) > changes.tolerance.to_numpy(float), np.sign(raw_change), 0.0)
    essays, unit = changes.essay.to_numpy(), changes.unit.to_numpy(float)
    shares = {
        "rises": score_change > 0,
        "falls": score_change < 0,
        "stays": score_change == 0,
        "raw_rises": raw_moved > 0,
        "raw_falls": raw_moved < 0,
        "to_lowest": (changes.changed_score <= changes.lowest).to_numpy(bool),
    }
    return {
        "n": len(changes),
        "essays": len(np.unique(essays)),
        "already_lowest": int((changes.score <= changes.lowest).sum()),
        **{name: share_of(judged, essays, confidence) for name, judged in shares.items()},
        "score_change_sd": _mean(score_change / unit),
        "raw_change_sd": _mean(raw_change / unit),
    }


def prompt_change_figures(changes: pd.DataFrame, confidence: float) -> dict[str, Any]:
    """The same over one prompt's rows, with means on its own scale: before, after, and of the change.

    Examples:
        >>> changes = pd.DataFrame({
        ...     "essay": [0, 1], "prompt_id": "1", "score": [2, 3], "raw": [2.1, 3.0], "changed_score": [1, 3],
        ...     "changed_raw": [1.2, 3.0], "lowest": 1, "unit": 0.5, "tolerance": 0.01,
        ... })
        >>> prompt_change_figures(changes, confidence=0.95)["mean_score_change"]
        -0.5
    """
    return {
        **change_figures(changes, confidence),
        "mean_score": _mean(changes.score.to_numpy(float)),
        "mean_changed_score": _mean(changes.changed_score.to_numpy(float)),
        "mean_score_change": _mean((changes.changed_score - changes.score).to_numpy(float)),
        "mean_raw_change": _mean((changes.changed_raw - changes.raw).to_numpy(float)),
    }


def share_of(judged: NDArray[np.bool_], essays: NDArray[Any], confidence: float) -> dict[str, float] | None:
    """The share of judgements that are true, with the interval of `clustered_interval`; None if there are none.

    Args:
        judged: Judgements, (n,).
        essays: The essay that each is about, (n,).
        confidence: Between 0 and 1.

    Examples:
        >>> share_of(np.array([True, False]), np.array([0, 1]), confidence=0.95)["share"]
        0.5
    """
    if len(judged) == 0:
        return None
    _, numbers = np.unique(essays, return_inverse=True)
    totals = np.bincount(numbers)
    counts = np.bincount(numbers, weights=judged).astype(np.int64)
    low, high = clustered_interval(counts, totals, confidence)
    return {"share": float(np.mean(judged)), "low": low, "high": high}


def _mean(values: NDArray[np.float64]) -> float | None:
    """The mean of what is defined."""
    defined = values[np.isfinite(values)]
    return float(defined.mean()) if len(defined) else None
