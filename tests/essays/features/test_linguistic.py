"""Linguistic features by hand on small texts, and their list."""

import math
import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aes_dynloss.essays.features import linguistic
from aes_dynloss.essays.features.linguistic import FEATURES, GROUPS, feature_names, linguistic_features, mtld
from aes_dynloss.essays.features.word_lists import CONNECTIVES, FUNCTION_CLASSES, FUNCTION_WORDS

TEXT = (
    'Computers help, however they dont allways. "I think so!" said @CAPS1; for example my freind (aged 12).\n\nThe end'
)


def of(text: str, prompt: str | None = None) -> dict[str, float]:
    return dict(zip(feature_names(GROUPS), linguistic_features([text], [prompt])[0].tolist(), strict=True))


def test_the_list_names_every_column_once():
    names = [feature.name for feature in FEATURES]
    assert len(set(names)) == len(names) == linguistic_features([TEXT], [None]).shape[1]
    assert names == feature_names(GROUPS)
    assert {feature.group for feature in FEATURES} == set(GROUPS)
    assert all(feature.unit and feature.language in {"any", "en"} for feature in FEATURES)


def test_groups_are_columns_of_the_whole_in_its_order():
    whole = of(TEXT)
    for groups in (["lengths"], ["overlap", "counts"]):
        row = linguistic_features([TEXT], [None], groups)[0]
        assert dict(zip(feature_names(groups), row.tolist(), strict=True)) == {
            name: whole[name] for name in feature_names(groups)
        }


def test_counts_and_lengths():
    values = of(TEXT)
    assert math.expm1(values["log_words"]) == pytest.approx(17)  # without the placeholder
    assert math.expm1(values["log_sentences"]) == pytest.approx(4)
    assert math.expm1(values["log_paragraphs"]) == pytest.approx(2)
    assert values["word_length_mean"] == pytest.approx(math.expm1(values["log_letters"]) / 17)
    assert values["sentence_length_mean"] == pytest.approx(17 / 4)
    assert values["root_ttr"] == pytest.approx(17 / math.sqrt(17))


def test_marks_spelling_words_and_connectives():
    values, per_100 = of(TEXT), 100 / 17
    assert values["commas"] == pytest.approx(per_100)
    assert values["semicolons"] == pytest.approx(per_100)
    assert values["quotation_marks"] == values["parentheses"] == pytest.approx(2 * per_100)
    assert values["unknown_words"] == pytest.approx(3 * per_100)  # dont, allways, freind
    assert values["word_the"] == pytest.approx(math.sqrt(per_100))
    assert values["first_person_singular"] == pytest.approx(2 * per_100)
    assert values["exemplifying_connectives"] == values["stance_connectives"] == pytest.approx(math.sqrt(per_100))
    assert math.expm1(values["distinct_connectives"]) == pytest.approx(3)


def test_overlap_with_the_prompt():
    prompt = "Do computers help people? Write about computers and people."
    values = of("People say computers help people every day", prompt)
    assert values["prompt_words"] == pytest.approx(100 * 4 / 7)
    assert values["prompt_coverage"] == pytest.approx(100 * 3 / 4)  # computers, help, people; not write
    assert values["prompt_copied"] == 0
    assert of("do computers help people today", prompt)["prompt_copied"] == pytest.approx(100 / 5)
    assert of("do computers help people today")["prompt_words"] == 0


def test_mtld_rises_with_diversity():
    assert mtld([]) == 0
    assert mtld(["a", "b", "c"]) == 400
    assert mtld(["a", "b"] * 20) < mtld([*"abcdefgh"] * 5) < 400


def test_case_of_first_letters_and_the_pronoun():
    values = of("i went. Then i slept. he Did NOT")
    assert values["sentences_without_capital"] == pytest.approx(100 * 2 / 3)
    assert values["lower_case_i"] == pytest.approx(100 * 2 / 8)
    assert values["words_in_capitals"] == pytest.approx(100 / 8)


@given(st.text(max_size=80), st.none() | st.text(max_size=30))
def test_any_text_has_finite_features(text, prompt):
    values = linguistic_features([text, ""], [prompt, None])
    assert np.isfinite(values).all()


@settings(max_examples=1000)
@given(st.text(".!\"'\u201d) \nx", max_size=20))
def test_sentences_end_where_marks_and_quotes_stand_before_a_blank(text):
    """Looked for from every mark, which takes the square of the length of a run of marks."""
    assert linguistic._SENTENCE_END.split(text) == re.split(r"[.!?…]+[\"'”)]*(?=\s|$)|\n+", text)


@pytest.mark.parametrize("run", [".", "?\u2026", '."', "\n", " ", " \n", "@A", "a'", ". "])
def test_a_run_of_anything_is_no_trap(run):
    """Time that grows with the square of a run's length would be minutes here, in which a server serves nobody."""
    assert np.isfinite(linguistic_features([run * (100_000 // len(run)) + "x"], [None])).all()


def test_another_apostrophe_is_the_same_word():
    assert of("I don\u2019t know") == of("I don't know")


def test_word_lists_have_each_word_once_and_in_lower_case():
    lists = [FUNCTION_WORDS, *FUNCTION_CLASSES.values(), *CONNECTIVES.values()]
    for words in lists:
        assert len(set(words)) == len(words)
        assert all(word == word.lower().strip() for word in words)
