"""Essays that were there before are found in constant memory."""

from __future__ import annotations

import numpy as np
import pytest

from aes_dynloss.errors import ConfigError
from aes_dynloss.essays.screening.duplicates import DuplicateFinder

ESSAY = "An essay of more than eight words, which someone hands in twice."


def rows(finder: DuplicateFinder, texts: list[str]) -> list[float | None]:
    names = [str(number) for number in range(len(texts))]
    return [None if found is None else found.value for found in finder.find(texts, names, ["p"] * len(texts))]


def reason(finder: DuplicateFinder, text: str, essay_id: str, prompt_id: str) -> str | None:
    (found,) = finder.find([text], [essay_id], [prompt_id])
    return None if found is None else found.reason


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


def test_a_reason_names_the_earlier_essay_by_its_id_and_prompt() -> None:
    finder = DuplicateFinder()
    uuid = "123e4567-e89b-12d3-a456-426614174000"
    assert reason(finder, f"{ESSAY} It is 1984.", uuid, "phones") is None
    assert reason(finder, f"{ESSAY} More.", "Zoë 7", "bridge") is None
    assert reason(finder, f"{ESSAY.upper()} IT IS 2024!", "9", "bridge") == (
        f"It is the same text as essay {uuid} of prompt phones, earlier in this input, but for case, spaces, "
        "punctuation and digits."
    )
    assert "as essay Zoë 7 of prompt bridge, earlier" in (reason(finder, f"{ESSAY} More.", "9", "phones") or "")
    assert "as essay Zoë 7 of prompt bridge, earlier" in (reason(finder, f"{ESSAY} More.", "Zoë 7", "phones") or "")


@pytest.mark.parametrize("essay_id", ["é" * 18 + "x", "x\0", ""])
def test_an_essay_whose_id_is_not_remembered_is_named_by_its_number(essay_id: str) -> None:
    finder = DuplicateFinder()
    finder.find(["Others come before."] * 3, ["1", "2", "3"], ["p"] * 3)
    assert reason(finder, ESSAY, essay_id, "p") is None
    assert "the same text as the 4th essay of this input, but for" in (reason(finder, ESSAY, "5", "p") or "")


@pytest.mark.parametrize(
    ("row", "words"),
    [(1, "1st"), (2, "2nd"), (3, "3rd"), (4, "4th"), (11, "11th"), (112, "112th"), (121, "121st"), (1002, "1,002nd")],
)
def test_an_essay_of_the_same_id_and_prompt_is_named_by_its_number(row: int, words: str) -> None:
    finder = DuplicateFinder()
    finder.seen = row - 1
    assert reason(finder, ESSAY, "7", "p") is None
    assert f"as the {words} essay of this input," in (reason(finder, ESSAY, "7", "p") or "")


def test_a_million_essays_cost_no_more_than_60_megabytes() -> None:
    assert DuplicateFinder().nbytes < 60e6
