"""Differences of arms from a control: intervals, p values, and their correction for the number of comparisons."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from aes_dynloss.errors import DataError
from aes_dynloss.evaluation.paired_bootstrap import Figure, Side
from aes_dynloss.evaluation.resampling import percentile_interval

Entry = dict[str, Any]


@dataclass(frozen=True)
class Question:
    """Which kappa of an arm is held against which of the control's.

    Args:
        arm_version: The arm's kappa.
        control_version: The control's kappa, which is taken away.
        words: The difference in words, to be formatted with the control's name.
        own: Whether the control answers it too, against itself.
    """

    arm_version: str
    control_version: str
    words: str
    own: bool = False


QUESTIONS = {
    "qwk": Question("qwk", "qwk", "QWK minus that of {control}"),
    "qwk_rescaled": Question("qwk_rescaled", "qwk_rescaled", "rescaled QWK minus that of {control}"),
    "qwk_minus_rescaled": Question("qwk", "qwk_rescaled", "QWK as it is minus the rescaled QWK of {control}", own=True),
}


def answer(
    question: Question,
    control: str,
    prompts: Mapping[str, Mapping[Side, Figure]],
    mean: Mapping[Side, Figure],
    confidence: float,
) -> Entry:
    """One kind of difference, for every arm, on every prompt and in the mean.

    The means of all arms are one family of comparisons, the prompts of all arms another; Holm's procedure is applied
    within each.

    Args:
        question: The kind of difference.
        control: The arm that the others are held against.
        prompts: Figures by arm and version, by prompt.
        mean: Those of the mean over prompts.
        confidence: Share of resamples inside an interval, between 0 and 1.

    Returns:
        ``difference`` in words, ``comparisons`` (family sizes ``mean`` and ``prompts``), and ``arms`` by name, each
        with ``mean`` and ``prompts`` by id: ``difference``, ``interval``, ``p``, ``p_holm``, ``by_seed``; or None where
        a version is missing.
    """
    names = dict.fromkeys(arm for figures in (*prompts.values(), mean) for arm, _ in figures)
    arms = [arm for arm in names if question.own or arm != control]

    def entry(arm: str, figures: Mapping[Side, Figure]) -> Entry | None:
        sides = (arm, question.arm_version), (control, question.control_version)
        if not all(side in figures for side in sides):
            return None
        return difference_entry(figures[sides[0]].minus(figures[sides[1]]), confidence)

    means = {arm: entry(arm, mean) for arm in arms}
    by_prompt = {arm: {prompt: entry(arm, figures) for prompt, figures in prompts.items()} for arm in arms}
    sizes = {
        "mean": _correct(list(means.values())),
        "prompts": _correct([one for entries in by_prompt.values() for one in entries.values()]),
    }
    return {
        "difference": question.words.format(control=control),
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
    """
    values = np.asarray(draws, dtype=np.float64)
    if values.size == 0:
        raise DataError("A bootstrap p value needs at least one draw.")
    fewer = min(int((values <= 0).sum()), int((values >= 0).sum()))
    return float(min(1.0, 2 * (1 + fewer) / (1 + values.size)))


def smallest_p(resamples: int) -> float:
    """The smallest p value that so many resamples can give."""
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
    """
    values = np.asarray(p_values, dtype=np.float64)
    order = np.argsort(values, kind="stable")
    steps = np.minimum(1.0, values[order] * np.arange(values.size, 0, -1))
    adjusted = np.empty_like(values)
    adjusted[order] = np.maximum.accumulate(steps)
    return adjusted


def _correct(entries: Sequence[Entry | None]) -> int:
    """Fill in the adjusted p values of one family; how many comparisons it has."""
    known = [entry for entry in entries if entry is not None]
    for entry, adjusted in zip(known, holm_adjusted([entry["p"] for entry in known]), strict=True):
        entry["p_holm"] = float(adjusted)
    return len(known)
