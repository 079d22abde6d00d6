"""Observations on spelling and grammar: what is found, where it stands, and what is kept from the checker."""

from __future__ import annotations

import json
import sys
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from threading import Barrier
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aes_dynloss.errors import ConfigError
from aes_dynloss.essays.explaining import language as module
from aes_dynloss.essays.explaining.language import DIALECTS, MOST_SUGGESTIONS, QUIET_KINDS, Observation, observations

harper = pytest.importorskip("harper")

ESSAY = (
    "Dear Editor,\n\nI recieve alot of letters, and @PERSON1 say that their is no answer.\n"
    "She go to school in a old bus.  we would of liked the the new one\n\nHowever it is late."
)
# Characters and pieces that move offsets, end words, or are markup, code or half a character.
PIECES = [
    *("\r\n", "\r", "\n", "\t", " ", "\x00", "\x0b", "\u2028", "\ufeff", "\ufffc", "\u200b"),
    *("\u202e", "\u202c", "\u2066", "e\u0301", "\u0301", "\ud83d", "\udc00", "👩\u200d👩\u200d👧", "😀", "🇩🇪"),
    *("é", "中文", "مرحبا", "ß", "ﬁ", "İ", "**teh**", "`teh`", "$x$", "#", "@", "@CAPS1", "@PERSON2's"),
    *("<script>alert(1)</script>", "&amp;", "http://a.b/c", "a@b.c", "1st", "3-4", "$5", "--", "...", ","),
    *("teh", "i", "a hour", "the the", "She go", "dont", "don\u2019t", "\u201c", "\u201d", '"', "'"),
]


def spans(text: str, found: list[Observation]) -> list[tuple[int, int]]:
    """Where observations are, which are checked to be slices in order that do not overlap."""
    for one in found:
        assert one.text == text[one.start : one.end] != ""
    places = [(one.start, one.end) for one in found]
    assert all(before[1] <= after[0] for before, after in pairwise(places))
    return places


@pytest.mark.parametrize(
    ("text", "at", "kind", "suggestion"),
    [
        ("I recieve it.", "recieve", "spelling", "receive"),
        ("It took an whole day.", "an", "miscellaneous", "a"),
        ("I have went there.", "went", "grammar", "gone"),
        ("She go to school.", "go", "agreement", "goes"),
        ("We had alot of fun.", "alot", "boundary error", "a lot"),
        ("You would of liked it.", "would of", "word choice", "would have"),
        ("We saw the the dog.", "the the", "repetition", "the"),
        ("It rained. we stayed in.", "we", "capitalization", "We"),
        ("However it was late.", "However", "punctuation", "However,"),  # Harper: insert behind it
        ("His water was is hot.", " is", "grammar", ""),  # Harper: remove it
    ],
)
def test_an_error_has_its_place_kind_and_suggestion(text: str, at: str, kind: str, suggestion: str) -> None:
    (found,) = observations(text)
    assert spans(text, [found]) == [(text.index(at), text.index(at) + len(at))]
    assert (found.kind, found.suggestions[0]) == (kind, suggestion)
    assert found.message
    mended = text[: found.start] + suggestion + text[found.end :]
    assert observations(mended) == []


@pytest.mark.parametrize("text", ["", " \r\n ", "The dog ran home", "We went to Paris, and it was a good day."])
def test_nothing_is_said_about_a_text_without_errors(text: str) -> None:
    assert observations(text) == []


def test_a_text_is_plain_text() -> None:
    text = "I wrote `recieve` and <b>recieve</b>.\n\n    We recieve it."
    assert [one.text for one in observations(text)] == ["recieve"] * 3


def test_a_suggestion_is_not_repeated() -> None:
    (there,) = observations("Their is no answer.")  # Harper suggests one of them twice
    assert there.suggestions == ("There", "There's")


def test_whatever_the_linter_says_is_put_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    def lint(start: int, end: int, *instead: str) -> SimpleNamespace:
        each = [SimpleNamespace(kind=harper.SuggestionKind.REPLACE, replacement_text=one) for one in instead]
        span = SimpleNamespace(start=start, end=end)
        return SimpleNamespace(span=span, lint_kind="WordChoice", message="Hm.", suggestions=each)

    text = "A \ud83d b @CAPS1\r\nc d"
    lints = [lint(16, 17, "d", "e", "f", "g", "h"), lint(2, 5), lint(6, 9), lint(8, 15), lint(0, 1, "")]
    monkeypatch.setattr(module, "_linters", {"american": SimpleNamespace(lint=lambda text, language: lints)})
    assert observations(text) == [
        Observation(0, 1, "A", "word choice", "Hm.", ("",)),
        Observation(16, 17, "d", "word choice", "Hm.", ("e", "f", "g")),
    ]
    assert len("efg") == MOST_SUGGESTIONS


def test_an_observation_as_json() -> None:
    (found,) = observations("I recieve it.")
    read = json.loads(json.dumps(found.to_dict()))
    assert list(read) == ["start", "end", "text", "kind", "message", "suggestions"]
    assert Observation(**{**read, "suggestions": tuple(read["suggestions"])}) == found


@pytest.mark.parametrize(
    "text",
    [
        "@CAPS1 is good.",
        "I saw an @ORGANIZATION1 and a @ORGANIZATION2 there.",
        "I saw a @CAPS1 and an @CAPS2 there.",
        "@PERSON1's mother and @PERSON2\u2019s father came.",
        "All the @CAPS1ing made @CAPS2s tired.",
        "It was @TIME1 when @NUM1% of us paid $@MONEY1.",
        "Dear @CAPS1 @CAPS1,\n\nComputers help.",
    ],
)
def test_nothing_is_said_about_placeholders(text: str) -> None:
    assert observations(text, quiet=()) == []


