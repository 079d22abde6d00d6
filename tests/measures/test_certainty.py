from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import expit, logit

from aes_dynloss.errors import CheckpointError, ConfigError
from aes_dynloss.measures.intervals import Certainty, PromptErrors, equal_points, fit_certainty, same_score_probability
from aes_dynloss.tables.score_range import ScoreRange

FOUR = ScoreRange(1, 4)


class TestChance:
    def test_by_hand(self):
        """Of errors .1, .3, .6 and 1, taken up and down, which lead from 2.2 to a human score that rounds to 2?"""
        known = PromptErrors((0.1, 0.3, 0.6, 1.0), 4)
        # 1.5 <= 2.2 + e < 2.5: e from -.7 to .3, which holds -.6, -.3, -.1, .1 of the eight.
        assert same_score_probability(known, [2.2], [2.0], FOUR) == pytest.approx([4 / 8])

    def test_the_ends_are_open(self):
        known = PromptErrors((0.1, 0.3, 0.6, 1.0), 4)
        # 4 takes all above 3.5: e >= -.7 from 4.2, all but -1.
        assert same_score_probability(known, [4.2], [4.0], FOUR) == pytest.approx([7 / 8])
        assert same_score_probability(known, [0.8], [1.0], FOUR) == pytest.approx([7 / 8])

    @given(
        errors=st.lists(st.integers(1, 400).map(lambda one: one / 97), min_size=1, max_size=30),
        raw=st.integers(-300, 900).map(lambda one: one / 101),
    )
    def test_the_chances_of_all_points_sum_to_one_and_the_nearest_is_likeliest(self, errors, raw):
        known = PromptErrors(tuple(sorted(errors)), len(errors))
        chances = [float(same_score_probability(known, [raw], [point], FOUR)[0]) for point in FOUR.points]
        assert sum(chances) == pytest.approx(1)
        assert min(chances) >= 0

    def test_it_is_calibrated_on_the_essays_it_comes_from(self):
        generator = np.random.default_rng(0)
        raw = generator.uniform(1, 4, 4000)
        human = FOUR.to_point(raw + generator.normal(0, 0.5, 4000))
        known = PromptErrors(tuple(np.sort(np.abs(raw - human)).tolist()), 4000)
        score = FOUR.to_point(raw)
        chance = same_score_probability(known, raw, score, FOUR)
        assert chance.mean() == pytest.approx((human == score).mean(), abs=0.06)
        sure = chance > np.median(chance)
        assert (human == score)[sure].mean() > (human == score)[~sure].mean() + 0.05


@pytest.mark.parametrize("step", [0.1, 0.2, 0.5, 1.0])
def test_scores_are_equal_whatever_floats_make_of_them(step):
    """0 + 3 * .1 is not .3."""
    span = ScoreRange(0, 20 * step, step)
    read = np.array([float(f"{point:.12g}") for point in span.points])
    names = ["1"] * len(read)
    assert equal_points({"1": span}, names, span.points, read).all()
    assert not equal_points({"1": span}, names[1:], span.points[1:], read[:-1]).any()


class TestCertainty:
    @pytest.mark.parametrize("factor", [0.5, 1.0, 2.0])
    def test_its_mean_on_dev_is_the_share_of_equal_scores_and_its_order_stays(self, factor):
        generator = np.random.default_rng(2)
        true = generator.uniform(0.3, 0.9, 20_000)
        same = generator.random(20_000) < true
        told = expit(logit(true) * factor - 0.7)  # by a judge too sure, or not sure enough, and too modest
        found = fit_certainty(["1"] * 20_000, told, same)
        certainty = found.of(["1"] * 20_000, told)
        assert certainty.mean() == pytest.approx(same.mean(), abs=1e-6)
        assert (np.argsort(certainty, kind="stable") == np.argsort(told, kind="stable")).all()
        if factor == 1:
            assert np.abs(certainty - true).max() < 0.02

    def test_by_hand(self):
        """One of four essays has the human's score, all were called as likely as not: the odds become one to three."""
        found = fit_certainty(["1"] * 4, [0.5] * 4, [True, False, False, False])
        assert found.prompts["1"].shift == pytest.approx(-np.log(3))
        assert found.of(["1", "2", "1"], [0.5, 0.5, np.nan]) == pytest.approx([0.25, 0.5, np.nan], nan_ok=True)

    @pytest.mark.parametrize("same", [[True] * 3, [False] * 3])
    @pytest.mark.parametrize("told", [[0.0] * 3, [1.0] * 3, [0.2, 0.5, 0.9]])
    def test_few_essays_make_nobody_certain(self, same, told):
        found = fit_certainty(["1"] * 3, told, same)
        assert found.of(["1"] * 3, told).mean() == pytest.approx(5 / 6 if same[0] else 1 / 6)

    def test_the_least_certain_share_lies_below(self):
        generator = np.random.default_rng(1)
        values = generator.uniform(0.2, 0.9, 1000)
        found = fit_certainty(["1"] * 1000, values, generator.random(1000) < 0.4)
        certainty = found.of(["1"] * 1000, values)
        for share in (0.05, 0.2, 0.5):
            assert (certainty < found.unsure_below("1", share)).mean() == pytest.approx(share, abs=0.01)
        assert found.unsure_below("2", 0.1) is None
        with pytest.raises(ConfigError, match="share of uncertain essays"):
            found.unsure_below("1", 1.5)

    def test_where_many_are_least_certain_they_all_lie_below(self):
        chance = [0.2] * 30 + [0.6] * 70
        found = fit_certainty(["1"] * 100, chance, [True, False] * 50)
        border = found.unsure_below("1", 0.1)
        assert (found.of(["1"] * 100, chance) < border).sum() == 30
        assert (found.of(["1"] * 100, chance) < found.unsure_below("1", 0)).sum() == 0
        alike = fit_certainty(["1"] * 100, [0.4] * 100, [True, False] * 50)
        assert (alike.of(["1"] * 100, [0.4] * 100) < alike.unsure_below("1", 0.1)).sum() == 0

    def test_it_comes_back_from_json(self):
        found = fit_certainty(["1", "1", "2"], [0.2, 0.4, np.nan], [True, False, True])
        assert list(found.prompts) == ["1"]
        assert Certainty.from_dict(json.loads(json.dumps(found.to_dict()))) == found

    def test_an_earlier_form_is_as_if_nothing_were_known(self):
        assert Certainty.from_dict({"1": [0.5] * 201}) == Certainty({})

    @pytest.mark.parametrize(
        "damaged",
        [
            {"1": {"shift": 0, "quantiles": [0.5]}},
            {"1": {"shift": 0, "quantiles": [2.0] * 201}},
            {"1": {"shift": 0, "quantiles": list(range(201))[::-1]}},
            {"1": {"shift": float("nan"), "quantiles": [0.5] * 201}},
            {"1": {"quantiles": [0.5] * 201}},
            {"1": 5},
            [],
        ],
    )
    def test_damage_is_refused(self, damaged):
        with pytest.raises(CheckpointError, match="Stored certainties are damaged"):
            Certainty.from_dict(damaged)
