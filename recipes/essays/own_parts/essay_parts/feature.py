"""A feature: how often a writer hedges."""

import re

from aes_dynloss import register_feature

HEDGES = re.compile(
    r"\b(?:perhaps|maybe|possibly|probably|may|might|could|seems?|somewhat|i (?:think|guess|believe))\b"
)


@register_feature("hedges", unit="per 100 words", language="en", source="Hyland 1998 (idea)")
def hedges(text: str) -> float:
    """Words and phrases that take a claim back."""
    return 100 * len(HEDGES.findall(text.lower())) / max(len(text.split()), 1)