def test_errors_beside_placeholders_are_found_where_they_are() -> None:
    text = "@PERSON1's freind and @LOCATION12 recieve an cat, said @CAPS1."
    assert [one.text for one in observations(text)] == ["freind", "recieve", "an"]
    spans(text, observations(text))


def test_words_with_combining_marks_or_unseen_characters_are_left_alone() -> None:
    text = "The re\u0301sume\u0301 is a beau\u00adti\u00adful re\u200bsult, I beleive."
    assert [one.text for one in observations(text)] == ["beleive"]


@pytest.mark.parametrize("line_end", ["\r\n", "\r"])
def test_line_ends_are_kept_and_change_nothing(line_end: str) -> None:
    text = ESSAY.replace("\n", line_end)
    found, plain = observations(text), observations(ESSAY)
    assert [(one.text, one.kind, one.suggestions) for one in found] == [
        (one.text, one.kind, one.suggestions) for one in plain
    ]
    (again,) = observations(f"We saw the{line_end}the dog.")
    assert again.text == f"the{line_end}the"
    moved = len(line_end) - 1
    assert spans(text, found) == [
        (start + moved * ESSAY[:start].count("\n"), end + moved * ESSAY[:end].count("\n"))
        for start, end in spans(ESSAY, plain)
    ]


@given(st.lists(st.sampled_from(PIECES) | st.text(max_size=3), max_size=30).map("".join))
def test_observations_are_slices_of_hostile_texts(text: str) -> None:
    found = observations(text, quiet=())
    spans(text, found)
    json.dumps([one.to_dict() for one in found], ensure_ascii=False).encode()  # no half of a surrogate pair


@given(st.lists(st.sampled_from(PIECES), max_size=30).map("".join))
def test_an_error_behind_a_hostile_text_is_found_where_it_is(before: str) -> None:
    text = f"{before}\n\nWe recieve it."
    assert (len(before) + 5, len(before) + 12) in spans(text, observations(text))


def test_every_error_of_a_long_text_is_found() -> None:
    sentence = "We recieve it, @CAPS1 😀. "
    text = sentence * (100_000 // len(sentence))
    starts = [start for start, _ in spans(text, observations(text))]
    assert starts == list(range(3, len(text), len(sentence)))


def test_a_cut_within_a_sentence_is_no_error() -> None:
    text = "we recieve it and " * 500 + "we go"
    found = observations(text, quiet=())
    spans(text, found)
    assert [one.text for one in found if one.start] == ["recieve"] * 500
    assert observations("b" * 9000, quiet=()) == []


@pytest.mark.parametrize(
    "piece", ["a'", "aA", "\r\n", "-", "\ud83d", "e\u0301", "<b>", "i ", "\u202ea\u202c ", "@CAPS1"]
)
def test_100000_characters_of_nonsense(piece: str) -> None:
    text = piece * (100_000 // len(piece))
    spans(text, observations(text, quiet=()))


def test_a_long_sentence_does_not_hide_its_errors() -> None:
    text = "We walked on, and " * 20 + "we recieve it."
    assert [one.text for one in observations(text, quiet=())] == ["recieve"]


def test_quiet_kinds_are_left_out() -> None:
    text = "I like it.  We recieve it."
    assert [one.kind for one in observations(text)] == ["spelling"]
    assert [one.kind for one in observations(text, quiet={"spelling"})] == ["formatting"]
    assert "formatting" in QUIET_KINDS


def test_other_languages_are_not_checked() -> None:
    assert observations(ESSAY)
    assert observations(ESSAY, language="de") == []


def test_without_the_package_english_needs_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "harper", None)
    with pytest.raises(ConfigError, match=r'harper-py, which is not installed.*pip install "aes-dynloss\[feedback\]"'):
        observations("I recieve it.")
    assert observations("Ich habe recht.", language="de") == []


def test_dialects() -> None:
    text = "My favourite color is red."
    assert [one.text for one in observations(text)] == ["favourite"]
    assert [one.text for one in observations(text, dialect="british")] == ["color"]
    assert {name.upper() for name in DIALECTS} == set(harper.Dialect.__members__)
    with pytest.raises(ConfigError, match=r"'scottish'.*american, australian, british, canadian, indian"):
        observations(text, dialect="scottish")


def test_observations_are_the_same_again_and_from_another_linter(monkeypatch: pytest.MonkeyPatch) -> None:
    first = observations(ESSAY)
    assert len(first) > 5
    observations("An other text, which aint the same.")
    assert observations(ESSAY) == first
    monkeypatch.setattr(module, "_linters", {})
    assert observations(ESSAY) == first


def test_threads_share_one_linter_in_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    built, barrier, original = [], Barrier(4), harper.Linter

    def build(dialect: object) -> object:
        built.append(dialect)
        return original(dialect)

    def check(number: int) -> list[list[tuple[int, int]]]:
        barrier.wait()
        return [spans(text, observations(text)) for text in (f"{number}{again} recieve. " * 80 for again in range(5))]

    monkeypatch.setattr(module, "_linters", {})
    monkeypatch.setattr(harper, "Linter", build)
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(check, range(1, 5)))
    assert built == [harper.Dialect.AMERICAN]
    assert found == [[[(at, at + 7) for at in range(3, 80 * 12, 12)]] * 5] * 4


def test_nothing_is_printed(capfd: pytest.CaptureFixture[str]) -> None:
    observations("I am looking forward to go there, and we recieve it.")
    assert capfd.readouterr() == ("", "")


def test_rules_that_are_off_are_rules() -> None:
    assert set(module._RULES_OFF) <= set(harper.get_default_lint_config())
