"""What is measured is what a scorer does whose answers are known: one that counts words."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from facts import facts
from word_counter import PROMPTS, WordCounter, counted_essays, sentences

from aes_dynloss.errors import ConfigError, DataError
from aes_dynloss.essays.data.augmentation import BUNDLED_OTHERS
from aes_dynloss.essays.data.readers import UnscoredEssay
from aes_dynloss.essays.perturbing.perturbations import PERTURBATIONS
from aes_dynloss.essays.robustness import measure_robustness

RISING = {"append_off_topic", "repeat_essay", "repeat_paragraph", "repeat_sentences", "add_song", "add_speech"}


def share(entry, name):
    return entry[name]["share"]


@pytest.fixture(scope="module")
def measured():
    return measure_robustness(WordCounter(), counted_essays())


def test_a_counter_of_words_is_fooled_by_what_is_added(measured):
    kinds = measured["kinds"]
    for kind in RISING:
        assert share(kinds[kind]["prompts"]["a"], "rises") == 1, kind
    for kind in ("shuffle_words", "shuffle_sentences", "typos", "random_letters", "capitals"):
        assert share(kinds[kind]["total"], "stays") == 1, kind
    for kind in ("delete_first", "delete_middle", "delete_last"):
        assert share(kinds[kind]["prompts"]["a"], "falls") == 1, kind
    repeated = kinds["repeat_essay"]["prompts"]["a"]
    # 6, 12, 18 and 24 words, each twice.
    assert (repeated["mean_score"], repeated["mean_changed_score"], repeated["mean_raw_change"]) == (15, 30, 15)
    assert repeated["raw_change_sd"] == pytest.approx(15 / np.std([6, 12, 18, 24], ddof=1))


def test_scores_at_the_top_cannot_rise_but_raw_ones_can(measured):
    """Prompt b ends at 10: its essays of 12 words and more are at the top."""
    repeated = measured["kinds"]["repeat_essay"]["prompts"]["b"]
    assert share(repeated, "rises") == 1 / 4
    assert share(repeated, "raw_rises") == 1


def test_the_headline_is_over_all_that_must_not_rise(measured):
    parts = [kind["total"] for kind in measured["kinds"].values() if kind["expected"] != "stay"]
    together = measured["expected"]["must_not_rise"]
    assert together["n"] == sum(part["n"] for part in parts)
    rises = sum(part["n"] * share(part, "rises") for part in parts) / together["n"]
    assert share(together, "rises") == pytest.approx(rises)
    assert together["essays"] == 8
    assert set(measured["expected"]) == {"must_not_rise", "fall", "not_rise", "stay"}


def test_the_prompts_text_is_needed_where_it_is_copied(measured):
    assert set(measured["kinds"]) == set(PERTURBATIONS)
    assert list(measured["kinds"]["copy_prompt"]["prompts"]) == ["a"]
    assert "copy_prompt is left out for want of the prompt's text: prompt b." in measured["notes"]
    given = measure_robustness(WordCounter(), counted_essays(), prompt_texts={"b": "Now answer."})
    assert given["kinds"]["copy_prompt"]["prompts"]["b"]["mean_changed_score"] == 2
    assert not given["notes"]


def test_it_is_strict_json_and_the_same_again(measured):
    assert json.loads(json.dumps(measured, allow_nan=False)) == measured
    assert measure_robustness(WordCounter(), counted_essays()) == measured
    assert measure_robustness(WordCounter(), counted_essays(), seed=1) != measured


def test_one_kind_says_the_same_alone(measured):
    alone = measure_robustness(WordCounter(), counted_essays(), kinds=["babble", "typos", "babble"])
    assert alone["kinds"] == {name: measured["kinds"][name] for name in ("babble", "typos")}
    assert list(alone["expected"]) == ["must_not_rise", "fall", "not_rise"]


def test_at_most_so_many_essays_a_prompt():
    essays = counted_essays(each=9)
    few = measure_robustness(WordCounter(), essays, most=3, kinds=["repeat_essay"])
    assert few["essays"] == {"a": 3, "b": 3}
    assert few["kinds"]["repeat_essay"]["total"]["essays"] == 6
    everything = measure_robustness(WordCounter(), essays, most=None, kinds=["repeat_essay"])
    assert everything["essays"] == {"a": 9, "b": 9}
    other = measure_robustness(WordCounter(), essays, most=3, kinds=["repeat_essay"], seed=3)
    assert other["kinds"]["repeat_essay"]["prompts"] != few["kinds"]["repeat_essay"]["prompts"]


def test_texts_off_topic_are_other_prompts():
    essays = [essay._replace(text=f"For {essay.prompt_id}. {essay.text}") for essay in counted_essays()]
    texts = {essay.essay_id: essay.text for essay in essays}
    scorer = WordCounter()
    measure_robustness(scorer, essays, kinds=["off_topic"])
    pairs = list(zip(scorer.texts[::2], scorer.texts[1::2], strict=True))
    assert len(pairs) == 8
    assert all({before[:5], after[:5]} == {"For a", "For b"} for before, after in pairs)
    assert {text for pair in pairs for text in pair} <= set(texts.values())
    alone = WordCounter()
    measured = measure_robustness(alone, counted_essays("a"), kinds=["off_topic"])
    assert measured["notes"] == [BUNDLED_OTHERS]
    own = {essay.text for essay in counted_essays("a")}
    made_up = [text for text in alone.texts if text not in own]
    assert len(made_up) == 4
    assert all(len(text.split()) > 30 for text in made_up)


@pytest.mark.parametrize("text", ["word", " word \n", "One. \n"])
def test_what_a_change_leaves_as_it_is_is_counted_apart(text):
    """White space around an essay is none of its words."""
    kinds = ["shuffle_sentences", "delete_first"]
    found = measure_robustness(WordCounter(), [UnscoredEssay("1", "a", text)], kinds=kinds)
    for kind in kinds:
        total = found["kinds"][kind]["total"]
        assert (total["n"], total["unchanged"], total["rises"], total["raw_change_sd"]) == (0, 1, None, None)
    assert found["expected"]["must_not_rise"]["rises"] is None


def test_one_essay_has_no_spread():
    found = measure_robustness(WordCounter(), counted_essays("a", 1))
    total = found["kinds"]["repeat_essay"]["total"]
    assert (total["n"], share(total, "rises"), total["raw_change_sd"]) == (1, 1, None)
    assert found["kinds"]["repeat_essay"]["prompts"]["a"]["mean_raw_change"] == 6


def test_a_hair_is_no_change():
    """Other lengths in a batch move raw predictions by float rounding."""
    still = measure_robustness(WordCounter(factor=1e-5), counted_essays(), kinds=["repeat_essay"])
    assert share(still["kinds"]["repeat_essay"]["total"], "raw_rises") == 0


def test_a_prompt_is_the_models_only_one_where_it_is_not_named():
    scorer = WordCounter(prompts={"a": PROMPTS["a"]})
    unnamed = [essay._replace(prompt_id=None) for essay in counted_essays("a")]
    named = measure_robustness(scorer, counted_essays("a"))
    assert measure_robustness(scorer, unnamed) == named


def test_more_essays_than_a_window():
    """A changed essay may be scored in another window than the essay."""
    essays = [UnscoredEssay(str(number), "a", sentences(1, number % 40 + 3)) for number in range(1500)]
    found = measure_robustness(WordCounter(), essays, kinds=["repeat_essay"], most=None)
    total = found["kinds"]["repeat_essay"]["total"]
    assert (total["n"], share(total, "rises"), total["essays"]) == (1500, 1, 1500)
    assert found["kinds"]["repeat_essay"]["prompts"]["a"]["mean_raw_change"] == pytest.approx(
        np.mean([len(essay.text.split()) for essay in essays])
    )


def test_many_prompts_with_an_essay_each():
    prompts = {str(number): replace(PROMPTS["a"], id=str(number)) for number in range(300)}
    essays = [UnscoredEssay(f"e{prompt}", prompt, sentences(2, 4)) for prompt in prompts]
    found = measure_robustness(WordCounter(prompts=prompts), essays, kinds=["off_topic", "repeat_essay"])
    assert found["kinds"]["off_topic"]["total"]["n"] + found["kinds"]["off_topic"]["total"]["unchanged"] == 300


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"kinds": []}, "No kind of change is named"),
        ({"kinds": ["babel"]}, r"no perturbation 'babel'\. Did you mean babble"),
        ({"seed": -1}, "seed >= 0"),
        ({"most": 0}, "most >= 1"),
        ({"confidence": 1.0}, "confidence < 1"),
    ],
)
def test_settings_out_of_bounds(settings, message):
    with pytest.raises(ConfigError, match=message):
        measure_robustness(WordCounter(), counted_essays(), **settings)


def test_essays_that_cannot_be_measured():
    with pytest.raises(DataError, match="There is no essay to change"):
        measure_robustness(WordCounter(), [])
    with pytest.raises(DataError, match="not trained on prompt 'c'"):
        measure_robustness(WordCounter(), [UnscoredEssay("1", "c", "x")])
    with pytest.raises(DataError, match="names no prompt, and the model knows a, b"):
        measure_robustness(WordCounter(), [UnscoredEssay("1", None, "x")])


def test_material_that_is_nowhere():
    with pytest.raises(DataError, match=facts("append_prompt", "text", "prompt b")):
        measure_robustness(WordCounter(), counted_essays("b"), kinds=["append_prompt"])
    blank = [UnscoredEssay("1", "a", " "), UnscoredEssay("2", "b", "\n")]
    with pytest.raises(DataError, match="for want of an essay to another prompt that is not blank: prompt a, b"):
        measure_robustness(WordCounter(), blank, kinds=["off_topic"])
    left = measure_robustness(WordCounter(), blank)
    assert "off_topic" not in left["kinds"]
    assert (
        "off_topic is left out for want of an essay to another prompt that is not blank: prompt a, b." in left["notes"]
    )


def test_texts_of_other_prompts():
    with pytest.raises(DataError, match=r"None of the prompts whose texts are given \(1, 2\) .*knows: a, b"):
        measure_robustness(WordCounter(), counted_essays(), prompt_texts={"1": "x", "2": "y"})
    found = measure_robustness(WordCounter(), counted_essays(), prompt_texts={"b": "x", "2": "y"}, kinds=["babble"])
    assert found["notes"] == ["Texts of prompts that the model does not know are not used: 2."]
