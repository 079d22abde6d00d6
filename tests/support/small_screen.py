"""Training essays of two prompts, made up by chance from a few hundred words, with a screen learned from them."""

from __future__ import annotations

from functools import cache

import numpy as np

from aes_dynloss.essays.screening.screen import Screen

_SHARED = """
    the a of and to in it is was for on that with as they this have because when people think many some would could
    should very more most other about from which there their then than into what how will can not but
"""
_TOPICS = {
    "bridge": """
        bridge river stone otter meadow flood council arch shop car village water boat fish mill path
    """,
    "phones": """
        phone school teacher lesson screen message call head parents class desk bell home ring lock door
    """,
}
SHARED = _SHARED.split()
TOPICS = {prompt: words.split() for prompt, words in _TOPICS.items()}
WORDINGS = {
    "bridge": "Explain what the council of the village by the river wants to do with the old stone bridge and why"
}


def made_up(prompt: str, generator: np.random.Generator, words: int = 120) -> str:
    """An essay whose words follow one another as chance has it, but always a few that may follow."""
    vocabulary = SHARED + TOPICS[prompt]
    found, place = [], int(generator.integers(len(vocabulary)))
    for _ in range(words):
        found.append(vocabulary[place])
        # Each word is followed by one of seven, the same in all essays.
        place = (place * 5 + 3 + 11 * int(generator.integers(7))) % len(vocabulary)
    sentences = [" ".join(found[start : start + 12]).capitalize() + "." for start in range(0, words, 12)]
    return " ".join(sentences)


def made_up_essays(count: int, seed: int = 0) -> tuple[list[str], list[str]]:
    """So many essays of each prompt, and their prompts."""
    generator = np.random.default_rng(seed)
    prompts = [prompt for prompt in TOPICS for _ in range(count)]
    lengths = generator.integers(80, 160, len(prompts))
    texts = [made_up(prompt, generator, int(length)) for prompt, length in zip(prompts, lengths, strict=True)]
    return texts, prompts


@cache
def small_screen() -> Screen:
    """A screen of 200 essays of each prompt."""
    texts, prompts = made_up_essays(200)
    return Screen.fit(texts, prompts, WORDINGS)
