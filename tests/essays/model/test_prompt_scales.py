"""Statistics of the training essays, prompt by prompt or of all prompts together."""

from __future__ import annotations

import numpy as np
import pytest
from facts import facts

from aes_dynloss.errors import DataError
from aes_dynloss.essays.data.essay_table import Prompt
from aes_dynloss.essays.model.prompt_scales import measure_scales
from aes_dynloss.tables.score_range import ScoreRange

PROMPTS = [Prompt("a", ScoreRange(2, 12)), Prompt("b", ScoreRange(0, 1, 0.5))]
GROUPS = np.array([0, 1, 0, 1, 1, 0])
SCORES = np.array([2.0, 0.5, 8.0, 0.0, 0.5, 8.0])
LENGTHS = np.log1p([10.0, 20.0, 30.0, 40.0, 50.0, 60.0])


def test_against_numpy() -> None:
    scales = measure_scales(PROMPTS, GROUPS, SCORES, LENGTHS)
    assert [scale.prompt for scale in scales] == PROMPTS
    units = {0: np.array([0, 0.6, 0.6]), 1: np.array([0.5, 0, 0.5])}
    shares = {0: [1 / 3] + [0] * 5 + [2 / 3] + [0] * 4, 1: [1 / 3, 2 / 3, 0]}
    for number, scale in enumerate(scales):
        lengths = LENGTHS[np.equal(GROUPS, number)]
        assert scale.mean == pytest.approx(units[number].mean())
        assert scale.sd == pytest.approx(np.sqrt(np.mean((units[number] - units[number].mean()) ** 2)))
        assert scale.shares == pytest.approx(shares[number])
        assert scale.length_mean == pytest.approx(lengths.mean())
        assert scale.length_sd == pytest.approx(lengths.std())


@pytest.mark.parametrize("words", [7, 50, 333])
@pytest.mark.parametrize("essays", [2, 7, 11, 100])
def test_equal_lengths_are_divided_by_one(words: int, essays: int) -> None:
    """Their standard deviation in floating point is often not 0 but 1e-16, by which noise must not be divided."""
    scores = np.array([0.0, 1.0] * essays)[:essays]
    (scale,) = measure_scales(PROMPTS[1:], np.zeros(essays, dtype=int), scores, np.full(essays, np.log1p(words)))
    assert scale.length_sd == 1.0


@pytest.mark.parametrize(
    ("of_b", "found"), [([5.0, 5.0, 5.0], "only the score 5"), ([0.5], "only the score 0.5"), ([], "no essay")]
)
def test_nothing_to_learn_from(of_b: list[float], found: str) -> None:
    prompts = [Prompt("a", ScoreRange(0, 10)), Prompt("b", ScoreRange(0, 10, 0.5))]
    groups = np.array([0, 0] + [1] * len(of_b))
    with pytest.raises(DataError, match=facts("Prompt b", found, "two")):
        measure_scales(prompts, groups, np.array([2.0, 3.0, *of_b]), np.ones(len(groups)))


def test_advice_where_a_prompt_has_no_essay() -> None:
    with pytest.raises(DataError, match=r"or learn one head for all prompts with model\.prompts: shared"):
        measure_scales(PROMPTS, np.zeros(2, dtype=int), np.array([2.0, 3.0]), np.ones(2))


class TestShared:
    """One scale for all prompts, in units of each prompt's own range."""

    UNITS = np.array([0, 0.5, 0.6, 0, 0.5, 0.6])

    def test_against_numpy(self) -> None:
        scales = measure_scales(PROMPTS, GROUPS, SCORES, LENGTHS, shared=True)
        assert [scale.prompt for scale in scales] == PROMPTS
        for scale in scales:
            assert scale.mean == pytest.approx(self.UNITS.mean())
            assert scale.sd == pytest.approx(np.sqrt(np.mean((self.UNITS - self.UNITS.mean()) ** 2)))
            assert scale.length_mean == pytest.approx(LENGTHS.mean())
            assert scale.length_sd == pytest.approx(LENGTHS.std())
            assert scale.shares == pytest.approx([1 / scale.prompt.range.count] * scale.prompt.range.count)

    @pytest.mark.parametrize("place", [0, 1, 2])
    def test_a_prompt_without_essays_has_the_scale_of_the_others(self, place: int) -> None:
        """Wherever it stands among them: the groups are numbered by places."""
        unseen = Prompt("unseen", ScoreRange(10, 60, 10))
        prompts = [*PROMPTS[:place], unseen, *PROMPTS[place:]]
        groups = np.where(np.greater_equal(GROUPS, place), GROUPS + 1, GROUPS)
        scales = measure_scales(prompts, groups, SCORES, LENGTHS, shared=True)
        expected = measure_scales(PROMPTS, GROUPS, SCORES, LENGTHS, shared=True)
        assert [scale.prompt for scale in scales] == prompts
        assert scales[:place] + scales[place + 1 :] == expected
        assert len(scales[place].shares) == 6
        names = ("mean", "sd", "length_mean", "length_sd")
        assert [getattr(scales[place], name) for name in names] == [getattr(expected[0], name) for name in names]

    def test_of_one_prompt_it_is_its_own(self) -> None:
        mine = np.equal(GROUPS, 0)
        own, shared = (
            measure_scales(PROMPTS[:1], GROUPS[mine], SCORES[mine], LENGTHS[mine], shared=shared)[0]
            for shared in (False, True)
        )
        for name in ("mean", "sd", "length_mean", "length_sd"):
            assert getattr(shared, name) == pytest.approx(getattr(own, name))

    def test_a_prompt_all_of_whose_scores_are_equal(self) -> None:
        scales = measure_scales(PROMPTS, np.array([0, 0, 1]), np.array([2.0, 2.0, 1.0]), np.ones(3), shared=True)
        assert [scale.mean for scale in scales] == pytest.approx([1 / 3] * 2)
        assert scales[0].length_sd == 1.0

    def test_nothing_to_learn_from(self) -> None:
        """7 of 2 to 12 and half a point of 0 to 1 are the same on [0, 1]."""
        with pytest.raises(DataError, match="The training essays hold fewer than two different scores; at least two"):
            measure_scales(PROMPTS, np.array([0, 1]), np.array([7.0, 0.5]), np.ones(2), shared=True)
