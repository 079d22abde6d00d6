"""Sentences are slices of the text as it was read, and together all of it."""

from __future__ import annotations

import pytest

from aes_dynloss.essays.explaining.sentences import MOST_CHARACTERS, Span, sentence_spans

HOSTILE = {
    "emoji": "They help people \U0001f642. Family: \U0001f468\u200d\U0001f469\u200d\U0001f467! Done.",
    "combining": "e\u0301cole is school. n\u0303o.",
    "line ends": "Dear Sir,\r\n\r\nFirst.\rSecond.\n\n\nThird",
    "surrogate": "Half \ud83d here. Rest.",
    "bidi": "abc \u202edef. ghi\u202c.",
    "markup": "<script>alert('a. b.')</script> Yes.",
    "placeholders": "I am @CAPS1. You are @PERSON1! OK",
    "one": "no full stop at all",
    "blank start": "\n \nHello. You.",
    "marks": "!!! ??? ...",
    "no blanks": "x" * 1000,
    "long": "word " * 20_000,
}


@pytest.mark.parametrize("name", HOSTILE)
def test_together_they_are_the_text(name):
    text = HOSTILE[name]
    spans = sentence_spans(text)
    assert "".join(span.of(text) for span in spans) == text
    assert all(span.of(text).strip() for span in spans)
    assert spans[0].start == 0


@pytest.mark.parametrize("text", ["", " ", "\r\n\t"])
def test_blanks_have_none(text):
    assert sentence_spans(text) == []


def test_abbreviations_do_not_end_a_sentence():
    text = "Dear Mr. Smith, I like it. Do you?"
    assert [span.of(text) for span in sentence_spans(text)] == ["Dear Mr. Smith, I like it. ", "Do you?"]


def test_a_text_without_full_stops_is_cut_between_words():
    text = "and then we went " * 100
    spans = sentence_spans(text)
    assert len(spans) > 3
    for span in spans:
        assert span.end - span.start <= MOST_CHARACTERS
        assert text[span.end - 1] == " "


def test_very_many_sentences_are_taken_together():
    text = "".join(f"Sentence {number}. " for number in range(5000))
    spans = sentence_spans(text, most=200)
    assert len(spans) == 200
    assert spans[0] == Span(0, text.index("Sentence 25."))
    assert len(sentence_spans(text, most=10_000)) == 5000
