"""An essay in pieces that can be moved: paragraphs, sentences, words. All of it is linear in the text's length."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np

# Between sentences: white space after a stop (and what closes a quotation), or a new line.
_BETWEEN_SENTENCES = re.compile("(?<=[.!?][\"')\\]\u201d\u2019])\\s+|(?<=[.!?])\\s+|\\n\\s*")
# A run of words without any stop is cut into pieces of so many.
LONGEST_SENTENCE, PIECE = 60, 20


class Pieces:
    """A text as pieces and what stands between them, so that moved pieces leave paragraphs where they were.

    Args:
        pieces: N pieces, N >= 1; none is blank unless the text is.
        gaps: What follows each but the last, N - 1.
    """

    def __init__(self, pieces: Sequence[str], gaps: Sequence[str]) -> None:
        self.pieces = list(pieces)
        self.gaps = list(gaps)

    def __len__(self) -> int:
        """Number of pieces."""
        return len(self.pieces)

    def text(self, pieces: Sequence[str] | None = None) -> str:
        """These pieces, N, in the places of the own ones."""
        pieces = self.pieces if pieces is None else pieces
        return "".join(piece + gap for piece, gap in zip(pieces, [*self.gaps, ""], strict=True))

    def between(self, start: int, end: int) -> str:
        """The text of the pieces from a place up to, not with, another."""
        if start >= end:
            return ""
        return Pieces(self.pieces[start:end], self.gaps[start : end - 1]).text()

    def shuffled(self, generator: np.random.Generator) -> str:
        """The pieces in another order, which differs from theirs if any order does."""
        order = generator.permutation(len(self))
        moved = [self.pieces[place] for place in order]
        if moved == self.pieces:
            moved = moved[1:] + moved[:1]
        return self.text(moved)


def words_of(text: str) -> Pieces:
    """Words, as white space parts them."""
    parts = re.split(r"(\s+)", text.strip())
    return Pieces(parts[::2], parts[1::2])


def sentences_of(text: str) -> Pieces:
    """Sentences, as stops and new lines part them; endless ones are cut after every twentieth word."""
    pieces: list[str] = []
    gaps: list[str] = []
    place = 0
    text = text.strip()
    for found in _BETWEEN_SENTENCES.finditer(text):
        _add(pieces, gaps, text[place : found.start()], found.group())
        place = found.end()
    _add(pieces, gaps, text[place:], "")
    return Pieces(pieces, gaps[:-1])


def paragraphs_of(text: str) -> Pieces:
    """Paragraphs, as new lines part them."""
    parts = re.split(r"(\n\s*)", text.strip())
    return Pieces(parts[::2], parts[1::2])


def without_third(text: str, third: int) -> str:
    """A text without its first (0), middle (1) or last (2) third, at the ends of sentences if it has three or more.

    A text of fewer than three words stays as it is.
    """
    pieces = sentences_of(text)
    if len(pieces) < 3:
        pieces = words_of(text)
    if len(pieces) < 3:
        return text
    first, second = _near_thirds([len(piece) for piece in pieces.pieces])
    ends = [0, first, second, len(pieces)]
    kept = [pieces.between(ends[part], ends[part + 1]) for part in range(3) if part != third]
    gap = pieces.gaps[ends[third] - 1] if third == 1 else pieces.gaps[ends[1 if third == 2 else 2] - 1]
    return gap.join(kept)


def _near_thirds(lengths: Sequence[int]) -> tuple[int, int]:
    """After how many pieces a third, and two thirds, of the letters are nearest; each part gets a piece."""
    ends = np.cumsum(lengths)
    first = int(np.argmin(np.abs(ends[:-2] - ends[-1] / 3))) + 1
    second = int(np.argmin(np.abs(ends[first:-1] - 2 * ends[-1] / 3))) + first + 1
    return first, second


def _add(pieces: list[str], gaps: list[str], sentence: str, gap: str) -> None:
    """Add a sentence with what follows it, or several pieces of an endless one."""
    words = words_of(sentence)
    if len(words) > LONGEST_SENTENCE:
        for start in range(0, len(words), PIECE):
            end = min(start + PIECE, len(words))
            pieces.append(words.between(start, end))
            gaps.append(words.gaps[end - 1] if end < len(words) else gap)
    else:
        pieces.append(sentence)
        gaps.append(gap)
