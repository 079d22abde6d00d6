"""What is measured on essays, one measure at a time."""

from __future__ import annotations

import numpy as np
import pytest
from small_screen import made_up_essays, small_screen

from aes_dynloss.essays.screening import content as topics_module
from aes_dynloss.essays.screening.content import learn_runs, learn_topics, repeated
from aes_dynloss.essays.screening.language import learn_pairs
from aes_dynloss.essays.screening.training_statistics import CHUNK, Essays, hash_essays, hash_words


def one_prompt(texts: list[str]) -> Essays:
    return Essays(hash_essays(texts), np.zeros(len(texts), dtype=np.int64), 1)


def test_chunks_are_as_one() -> None:
    texts = ["", "one two", "", *[f"a{'b' * (number % 7)} c" for number in range(2 * CHUNK)], ""]
    chunked, whole = hash_essays(texts), hash_words(texts)
    np.testing.assert_array_equal(chunked.words, whole.words)
    np.testing.assert_array_equal(chunked.essays, whole.essays)
    np.testing.assert_array_equal(chunked.counts, whole.counts)


def test_common_words_side_by_side_by_chance_are_not_known() -> None:
    generator = np.random.default_rng(0)
    fillers = [f"{first}{second}" for first in "bcdfghjklm" for second in "aeioukxzvw"]
    texts = [
        "the cat "
        + " ".join(
            f"{word} {other}" for word, other in zip(generator.choice(fillers, 20), ["on", "of"] * 10, strict=True)
        )
        for _ in range(60)
    ]
    pairs, _ = learn_pairs(one_prompt([*(f"{text} of on" for text in texts[:3]), *texts[3:]]))
    _, told = pairs.known(hash_words(["the cat", "of on", "the dog"]))
    assert told.tolist() == [1, 0, 0]


def test_common_words_of_long_essays_go_together() -> None:
    """By chance alone each essay would hold them side by side."""
    pairs, _ = learn_pairs(one_prompt(["of the cat " * 300] * 40))
    assert pairs.average == 1


def test_repetition_is_within_an_essay() -> None:
    essay = "one two three four five six seven eight nine ten"
    _, told = repeated(hash_words([essay, essay, f"{essay} and {essay}", "", "one"]))
    np.testing.assert_allclose(told, [0, 0, 14 / 18, 0, 0])


def test_fit_is_above_0_on_topic_below_off_it_and_none_elsewhere() -> None:
    texts, prompts = made_up_essays(20, seed=4)
    places = np.array([small_screen().prompts.index(prompt) for prompt in prompts])
    topics, words = small_screen().topics, hash_words([text.lower() for text in texts])
    assert (topics.fit(words, places) > 0.5).all()
    assert (topics.fit(words, 1 - places) < 0.5).all()
    assert np.isnan(topics.fit(words, np.full(len(texts), 2))).all()


def test_topics_of_few_essays_are_held_more_loosely(monkeypatch: pytest.MonkeyPatch) -> None:
    texts, _ = made_up_essays(500)
    loose = [learn_topics(one_prompt(texts[:count]))[1][0] for count in (29, 40, 500)]
    monkeypatch.setattr(topics_module, "_ALLOWANCE", 0)
    plain = [learn_topics(one_prompt(texts[:count]))[1][0] for count in (29, 40, 500)]
    assert np.isnan([loose[0], plain[0]]).all()
    assert loose[1] < plain[1]
    assert loose[2] == plain[2]


def test_where_many_copy_the_wording_the_threshold_allows_it() -> None:
    """Four of forty essays are the wording: too few to learn it from, enough not to be beyond the threshold."""
    wording = " ".join(f"{first}{second}" for first in "abcdefghij" for second in "klmno")
    texts = [*made_up_essays(36)[0][:36], *[wording] * 4]
    _, copied = learn_runs(one_prompt(texts), ["a"], {"a": wording})
    _, unknown = learn_runs(one_prompt(texts), ["a"], {})
    assert unknown.tolist() == [0.5, 0.5]
    assert (copied > 0.6).all()
