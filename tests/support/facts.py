"""Patterns for messages of which a test demands the facts and not the wording."""

from __future__ import annotations

import re


def facts(*expected: object) -> str:
    """A pattern for ``match=``: a message holds each fact as a whole word or number, in whatever order.

    Facts are what a reader needs: a path, a row, a value, the option to use. A message may be reworded around them.

    >>> bool(re.search(facts("Row 3", "score 7", "1 to 6"), "Row 3: expected a score of 1 to 6, found score 7."))
    True
    >>> bool(re.search(facts("Row 3", "score 7"), "Row 31: score 7.5 is wrong."))
    False
    """
    return "(?s)" + "".join(f"(?=.*{_whole(str(fact))})" for fact in expected)


def _whole(fact: str) -> str:
    """Not within a longer word, nor within a number such as 10, 0.1 or 1.5 for a fact that begins or ends with 1."""
    before = (r"(?<!\w)" if fact[0].isalnum() else "") + (r"(?<!\d\.)" if fact[0].isdigit() else "")
    after = (r"(?!\w)" if fact[-1].isalnum() else "") + (r"(?!\.\d)" if fact[-1].isdigit() else "")
    return before + re.escape(fact) + after
