from __future__ import annotations

import pytest

from aes_dynloss.measures.resolution import RULES, needs_third, resolved_score
from aes_dynloss.tables.score_range import ScoreRange

SIX, HALF = ScoreRange(1, 6), ScoreRange(0, 4, 0.5)


@pytest.mark.parametrize(
    ("readings", "mean", "higher", "third"),
    [
        ([4], 4, 4, 4),
        ([4, 4], 4, 4, 4),
        ([3, 4], 4, 4, 4),
        ([4, 3], 4, 4, 4),
        ([2, 4], None, None, None),
        ([2, 5, 4], 5, 5, 4),
        ([5, 2, 1], 2, 2, 1),
        ([2, 4, 3], 4, 4, 3),
        ([2, 3, 6], 3, 3, 3),
        ([], None, None, None),
    ],
)
def test_rules(readings, mean, higher, third):
    expected = dict(zip(RULES, (mean, higher, third), strict=True))
    assert {rule: resolved_score(readings, SIX, rule) for rule in RULES} == expected


def test_a_point_is_the_ranges_step():
    assert needs_third([1, 2], HALF)
    assert not needs_third([0.1 + 0.2, 0.8], ScoreRange(0, 1, 0.5))
    assert resolved_score([1, 1.5], HALF, "mean") == 1.5
