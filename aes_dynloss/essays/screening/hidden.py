"""Characters that a machine reads and a reader does not see as they are.

What honest texts hold passes: byte order marks, soft hyphens, no-break spaces, joiners between emoji and in the scripts
that need them, marks of direction beside Arabic and Hebrew, zero-width spaces between words, symbols of Word's bullets,
Greek letters in formulas, and flags of regions.
"""

from __future__ import annotations

import re

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
    found = sum(len(run) for run in _RUNS.findall(text))
    found += len(_WITHIN.findall(text)) + len(_CONTROLS.findall(text)) + len(_PRIVATE.findall(text))
    found += len(_TAGS.findall(_REGION.sub("", text))) + sum(len(run) for run in _SELECTORS.findall(text))
    found += sum(len(run) for run in _OVERRIDDEN.findall(text))
    if _RIGHT_TO_LEFT.search(text) is None:
        found += len(_DIRECTIONS.findall(text))
    return found + _disguised(text)


def _disguised(text: str) -> int:
    """Words in which letters of other alphabets pass for Latin ones."""
    if _LOOK_ALIKE.search(text) is None:
        return 0
    return sum(bool(_LOOK_ALIKE.search(word) and _LATIN.search(word)) for word in _WORD.findall(text))
