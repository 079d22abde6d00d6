"""Rewriting of essays: pieces that can be moved, other wording, and nonsense.

All of it is linear in the text's length. Pieces are paragraphs, sentences and words. Wording covers misspelt, exchanged
and contracted words, capitals and spaces. Nonsense is of a wanted length: random letters, or grammatical sentences of
rare words after the idea of L. Perelman's BABEL generator (2014), with word lists and patterns of our own. The short
passages of songs and speeches are in the public domain: all were printed before 1900.
"""

from __future__ import annotations

import re
import tomllib
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

# Between sentences: white space after a stop (and what closes a quotation), or a new line.
_BETWEEN_SENTENCES = re.compile("((?<=[.!?][\"')\\]\u201d\u2019])\\s+|(?<=[.!?])\\s+|\\n\\s*)")
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
        moved = [self.pieces[index] for index in order]
        if moved == self.pieces:
            moved = moved[1:] + moved[:1]
        return self.text(moved)


def drawn(choices: Sequence[str], generator: np.random.Generator) -> str:
    """One of some texts, each with the same probability."""
    return choices[int(generator.integers(len(choices)))]


def words_of(text: str) -> Pieces:
    """Words, as white space parts them."""
    parts = re.split(r"(\s+)", text.strip())
    return Pieces(parts[::2], parts[1::2])


def sentences_of(text: str) -> Pieces:
    """Sentences, as stops and new lines part them; endless ones are cut after every twentieth word."""
    pieces: list[str] = []
    gaps: list[str] = []
    parts = _BETWEEN_SENTENCES.split(text.strip())
    for sentence, gap in zip(parts[::2], [*parts[1::2], ""], strict=True):
        words = words_of(sentence)
        if len(words) <= LONGEST_SENTENCE:
            pieces.append(sentence)
            gaps.append(gap)
            continue
        for start in range(0, len(words), PIECE):
            end = min(start + PIECE, len(words))
            pieces.append(words.between(start, end))
            gaps.append(words.gaps[end - 1] if end < len(words) else gap)
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
    # The ends of pieces nearest to a third, and to two thirds, of the letters; each part gets a piece.
    letters = np.cumsum([len(piece) for piece in pieces.pieces])
    first = int(np.argmin(np.abs(letters[:-2] - letters[-1] / 3))) + 1
    second = int(np.argmin(np.abs(letters[first:-1] - 2 * letters[-1] / 3))) + first + 1
    ends = [0, first, second, len(pieces)]
    kept = [pieces.between(ends[part], ends[part + 1]) for part in range(3) if part != third]
    return pieces.gaps[ends[2 if third == 0 else 1] - 1].join(kept)


_LISTS = tomllib.loads(Path(__file__).with_name("words.toml").read_text(encoding="utf-8"))
SONGS, SPEECHES, PATTERNS = (tuple(_LISTS[name]) for name in ("songs", "speeches", "patterns"))
# Nouns n, adjectives j, verbs v and adverbs r, as the patterns call them; k is a key word or a noun.
WORDS = {part: words.split() for part, words in _LISTS["words"].items()}
_SYNONYMS = {
    word: like for words, likes in _LISTS["synonyms"] for word, like in zip(words.split(), likes.split(), strict=True)
}
_EXPANDED: dict[str, str] = _LISTS["expanded"]
_ENDINGS: dict[str, str] = _LISTS["endings"]
_CONTRACTED = {f"{verb} not": f"{verb}n't" for verb in _LISTS["contracted_with_not"].split()} | _LISTS["contracted"]
# Keys beside each letter's on a keyboard with the letters qwerty.
_BESIDE = {keys[0]: keys[1:] for keys in _LISTS["keys"].split()}
_APOSTROPHES = re.compile("[\u2019\u02bc]")


def _whole_words(words: Mapping[str, str]) -> re.Pattern[str]:
    return re.compile(rf"\b({'|'.join(sorted(words, key=len, reverse=True))})\b", re.IGNORECASE)


_SYNONYM, _EXPANDABLE, _CONTRACTIBLE = map(_whole_words, (_SYNONYMS, _EXPANDED, _CONTRACTED))
_ENDING = re.compile(rf"(?<=[a-z])({'|'.join(_ENDINGS)})\b", re.IGNORECASE)


def with_synonyms(text: str) -> str:
    """A text with every word of our small table exchanged for its like."""
    return _exchanged(text, _SYNONYM, _SYNONYMS)


