from __future__ import annotations

import json
from typing import ClassVar

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aes_dynloss.errors import CheckpointError, ConfigError, DataError
from aes_dynloss.measures.intervals import (
    MOST_ERRORS,
    Intervals,
    PromptErrors,
    coverage_entry,
    fit_intervals,
    fit_pooled_intervals,
)
from aes_dynloss.tables.score_range import ScoreRange

SPAN = ScoreRange(1, 6)


def test_the_half_width_is_the_k_th_smallest_error():
    known = PromptErrors(tuple(float(error) for error in range(1, 10)), 9)
    assert known.half_width(0.9) == 9  # ceil(10 * .9)
    assert known.half_width(0.8) == 8
    assert known.half_width(0.81) == 9
    assert known.half_width(0.05) == 1
    assert known.half_width(0.91) is None, "nine essays cannot tell"


@pytest.mark.parametrize("coverage", [0, 1, -0.1, 1.5])
def test_a_coverage_that_is_none(coverage):
    with pytest.raises(ConfigError, match="coverage must lie between 0 and 1"):
        PromptErrors((1.0,), 1).half_width(coverage)


def test_bounds_are_the_score_points_inside():
    intervals = Intervals({"1": PromptErrors((0.4,) * 50, 50)})
    low, high = intervals.bounds("1", [3.5, 3.61, 3.0, 0.2, 9.0, 4.6], SPAN)
    assert low.tolist() == [4, 4, 3, 1, 6, 5]
    assert high.tolist() == [4, 4, 3, 1, 6, 5]
    wide = Intervals({"1": PromptErrors((1.5,) * 50, 50)})
    low, high = wide.bounds("1", [3.5, 3.6, 1.2], SPAN)
    assert (low.tolist(), high.tolist()) == ([2, 3, 1], [5, 5, 2])
    halves = ScoreRange(0, 4, 0.5)
    low, high = wide.bounds("1", [2.1], halves)
    assert (low.tolist(), high.tolist()) == ([1.0], [3.5])


def test_prompts_without_enough_dev_essays_have_none():
    intervals = Intervals({"1": PromptErrors((0.4,) * 5, 5)})
    assert intervals.bounds("2", [3.0], SPAN) is None
    assert intervals.bounds("1", [3.0], SPAN, 0.9) is None
    assert intervals.bounds("1", [3.0], SPAN, 0.8) is not None


@pytest.mark.parametrize("coverage", [0.5, 0.8, 0.9, 0.95])
def test_the_coverage_is_the_stated_one(coverage):
    """Exchangeable essays: inside at least as often as stated, and hardly more."""
    random = np.random.default_rng(0)
    inside = []
    for _ in range(300):
        human = random.choice(SPAN.points, 200)
        raw = 0.7 * human + 1 + random.normal(0, 0.8, 200)
        intervals = fit_intervals(["1"] * 100, raw[:100], human[:100])
        bounds = intervals.bounds("1", raw[100:], SPAN, coverage)
        inside.append(coverage_entry(human[100:], bounds, coverage)["measured"])
    # An interval between score points is widened to the nearer one, which only short intervals are.
    most = 0.012 if coverage > 0.7 else 0.05
    assert coverage - 0.006 < np.mean(inside) < coverage + most


@given(
    st.lists(st.tuples(st.floats(-5, 12), st.integers(1, 6)), min_size=1, max_size=60),
    st.floats(0.05, 0.95),
)
def test_the_nearest_score_point_is_inside_and_ends_are_points(pairs, coverage):
    raw, human = np.array(pairs).T
    intervals = fit_intervals(["1"] * len(raw), raw, human)
    bounds = intervals.bounds("1", raw, SPAN, coverage)
    if bounds is None:
        assert np.ceil((len(raw) + 1) * coverage - 1e-9) > len(raw)
        return
    low, high = bounds
    assert (low <= SPAN.to_point(raw)).all()
    assert (SPAN.to_point(raw) <= high).all()
    assert set(low) | set(high) <= set(SPAN.points)
    # On the essays that they were fitted on, the rank itself.
    assert coverage_entry(human, bounds)["measured"] >= coverage - 1e-9


def test_many_errors_are_thinned_without_moving_a_quantile_by_a_step():
    random = np.random.default_rng(0)
    raw, human = random.normal(0, 1, 50_000), np.zeros(50_000)
    (known,) = fit_intervals(["1"] * 50_000, raw, human).prompts.values()
    assert (len(known.errors), known.essays) == (MOST_ERRORS, 50_000)
    for coverage in (0.5, 0.9, 0.99, 0.9999):
        exact = np.sort(np.abs(raw))[int(np.ceil(50_001 * coverage)) - 1]
        assert (
            exact <= known.half_width(coverage) <= np.quantile(np.abs(raw), min(1, coverage + 1 / MOST_ERRORS)) + 1e-9
        )


def test_each_prompt_has_errors_of_its_own():
    intervals = fit_intervals(["a", "b", "a"], [1.0, 2.0, 3.0], [1.5, 5.0, 3.0])
    assert intervals.prompts == {"a": PromptErrors((0.0, 0.5), 2), "b": PromptErrors((3.0,), 1)}


