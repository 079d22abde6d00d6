"""Linguistic features of an essay: numbers that are counted in its text, without an encoder.

Each has a name, a group, a unit and a source, see :data:`FEATURES`; ``model.linguistic`` chooses groups, those that
:func:`aes_dynloss.register_feature` adds among them. Placeholders of anonymised data, such as ASAP's ``@CAPS1``, are
removed first. About 1 ms an essay of 400 words.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np
from numpy.typing import NDArray
from spellchecker import SpellChecker

from aes_dynloss.essays.features.word_lists import CONNECTIVES, FUNCTION_CLASSES, FUNCTION_WORDS
from aes_dynloss.parts import Parts

_PLACEHOLDER = re.compile(r"@[A-Z]+\d*")
_WORD = re.compile(r"[^\W\d_]+(?:'[^\W\d_]+)*")
# From the first mark of a run alone, or a long run would take the square of its length.
_SENTENCE_END = re.compile(r"(?<![.!?…])[.!?…]+[\"'”)]*(?=\s|$)|\n+")
_PARAGRAPH_END = re.compile(r"\n+|\s{4,}")
_VOWELS = re.compile(r"[aeiouy]+")
_MARKS: Mapping[str, str] = {
    "commas": ",",
    "full_stops": ".",
    "semicolons": ";",
    "colons": ":",
    "exclamation_marks": "!",
    "question_marks": "?",
    "quotation_marks": '"“”«»„',
    "apostrophes": "'",
    "dashes": "-\u2013\u2014",
    "parentheses": "()[]",
}
_LONG_WORDS = (5, 7, 9, 11)
# Where features are standardised by training essays: they are clamped there, as RSMTool does, and what differs less in
# training, as a part of its mean, is left out, since what it would mean elsewhere is not known.
MOST_SD, SMALLEST_SD = 4.0, 1e-6
# Of the features as a whole in a head, beside the length, a vector, and own columns as a whole, which have 1 each:
# chosen on dev of ASAP.
LINGUISTIC_WEIGHT = 0.2
# What a head or a regression sees beside groups of features, as explanations call it.
VECTOR, LENGTH, NGRAMS, OWN = "encoder", "length", "n-grams", "own columns"
_COPIED_RUN = 4

Values = dict[str, float]


@dataclass(frozen=True)
class Feature:
    """Description of a feature.

    Args:
        name: As in tables and model folders.
        group: One of :data:`GROUPS`.
        unit: Of its values.
        source: Where it is from; empty for a plain count.
        language: ISO 639 code of the language whose words or syllables it needs, ``any`` if none.
    """

    name: str
    group: str
    unit: str
    source: str = ""
    language: str = "any"


class Text:
    """An essay, taken apart once for all features.

    Args:
        text: The essay.
        prompt: The prompt's own words; None: overlap with them is 0.
    """

    def __init__(self, text: str, prompt: str | None = None) -> None:
        self.text = _PLACEHOLDER.sub(" ", text).replace("\u2019", "'")
        self.prompt = prompt
        self.words = _WORD.findall(self.text)
        self.lower = [word.lower() for word in self.words]
        self.counts = Counter(word.replace("'", "") for word in self.lower)

    @cached_property
    def sentence_words(self) -> list[list[str]]:
        """The words of each sentence that has any."""
        parts = [_WORD.findall(part) for part in _SENTENCE_END.split(self.text)]
        return [words for words in parts if words]

    def rate(self, count: float) -> float:
        """A count for 100 words."""
        return 100 * count / max(len(self.words), 1)


def counts(text: Text) -> Values:
    """How much there is."""
    words = len(text.words)
    paragraphs = sum(bool(part.strip()) for part in _PARAGRAPH_END.split(text.text))
    return {
        "log_words": math.log1p(words),
        "words_fourth_root": words**0.25,
        "log_types": math.log1p(len(text.counts)),
        "log_sentences": math.log1p(len(text.sentence_words)),
        "log_paragraphs": math.log1p(paragraphs),
        "log_letters": math.log1p(sum(map(len, text.words))),
    }


def diversity(text: Text) -> Values:
    """How varied the words are."""
    words, types = text.counts.total(), len(text.counts)
    repeats = sum(count * (count - 1) for count in text.counts.values())
    return {
        "root_ttr": types / math.sqrt(max(words, 1)),
        "log_ttr": math.log(types) / math.log(words) if words > 1 else 1.0,
        "mtld": mtld(text.lower),
        "hapax_share": sum(count == 1 for count in text.counts.values()) / max(types, 1),
        "yule_k": 1e4 * repeats / max(words * (words - 1), 1),
    }


def mtld(words: Sequence[str], threshold: float = 0.72) -> float:
    """Measure of textual lexical diversity: mean length of runs whose type-token ratio stays above a threshold.

    Args:
        words: In their order.
        threshold: Of the ratio, at which a run ends.

    Returns:
        In words; at most 400, what a text without repetitions gets.

    References:
        McCarthy and Jarvis 2010, MTLD, vocd-D, and HD-D.

    Example:
        >>> round(mtld("the cat saw the dog and the dog saw the cat".split()), 2)
        8.41
    """

    def one_way(ordered: Sequence[str]) -> float:
        runs, types, length = 0.0, set[str](), 0
        for word in ordered:
            types.add(word)
            length += 1
            if len(types) / length < threshold:
                runs, types, length = runs + 1, set(), 0
        if length:
            runs += (1 - len(types) / length) / (1 - threshold)
        return min(len(ordered) / runs if runs else math.inf, 400.0)

    return (one_way(words) + one_way(words[::-1])) / 2 if words else 0.0


def lengths(text: Text) -> Values:
    """How long words and sentences are."""
    letters, words = [len(word) for word in text.words], [len(sentence) for sentence in text.sentence_words]
    return {
        **{f"word_length_{name}": value for name, value in _moments(letters).items()},
        **{f"words_of_{least}_letters": text.rate(sum(size >= least for size in letters)) for least in _LONG_WORDS},
        **{f"sentence_length_{name}": value for name, value in _moments(words).items()},
        "longest_sentence": math.log1p(max(words, default=0)),
    }


def _moments(values: Sequence[int]) -> Values:
    array = np.asarray(values or [0], dtype=np.float64)
    mean, sd = float(array.mean()), float(array.std())
    return {"mean": mean, "sd": sd, "skewness": float((((array - mean) / sd) ** 3).mean()) if sd > 1e-9 else 0.0}


def readability(text: Text) -> Values:
    """Grade levels and their like, of English but for LIX."""
    words, sentences = max(len(text.words), 1), max(len(text.sentence_words), 1)
    letters = sum(map(len, text.words))
    counted = [syllables(word) for word in text.lower]
    long_words = sum(count >= 3 for count in counted)
    per_word, per_sentence = sum(counted) / words, words / sentences
    return {
        "syllables_per_word": per_word,
        "flesch_reading_ease": 206.835 - 1.015 * per_sentence - 84.6 * per_word,
        "flesch_kincaid_grade": 0.39 * per_sentence + 11.8 * per_word - 15.59,
        "gunning_fog": 0.4 * (per_sentence + 100 * long_words / words),
        "smog": 1.043 * math.sqrt(30 * long_words / sentences) + 3.1291,
        "coleman_liau": 5.88 * letters / words - 29.6 * sentences / words - 15.8,
        "automated_readability_index": 4.71 * letters / words + 0.5 * per_sentence - 21.43,
        "lix": per_sentence + 100 * sum(len(word) > 6 for word in text.words) / words,
    }


@lru_cache(maxsize=100_000)
def syllables(word: str) -> int:
    """Syllables of an English word, estimated by its groups of vowels; at least 1.

    Example:
        >>> syllables("readable"), syllables("score")
        (3, 1)
    """
    groups = len(_VOWELS.findall(word))
    silent = word.endswith("e") and not word.endswith(("le", "ee"))
    return max(groups - silent, 1)


def punctuation(text: Text) -> Values:
    """Marks, capital letters and spaces."""
    characters = Counter(text.text)
    letters = [character for character in text.text if character.isalpha()]
    firsts = [sentence[0][0] for sentence in text.sentence_words]
    return {
        **{name: text.rate(sum(characters[mark] for mark in marks)) for name, marks in _MARKS.items()},
        "capitals": 100 * sum(map(str.isupper, letters)) / max(len(letters), 1),
        "digits": 100 * sum(map(str.isdigit, text.text)) / max(len(text.text), 1),
        "sentences_without_capital": 100 * sum(map(str.islower, firsts)) / max(len(firsts), 1),
        "lower_case_i": text.rate(text.words.count("i")),
        "words_in_capitals": text.rate(sum(len(word) > 1 and word.isupper() for word in text.words)),
        "no_space_after_mark": text.rate(len(re.findall(r"[,.;!?][^\W\d_]", text.text))),
        "space_before_mark": text.rate(len(re.findall(r"\s[,.;!?]", text.text))),
    }


def spelling(text: Text) -> Values:
    """Words that an English dictionary does not have."""
    unknown = [word for word in text.lower if not _is_known(word)]
    return {
        "unknown_words": text.rate(len(unknown)),
        "unknown_words_root": math.sqrt(text.rate(len(unknown))),
        "log_unknown_types": math.log1p(len(set(unknown))),
    }


@lru_cache(maxsize=200_000)
def _is_known(word: str) -> bool:
    return not _dictionary().unknown([word]) or not _dictionary().unknown([word.removesuffix("'s").replace("'", "")])


@lru_cache(maxsize=1)
def _dictionary() -> SpellChecker:
    return SpellChecker(language="en")


def function_words(text: Text) -> Values:
    """Words that carry grammar: each by itself, and by class."""
    return {
        **{f"word_{word}": math.sqrt(text.rate(text.counts[word])) for word in FUNCTION_WORDS},
        **{name: text.rate(sum(text.counts[word] for word in words)) for name, words in FUNCTION_CLASSES.items()},
        "function_words": text.rate(sum(text.counts[word] for word in FUNCTION_WORDS)),
    }


def connectives(text: Text) -> Values:
    """Words and phrases that join clauses and arguments, by class."""
    running = f" {' '.join(text.lower)} "
    matches = {name: pattern.findall(running) for name, pattern in _CONNECTIVES.items()}
    return {
        **{f"{name}_connectives": math.sqrt(text.rate(len(phrases))) for name, phrases in matches.items()},
        "distinct_connectives": math.log1p(len({phrase for phrases in matches.values() for phrase in phrases})),
    }


def _alternatives(phrases: Iterable[str]) -> re.Pattern[str]:
    longest_first = sorted(phrases, key=len, reverse=True)
    return re.compile(f" (?:{'|'.join(map(re.escape, longest_first))})(?= )")


_CONNECTIVES = {name: _alternatives(phrases) for name, phrases in CONNECTIVES.items()}


def overlap(text: Text) -> Values:
    """What the essay shares with the prompt's own words; 0 where these are not known."""
    content, runs = _prompt_words(text.prompt or "")
    copied = zip(*(text.lower[start:] for start in range(_COPIED_RUN)), strict=False)
    return {
        "prompt_words": text.rate(sum(text.counts[word] for word in content)),
        "prompt_coverage": 100 * sum(word in text.counts for word in content) / max(len(content), 1),
        "prompt_copied": text.rate(sum(run in runs for run in copied)),
    }


