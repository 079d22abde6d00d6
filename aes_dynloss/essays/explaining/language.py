"""Spelling and grammar of an English essay as the library Harper sees them: observations, never reasons for a score.

Harper checks in the process, offline. Its Python package is young; no other module of this toolkit imports it.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass
from itertools import pairwise
from threading import Lock
from typing import TYPE_CHECKING

from aes_dynloss.errors import ConfigError

if TYPE_CHECKING:
    import harper

DIALECTS = ("american", "australian", "british", "canadian", "indian")
MOST_SUGGESTIONS = 3
# Not shown unless asked for: matters of taste, of typography, and of the dialect.
QUIET_KINDS = frozenset({"formatting", "readability", "regionalism", "style"})
# Harper's rules that are always off. Those without a remark were wrong, or advised something wrong, in at least half
# of the places in student essays that were read.
_RULES_OFF = (
    "LookingForwardTo",  # prints to standard output (harper-py 0.2.0)
    "LongSentences",  # spans the sentence, and of spans that overlap Harper keeps one: the others would be lost
    *("SplitWords", "TransposedSpace", "WrongNegative"),  # `int rest` for `intrest`; without them: `interest`
    "OrthographicConsistency",  # `AL` for the name `Al`, `NaN` for `nan`
    *("AvoidAndAlso", "CondenseAllThe", "Excellent", "Freezing", "Starving", "AvoidCurses"),  # taste
    *("FindOut", "GoodAt", "HowTo", "MissingPreposition", "ModalBeAdjective", "NominalWants", "PossessiveYour"),
    *("PronounKnew", "ThatThan", "TheirToTheyre", "TheyToThem"),
)

# Harper's rules are quadratic in the length of what has no sentence end, and sometimes of any text: a longer text is
# checked in parts.
_MOST_CHARACTERS = 2000
_SENTENCE_END = re.compile(r"[.!?…][\"'\u201d\u2019)\]]*\s+|\n\s*\n")
_BLANK = re.compile(r"\s+")

# An object replacement character is no word to Harper: nothing is said about it, nor about an article before it.
_MASK = "\ufffc"
# Combining marks, and characters that are not seen: Harper takes them as ends of words.
_IN_WORDS = "\u0300-\u036f\u1ab0-\u1aff\u1dc0-\u1dff\u20d0-\u20ff\ufe20-\ufe2f\u00ad\u200b-\u200d\u2060\ufeff"
_MASKED = re.compile(
    r"@[A-Z]\w*(?:['\u2019]\w+)*"  # placeholders of anonymised data, with an ending: @PERSON1's
    r"|[\ud800-\udfff]"  # halves of surrogate pairs
    rf"|(?<![\w{_IN_WORDS}])\w*[{_IN_WORDS}][\w{_IN_WORDS}]*"
)
_LINE_END = re.compile(r"(?:\r\n)+|\r")
_INNER_CAPITAL = re.compile(r"(?<=[a-z])(?=[A-Z])")

# A linter must not be called by two threads at once.
_lock = Lock()
_linters: dict[str, harper.Linter] = {}


@dataclass(frozen=True)
class Observation:
    """What a spelling and grammar checker remarks on a part of a text.

    Args:
        start: Its first character, counted from 0 in code points of the text as read.
        end: Behind its last one.
        text: What stands there.
        kind: Harper's kind of remark in lower case, such as ``spelling`` or ``word choice``.
        message: The remark, words between backticks. It may repeat what stands there, as it stands there.
        suggestions: What could stand there instead, the likeliest first; an empty one: nothing.

    Examples:
        >>> Observation(0, 3, "Teh", "typo", "Did you mean the definite article?", ("The",)).to_dict()["suggestions"]
        ['The']
    """

    start: int
    end: int
    text: str
    kind: str
    message: str
    suggestions: tuple[str, ...]

    def to_dict(self) -> dict[str, object]:
        """As types of JSON."""
        return {**vars(self), "suggestions": list(self.suggestions)}


def observations(
    text: str, language: str = "en", dialect: str = "american", quiet: Collection[str] = QUIET_KINDS
) -> list[Observation]:
    """Remarks on the spelling and grammar of a text. They do not overlap; some are false alarms.

    Nothing is remarked on placeholders of anonymised data, such as ``@CAPS1``, nor on words with combining marks.

    Args:
        text: The text, line ends and all.
        language: ISO 639 code of its language.
        dialect: One of :data:`DIALECTS`. British spelling is remarked on in American English and the other way round.
        quiet: Kinds that are left out.

    Returns:
        In the order of the text; none where it is not in English.

    Raises:
        ConfigError: The dialect is unknown, or harper-py is not installed.

    References:
        Harper (Automattic), by the package harper-py.

    Examples:
        >>> [(one.text, one.kind, one.suggestions[0]) for one in observations("I recieve alot of post.")]
        [('recieve', 'spelling', 'receive'), ('alot', 'boundary error', 'a lot')]
        >>> observations("Ich habe recht.", language="de")
        []
    """
    if language != "en":
        return []
    linter = _linter(dialect)
    readable = _readable(text)
    borders, torn = _borders(readable)
    found = []
    for first, last in pairwise(borders):
        with _lock:
            lints = linter.lint(readable[first:last], language="plaintext")
        for lint in lints:
            start, end = first + lint.span.start, first + lint.span.end
            # What touches a cut within a sentence may be due to the cut.
            if _MASK in readable[start:end] or start in torn or end in torn:
                continue
            found.append(_observation(lint, start, end, text[start:end]))
    return sorted((one for one in found if one.kind not in quiet), key=lambda one: (one.start, one.end))


def _linter(dialect: str) -> harper.Linter:
    """The linter for a dialect, made when it is first asked for: the first one takes about half a second."""
    if dialect not in DIALECTS:
        raise ConfigError(f"Unknown dialect {dialect!r}. Choose one of {', '.join(DIALECTS)}.")
    try:
        import harper
    except ImportError:
        raise ConfigError(
            "Observations on spelling and grammar need harper-py, which is not installed. Install the extra: "
            'pip install "aes-dynloss[feedback]".'
        ) from None
    with _lock:
        if dialect not in _linters:
            linter = harper.Linter(harper.Dialect[dialect.upper()])
            linter.set_lint_config(dict.fromkeys(_RULES_OFF, False))
            _linters[dialect] = linter
        return _linters[dialect]


def _readable(text: str) -> str:
    """A text of the same length, with line ends that Harper takes for such, and masks over what is no English word."""
    text = _LINE_END.sub(lambda match: " \n" if match[0] == "\r\n" else "\n" * len(match[0]), text)
    return _MASKED.sub(lambda match: _MASK * len(match[0]), text)


def _borders(text: str) -> tuple[list[int], set[int]]:
    """Where the parts of a text begin and end, and those of the borders that are within a sentence."""
    borders, torn = [0], set()
    while len(text) - borders[-1] > _MOST_CHARACTERS:
        window = borders[-1], borders[-1] + _MOST_CHARACTERS
        ends = [match.end() for match in _SENTENCE_END.finditer(text, *window)]
        if not ends:
            ends = [match.end() for match in _BLANK.finditer(text, *window)] or [window[1]]
            torn.add(ends[-1])
        borders.append(ends[-1])
    return [*borders, len(text)], torn


def _observation(lint: harper.Lint, start: int, end: int, text: str) -> Observation:
    """A remark of Harper's, its suggestions as what replaces the span."""
    instead = []
    for suggestion in lint.suggestions:
        inserted = suggestion.kind.name == "INSERT_AFTER"
        instead.append(text + suggestion.replacement_text if inserted else suggestion.replacement_text)
    distinct = tuple(one for one in dict.fromkeys(instead) if one != text)
    kind = _INNER_CAPITAL.sub(" ", lint.lint_kind).lower()
    return Observation(start, end, text, kind, lint.message, distinct[:MOST_SUGGESTIONS])
