"""Passages that speak to a machine that scores: set it other tasks, ask it for a score, or pass for its own markup.

They are told by their wording, so that new wordings are missed; the scorers of this package are not moved by such words
as a language model that is asked for a score may be. Essays that ask a human reader for a good grade pass as a rule.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cache

import numpy as np
from numpy.typing import NDArray

from aes_dynloss.essays.screening.word_hashes import WordHashes, hash_words

_MARK = r"(?:scores?|grades?|marks?|points?|credits?|ratings?)"
_BEST = rf"(?:full|maximum|max|highest|perfect|top) (?:possible |available )?{_MARK}"
_ESSAY = r"(?:essay|response|answer|paper|submission|composition|text|writing)"
_NUMBER = r"(?:\d+|one|two|three|four|five|six|seven|eight|nine|ten|twelve)"
_MACHINE = r"(?:ai|llm|language model|chatgpt|gpt|claude|gemini|automated|automatic|machine|artificial intelligence|bot)"
_SCORER = r"(?:graders?|scorers?|raters?|markers?|evaluators?|assessors?|examiners?|scoring|grading|judge|reviewers?)"
_TASK = r"(?:instructions?|prompts?|guidelines?|rubrics?|criteria|programming|directives?|commands?)"
_IGNORE = r"(?:ignor(?:e|ing)|disregard(?:ing)?|forget|overrid(?:e|ing)|bypass|discard)"
_GIVE = r"(?:give|award|assign|grant|rate|score|grade|mark|allocate|evaluate)"
_TO_GET = (
    r"(?:deserves|warrants|merits|(?:should|must|is to|will|has to|shall) (?:receive|get|earn|have|"
    r"be (?:given|awarded|scored|graded|rated|marked|assigned)))"
)
# On the words alone, one space between them.
_IN_WORDS = re.compile(
    r"\b(?:"
    + "|".join(
        (
            rf"{_IGNORE} (?:\w+ ){{0,5}}?(?:previous|prior|above|earlier|preceding|original|initial|system|grading|"
            rf"scoring|evaluation) (?:\w+ ){{0,2}}?(?:{_TASK}|rules|directions|guide)\b",
            rf"{_IGNORE} (?:all |any )?(?:of )?your (?:\w+ )?{_TASK}\b",
            rf"{_IGNORE} (?:the |all |any |this |that |every )*(?:\w+ )?(?:rubric|scoring guide|{_TASK} (?:above|before|given|you))\b",
            r"(?:ignore|disregard|forget) (?:everything|all|anything) (?:\w+ ){0,3}?(?:above|before this|previously|"
            r"earlier|prior|told|instructed)\b",
            rf"(?:as|you are|you re|act as|acting as|pretend to be|attention|dear|hello|hey|note to|message to|note for|"
            rf"message for|instructions? (?:to|for)) (?:an? |the |all |any |our )?(?:\w+ )?{_MACHINE} (?:\w+ ){{0,2}}?{_SCORER}\b",
            rf"(?:note|message|attention|instructions?|notice) (?:to |for )?(?:an? |the |all |any )?(?:{_MACHINE}|{_SCORER}) "
            rf"(?:\w+ ){{0,2}}?(?:model|system|assistant|engine|software|algorithm|{_SCORER})\b",
            rf"you are (?:now )?an? (?:\w+ ){{0,2}}?(?:grader|scorer|rater|{_MACHINE} (?:assistant|model|system))\b",
            rf"if you are (?:an? |the )?(?:\w+ )?{_MACHINE}\b",
            rf"{_GIVE} (?:this|the|my|that|me|it|its|his|her|student s?) (?:\w+ ){{0,5}}?{_BEST}\b",
            rf"{_GIVE} (?:this|the|my|that) (?:\w+ )?{_ESSAY} (?:as |with |at )?(?:an? |the )?(?:{_MARK} of )?(?:\d+|{_NUMBER} out of)\b",
            rf"{_GIVE} (?:this|me|it|my \w+) (?:an? |the )?{_MARK} of {_NUMBER}\b",
            rf"(?:this|the|my) (?:\w+ )?{_ESSAY} (?:above |below )?{_TO_GET} (?:\w+ ){{0,3}}?(?:{_BEST}|{_MARK} of {_NUMBER}|{_NUMBER} out of|"
            r"\d+ points?)\b",
            rf"(?:output|print|return|(?:respond|reply|answer) (?:only |just )?with) (?:only |just |exactly |nothing but )*"
            rf"(?:the |an? )?(?:number|digit|integer|{_MARK}|{_BEST})\b",
            rf"(?:new|updated|additional|revised|hidden|secret|special) (?:system )?(?:{_TASK}|message) (?:to |for )(?:the |all |any )?"
            rf"(?:{_MACHINE}|{_SCORER}|model|system)\b",
            r"(?:grading|scoring|evaluation|system) override|override (?:mode|code)|jailbreak|prompt injection|developer mode",
            rf"do not (?:grade|score|evaluate|assess|apply) (?:\w+ ){{0,4}}?(?:{_TASK}|instead)\b",
            rf"end of (?:the )?(?:student |user )?(?:essay|response|submission|input) (?:\w+ ){{0,3}}?(?:{_TASK}|system|{_SCORER})\b",
            r"ignorier\w* (?:\w+ ){0,4}?(?:anweisung|instruktion|vorgabe)\w*",
            r"ignor(?:ez|e|er|a|ar|en) (?:\w+ ){0,4}?(?:consignes|instrucciones|istruzioni|instructions (?:précédentes|precedentes))",
        )
    )
    + ")"
)
# On the text with its marks: tokens of chats, roles, and a score as programs write it.
_IN_MARKUP = re.compile(
    "|".join(
        (
            r"<\|[a-z_ ]{2,30}\|>",
            r"\[/?(?:inst|sys|system)\]",
            r"<</?sys>>",
            r"</?(?:system|instructions?|assistant|im_start|im_end|grader)>",
            r"(?:^|\n)\s*#{1,6}\s*(?:system|instructions?|assistant|new task)\b",
            r"(?:^|\n)\s*(?:system|assistant)\s*:",
            r"\b(?:system|developer) (?:prompt|message|override|note|instructions?)\s*:",
            r"[\"'](?:\w+_)?(?:score|grade|rating|mark)[\"']\s*:\s*[\"']?\d",
        )
    )
)
_WORDS = re.compile(r"[^\W_]+")
_UNSEEN = re.compile("[\u00ad\u200b-\u200f\u202a-\u202e\u2060-\u2069\ufeff\U000e0000-\U000e007f]")
# Without one of these there is no markup.
_MARKS = ("<", "[", "#", "\":", "':", "system", "assistant", "developer")
# Patterns are only tried on essays with words of the groups that they need.
_MACHINES, _IGNORING, _TASKS, _GIVING, _JUDGED, _HOW_WELL = range(6)
_GROUPS = (
    """
    ai llm chatgpt gpt claude gemini automated automatic bot jailbreak injection override developer consignes précédentes
    precedentes instrucciones istruzioni anweisung anweisungen instruktion instruktionen vorgabe vorgaben grader graders
    scorer scorers
    """,
    """
    ignore ignoring disregard disregarding forget override overriding bypass discard end note message notice attention
    output print return respond reply evaluate apply
    """,
    """
    instruction instructions prompt prompts guideline guidelines rubric rubrics criteria programming directive directives
    command commands rater raters assessor examiner evaluator scoring grading number digit integer told instructed
    above previously earlier prior
    """,
    """
    give award assign grant rate score grade mark allocate evaluate deserves warrants merits should must shall receive
    output print return respond reply answer
    """,
    """
    score scores grade grades mark marks point points credit credits rating ratings essay response answer paper
    submission composition text writing
    """,
    "full maximum max highest perfect top 0 00 000 five six seven eight nine ten twelve",
)
_BITS = 16


def injections(texts: Sequence[str], words: WordHashes) -> NDArray[np.int64]:
    """Passages of each essay that speak to a machine, (N,).

    Args:
        texts: N essays, normalised as `normal_text` does.
        words: Their words.
    """
    found = np.zeros(len(texts), dtype=np.int64)
    worth = _worth_reading(words)
    for row, text in enumerate(texts):
        if worth[row]:
            found[row] = len(_IN_WORDS.findall(" ".join(_WORDS.findall(_UNSEEN.sub("", text)))))
        if any(mark in text for mark in _MARKS):
            found[row] += len(_IN_MARKUP.findall(text))
    return found


def _worth_reading(words: WordHashes) -> NDArray[np.bool_]:
    """Which essays hold words that a passage of the kind cannot do without, (N,)."""
    groups = np.zeros(len(words.counts), dtype=np.uint8)
    full = np.flatnonzero(words.counts)
    if len(full):
        starts = (np.cumsum(words.counts) - words.counts)[full]
        marks = _groups()[(words.words >> np.uint64(64 - _BITS)).astype(np.int64)]
        groups[full] = np.bitwise_or.reduceat(marks, starts)
    held = [(groups >> group) & 1 > 0 for group in range(len(_GROUPS))]
    asks = held[_GIVING] & held[_JUDGED] & held[_HOW_WELL]
    worth: NDArray[np.bool_] = held[_MACHINES] | (held[_IGNORING] & held[_TASKS]) | asks
    return worth


@cache
def _groups() -> NDArray[np.uint8]:
    """For the first bits of a word's hash in which groups it is, as bits."""
    groups = np.zeros(1 << _BITS, dtype=np.uint8)
    for bit, words in enumerate(_GROUPS):
        for place in hash_words([words]).words >> np.uint64(64 - _BITS):
            groups[int(place)] |= 1 << bit
    return groups