@lru_cache(maxsize=256)
def _prompt_words(prompt: str) -> tuple[frozenset[str], frozenset[tuple[str, ...]]]:
    """The prompt's words of content, and its runs of words."""
    words = [word.lower() for word in _WORD.findall(prompt.replace("\u2019", "'"))]
    content = frozenset(word for word in words if len(word) > 2 and word not in FUNCTION_WORDS)
    return content, frozenset(zip(*(words[start:] for start in range(_COPIED_RUN)), strict=False))


_COUNTED: Mapping[str, Callable[[Text], Values]] = {
    "counts": counts,
    "diversity": diversity,
    "lengths": lengths,
    "readability": readability,
    "punctuation": punctuation,
    "spelling": spelling,
    "function_words": function_words,
    "connectives": connectives,
    "overlap": overlap,
}

_WORDS_100 = "per 100 words"
_ROOT_100 = "square root of the number per 100 words"
_ENGLISH = {"spelling", "function_words", "connectives"}
# Unit and source, of what is no plain count per 100 words in its group.
_DESCRIBED: Mapping[str, tuple[str, str]] = {
    "log_words": ("ln(1 + words)", ""),
    "words_fourth_root": ("fourth root of words", "Page 1966, The imminence of grading essays by computer"),
    "log_types": ("ln(1 + different words)", ""),
    "log_sentences": ("ln(1 + sentences)", ""),
    "log_paragraphs": ("ln(1 + paragraphs)", ""),
    "log_letters": ("ln(1 + letters)", ""),
    "root_ttr": ("types / sqrt(tokens)", "Guiraud 1954"),
    "log_ttr": ("ln(types) / ln(tokens)", "Herdan 1960"),
    "mtld": ("words", "McCarthy and Jarvis 2010"),
    "hapax_share": ("share of types", ""),
    "yule_k": ("10^4 x chance that two words are the same", "Yule 1944"),
    "word_length_mean": ("letters", ""),
    "word_length_sd": ("letters", ""),
    "word_length_skewness": ("none", ""),
    "sentence_length_mean": ("words", ""),
    "sentence_length_sd": ("words", ""),
    "sentence_length_skewness": ("none", ""),
    "longest_sentence": ("ln(1 + words)", ""),
    "syllables_per_word": ("syllables", ""),
    "flesch_reading_ease": ("points", "Flesch 1948"),
    "flesch_kincaid_grade": ("US school grade", "Kincaid et al. 1975"),
    "gunning_fog": ("US school grade", "Gunning 1952"),
    "smog": ("US school grade", "McLaughlin 1969"),
    "coleman_liau": ("US school grade", "Coleman and Liau 1975"),
    "automated_readability_index": ("US school grade", "Senter and Smith 1967"),
    "lix": ("points", "Björnsson 1968"),
    "capitals": ("% of letters", ""),
    "digits": ("% of characters", ""),
    "sentences_without_capital": ("% of sentences", ""),
    "unknown_words_root": (_ROOT_100, ""),
    "log_unknown_types": ("ln(1 + different words)", ""),
    "distinct_connectives": ("ln(1 + different phrases)", ""),
    "prompt_coverage": ("% of the prompt's words of content", ""),
}
_SOURCES = {"function_words": "Pennebaker et al. 2015 (classes)", "connectives": "Halliday and Hasan 1976 (classes)"}


