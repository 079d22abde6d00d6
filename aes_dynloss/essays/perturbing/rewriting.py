"""The same essay in other letters or words: misspelt, exchanged, contracted, in capitals, with other spaces."""

from __future__ import annotations

import re
from collections.abc import Mapping

import numpy as np

from aes_dynloss.essays.rewriting.pieces import words_of

# Words that may stand for each other in nearly any sentence, in the same form and after the same article. Our own: no
# library that we know of brings synonyms along without a download.
_SYNONYMS = {
    word: like
    for words, likes in (
        (
            "big bigger biggest quick quickly smart happy maybe scared rich strange",
            "large larger largest fast rapidly clever glad perhaps frightened wealthy peculiar",
        ),
        (
            "begin begins began beginning buy buys buying bought",
            "start starts started starting purchase purchases purchasing purchased",
        ),
        (
            "kid kids teenager teenagers pupil pupils mom mum dad grandma grandpa",
            "child children youngster youngsters student students mother mother father grandmother grandfather",
        ),
        (
            "choose chooses choosing chose chosen try tries trying tried",
            "select selects selecting selected selected attempt attempts attempting attempted",
        ),
        (
            "happen happens happening happened allow allows allowing allowed",
            "occur occurs occurring occurred permit permits permitting permitted",
        ),
        (
            "terrible wonderful whole nearly mostly probably completely tired calm brave delicious beautiful",
            "horrible marvellous complete almost mainly likely totally weary peaceful courageous tasty lovely",
        ),
        (
            "road roads rock rocks trip trips garbage photo photos bike bikes movie movies phone phones",
            "street streets stone stones journey journeys rubbish picture pictures bicycle bicycles film films "
            "telephone telephones",
        ),
        (
            "reply replies replied speak speaks speaking finish finishes finished finishing",
            "respond responds responded talk talks talking complete completes completed completing",
        ),
        ("dangerous huge sometimes until toward", "hazardous gigantic occasionally till towards"),
    )
    for word, like in zip(words.split(), likes.split(), strict=True)
}
_EXPANDED = {
    "can't": "cannot",
    "won't": "will not",
    "shan't": "shall not",
    "ain't": "is not",
    "i'm": "i am",
    "it's": "it is",
    "that's": "that is",
    "there's": "there is",
    "let's": "let us",
}
_ENDINGS = {"n't": " not", "'re": " are", "'ll": " will", "'ve": " have"}
_NOT = "do does did is are was were has have had could would should must"
_CONTRACTED = {f"{verb} not": f"{verb}n't" for verb in _NOT.split()} | {
    "cannot": "can't",
    "will not": "won't",
    "i am": "i'm",
    "it is": "it's",
    "that is": "that's",
    "you are": "you're",
    "we are": "we're",
    "they are": "they're",
    "i will": "i'll",
    "i have": "i've",
}
# Keys beside each letter's on a keyboard with the letters qwerty.
_KEYS = """
asqz bvn cxv dsf ewr fdg gfh hgj iuo jhk kjl lk mn nbm oip po qwa ret sad try uyi vcb wqe xzc ytu zx
"""
_BESIDE = {keys[0]: keys[1:] for keys in _KEYS.split()}
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


def in_capitals(text: str) -> str:
    """A text with all letters as capitals."""
    return text.upper()


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
    places = [place for place, word in enumerate(words) if sum(map(str.isalpha, word)) >= 3]
    if not places:
        return text
    chosen = generator.choice(places, max(1, round(share * len(places))), replace=False)
    for place in sorted(chosen.tolist()):
        words[place] = _slip(words[place], generator)
    return pieces.text(words)


def _slip(word: str, generator: np.random.Generator) -> str:
    """Two letters swapped, one left out, one doubled, or the key beside it struck."""
    letters = [place for place, letter in enumerate(word) if letter.isalpha()]
    place = letters[1 + int(generator.integers(len(letters) - 1))]  # the first letter is seldom wrong
    kind = generator.integers(4)
    before, letter, after = word[:place], word[place], word[place + 1 :]
    if kind == 0 and before[-1].isalpha() and before[-1] != letter:
        return before[:-1] + letter + before[-1] + after
    if kind == 1:
        return before + after
    beside = _BESIDE.get(letter.lower())
    if kind == 2 and beside is not None:
        return before + beside[int(generator.integers(len(beside)))] + after
    return before + letter + letter + after


def _exchanged(text: str, wanted: re.Pattern[str], words: Mapping[str, str]) -> str:
    """A text with words exchanged, a capital in front kept as one."""

    def other(found: re.Match[str]) -> str:
        word = found[0]
        # Case-folding finds signs like the long s, which lower-casing leaves alone.
        replacement = words.get(word.lower(), word)
        if len(word) > 1 and word.isupper():
            return replacement.upper()
        return replacement[0].upper() + replacement[1:] if word[0].isupper() else replacement

    return wanted.sub(other, text)
