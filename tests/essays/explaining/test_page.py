"""Pages of explained essays."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from explained_essay import ESSAY, EVIL, SCORE, TEXT
from read_page import cells_by_row, read_lone_page

from aes_dynloss.essays.explaining.page import IndexRow, essay_page, index_page
from aes_dynloss.essays.explaining.sentences import Span
from aes_dynloss.reports.measure_list import Missing
from aes_dynloss.reports.table import UNDEFINED


def page_of(essay):
    return read_lone_page(essay_page(essay, {"Model": EVIL}, "../index.html"), EVIL)


def named(document, kind):
    return [one for one in document.walk() if kind in one.attributes.get("class", "").split()]


def headings(document, tag="h2"):
    return [one.text for one in document.all(tag)]


def test_a_hostile_essay_is_text():
    document = page_of(ESSAY)
    assert document.all("h1")[0].text == f"Essay {EVIL}"
    (text,) = named(document, "marked")
    for span in ESSAY.sentences:
        assert span.of(TEXT).strip() in text.text
    assert [one.attributes["href"] for one in document.all("a") if "up" in one.attributes.get("class", "")] == [
        "../index.html"
    ]


def test_the_key_has_the_marks_that_are_there():
    document = page_of(ESSAY)
    (key,) = named(document, "key")
    assert [one.text for one in key.all("li")] == [
        "adds 0.300 or more",
        "less than 0.060 either way",
        "takes away 0.160 to 0.300",
    ]
    classes = [one.attributes["class"].split()[-1] for one in named(document, "mark") if one.tag == "span"]
    assert classes == ["adds-3", "takes-2", "mark", "mark"]
    assert [one.text for one in named(document, "marked")[0].all("small")] == [
        "+0.400",
        "\u22120.200",
        "+0.010",
        "0.000",
    ]


def test_nothing_is_marked_where_nothing_is_added():
    alike = replace(SCORE, contributions=[0.0] * 4)
    document = page_of(replace(ESSAY, scores=[alike]))
    assert named(document, "key") == []
    assert "None" not in headings(document)


def test_advisories_come_first_and_empty_parts_are_left_out():
    bare = replace(SCORE, features=None, values=[], next_point=None, neighbours=[])
    plain = page_of(replace(ESSAY, scores=[bare], language=[]))
    assert headings(plain) == ["What each sentence adds"]
    withheld = page_of(replace(ESSAY, withheld=True, advisories=["It is short."]))
    assert headings(withheld)[0] == "Advisories"
    assert "It is short." in withheld.all("section")[0].text


def test_features_that_stand_out_are_shown_and_all_of_them_kept_off_paper():
    document = page_of(ESSAY)
    assert cells_by_row(document, "far") == {
        "commas": ["1.000", "99", f"{UNDEFINED}undefined: {Missing.FEW_TRAINING_ESSAYS.value}"],
        "lix": ["3.000", "1", "4"],
    }
    (folded,) = named(document, "screen")
    assert {"commas", "lix", "digits"} <= cells_by_row(folded, "all").keys()
    none = page_of(replace(ESSAY, scores=[replace(SCORE, values=SCORE.values[2:])]))
    assert "No feature lies beyond the 5th or 95th percentile" in none.all("main")[0].text
    unknown = [replace(value, percentile=math.nan) for value in SCORE.values]
    assert "lies beyond" not in page_of(replace(ESSAY, scores=[replace(SCORE, values=unknown)])).all("main")[0].text


def test_groups_neighbours_and_remarks_in_words():
    document = page_of(ESSAY)
    assert list(cells_by_row(document, "features")) == [
        "an average essay",
        "lengths of words and sentences",
        "function words",
        "raw prediction",
    ]
    assert "this essay or a copy of it was in training" in document.all("main")[0].text
    assert cells_by_row(document, "remarks") == {"tehsentence\u00a02": ["Did you mean “the”?typo", "the"]}


def test_traits_are_tabs_whose_tables_have_names_of_their_own():
    scores = [replace(SCORE, trait=trait) for trait in ("content", "use of language")]
    document = page_of(replace(ESSAY, scores=scores))
    assert [one.text for one in document.all("label")] == ["content", "use of language"]
    assert len(named(document, "marked")) == 2
    assert headings(document, "h3")[:2] == ["content", "What each sentence adds"]


def test_an_essay_without_scores_is_still_shown():
    document = page_of(replace(ESSAY, scores=[], language=[]))
    assert "It rains." in named(document, "marked")[0].text


@pytest.mark.parametrize("prompts", [["letter"], ["letter", "notice"]])
def test_the_index(prompts):
    rows = [
        IndexRow.of(replace(ESSAY, prompt_id=prompt, withheld=prompt == "notice").to_dict(), f"essays/{prompt}.html")
        for prompt in prompts
    ]
    document = read_lone_page(index_page(rows), EVIL)
    titles = [one.text for one in document.all("th") if one.attributes.get("scope") == "col"]
    assert titles == (["Essay", "Prompt", "Score"] if len(prompts) > 1 else ["Essay", "Score"])
    assert document.text.count("withheld") == len(prompts) - 1
    assert len(document.all("output")) == 1


def test_a_long_word_in_the_index_is_cut():
    score = replace(SCORE, contributions=[1.0], left_out=[1.0])
    long = replace(ESSAY, text="a" * 3000, sentences=[Span(0, 3000)], scores=[score])
    assert IndexRow.of(long.to_dict(), "x.html").best == f"{'a' * 120}…"