def _described(group: str, name: str) -> Feature:
    root = group == "connectives" or (group == "function_words" and name.startswith("word_"))
    unit, source = _DESCRIBED.get(name, (_ROOT_100 if root else _WORDS_100, ""))
    english = group in _ENGLISH or (group == "readability" and name != "lix") or name == "lower_case_i"
    return Feature(name, group, unit, source or _SOURCES.get(group, ""), "en" if english else "any")


@dataclass(frozen=True)
class Group:
    """Features that are counted together.

    Args:
        count: A text to the values of the features, in their order.
        features: The features.
    """

    count: Callable[[Text], Values]
    features: tuple[Feature, ...]


GROUPS: Parts[Group] = Parts(
    "features",
    {
        group: Group(count, tuple(_described(group, name) for name in count(Text(""))))
        for group, count in _COUNTED.items()
    },
)
# The package's own; those from outside are looked up when they are named.
ALL_GROUPS = tuple(GROUPS.included)
FEATURES: tuple[Feature, ...] = tuple(feature for group in GROUPS.included.values() for feature in group.features)


def feature_names(groups: Iterable[str]) -> list[str]:
    """Names of the features of some groups, in the order of :func:`linguistic_features`' columns."""
    return [feature.name for group in GROUPS.ordered(groups) for feature in GROUPS[group].features]