def test_they_are_plain_values_and_back():
    intervals = fit_intervals(["a", "b", "a"], [1.0, 2.0, 3.0], [1.5, 5.0, 3.0])
    assert Intervals.from_dict(json.loads(json.dumps(intervals.to_dict()))) == intervals


@pytest.mark.parametrize(
    "values",
    [
        [1],
        {"a": {}},
        {"a": {"errors": [], "essays": 0}},
        {"a": {"errors": [2.0, 1.0], "essays": 2}},
        {"a": {"errors": [-1.0], "essays": 1}},
        {"a": {"errors": ["x"], "essays": 1}},
        {"a": {"errors": [float("nan")], "essays": 1}},
        {"a": {"errors": [1.0, 2.0], "essays": 1}},
    ],
)
def test_damaged_values(values):
    with pytest.raises(CheckpointError, match="Stored intervals are damaged"):
        Intervals.from_dict(values)


def test_refusals():
    with pytest.raises(DataError, match="one shape"):
        fit_intervals(["a"], [1.0, 2.0], [1.0])
    with pytest.raises(DataError, match="finite"):
        fit_intervals(["a"], [np.nan], [1.0])


def test_without_dev_essays_there_are_none():
    assert fit_intervals([], [], []) == Intervals({})


def test_without_intervals_nothing_is_measured():
    assert coverage_entry([1.0], None) == {"stated": 0.9, "measured": None, "mean_width": None}


class TestPooledIntervals:
    RANGES: ClassVar = {"1": ScoreRange(1, 5), "2": ScoreRange(0, 2), "new": ScoreRange(0, 10)}

    def test_each_prompt_counts_alike(self):
        """One with ten times the essays, and larger errors, makes intervals no wider."""
        raw = np.linspace(0, 0.4, 40)
        few = fit_pooled_intervals(self.RANGES, ["1"] * 40 + ["2"] * 40, [*raw + 1, *raw], [1] * 40 + [0] * 40)
        many = fit_pooled_intervals(
            self.RANGES, ["1"] * 40 + ["2"] * 400, [*raw + 1, *np.repeat(raw, 10)], [1] * 40 + [0] * 400
        )
        for share in (0.25, 0.5, 0.9):
            assert many.prompts["new"].half_width(share) == pytest.approx(few.prompts["new"].half_width(share))

    @pytest.mark.parametrize("small", [1, 5])
    def test_a_prompt_of_few_essays_leaves_the_others_their_quantiles(self, small):
        random = np.random.default_rng(0)
        ranges = {str(number): ScoreRange(0, 10) for number in range(8)}
        known = [name for name in ranges for _ in range(small if name == "0" else 500)]
        errors = random.normal(size=len(known))
        pooled = fit_pooled_intervals(ranges, known, errors, np.zeros(len(known))).prompts["1"]
        own = np.abs(errors[: len(known) - 3500])
        share = (
            (own <= pooled.half_width(0.9)).mean() + 7 * (np.abs(errors[-3500:]) <= pooled.half_width(0.9)).mean()
        ) / 8
        assert share == pytest.approx(0.9, abs=0.02)
        assert len(pooled.errors) == MOST_ERRORS
        assert np.isin(own / 10, np.array(pooled.errors) / 10).all()

    def test_few_essays_have_no_more_errors_than_they_are(self):
        pooled = fit_pooled_intervals(
            self.RANGES, ["1", "2", "2", "2"], raw=[3.0, 0.2, 0.4, 0.6], reference=[2, 0, 0, 0]
        )
        assert pooled.prompts["2"].errors == pytest.approx((0.4, 0.5, 0.5, 0.6))
        assert pooled.prompts["2"].essays == 4

    def test_they_are_a_share_of_each_range(self):
        intervals = fit_pooled_intervals(self.RANGES, ["1", "2"], raw=[3.0, 1.5], reference=[2, 1])
        shares = [np.array(intervals.prompts[name].errors) / (one.high - one.low) for name, one in self.RANGES.items()]
        np.testing.assert_allclose(shares, [[0.25, 0.25]] * 3)

    def test_coverage_over_prompts(self):
        """Prompts differ in how large errors are: in the mean over new ones coverage is about as stated."""
        random = np.random.default_rng(0)
        ranges = {str(number): ScoreRange(0, 10) for number in range(41)}
        errors = {name: random.gamma(4, 0.25) * random.normal(size=200) for name in ranges}
        known = [name for name in ranges for _ in range(200)][: 20 * 200]
        raw = np.concatenate([errors[name] for name in dict.fromkeys(known)])
        half = fit_pooled_intervals(ranges, known, raw, np.zeros(len(raw))).prompts["40"].half_width(0.9)
        inside = [np.mean(np.abs(errors[name]) <= half) for name in list(ranges)[20:]]
        assert np.mean(inside) == pytest.approx(0.9, abs=0.04)
        assert min(inside) < 0.85
