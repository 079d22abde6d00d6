"""Boosted trees as arrays: what scikit-learn predicts, without it."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.ensemble import HistGradientBoostingRegressor

from aes_dynloss.errors import CheckpointError
from aes_dynloss.essays.classical.boosting import _SETTINGS, BoostedTrees
from aes_dynloss.essays.classical.left_out import PARTS


def numbers(count: int = 120, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    values = random.normal(size=(count, 6))
    return values, values[:, 0] + np.where(values[:, 1] > 0, 2.0, 0.0) + random.normal(0, 0.1, count)


def test_the_arrays_predict_what_scikit_learn_does():
    values, targets = numbers()
    weights = np.linspace(0.5, 2, len(targets))
    model = HistGradientBoostingRegressor(min_samples_leaf=12, **_SETTINGS).fit(
        values, targets, sample_weight=weights / weights.mean()
    )
    new = np.concatenate([numbers(seed=1)[0], values[:20], 100 * values[:20]])  # thresholds met exactly, and far away
    trees = BoostedTrees.fit(values, targets, weights)
    np.testing.assert_allclose(trees.predict(new), model.predict(new), atol=1e-9)
    again = BoostedTrees.from_arrays(trees.to_arrays())
    assert again.predict(new).tolist() == trees.predict(new).tolist()


def test_nothing_is_drawn_by_chance():
    one, other = (BoostedTrees.fit(*numbers()).predict(numbers(seed=2)[0]) for _ in range(2))
    assert one.tolist() == other.tolist()


def test_essays_are_predicted_by_trees_that_did_not_see_them():
    """Noise that nothing explains is fitted by the trees that saw it, and by no others."""
    values, _ = numbers(200)
    noise = np.random.default_rng(3).normal(size=200)
    left_out = BoostedTrees.cross_fitted(values, noise)
    assert np.corrcoef(BoostedTrees.fit(values, noise).predict(values), noise)[0, 1] > 0.8
    assert abs(np.corrcoef(left_out, noise)[0, 1]) < 0.25
    part = np.arange(200) % PARTS == 2
    trees = BoostedTrees.fit(values[~part], noise[~part])
    np.testing.assert_array_equal(left_out[part], trees.predict(values[part]))


def test_essays_are_predicted_by_trees_that_saw_no_essay_of_their_group():
    """Another score of one essay changes what is predicted of other groups alone."""
    values, targets = numbers()
    groups = [None if number % 10 == 0 else f"w{number % 7}" for number in range(len(targets))]
    changed = targets + 50 * (np.arange(len(targets)) == 3)
    before, after = (BoostedTrees.cross_fitted(values, one, groups=groups) for one in (targets, changed))
    same = before == after
    assert same[[group == "w3" for group in groups]].all()
    assert not same[[group == "w4" for group in groups]].any()


@pytest.mark.parametrize(
    ("name", "index", "value"),
    [
        ("left", (0, 0), 99),
        ("right", (0, 0), -1),
        ("feature", (0, 0), 6),
        ("value", (0, 1), np.inf),
        ("left", (0, 2), 1),
    ],
)
def test_damaged_arrays_are_refused(name, index, value):
    arrays = BoostedTrees.fit(*numbers()).to_arrays()
    arrays[name] = arrays[name].copy()
    arrays[name][index] = value
    with pytest.raises(CheckpointError, match="do not fit together"):
        BoostedTrees.from_arrays(arrays)
