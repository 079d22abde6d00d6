import json
import re

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from aes_dynloss.errors import ConfigError, DataError
from aes_dynloss.essays.perturbing.perturbations import PERTURBATIONS, Material, has_material, perturb
from aes_dynloss.essays.perturbing.rewriting import SONGS, SPEECHES, WORDS, key_words
from aes_dynloss.essays.samples import ESSAYS

ROWS = [json.loads(line) for line in ESSAYS.read_text(encoding="utf-8").splitlines()]
LETTERS = [row["text"] for row in ROWS if row["prompt_id"] == "phones"]
NOTICES = [row["text"] for row in ROWS if row["prompt_id"] == "river"]
MATERIAL = Material("Read the notice. Explain what the council wants.", NOTICES)
SHORT = "One came. Two left! Three stayed?\n\nFour slept. Five ate. Six ran."


def made(kind, text=SHORT, seed=0, material=MATERIAL):
    return perturb(kind, text, np.random.default_rng(seed), material)


def words(text):
    return sorted(text.split())


@pytest.mark.parametrize("kind", PERTURBATIONS)
@settings(max_examples=60, deadline=None)
@given(text=st.text(), seed=st.integers(0, 5))
@example(text="", seed=0)
@example(text=" \n\t ", seed=0)
@example(text="a", seed=0)
@example(text="\u017f \u0130'm \u0131t's CAN\u2019T don't\u2028\x00 can not", seed=1)
@example(text="...!!!???", seed=0)
@example(text="\ud800 lone. surrogate", seed=0)
def test_any_text_is_changed_without_an_error_and_the_same_way_again(kind, text, seed):
    changed = made(kind, text, seed)
    assert changed == made(kind, text, seed)
    assert changed.strip() or not text.strip()


@pytest.mark.parametrize("kind", PERTURBATIONS)
def test_every_kind_changes_most_real_essays(kind):
    changed = [made(kind, text) != text for text in LETTERS]
    assert np.mean(changed) >= 0.7


def test_another_seed_gives_another_text():
    drawn = [kind for kind in PERTURBATIONS if len({made(kind, LETTERS[1], seed) for seed in range(8)}) > 1]
    alone = {"copy_prompt", "append_prompt", "repeat_essay", "synonyms", "contractions", "capitals", "spaces"}
    assert set(PERTURBATIONS) - set(drawn) == alone | {"delete_first", "delete_middle", "delete_last"}


def test_what_is_expected_of_each_kind_stands_beside_it():
    worthless = {kind for kind, found in PERTURBATIONS.items() if found.worthless}
    assert worthless == {"off_topic", "babble", "random_letters", "copy_prompt", "shuffle_words"}
    assert all(PERTURBATIONS[kind].expected == "fall" for kind in worthless)
    stay = {kind for kind, found in PERTURBATIONS.items() if found.expected == "stay"}
    assert stay == {"synonyms", "contractions", "capitals", "spaces"}


def test_texts_of_others_are_put_in_whole_or_in_part():
    assert made("off_topic") in NOTICES
    assert made("off_topic", material=Material(None, ["", "  ", "Only this."])) == "Only this."
    added = made("append_off_topic")
    assert added.startswith(SHORT)
    assert any(added.removeprefix(SHORT).strip() in text for text in NOTICES)
    assert made("copy_prompt") == MATERIAL.prompt_text
    assert made("append_prompt") == f"{SHORT} {MATERIAL.prompt_text}"


@pytest.mark.parametrize(("kind", "passages"), [("add_song", SONGS), ("add_speech", SPEECHES)])
def test_a_passage_is_put_in_front_behind_and_between(kind, passages):
    places = set()
    for seed in range(40):
        changed = made(kind, "One came. Two left.", seed)
        [passage] = [passage for passage in passages if passage in changed]
        before, after = changed.split(passage)
        assert words(before + after) == words("One came. Two left.")
        places.add(before.strip())
    assert places == {"", "One came.", "One came. Two left."}


