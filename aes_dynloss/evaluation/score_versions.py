"""The six versions of a machine's scores that operational scoring tells apart: raw or rescaled, trimmed, rounded."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from aes_dynloss.errors import ConfigError
from aes_dynloss.evaluation.calibration import RescalingLine
from aes_dynloss.evaluation.checked_scores import checked_columns
from aes_dynloss.evaluation.score_range import ScoreRange

# RSMTool's: scores reach almost half a point beyond the range, and so keep their order where rounding does not need it.
TRIM_TOLERANCE = 0.4998


def trim(values: ArrayLike, score_range: ScoreRange, tolerance: float = TRIM_TOLERANCE) -> NDArray[np.float64]:
    """Scores moved to the nearest value from low - tolerance to high + tolerance.

    Args:
        values: Scores before rounding, shape (..., n), n >= 1, finite.
        score_range: The prompt's score points.
        tolerance: How far scores may reach beyond the range, in score points (steps), 0 <= tolerance < .5: from half a
            point on, rounding would leave the range.

    Returns:
        Trimmed scores, same shape.

    Raises:
        ConfigError: The tolerance is out of its bounds.
        DataError: There is no score, or a value is not finite.

    References:
        RSMTool, ``FeaturePreprocessor.trim``.
    """
    if not 0 <= tolerance < 0.5:
        raise ConfigError(
            f"A trim tolerance must be at least 0 and below .5 score points, found {tolerance}; RSMTool's is "
            f"{TRIM_TOLERANCE}."
        )
    (scores,) = checked_columns(values=values)
    margin = tolerance * score_range.step
    return np.clip(scores, score_range.low - margin, score_range.high + margin)


def score_versions(
    raw: ArrayLike, score_range: ScoreRange, line: RescalingLine | None, tolerance: float = TRIM_TOLERANCE
) -> dict[str, NDArray[np.float64]]:
    """The versions of one prompt's machine scores.

        raw                          as the machine predicts them
        scale                        (raw - mean(m)) / sd(m) * sd(h) + mean(h), the moments being those of dev
        raw_trim, scale_trim         trimmed to the range, with a tolerance
        raw_trim_round, ...          rounded to score points

    Halves are rounded up, as everywhere in this package. RSMTool rounds an exact half to the even score and knows whole
    scores only; elsewhere the versions are the same.

    Args:
        raw: Machine scores before rounding, shape (..., n), n >= 1, finite.
        score_range: The prompt's score points.
        line: ``fit_rescaling`` of dev's human and machine scores, or None where there is no dev.
        tolerance: How far trimmed scores may reach beyond the range, in score points, 0 <= tolerance < .5.

    Returns:
        Scores by version, each of raw's shape; without a line, the three raw versions.

    Raises:
        ConfigError: The tolerance is out of its bounds.
        DataError: There is no score, or a value is not finite.

    References:
        RSMTool, ``FeaturePreprocessor.process_predictions``; its documentation, "Score post-processing". Williamson,
        Xi and Breyer (2012), Educational Measurement: Issues and Practice 31(1), 2-13: scaling.
    """
    (scores,) = checked_columns(raw=raw)
    kinds = {"raw": scores} if line is None else {"raw": scores, "scale": line.apply(scores)}
    versions: dict[str, NDArray[np.float64]] = {}
    for kind, values in kinds.items():
        trimmed = trim(values, score_range, tolerance)
        versions |= {kind: values, f"{kind}_trim": trimmed, f"{kind}_trim_round": score_range.to_point(trimmed)}
    return versions
