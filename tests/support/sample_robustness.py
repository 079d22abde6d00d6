"""What changes did to the scores of a counter of words."""

from __future__ import annotations

from word_counter import WordCounter, counted_essays

from aes_dynloss.essays.robustness import measure_robustness


def sample_robustness(prompts=("a", "b"), **settings):
    """Each essay has a word for each kind to change."""
    essays = [essay._replace(text=f"Big can't. {essay.text}") for essay in counted_essays(prompts)]
    return measure_robustness(WordCounter(), essays, **settings)
