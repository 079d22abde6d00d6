"""Thresholds that a small share of essays is beyond, and what follows from kinds."""

from __future__ import annotations

import numpy as np
import pytest

from aes_dynloss.errors import ConfigError, DataError
from aes_dynloss.essays.screening.kinds import KINDS, Policy, advisory
from aes_dynloss.essays.screening.training_statistics import learn_distance_threshold, tail_threshold


@pytest.mark.parametrize("side", ["low", "high"])
@pytest.mark.parametrize("count", [200, 5000])
def test_about_the_share_lies_beyond(side: str, count: int) -> None:
    generator = np.random.default_rng(0)
    sign = 1 if side == "high" else -1
    beyond = []
    for _ in range(40):
        threshold = tail_threshold(sign * generator.exponential(size=count), side)
        beyond.append(np.exp(-sign * threshold))
    assert 0.001 < np.mean(beyond) < 0.006


def test_a_handful_of_nonsense_moves_it_little() -> None:
    values = np.random.default_rng(0).normal(1, 0.1, 1000)
    spoilt = np.concatenate([values, np.zeros(4)])
    assert tail_threshold(spoilt, "low") > tail_threshold(values, "low") - 0.1


def test_what_cannot_be_a_threshold_is_refused() -> None:
    for values in ([], [np.nan], [[1.0]]):
        with pytest.raises(DataError, match="finite values of at least one essay"):
            tail_threshold(values, "low")


def test_distances() -> None:
    distances = np.linspace(0, 1, 101)
    assert learn_distance_threshold(distances) == tail_threshold(distances, "high")


@pytest.mark.parametrize("kind", KINDS)
def test_each_kind_has_a_reason_and_a_policy(kind: str) -> None:
    found = advisory(kind, 0.5, 0.25)
    assert "{" not in found.reason
    assert Policy().withholds([found]) == (KINDS[kind].default == "withhold")
    off = Policy.from_words([f"{kind}=off"])
    assert not off.withholds([found])
    assert off.active([found]) == ()
    assert Policy.from_words([f"{kind}=advise"]).active([found]) == (found,)


@pytest.mark.parametrize("word", ["off_topc=off", "off_topic=never", "off_topic"])
def test_other_words_are_refused(word: str) -> None:
    with pytest.raises(ConfigError):
        Policy.from_words([word])


@pytest.mark.parametrize("word", ["off_topic", "=off", " =off"])
def test_a_word_of_another_form_is_told_the_form(word: str) -> None:
    with pytest.raises(ConfigError, match=f"^Policy '{word}': expected KIND=ACTION, such as off_topic=advise.$"):
        Policy.from_words([word])


def test_the_last_word_on_a_kind_counts() -> None:
    assert Policy.from_words(["empty=off", " empty = advise "]).empty == "advise"
