"""Prompts whose intervals stay blank are told once, and no others."""

from __future__ import annotations

import logging

import pytest
from tiny_encoder import write_tiny_encoder
from tiny_scorer import tiny_scorer

from aes_dynloss.essays.data.readers import UnscoredEssay
from aes_dynloss.essays.scoring.score import score_essays
from aes_dynloss.measures.intervals import Intervals, PromptErrors

ESSAYS = [UnscoredEssay(str(number), ("letter", "notice")[number % 2], "An otter") for number in range(8)]


@pytest.fixture(scope="module")
def scorer(tmp_path_factory):
    return tiny_scorer(write_tiny_encoder(tmp_path_factory.mktemp("blank") / "encoder"))


@pytest.fixture
def told(scorer, caplog):
    """Scores with so many dev essays a prompt, a small window after the other; what the log says of it."""

    def score(dev: dict[str, int], coverage: float | None, **more: bool) -> list[str]:
        scorer.intervals = Intervals({prompt: PromptErrors((0.1,) * n, n) for prompt, n in dev.items()})
        with caplog.at_level(logging.WARNING):
            caplog.clear()
            windows = list(score_essays(scorer, ESSAYS, coverage=coverage, window=3, progress=None, **more))
        assert sum(map(len, windows)) == len(ESSAYS)
        return caplog.messages

    return score


def test_once_a_prompt_with_the_most_that_dev_tells(told):
    assert told({"letter": 60, "notice": 5000}, 0.999) == [
        "Prompt letter: 60 dev essays tell intervals for a coverage of up to 0.983; low and high stay blank at 0.999."
    ]
    assert told({"letter": 60, "notice": 5000}, 0.9999) == [
        "Prompt letter: 60 dev essays tell intervals for a coverage of up to 0.983; low and high stay blank at 0.9999.",
        "Prompt notice: 5000 dev essays tell intervals for a coverage of up to 0.9998; low and high stay blank at "
        "0.9999.",
    ]


@pytest.mark.parametrize(
    ("essays", "most"), [(1, "0.5"), (2, "0.66"), (9, "0.9"), (10, "0.909"), (60, "0.983"), (999, "0.999")]
)
def test_what_is_told_is_true(told, essays, most):
    (words,) = told({"letter": essays, "notice": 99_999}, 0.9999)
    assert f"up to {most};" in words
    assert words.startswith(
        "Prompt letter: 1 dev essay tells" if essays == 1 else f"Prompt letter: {essays} dev essays"
    )
    assert told({"letter": essays, "notice": 99_999}, float(most)) == []


def test_a_prompt_without_dev_essays(told):
    assert told({"letter": 60}, 0.9) == ["Prompt notice: no dev essay tells intervals; low and high stay blank."]


def test_no_word_where_none_is_wanted(told):
    assert told({}, 0.9) == []
    assert told({"letter": 1}, None) == []
    assert told({"letter": 1, "notice": 1}, 0.9, warn=False) == []
