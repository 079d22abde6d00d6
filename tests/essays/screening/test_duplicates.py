"""Essays that were there before are found in constant memory."""

from __future__ import annotations

import numpy as np
import pytest

from aes_dynloss.errors import ConfigError
from aes_dynloss.essays.screening.duplicates import DuplicateFinder

ESSAY = "An essay of more than eight words, which someone hands in twice."


def rows(finder: DuplicateFinder, texts: list[str]) -> list[float | None]:
    return [None if found is None else found.value for found in finder.find(texts)]


def test_the_same_words_are_found_within_and_across_batches() -> None:
    finder = DuplicateFinder()
    assert rows(finder, [ESSAY, "Short.", ESSAY.upper(), "Short."]) == [None, None, 1, None]
    assert rows(finder, [ESSAY.replace(" ", "\n "), ESSAY.replace(",", ""), f"{ESSAY} More."]) == [1, 1, None]
    assert finder.seen == 7


def test_the_order_of_words_counts() -> None:
    assert rows(DuplicateFinder(), [ESSAY, " ".join(reversed(ESSAY.split()))]) == [None, None]


def test_memory_is_constant_and_the_latest_are_remembered() -> None:
    finder = DuplicateFinder(64)
    before = finder.nbytes
    essays = [
        f"{ESSAY} {'abcdefghijklmnopqrstuvwxyz'[number % 26]} {'abcdefghij' * (number // 26 + 1)}"
        for number in range(500)
    ]
    assert rows(finder, essays) == [None] * 500
    assert finder.nbytes == before
    assert rows(finder, essays[-4:]) == [497, 498, 499, 500]
    assert rows(finder, essays[:1]) == [None]


def test_beyond_what_is_hashed_of_it_a_text_counts_too() -> None:
    long = "word " * 250_000
    assert rows(DuplicateFinder(), [long + "one", long + "two", long + "one"]) == [None, None, 1]


@pytest.mark.parametrize("remembered", [0, 8, 65, 100, -64])
def test_odd_sizes_are_refused(remembered: int) -> None:
    with pytest.raises(ConfigError, match=rf"power of 2 from 64 on, found {remembered}\."):
        DuplicateFinder(remembered)


def test_rows_of_many_essays_are_theirs() -> None:
    generator = np.random.default_rng(0)
    letters = np.array(list("abcdefghijklmnopqrstuvwxyz"))
    essays = [" ".join("".join(generator.choice(letters, 5)) for _ in range(12)) for _ in range(1000)]
    finder = DuplicateFinder(4096)
    assert rows(finder, essays) == [None] * 1000
    assert rows(finder, essays) == list(range(1, 1001))
