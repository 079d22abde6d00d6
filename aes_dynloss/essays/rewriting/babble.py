"""Nonsense of a wanted length: grammatical sentences of rare words that mean nothing, and random letters.

The first follows the idea of L. Perelman's BABEL generator (2014): long words in sound grammar, about a few given key
words. Word lists and sentence patterns are our own.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

import numpy as np

# Nouns n, adjectives j, verbs v and adverbs r, as the patterns call them; k is a key word or a noun.
WORDS = {
    part: words.split()
    for part, words in {
        "n": """
        abrogation amelioration apotheosis assemblage axiom circumspection cogency conjecture consternation
        contravention demarcation dichotomy disquisition edification effrontery enumeration equanimity
        exegesis exhortation exigency fulmination hegemony iconoclasm impetus inauguration incumbency
        interlocutor juxtaposition lamentation magnanimity multiplicity nomenclature obfuscation orthodoxy
        palliative paradigm parsimony perambulation plenitude precept probity propinquity quandary
        quintessence rapprochement rectitude remonstrance sagacity solicitude stipulation superfluity
        supposition taxonomy temerity tenacity trajectory turpitude vacillation veracity vicissitude
        """,
        "j": """
        abstruse adamant ameliorative antediluvian apocryphal ascetic axiomatic bombastic capricious
        circumspect commensurate contumacious cursory didactic disparate ebullient efficacious ephemeral
        erudite esoteric exiguous fastidious fervent germane gregarious hermetic immutable impervious
        incipient inexorable inimical intrepid labyrinthine laconic lugubrious meretricious munificent
        nefarious obstreperous omnipresent pecuniary perfunctory pernicious perspicacious prodigious prosaic
        querulous recalcitrant sanguine sedulous spurious tenuous ubiquitous unfettered venerable verbose
        """,
        "v": """
        abrogates adjudicates adumbrates ameliorates amplifies assuages augments belies bolsters circumvents
        compels corroborates delineates denigrates disseminates elucidates emulates encroaches exacerbates
        exculpates exonerates expedites extols foments galvanizes gesticulates implores instigates
        juxtaposes lambasts mollifies necessitates obviates permeates placates preempts promulgates ratifies
        reiterates repudiates substantiates supplants transcends undulates usurps vindicates
        """,
        "r": """
        assiduously axiomatically cogently conversely copiously dubiously emphatically fervently haphazardly
        incessantly indubitably inexorably irrevocably lucidly meticulously ostensibly paradoxically
        presumptuously quintessentially tangentially unequivocally vehemently
        """,
    }.items()
}
PATTERNS = (
    "{r}, the {j} {k} {v} a {n}, and the {n} {v} the {k} of {n}.",
    "{k} has not, and in all likelihood never will be, {j} in the way that we encounter {j} {n}.",
    "The {n} of {k}, {j} yet {j}, {v} any {n} that humanity might {r} call {n}.",
    "Since the {n} of {n} {v} the {k}, society will always be {j}.",
    "Although {k} {v} the {j} {n}, a {n} that {v} the {n} is {r} a {n} of {k}.",
    "In my experience, all of the {n} at our {j} {n} {r} {v} the {k} which we know as {n}.",
    "As I have learned in my {n} class, {k} is the most {j} {n} of mankind.",
    "Why is {k} so {j} to {n}? The reply to this query is that the {n} {v} {k} {r}.",
    "The more that {k} {v} {n}, the less a {j} {n} {v} the {n} for {j} {n}.",
)
_KEY_WORDS = 4
# Words that are long and common in essays on anything.
_COMMON = """
about after again along always another because become before being believe between could differ different during every
example first found going little never often other people really reason school second should small something sometimes
still their there therefore these thing things think third those though thought through under until using wants where
which while without would yours
"""


def key_words(text: str) -> list[str]:
    """The words of five letters or more that a text uses most, at most four, the earlier first among equals."""
    common = set(_COMMON.split())
    found = re.findall(r"[^\W\d_]{5,}", text.lower())
    counted = Counter(word for word in found if word not in common)
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
        pattern = PATTERNS[int(generator.integers(len(PATTERNS)))]
        filled = re.sub(r"\{(\w)\}", lambda found: _drawn(lists[found[1]], generator), pattern)
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


def _drawn(words: Sequence[str], generator: np.random.Generator) -> str:
    return words[int(generator.integers(len(words)))]
