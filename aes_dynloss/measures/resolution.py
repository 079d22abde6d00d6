"""The score that counts where humans have read an essay twice or three times."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

from aes_dynloss.tables.score_range import ScoreRange

Rule = Literal["mean", "higher", "third"]
MOST_READINGS = 3
RULES: Mapping[Rule, str] = {
    "mean": "the mean of both, rounded half up; of three, of the third and the nearer one",
    "higher": "the higher one; of three, of the third and the nearer one",
    "third": "the mean of both, rounded half up; the third decides",
}


def needs_third(readings: Sequence[float], score_range: ScoreRange) -> bool:
    """Whether two readings are more than one score point apart, and there is no third one.

    Args:
        readings: An essay's readings, in their order.
        score_range: Its prompt's score points.

    Examples:
        >>> needs_third([2, 4], ScoreRange(1, 6)), needs_third([2, 3], ScoreRange(1, 6))
        (True, False)
    """
    return len(readings) == 2 and abs(readings[0] - readings[1]) > score_range.step + 1e-6


def resolved_score(readings: Sequence[float], score_range: ScoreRange, rule: Rule) -> float | None:
    """The score that counts.

    A third reading counts only where the first two are more than one score point apart. ``mean`` and ``higher`` then
    take the third and that of the first two which is nearer to it; of two that are equally near, the higher.

    Args:
        readings: An essay's readings, in their order, score points, MOST_READINGS or fewer.
        score_range: Its prompt's score points.
        rule: One of RULES.

    Returns:
        A score point; None where there is no reading, or a third is needed.

    References:
        Johnson, Penny and Gordon (2000), The relation between score resolution methods and interrater reliability,
        Applied Measurement in Education 13(2), 121-138: rater mean, tertium quid and expert judgement.

    Examples:
        >>> points = ScoreRange(1, 6)
        >>> resolved_score([3, 4], points, "mean"), resolved_score([2, 5], points, "mean")
        (4.0, None)
        >>> [resolved_score([2, 5, 3], points, rule) for rule in ("mean", "higher", "third")]
        [3.0, 3, 3]
    """
    if not readings or needs_third(readings, score_range):
        return None
    first, second, third = (readings[min(place, len(readings) - 1)] for place in range(MOST_READINGS))
    if needs_third([first, second], score_range):
        if rule == "third":
            return third
        first, second = third, min(first, second, key=lambda one: (abs(one - third), -one))
    return max(first, second) if rule == "higher" else float(score_range.to_point((first + second) / 2))
