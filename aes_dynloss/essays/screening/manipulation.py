"""Attempts to manipulate a machine that scores: hidden characters, and passages that address the machine.

**Passages** set the machine other tasks, ask it for a score, or pass for its own markup. They are recognised by their
wording, so that new wordings are missed. Essays that ask a human reader for a good grade pass as a rule.

**Hidden characters** are those that a machine reads and a reader does not see as they are. Accepted is what honest
texts hold: byte order marks, soft hyphens, no-break spaces, joiners between emoji and in the scripts that need them,
direction marks beside Arabic and Hebrew, zero-width spaces between words, symbols of Word's bullets, Greek letters in
formulas, flags.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cache

import numpy as np
from numpy.typing import NDArray

from aes_dynloss.essays.screening.training_statistics import WordHashes, word_lists

# One slip of an editor, such as a pair of marks around a pasted path, is let pass.
LET_PASS = 2

_INVISIBLE = "\u200b\u200c\u200d\u2060-\u2064\u180e\u034f\u115f\u1160\u3164\uffa0\ufeff\U0001d173-\U0001d17a"
_LETTER = r"[^\W\d_]"
_WESTERN = "A-Za-z\u00c0-\u024f\u0370-\u052f"
# A sequence of three invisible characters has no use between words; one within a Western word neither.
_RUNS = re.compile(f"[{_INVISIBLE}]{{3,}}")
_WITHIN = re.compile(f"(?<=[{_WESTERN}])[{_INVISIBLE}]{{1,2}}(?=[{_WESTERN}])")
_CONTROLS = re.compile("[\x00-\x08\x0e-\x1b\x7f]")
# A flag of a region is a black flag, up to six tags and a cancel tag.
_REGION = re.compile("\U0001f3f4[\U000e0030-\U000e007a]{1,6}\U000e007f")
_TAGS = re.compile("[\U000e0000-\U000e007f]")
_SELECTORS = re.compile(
    "[\ufe00-\ufe0f]{2,}|(?<![\u3400-\u9fff\uf900-\ufaff\U00020000-\U0003ffff])[\U000e0100-\U000e01ef]"
)
_PRIVATE = re.compile("[\ue000-\uefff\uf100-\uf8fe\U000f0000-\U000ffffd\U00100000-\U0010fffd]")
# What is overridden, up to the end of it or of the line.
_OVERRIDDEN = re.compile("[\u202d\u202e]([^\u202c\n]+)")
_DIRECTIONS = re.compile("[\u202a\u202b\u202c\u2066-\u2069]")
_RIGHT_TO_LEFT = re.compile("[\u0590-\u08ff\ufb1d-\ufdff\ufe70-\ufefc]")
# Letters of two alphabets in one word: of Greek only those that pass for Latin ones, for formulas hold others.
_CYRILLIC = "\u0400-\u052f"
_GREEK = (
    "\u0391\u0392\u0395-\u0397\u0399\u039a\u039c\u039d\u039f\u03a1\u03a4\u03a5"
    "\u03a7\u03b9\u03ba\u03bd\u03bf\u03c1\u03c5\u03c7\u03f2\u03f3"
)
_LOOK_ALIKE = re.compile(f"[{_CYRILLIC}{_GREEK}\u0501\u051b\u051d\u0561-\u0587\u13a0-\u13f4]")
_WORD = re.compile(f"{_LETTER}{{3,}}")
_LATIN = re.compile("[A-Za-z\u00c0-\u024f]")


def hidden_characters(text: str) -> int:
    """How many characters, and words in a mixture of alphabets, are not what a reader sees.

    Args:
        text: Any text, as it was handed in.
    """
    if text.isascii():
        return 0 if text.isprintable() else len(_CONTROLS.findall(text))
    count = sum(len(run) for pattern in (_RUNS, _SELECTORS, _OVERRIDDEN) for run in pattern.findall(text))
    count += sum(len(pattern.findall(text)) for pattern in (_WITHIN, _CONTROLS, _PRIVATE))
    count += len(_TAGS.findall(_REGION.sub("", text)))
    if _RIGHT_TO_LEFT.search(text) is None:
        count += len(_DIRECTIONS.findall(text))
    if _LOOK_ALIKE.search(text) is not None:  # words in which letters of other alphabets pass for Latin ones
        count += sum(bool(_LOOK_ALIKE.search(word) and _LATIN.search(word)) for word in _WORD.findall(text))
    return count


_MARK = r"(?:scores?|grades?|marks?|points?|credits?|ratings?)"
_BEST = rf"(?:full|maximum|max|highest|perfect|top) (?:possible |available )?{_MARK}"
_ESSAY = r"(?:essay|response|answer|paper|submission|composition|text|writing)"
_NUMBER = r"(?:\d+|one|two|three|four|five|six|seven|eight|nine|ten|twelve)"
_MACHINE = (
    r"(?:ai|llm|language model|chatgpt|gpt|claude|gemini|automated|automatic|machine|artificial intelligence|bot)"
)
_SCORER = r"(?:graders?|scorers?|raters?|markers?|evaluators?|assessors?|examiners?|scoring|grading|judge|reviewers?)"
_ENGINE = r"(?:model|system|assistant|engine|software|algorithm|program|tool|bot|ai)"
_TASK = r"(?:instructions?|prompts?|guidelines?|rubrics?|criteria|programming|directives?|commands?)"
_IGNORE = (
    r"(?:ignor(?:e|ing)|disregard(?:ing)?|forget|overrid(?:e|ing)|bypass|discard|abandon|set aside|reset|"
    r"(?:stop|quit) (?:following|using|obeying|applying)|(?:do|must|should|need) not "
    r"(?:follow|obey|apply|use)|no longer follow)"
)
_EARLIER = r"(?:previous|prior|above|earlier|preceding|original|initial|system|grading|scoring|evaluation|before)"
_GIVE = r"(?:give|award|assign|grant|rate|score|grade|mark|allocate|evaluate)"
_SAY = r"(?:output|print|return|reply|respond|answer|say|write)"
_TO_GET = (
    r"(?:deserves|warrants|merits|gets|receives|earns|(?:should|must|is to|will|has to|shall) (?:receive|get|earn|have|"
    r"be (?:given|awarded|scored|graded|rated|marked|assigned)))"
)
_GOOD = rf"(?:{_BEST}|{_MARK} of {_NUMBER}|{_NUMBER} (?:out )?of {_NUMBER}|{_NUMBER} points?)"
# Tried on the words alone, one space between them.
_PASSAGES = (
    # To forget what it was told.
    rf"{_IGNORE} (?:\w+ ){{0,5}}?{_EARLIER} (?:\w+ ){{0,2}}?(?:{_TASK}|rules|directions|guide)\b",
    rf"{_IGNORE} (?:all |any )?(?:of )?your (?:\w+ )?(?:{_TASK}|role|persona)\b",
    rf"{_IGNORE} (?:the |all |any |this |that |every )*(?:\w+ )?(?:rubric|scoring guide|{_TASK} "
    rf"(?:above|before|given|you))\b",
    rf"{_IGNORE} (?:\w+ )?{_TASK} (?:that )?(?:you|were) (?:\w+ ){{0,3}}?(?:given|received|told|before|earlier)\b",
    r"(?:ignore|disregard|forget) (?:everything|all|anything) (?:\w+ ){0,3}?(?:above|before "
    r"this|previously|earlier|prior|"
    r"told|instructed)\b",
    rf"(?:do|must|should) not (?:grade|score|evaluate|assess|apply) (?:\w+ ){{0,4}}?(?:{_TASK}|penalt\w+|instead)\b",
    # Who it is, and what it is to do now.
    rf"(?:act as|acting as|pretend to be|you are|you re|as) (?:now )?(?:an? |the )?(?:\w+ )?{_MACHINE} (?:\w+ "
    rf"){{0,2}}?{_SCORER}\b",
    rf"you are (?:now )?an? (?:\w+ ){{0,2}}?(?:grader|scorer|rater|{_MACHINE} {_ENGINE})\b",
    rf"as an? (?:\w+ )?{_MACHINE} (?:\w+ ){{0,3}}?(?:should|must|will|have to) (?:\w+ ){{0,2}}?(?:{_GIVE}|{_SAY})\b",
    rf"if you are (?:an? |the )?(?:\w+ )?{_MACHINE}\b",
    rf"your (?:new|next|only|real|actual) (?:task|role|job|goal|instruction|objective)s? (?:is|are) (?:now )?to "
    rf"(?:{_GIVE}|{_SAY})\b",
    r"follow (?:only )?(?:my|these new|the new) (?:new )?instructions(?: only)?\b",
    rf"(?:new|updated|additional|revised|hidden|secret|special) (?:system )?(?:{_TASK}|message) (?:to |for "
    rf")(?:the |all |any )?"
    rf"(?:{_MACHINE}|{_SCORER}|model|system)\b",
    rf"(?:system|developer) prompt\b|(?:{_SCORER}|evaluation|system) override|override "
    rf"(?:mode|code)|jailbreak|prompt injection",
    rf"end of (?:the )?(?:student s? |user )?(?:essay|response|submission|input) (?:\w+ "
    rf"){{0,3}}?(?:{_TASK}|system|{_SCORER})\b",
    # Speaking to it.
    rf"(?:attention|dear|hello|hey|hi) (?:the |all |any )?(?:ai|llm|language model|chatgpt|gpt|claude|gemini|bot|"
    rf"(?:\w+ )?{_MACHINE} (?:\w+ ){{0,2}}?{_SCORER}|{_SCORER} {_ENGINE})\b",
    rf"(?:notes?|messages?|attention|instructions?|notice) (?:to |for )?(?:an? |the |all |any )?(?:\w+ "
    rf")?(?:{_MACHINE}|{_SCORER}) "
    rf"(?:\w+ ){{0,2}}?(?:{_ENGINE}|{_SCORER})\b",
    rf"(?:instructions?|notes?|message) (?:to|for) (?:the )?(?:{_MACHINE}|{_SCORER})\b",
    rf"to the (?:\w+ )?{_SCORER} {_ENGINE} (?:\w+ ){{0,8}}?(?:{_GIVE}|{_SAY}) ",
    rf"(?:{_MACHINE}|{_SCORER}) {_ENGINE} (?:\w+ ){{0,6}}?(?:{_GIVE}) (?:\w+ ){{0,4}}?(?:{_GOOD}|{_NUMBER} "
    rf"(?:out )?of)\b",
    # Asking for a score.
    rf"{_GIVE} (?:this|the|my|that|me|it|its|his|her|student s?) (?:\w+ ){{0,5}}?{_BEST}\b",
    rf"{_GIVE} (?:this|the|my|that) (?:\w+ )?{_ESSAY} (?:\w+ )?(?:as |with |at )?(?:an? |the )?(?:\d+|{_NUMBER} "
    rf"(?:out )?of|{_MARK} of {_NUMBER})\b",
    rf"{_GIVE} (?:this|me|it|my \w+) (?:as |with |at |an? |the )*(?:{_MARK} of {_NUMBER}|{_NUMBER} (?:out )?of "
    rf"{_NUMBER})\b",
    r"(?:score|rate) (?:it|this) (?:as |with |at |an? )*\d+\b",
    rf"(?:assign|award|return|output|grant) (?:\w+ )?(?:an? |the )?(?:{_BEST}|{_MARK} of {_NUMBER}|{_NUMBER} points)\b",
    rf"(?:this|the|my|every|each) (?:\w+ )?{_ESSAY} (?:above |below )?{_TO_GET} (?:\w+ ){{0,3}}?{_GOOD}\b",
    rf"(?:correct|right|true|automated|assigned|proper|official) {_MARK} (?:\w+ ){{0,4}}?(?:is|be|equals) "
    rf"(?:\w+ ){{0,2}}?{_NUMBER}\b",
    rf"{_MARK} (?:\w+ ){{0,2}}?{_ESSAY} (?:is|must be|should be|equals) (?:an? )?(?:\d+|{_NUMBER} (?:out )?of)\b",
    rf"(?:say|set|make|put) (?:that )?the {_MARK} (?:is|to|as|at) {_NUMBER}\b|{_MARK} equals {_NUMBER}\b",
    rf"(?:output|print|return|(?:respond|reply|answer) (?:only |just )?with) (?:only |just |exactly |nothing but )*"
    rf"(?:the |an? )?(?:{_BEST}|(?:number|digit|integer|score|grade) {_NUMBER}|\d+)\b",
    rf"(?:simply|just|only) (?:output|print|return|reply|respond) (?:with )?(?:the )?(?:{_MARK} )?{_NUMBER}\b",
    rf"your (?:answer|output|reply|response) (?:must|should|will|has to|is to) be (?:\w+ )?{_NUMBER}\b",
    # The same in German, French, Spanish and Italian.
    r"ignorier\w* (?:\w+ ){0,4}?(?:anweisung|instruktion|vorgabe)\w*",
    r"ignor(?:ez|e|er|a|ar|en) (?:\w+ ){0,4}?(?:consignes|instrucciones|istruzioni|instructions "
    r"(?:précédentes|precedentes))",
)
_IN_WORDS = re.compile(rf"\b(?:{'|'.join(_PASSAGES)})")
# Tried on the text with its marks: tokens of chats, roles, and a score as programs write it. Before what begins a line,
# other lines' ends are no blanks: from each end, a run of them would take the square of its length.
_MARKUP = (
    r"<\|[a-z_ ]{2,30}\|>",
    r"\[/?(?:inst|sys|system)\]",
    r"<</?sys>>",
    r"</?(?:system|instructions?|assistant|im_start|im_end|grader)>",
    r"(?:^|\n)[^\S\n]*#{1,6}\s*(?:system|instructions?|assistant|new task)\b",
    r"(?:^|\n)[^\S\n]*(?:system|assistant)\s*:",
    r"\b(?:system|developer) (?:prompt|message|override|note|instructions?)\s*:",
    r"\bassistant (?:response|reply|answer|output|message)?\s*:",
    r"[\"'](?:\w+_)?(?:score|grade|rating|mark)[\"']\s*:\s*[\"']?\d",
    r"\b(?:score|grade|rating)\s*[:=]\s*(?:\d+\s*/\s*\d+|\d+ out of \d+|a\+)",
)
_IN_MARKUP = re.compile("|".join(_MARKUP))
_WORDS = re.compile(r"[^\W_]+")
# Without one of these there is no markup.
_SIGNS = ("<", "[", "#", '":', "':", "system", "assistant", "developer", "score:", "grade:", "rating:", "score =")
# Bits of a word's hash by which it is looked up in the groups of words.
_BITS = 20


def injections(texts: Sequence[str], words: WordHashes) -> NDArray[np.int64]:
    """Passages of each essay that speak to a machine, (N,).

    Args:
        texts: N essays, normalised as `normal_text` does.
        words: Their words.
    """
    counts = np.zeros(len(texts), dtype=np.int64)
    worth = _worth_reading(words)
    for row, text in enumerate(texts):
        if worth[row]:
            counts[row] = len(_IN_WORDS.findall(" ".join(_WORDS.findall(text))))
        if any(sign in text for sign in _SIGNS):
            counts[row] += len(_IN_MARKUP.findall(text))
    return counts


def _worth_reading(words: WordHashes) -> NDArray[np.bool_]:
    """Which essays hold words that a passage of the kind cannot do without, (N,)."""
    groups = np.zeros(len(words.counts), dtype=np.uint8)
    full = np.flatnonzero(words.counts)
    if len(full):
        starts = (np.cumsum(words.counts) - words.counts)[full]
        marks = _groups()[(words.words >> np.uint64(64 - _BITS)).astype(np.int64)]
        groups[full] = np.bitwise_or.reduceat(marks, starts)
    held = {group: (groups >> bit) & 1 > 0 for bit, group in enumerate(word_lists("injections"))}
    asks = held["giving"] & held["judged"] & held["how_well"]
    worth: NDArray[np.bool_] = held["machines"] | (held["ignoring"] & held["tasks"]) | asks
    return worth


@cache
def _groups() -> NDArray[np.uint8]:
    """For the first bits of a word's hash in which groups it is, as bits."""
    groups = np.zeros(1 << _BITS, dtype=np.uint8)
    for bit, words in enumerate(word_lists("injections").values()):
        groups[(words >> np.uint64(64 - _BITS)).astype(np.int64)] |= 1 << bit
    return groups
