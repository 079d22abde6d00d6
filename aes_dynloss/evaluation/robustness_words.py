"""A measured robustness in a sentence, and the words that every table and page of it has."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

EXPECTATIONS = {"fall": "should fall", "not_rise": "should not rise", "stay": "should stay"}


def headline_words(robustness: Mapping[str, Any]) -> str:
    """How often the score rises when it must not, in a sentence; nothing where no such change was made."""
    figures = robustness["expected"].get("must_not_rise")
    if figures is None or figures["rises"] is None:
        return ""
    rises, raw = figures["rises"], figures["raw_rises"]
    return (
        f"The score rises, though it should fall or at most stay, in {percent(rises['share'])} of {figures['n']:,} "
        f"changes ({percent(rises['low'])} to {percent(rises['high'])}); the unrounded score in "
        f"{percent(raw['share'])}."
    )


def percent(share: float) -> str:
    """A share with one decimal."""
    return f"{100 * share:.1f} %"
