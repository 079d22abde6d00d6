"""Fewer bits are refused where they change scores, before the first essay is handed on, and prompt by prompt."""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from aes_dynloss.errors import ConfigError
from aes_dynloss.essays.data.essay_table import Prompt
from aes_dynloss.essays.data.readers import UnscoredEssay
from aes_dynloss.essays.scoring.precision import checked_essays
from aes_dynloss.tables.score_range import ScoreRange


class Lengths:
    """Scores an essay by its length; off by one where its text says so, if it is of the worse kind."""

    def __init__(self, *, off: bool = False) -> None:
        self.off, self.seen = off, []
        self.prompts = {name: Prompt(name, ScoreRange(1, 6)) for name in "ab"}

    def score(self, texts: Sequence[str], prompt_ids: Sequence[str], **_: Any) -> Any:
        self.seen += texts
        return SimpleNamespace(score=np.array([len(text) + (self.off and "off" in text) for text in texts]))


def essays(texts: Sequence[str], prompt: str = "a") -> list[UnscoredEssay]:
    return [UnscoredEssay(str(number), prompt, text) for number, text in enumerate(texts)]


def checked(given: Sequence[UnscoredEssay], **named: Any) -> tuple[list[UnscoredEssay], list[str]]:
    full, reduced = Lengths(), Lengths(off=True)
    found = list(checked_essays(full, reduced, "bf16", given, **named))
    assert full.seen == reduced.seen
    return found, full.seen


def test_equal_scores_let_all_essays_through_in_their_order() -> None:
    given = essays([f"text {number}" for number in range(70)])
    found, seen = checked(given, checked=20)
    assert found == given
    assert seen == [essay.text for essay in given[:20]]


def test_one_in_two_hundred_is_allowed() -> None:
    given = essays(["off", *["well"] * 199])
    assert checked(given, checked=200)[0] == given
    assert checked([], checked=200)[0] == []


@pytest.mark.parametrize(("off", "of"), [(1, 1), (1, 5), (1, 199), (2, 20), (19, 199)])
def test_of_a_small_table_a_few_are_allowed(off: int, of: int) -> None:
    """As each part of a folder is judged by itself, one essay would end the scoring of all."""
    given = essays(["off"] * off + ["well"] * (of - off))
    assert checked(given)[0] == given


@pytest.mark.parametrize(("off", "of"), [(2, 2), (2, 19), (20, 199)])
def test_of_a_small_table_more_than_one_in_ten_is_refused(off: int, of: int) -> None:
    with pytest.raises(ConfigError, match=f"^In bf16 {off} of the first {of} essays get .*; at least 90.0% must be eq"):
        checked(essays(["off"] * off + ["well"] * (of - off)))


def test_more_is_refused_before_the_first_essay() -> None:
    given = essays(["off", "off", *["well"] * 198])
    stream = checked_essays(Lengths(), Lengths(off=True), "bf16", given, checked=200)
    with pytest.raises(ConfigError) as caught:
        next(stream)
    assert str(caught.value) == (
        "In bf16 2 of the first 200 essays get another score than in float32; at least 99.5% must be equal. Leave "
        "--precision out."
    )


def test_a_prompt_that_comes_later_is_checked_too() -> None:
    given = [*essays(["well"] * 60), *essays(["off"] * 5, "b"), *essays(["off"] * 50)]
    handed_on: list[UnscoredEssay] = []
    with pytest.raises(ConfigError, match="In bf16 5 of the first 25 essays"):
        handed_on.extend(checked_essays(Lengths(), Lengths(off=True), "bf16", given, checked=20))
    assert handed_on == given[:60]
    assert checked(given[:60] + given[65:], checked=20)[0] == given[:60] + given[65:]  # no more of prompt a


def mixed(off: int, of: int, others: int) -> list[UnscoredEssay]:
    return [*essays(["well"] * others), *essays(["off"] * off + ["well"] * (of - off), "b")]


def test_one_prompt_of_200_essays_or_more_is_judged_by_itself() -> None:
    assert checked(mixed(1, 200, 400), checked=400)[0]
    assert checked(mixed(2, 199, 400), checked=400)[0]
    with pytest.raises(ConfigError) as caught:
        checked(mixed(2, 200, 400), checked=400)
    assert str(caught.value) == (
        "In bf16 2 of the first 200 essays of prompt b get another score than in float32; at least 99.5% must be "
        "equal. Leave --precision out."
    )


def test_essays_of_a_prompt_count_over_windows() -> None:
    well = essays(["well"] * 399)
    first = [*well, *essays(["off", "off", *["well"] * 99], "b")]
    given = [*first, *well, *essays(["well"] * 98, "b")]
    assert checked(given, checked=500)[0] == given
    with pytest.raises(ConfigError, match="2 of the first 200 essays of prompt b get"):
        checked([*given, *essays(["well"], "b")], checked=500)
