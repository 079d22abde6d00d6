"""Sentences of an essay as spans of its text, character by character."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import sentencex

# A text without full stops is cut between words, so that its parts can be told apart.
MOST_CHARACTERS = 400
# More sentences are taken together, neighbours with neighbours: each is left out once.
MOST_SENTENCES = 200
_BLANK = re.compile(r"\s+")


@dataclass(frozen=True)
class Span:
    """A part of a text.

    Args:
        start: Its first character, counted from 0 in code points.
        end: Behind its last one.

    Examples:
        >>> Span(4, 7).of("The cat sat.")
        'cat'
    """

    start: int
    end: int

    def of(self, text: str) -> str:
        """What stands there."""
        return text[self.start : self.end]


def sentence_spans(text: str, language: str = "en", most: int = MOST_SENTENCES) -> list[Span]:
    r"""The sentences of a text, which together are the whole text: blanks belong to the sentence before them.

    Args:
        text: The text, which is not changed: line ends, quotes and placeholders stay as they are.
        language: ISO 639 code of its language.
        most: Most spans; where there are more sentences, neighbours are taken together.

    Returns:
        Spans in order without gaps; none of a text of blanks. A sentence of more than MOST_CHARACTERS is cut between
        words.

    References:
        The sentence boundaries of the library sentencex.

    Examples:
        >>> text = "Dear Mr. Smith,\n\nI like tea. Do you?"
        >>> [span.of(text) for span in sentence_spans(text)]
        ['Dear Mr. Smith,\n\n', 'I like tea. ', 'Do you?']
    """
    if not text.strip():
        return []
    # Half a surrogate pair is no text for the library; it is a character as others are.
    readable = text.encode("utf-8", errors="replace").decode("utf-8")
    starts = [one["start_index"] for one in sentencex.get_sentence_boundaries(language, readable)]
    borders = [0, *(start for start in starts if 0 < start < len(text)), len(text)]
    parts = [Span(start, end) for start, end in pairwise(borders) if start < end]
    return _together(_told_apart([piece for part in parts for piece in _cut(text, part)], text), most)


def _told_apart(parts: Sequence[Span], text: str) -> list[Span]:
    """The parts, those that are blank joined with the one before them, or with the first that is not."""
    joined: list[Span] = []
    for part in parts:
        if joined and (not part.of(text).strip() or not joined[-1].of(text).strip()):
            joined[-1] = Span(joined[-1].start, part.end)
        else:
            joined.append(part)
    return joined


def _cut(text: str, part: Span) -> list[Span]:
    """A long part in pieces that end behind a blank, as far as there is one."""
    pieces, start = [], part.start
    while part.end - start > MOST_CHARACTERS:
        blanks = [match.end() for match in _BLANK.finditer(text, start, start + MOST_CHARACTERS)]
        end = blanks[-1] if blanks else start + MOST_CHARACTERS
        pieces.append(Span(start, end))
        start = end
    return [*pieces, Span(start, part.end)] if start < part.end else pieces


def _together(parts: Sequence[Span], most: int) -> list[Span]:
    """At most so many spans, each of several neighbours where there are more."""
    if len(parts) <= most:
        return list(parts)
    size = -(-len(parts) // most)
    return [Span(parts[at].start, parts[min(at + size, len(parts)) - 1].end) for at in range(0, len(parts), size)]