def describe_columns(columns: Collection[str]) -> dict[str, tuple[str, str]]:
    """Group and unit of the columns of a table that are features of ours, by name.

    A name alone may be another programme's, in another unit: columns are ours where a whole group of them is there.

    Args:
        columns: Names of the table's columns.

    Example:
        >>> describe_columns(["commas", "prompt_words", "prompt_coverage", "prompt_copied"])["prompt_words"]
        ('overlap', 'per 100 words')
    """
    own = [group for group in GROUPS if any(column == group or column.startswith(f"{group}_") for column in columns)]
    groups = [GROUPS[group].features for group in (*ALL_GROUPS, *(name for name in own if name not in ALL_GROUPS))]
    whole = [features for features in groups if {feature.name for feature in features} <= set(columns)]
    return {feature.name: (feature.group, feature.unit) for features in whole for feature in features}


def linguistic_features(
    texts: Sequence[str], prompts: Sequence[str | None], groups: Iterable[str] = ALL_GROUPS
) -> NDArray[np.float64]:
    """Features of essays.

    Args:
        texts: N essays.
        prompts: Words of each essay's prompt, where they are known.
        groups: Names out of :data:`GROUPS`.

    Returns:
        (N, F), the columns those of :func:`feature_names`; all finite, of an empty essay too.

    Example:
        >>> linguistic_features(["One two. Three!"], [None], ["counts"]).round(2)
        array([[1.39, 1.32, 1.39, 1.1 , 0.69, 2.48]])
    """
    wanted = GROUPS.ordered(groups)
    functions = [GROUPS[group].count for group in wanted]
    rows = []
    for text, prompt in zip(texts, prompts, strict=True):
        read = Text(text, prompt)
        rows.append([value for function in functions for value in function(read).values()])
    return np.asarray(rows, dtype=np.float64).reshape(len(texts), len(feature_names(wanted)))


