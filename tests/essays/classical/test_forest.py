"""A forest on words as arrays: what scikit-learn predicts, without it, and what is damaged."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.ensemble import RandomForestRegressor

from aes_dynloss.errors import CheckpointError
from aes_dynloss.essays.classical.boosting import BoostedTrees
from aes_dynloss.essays.classical.forest import WordForest, word_keys

WORDS = ["vinegar", "water", "rinse", "dry", "mass", "container", "sample", "time", "not", "how"]


def answers(count: int = 120, seed: int = 0) -> tuple[list[str], np.ndarray, np.ndarray]:
    """Answers, two numbers of each, and scores that hang on two words together."""
    random = np.random.default_rng(seed)
    texts = [" ".join(random.choice(WORDS, 6)) for _ in range(count)]
    numbers = random.normal(size=(count, 2))
    scores = [1.0 * ("rinse" in text and "water" in text) + 0.5 * ("not" in text) for text in texts]
    return texts, numbers, np.array(scores) + 0.1 * (numbers[:, 0] > 0)


def test_words_are_read_whatever_their_case_and_marks():
    assert word_keys("Don\u2019t RINSE it!").tolist() == word_keys("don't\nrinse,   it").tolist()
    assert len(word_keys("")) == len(word_keys("?!")) == 0
    assert len(set(word_keys("vinegar").tolist()) & set(word_keys("vinigar").tolist())) >= 6  # parts of a misspelt word
    both = set(word_keys("rinse water").tolist())
    assert both > set(word_keys("rinse").tolist()) | set(word_keys("water").tolist())
    assert not both >= set(word_keys("water rinse").tolist())  # the pair is another


def test_the_arrays_predict_what_scikit_learn_does():
    values = np.random.default_rng(0).normal(size=(80, 4)).astype(np.float32)
    targets = values[:, 0] + (values[:, 1] > 0)
    model = RandomForestRegressor(20, random_state=1).fit(values, targets)
    trees = BoostedTrees.of_forest([tree.tree_ for tree in model.estimators_], 4)
    new = np.concatenate([values[:30], np.random.default_rng(1).normal(size=(30, 4)).astype(np.float32)])
    np.testing.assert_allclose(trees.predict(new.astype(np.float64)), model.predict(new), atol=1e-9)


def test_a_kept_forest_is_the_same():
    texts, numbers, scores = answers()
    forest, _ = WordForest.fit(texts, numbers, scores)
    again = WordForest.from_arrays(forest.to_arrays())
    new = [*answers(seed=1)[0][:20], "", "words that nobody wrote"]
    assert again.predict(new, numbers[:22]).tolist() == forest.predict(new, numbers[:22]).tolist()
    assert (again.width, forest.trees.width) == (2, len(forest.keys) + 2)


def test_scores_that_hang_on_two_words_are_learned_and_noise_is_not():
    texts, numbers, scores = answers(400)
    forest, left_out = WordForest.fit(texts, numbers, scores)
    new, their_numbers, expected = answers(200, seed=5)
    assert np.corrcoef(left_out, scores)[0, 1] > 0.8
    assert np.corrcoef(forest.predict(new, their_numbers), expected)[0, 1] > 0.8
    noise = np.random.default_rng(3).normal(size=400)
    forest, left_out = WordForest.fit(texts, numbers, noise)
    assert np.corrcoef(forest.predict(texts, numbers), noise)[0, 1] > 0.8
    assert abs(np.corrcoef(left_out, noise)[0, 1]) < 0.25


def test_weights_count_by_their_ratios():
    texts, numbers, scores = answers(60)
    weights = np.where(scores > 1, 5.0, 1.0)
    plain, one, other = (WordForest.fit(texts, numbers, scores, own)[1] for own in (None, weights, 3 * weights))
    np.testing.assert_allclose(one, other)
    assert one.mean() > plain.mean()


def test_with_weights_answers_are_predicted_by_trees_that_saw_none_of_their_group():
    """Another score of one answer changes what is predicted of other groups alone."""
    texts, numbers, scores = answers(60)
    groups = [f"w{number % 7}" for number in range(60)]
    changed = scores + 50 * (np.arange(60) == 3)
    before, after = (WordForest.fit(texts, numbers, one, np.ones(60), groups)[1] for one in (scores, changed))
    same = before == after
    assert same[[group == "w3" for group in groups]].all()
    assert not same[[group == "w4" for group in groups]].any()


@pytest.mark.parametrize("fault", ["order", "type", "width"])
def test_damaged_arrays_are_refused(fault):
    arrays = WordForest.fit(*answers())[0].to_arrays()
    keys = arrays["keys"]
    arrays["keys"] = {
        "order": keys[::-1],
        "type": keys.astype(np.int64),
        "width": np.arange(9_999, dtype=np.uint64),
    }[fault]
    with pytest.raises(CheckpointError, match="do not fit together"):
        WordForest.from_arrays(arrays)
