"""One figure over several prompts: the 2012 competition's mean, and pooled kappa where it means anything."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import ArrayLike

from aes_dynloss.errors import DataError
from aes_dynloss.evaluation.agreement import quadratic_weighted_kappa
from aes_dynloss.evaluation.score_range import ScoreRange

# The competition of 2012 capped each prompt's kappa here, so that a perfect one does not make the mean infinite.
FISHER_CAP = 0.999


def fisher_mean(kappas: ArrayLike) -> float:
    """Mean of kappas over prompts as the 2012 ASAP competition took it: tanh(mean(arctanh(kappa))).

    Args:
        kappas: Kappas, shape (n,), n >= 1, from -1 to 1, each capped at +-.999 before the transformation.

    Returns:
        Mean on the scale of kappa, at most .999.

    Raises:
        DataError: There is no kappa, or one is not within -1 to 1.

    References:
        Fisher (1921), Metron 1, the transformation. Hewlett Foundation: Automated Essay Scoring (Kaggle, 2012),
        evaluation rules.
    """
    values = np.asarray(kappas, dtype=np.float64)
    if values.size == 0 or not (np.abs(values) <= 1 + 1e-9).all():
        raise DataError(f"A Fisher mean needs kappas from -1 to 1, found {values.tolist()}.")
    return float(np.tanh(np.arctanh(np.clip(values, -FISHER_CAP, FISHER_CAP)).mean()))


def pooled_quadratic_weighted_kappa(
    reference: ArrayLike, score: ArrayLike, prompt_ids: Sequence[str], ranges: Mapping[str, ScoreRange]
) -> float:
    """QWK over the essays of several prompts at once, where that means anything: all have the same range.

    Args:
        reference: Human scores, shape (n,).
        score: Machine scores, shape (n,).
        prompt_ids: Prompt of each essay, n of them.
        ranges: Score range of every prompt.

    Returns:
        Kappa of the pooled essays.

    Raises:
        DataError: The prompts' ranges differ, or one is not given. Pooled over ASAP's eight ranges, predicting each
            prompt's mean score gives .966: the prompts' scales agree, not the scores.
    """
    prompts = list(dict.fromkeys(prompt_ids))
    unknown = [prompt for prompt in prompts if prompt not in ranges]
    if unknown:
        raise DataError(f"Pooled QWK needs the score range of every prompt; none given for {', '.join(unknown)}.")
    if len({ranges[prompt] for prompt in prompts}) > 1:
        listed = ", ".join(f"{prompt}: {ranges[prompt]}" for prompt in prompts)
        raise DataError(
            f"QWK pooled over prompts with different ranges ({listed}) measures the difference of their scales. "
            "Take the mean of the prompts' QWKs instead."
        )
    return float(quadratic_weighted_kappa(reference, score))