def test_repetition_adds_nothing_new():
    assert made("repeat_essay") == f"{SHORT}\n\n{SHORT}"
    for kind in ("repeat_essay", "repeat_paragraph", "repeat_sentences"):
        changed = made(kind)
        assert len(changed) > len(SHORT)
        assert set(changed.split()) == set(SHORT.split())
    paragraph = made("repeat_paragraph", "First one.\n\nSecond one.")
    assert sorted([paragraph.count("First one."), paragraph.count("Second one.")]) == [1, 4]


def test_shuffling_keeps_every_word_and_the_paragraphs():
    for kind in ("shuffle_sentences", "shuffle_words"):
        for seed in range(10):
            changed = made(kind, seed=seed)
            assert changed != SHORT
            assert words(changed) == words(SHORT)
            assert changed.count("\n\n") == 1
    sentences = re.split(r"(?<=[.!?])\s+", made("shuffle_sentences"))
    assert sorted(sentences) == sorted(re.split(r"(?<=[.!?])\s+", SHORT))
    assert made("shuffle_words", "no no") == "no no"


def test_a_third_is_deleted_where_it_stood():
    assert made("delete_first") == "Three stayed?\n\nFour slept. Five ate. Six ran."
    assert made("delete_middle") == "One came. Two left! Five ate. Six ran."
    assert made("delete_last") == "One came. Two left! Three stayed?\n\nFour slept."
    assert made("delete_first", "one two three") == "two three"
    assert made("delete_last", "one two") == "one two"
    for third in ("first", "middle", "last"):
        shares = [len(made(f"delete_{third}", text)) / len(text) for text in LETTERS if len(text) > 400]
        assert np.mean(shares) == pytest.approx(2 / 3, abs=0.05)


def test_an_essay_without_stops_is_still_in_pieces():
    endless = " ".join(f"w{number}" for number in range(200))
    assert made("shuffle_sentences", endless) != endless
    assert len(made("delete_middle", endless).split()) == pytest.approx(133, abs=14)


def test_babble_is_as_long_as_the_essay_and_about_its_words():
    essay = LETTERS[1]
    nonsense = made("babble", essay)
    assert len(essay.split()) <= len(nonsense.split()) < len(essay.split()) + 40
    assert any(word in nonsense.lower() for word in key_words(essay))
    assert len(set(nonsense.lower().split()) & {word for part in WORDS.values() for word in part}) > 20
    assert not re.search(r"\b[Aa] [aeiou]", nonsense)
    letters = made("random_letters", essay)
    assert len(letters.split()) == len(essay.split())
    assert re.fullmatch("[a-z ]+", letters)


def test_typos_slip_in_a_fifth_of_the_words():
    text = " ".join(["writing"] * 100)
    slips = [own for own in made("typos", text).split() if own != "writing"]
    assert len(slips) == 20
    assert all(own[0] == "w" or own.startswith("rw") for own in slips)
    assert made("typos", "a b c") == "a b c"


@pytest.mark.parametrize(
    ("kind", "text", "expected"),
    [
        ("synonyms", "A Big KID began, bigly.", "A Large CHILD started, bigly."),
        ("contractions", "I can't, he won\u2019t. It's DON'T they're", "I cannot, he will not. It is DO NOT they are"),
        ("contractions", "I do not. It is", "I don't. It's"),
        ("capitals", "So it is.", "SO IT IS."),
        ("spaces", "So. It, is\nso.", "So.  It,  is\nso."),
        ("spaces", "So.  It is", "So. It is"),
    ],
)
def test_rewording_keeps_the_sense(kind, text, expected):
    assert made(kind, text) == expected


def test_missing_material_is_said():
    with pytest.raises(DataError, match=r"append_prompt needs the prompt's text, and there is none\. Give it"):
        made("append_prompt", material=Material(" ", ["x"]))
    with pytest.raises(DataError, match="off_topic needs an essay to another prompt"):
        made("off_topic", material=Material("Read.", ["", " "]))
    assert not has_material("copy_prompt", Material())
    assert has_material("babble", Material())


def test_an_unknown_kind_is_answered_with_the_nearest():
    with pytest.raises(ConfigError, match=r"no perturbation 'babel'\. Did you mean babble\? Known are off_topic, "):
        made("babel")
