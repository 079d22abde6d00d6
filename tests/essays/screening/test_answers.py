"""Short answers: what is no fault in one, and what remains of a policy that somebody chose."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from small_screen import WORDINGS, made_up, made_up_essays, small_screen

from aes_dynloss.essays.screening.kinds import KINDS, OF_ANSWERS, Policy, advisory
from aes_dynloss.essays.screening.screen import Screen

SHORT = "The school is what the people think of."


@pytest.fixture(scope="module")
def of_answers() -> Screen:
    return replace(small_screen(), texts="answers")


def test_a_screen_knows_what_its_texts_are(of_answers):
    texts, prompts = made_up_essays(40, seed=3)
    learned = Screen.fit(texts, prompts, WORDINGS, "answers")
    assert (learned.texts, Screen.from_arrays(learned.to_arrays()).texts) == ("answers", "answers")
    assert Screen.from_arrays(small_screen().to_arrays()).texts == "essays"


def test_reasons_speak_of_answers(of_answers):
    (found,) = of_answers.examine([SHORT], ["phones"])[0]
    assert found.reason.startswith("It has 8 words. Nearly all answers that the model learned from have ")
    for kind in KINDS:
        assert "essay" not in advisory(kind, 1.0, 2.0, texts="answers").reason


def test_what_is_no_fault_in_an_answer_keeps_its_score(of_answers):
    texts = [SHORT, " ".join([made_up("phones", np.random.default_rng(1), 30)] * 4)]
    found = of_answers.examine(texts, ["phones"] * 2)
    assert {one.kind for own in found for one in own} >= {"too_short", "repetition"}
    plain, answers = Policy(), Policy().of("answers")
    assert [plain.withholds(own) for own in found] == [False, True]
    assert [answers.withholds(own) for own in found] == [False, False]
    assert answers.active(found[0]) == ()


def test_what_somebody_chose_stays():
    chosen = dict.fromkeys(OF_ANSWERS, "withhold")
    policy = Policy.from_words([f"{kind}={action}" for kind, action in chosen.items()]).of("answers")
    assert policy.model_dump() == Policy().model_dump() | chosen
    assert Policy().of("essays") == Policy()
    assert Policy().of("answers").empty == "withhold"
