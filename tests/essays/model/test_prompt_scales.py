"""Statistics of the training essays, prompt by prompt."""

from __future__ import annotations

import numpy as np
import pytest

from aes_dynloss.errors import DataError
from aes_dynloss.essays.data.essay_table import Prompt
from aes_dynloss.essays.model.prompt_scales import measure_scales
from aes_dynloss.evaluation.score_range import ScoreRange

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
    with pytest.raises(DataError, match=rf"Prompt b: its training essays hold {found}; at least two different scores"):
        measure_scales(prompts, groups, np.array([2.0, 3.0, *of_b]), np.ones(len(groups)))
