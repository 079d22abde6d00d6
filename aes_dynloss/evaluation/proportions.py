"""Shares of essays with intervals, for essays that are judged once or several times."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri

from aes_dynloss.errors import ShapeError


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