def feature_scales(linguistic: int, own: int) -> NDArray[np.float64]:
    """What standardised features are multiplied by in a head, (F + K,).

    Args:
        linguistic: Number F of linguistic features, which weigh :data:`LINGUISTIC_WEIGHT` as a whole.
        own: Number K of the user's own columns, which weigh 1 as a whole.

    Example:
        >>> feature_scales(5, 4).round(2)
        array([0.2, 0.2, 0.2, 0.2, 0.2, 0.5, 0.5, 0.5, 0.5])
    """
    squares = [LINGUISTIC_WEIGHT / max(linguistic, 1)] * linguistic + [1 / max(own, 1)] * own
    scales: NDArray[np.float64] = np.sqrt(np.array(squares, dtype=np.float64))
    return scales


def essay_numbers(texts: Sequence[str], prompt: str | None, groups: Iterable[str]) -> NDArray[np.float64]:
    """What is counted in essays on one prompt: ln(1 + words), words between blanks, and features, (N, 1 + F).

    Args:
        texts: N essays.
        prompt: The prompt's own words, where they are known.
        groups: Names out of :data:`GROUPS`.

    Example:
        >>> essay_numbers(["One two. Three!"], None, ["diversity"]).shape
        (1, 6)
    """
    lengths = np.log1p([len(text.split()) for text in texts])[:, None]
    return np.concatenate([lengths, linguistic_features(texts, [prompt] * len(texts), groups)], axis=1)
