"""Rewriting of essays: pieces that can be moved, other wording, and nonsense.

All of it is linear in the text's length. Pieces are paragraphs, sentences and words. Wording covers misspelt, exchanged
and contracted words, capitals and spaces. Nonsense is of a wanted length: random letters, or grammatical sentences of
rare words after the idea of L. Perelman's BABEL generator (2014), with word lists and patterns of our own. The short
passages of songs and speeches are in the public domain: all were printed before 1900.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence

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


SONGS = (
    # Francis Scott Key, Defence of Fort M'Henry (1814).
    "O say can you see, by the dawn's early light, what so proudly we hailed at the twilight's last gleaming, whose "
    "broad stripes and bright stars through the perilous fight, o'er the ramparts we watched, were so gallantly "
    "streaming?",
    # John Newton, Faith's Review and Expectation, in Olney Hymns (1779).
    "Amazing grace! how sweet the sound, that saved a wretch like me! I once was lost, but now am found, was blind, "
    "but now I see.",
    # Jane Taylor, The Star (1806).
    "Twinkle, twinkle, little star, how I wonder what you are! Up above the world so high, like a diamond in the sky.",
    # James Lord Pierpont, The One Horse Open Sleigh (1857).
    "Dashing through the snow, in a one horse open sleigh, o'er the fields we go, laughing all the way. Bells on "
    "bobtail ring, making spirits bright. What fun it is to ride and sing a sleighing song tonight!",
)

SPEECHES = (
    # Abraham Lincoln at Gettysburg (1863).
    "Four score and seven years ago our fathers brought forth on this continent, a new nation, conceived in Liberty, "
    "and dedicated to the proposition that all men are created equal. Now we are engaged in a great civil war, testing "
    "whether that nation, or any nation so conceived and so dedicated, can long endure.",
    # Patrick Henry (1775), in William Wirt's Sketches of the Life and Character of Patrick Henry (1817).
    "Is life so dear, or peace so sweet, as to be purchased at the price of chains and slavery? Forbid it, Almighty "
    "God! I know not what course others may take; but as for me, give me liberty or give me death!",
    # Abraham Lincoln, second inaugural address (1865).
    "With malice toward none; with charity for all; with firmness in the right, as God gives us to see the right, let "
    "us strive on to finish the work we are in; to bind up the nation's wounds.",
    # Frederick Douglass at Canandaigua (1857).
    "If there is no struggle there is no progress. Those who profess to favor freedom and yet deprecate agitation are "
    "men who want crops without plowing up the ground. They want rain without thunder and lightning.",
)
