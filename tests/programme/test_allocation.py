from __future__ import annotations

import math

import numpy as np
import pytest

from aes_dynloss.measures.agreement import quadratic_weighted_kappa, standardized_mean_difference
from aes_dynloss.programme.allocation import (
    FEWEST,
    Assumed,
    Stratum,
    allocated,
    expected_half_width,
    qwk_spread,
    sample_size,
    smd_spread,
)
from aes_dynloss.tables.score_range import ScoreRange

EVEN = {"1": {"qwk": qwk_spread(Assumed(0.8, 0.8)), "smd": smd_spread(Assumed(0.8, 0.8))}}


@pytest.mark.parametrize(("r", "span"), [(0.75, ScoreRange(1, 6)), (0.9, ScoreRange(0, 30))])
def test_the_spreads_are_those_of_simulated_score_points(r, span):
    random, unit = np.random.default_rng(0), (span.high - span.low) / 5
    quality, error = random.standard_normal((2, 1500, 400))
    middle = (span.low + span.high) / 2
    human = span.to_point(middle + unit * quality)
    raw = middle + unit * (r * quality + math.sqrt(1 - r**2) * error)
    score = span.to_point(raw)
    assumed = Assumed(float(quadratic_weighted_kappa(human.ravel(), score.ravel())), r)
    found = 400 * quadratic_weighted_kappa(human, score).var()
    assert qwk_spread(Assumed(assumed.qwk, assumed.qwk)) == pytest.approx(found, rel=0.15)
    r_raw = float(np.corrcoef(human.ravel(), raw.ravel())[0, 1])
    assert smd_spread(Assumed(r_raw, r_raw)) == pytest.approx(
        400 * standardized_mean_difference(human, raw).var(), rel=0.15
    )


def test_a_narrower_interval_needs_more_and_all_give_none():
    sizes = [sample_size(0.13, width, 2000, 100) for width in (0.1, 0.05, 0.03, 0.001)]
    assert sizes == sorted(sizes)
    assert sizes[-1] <= 1900
    assert sample_size(0.13, 0.05, 200, 200) == 0
    assert expected_half_width(0.13, [Stratum("1", (), 200, 10)], [190]) == 0


@pytest.mark.parametrize("width", [0.02, 0.05, 0.08])
def test_what_is_expected_is_what_was_wanted(width):
    stratum = Stratum("1", (), 4000, 250)
    (size,) = allocated([stratum], EVEN, {"qwk": width})
    expected = expected_half_width(EVEN["1"]["qwk"], [stratum], [size])
    assert width * 0.97 < expected <= width


def test_each_group_and_the_prompt_have_what_they_want():
    strata = [Stratum("1", ("a",), 900, 20), Stratum("1", ("b",), 100, 5), Stratum("1", ("",), 6, 0)]
    drawn = allocated(strata, EVEN, {"qwk": 0.05, "smd": 0.2})
    spread = EVEN["1"]["qwk"]
    for members in ([0], [1], [0, 1, 2]):
        assert expected_half_width(spread, [strata[n] for n in members], [drawn[n] for n in members]) <= 0.05
    assert drawn[2] == 6, "of a small stratum all are read"


def test_a_stratum_has_the_highest_rate_of_its_groups():
    strata = [
        Stratum("1", groups, size, 0) for groups, size in ((("a", "p"), 900), (("b", "p"), 100), (("a", "q"), 1000))
    ]
    drawn = allocated(strata, EVEN, {"qwk": 0.06})
    assert drawn[1] == sample_size(EVEN["1"]["qwk"], 0.06, 100, 0), "all of group b"
    assert drawn[0] / 900 < drawn[1] / 100


def test_few_are_never_enough_for_large_sample_variances():
    assert allocated([Stratum("1", (), 5000, 0)], EVEN, {"smd": 0.9}) == [FEWEST]