def with_contractions_changed(text: str) -> str:
    """A text with contractions (don't) written out (do not), or, where it has none, with long forms contracted."""
    plain = _APOSTROPHES.sub("'", text)
    expanded = _exchanged(_exchanged(plain, _EXPANDABLE, _EXPANDED), _ENDING, _ENDINGS)
    return expanded if expanded != plain else _exchanged(text, _CONTRACTIBLE, _CONTRACTED)


def with_other_spaces(text: str) -> str:
    """A text with two spaces after each stop and an empty line where a new line was; one with these loses them."""
    closer = re.sub(r"(?<=\S)[ \t]{2,}", " ", text)
    if closer != text:
        return closer
    return re.sub(r"(?<=[.!?,;]) (?=\S)", "  ", text)


def misspelt(text: str, share: float, generator: np.random.Generator) -> str:
    """A text with one slip of the fingers in a share of its words of three letters or more, in one at least.

    Args:
        text: The text.
        share: Share of these words, from 0 to 1.
        generator: Source of chance.
    """
    pieces = words_of(text)
    words = list(pieces.pieces)
    long = [index for index, word in enumerate(words) if sum(map(str.isalpha, word)) >= 3]
    if not long:
        return text
    chosen = generator.choice(long, max(1, round(share * len(long))), replace=False)
    for index in sorted(chosen.tolist()):
        words[index] = _slip(words[index], generator)
    return pieces.text(words)


def _slip(word: str, generator: np.random.Generator) -> str:
    """Two letters swapped, one left out, one doubled, or the key beside it struck."""
    letters = [index for index, letter in enumerate(word) if letter.isalpha()]
    index = letters[1 + int(generator.integers(len(letters) - 1))]  # the first letter is seldom wrong
    kind = generator.integers(4)
    before, letter, after = word[:index], word[index], word[index + 1 :]
    if kind == 0 and before[-1].isalpha() and before[-1] != letter:
        return before[:-1] + letter + before[-1] + after
    if kind == 1:
        return before + after
    beside = _BESIDE.get(letter.lower())
    if kind == 2 and beside is not None:
        return before + drawn(beside, generator) + after
    return before + letter + letter + after


def _exchanged(text: str, wanted: re.Pattern[str], words: Mapping[str, str]) -> str:
    """A text with words exchanged, a capital in front kept as one."""

    def replaced(match: re.Match[str]) -> str:
        word = match[0]
        # Case-folding finds signs like the long s, which lower-casing leaves alone.
        replacement = words.get(word.lower(), word)
        if len(word) > 1 and word.isupper():
            return replacement.upper()
        return replacement[0].upper() + replacement[1:] if word[0].isupper() else replacement

    return wanted.sub(replaced, text)


_KEY_WORDS = 4


def key_words(text: str) -> list[str]:
    """The words of five letters or more that a text uses most, at most four, the earlier first among equals."""
    common = set(_LISTS["common"].split())
    words = re.findall(r"[^\W\d_]{5,}", text.lower())
    counted = Counter(word for word in words if word not in common)
    return [word for word, _ in counted.most_common(_KEY_WORDS)]


def babble(words: int, keys: Sequence[str], generator: np.random.Generator) -> str:
    """Sentences of about so many words, one at least, in paragraphs of five sentences.

    Args:
        words: Words wanted; the sentence that reaches them ends the text.
        keys: Key words to speak about; without any, nouns.
        generator: Source of chance.
    """
    lists = WORDS | {"k": list(keys) or WORDS["n"]}
    sentences: list[str] = []
    count = 0
    while count < words or not sentences:
        filled = re.sub(r"\{(\w)\}", lambda match: drawn(lists[match[1]], generator), drawn(PATTERNS, generator))
        filled = re.sub(r"\ba (?=[aeiou])", "an ", filled)
        sentences.append(filled[0].upper() + filled[1:])
        count += len(filled.split())
    return "\n\n".join(" ".join(sentences[start : start + 5]) for start in range(0, len(sentences), 5))


def random_letters(words: int, generator: np.random.Generator) -> str:
    """So many words, one at least, of 1 to 12 letters that were struck at random."""
    lengths = generator.integers(1, 13, max(words, 1))
    letters = "".join(chr(97 + letter) for letter in generator.integers(0, 26, int(lengths.sum())))
    ends = np.cumsum(lengths)
    return " ".join(letters[end - length : end] for end, length in zip(ends, lengths, strict=True))
