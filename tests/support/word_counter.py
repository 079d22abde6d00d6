"""A scorer that counts words, so that a test knows what any change of an essay does to its score."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np

from aes_dynloss.essays.data.essay_table import Prompt
from aes_dynloss.essays.data.readers import UnscoredEssay
from aes_dynloss.essays.model.prompt_scales import Postprocessing
from aes_dynloss.measures.intervals import Intervals
from aes_dynloss.tables.score_range import ScoreRange

TEXT = "Read the letter and answer it politely, in your own words."
PROMPTS = {"a": Prompt("a", ScoreRange(0, 100), TEXT), "b": Prompt("b", ScoreRange(0, 10))}


class WordCounter:
    """Raw is a factor times the number of words; the score is its score point."""

    capped, screen, intervals, own_features = False, None, Intervals({}), ()
    sources, postprocessing = tuple(PROMPTS), Postprocessing()

    def __init__(self, factor=1.0, prompts=PROMPTS):
        self.factor, self.prompts, self.texts = factor, prompts, []

    def score(self, texts, prompt_ids, *, features=None, progress=None, tokens=32768):
        self.texts += texts
        counts = np.array([len(text.split()) for text in texts])
        raw = self.factor * counts
        points = [self.prompts[prompt].range.to_point(one) for prompt, one in zip(prompt_ids, raw, strict=True)]
        gaps = np.full(len(texts), np.nan)
        return SimpleNamespace(
            raw=raw.astype(float),
            score=np.array(points, dtype=float),
            tokens=counts,
            dropped_tokens=0 * counts,
            certainty=gaps,
            probabilities=None,
            ood_distance=gaps,
        )


def _word(*numbers):
    """A word of letters alone, another for other numbers."""
    return "stone" + "".join(chr(97 + number // 26 % 26) + chr(97 + number % 26) for number in numbers)


def sentences(words, count):
    """So many sentences of so many words, all different."""
    return " ".join(" ".join(_word(one, word) for word in range(words)).capitalize() + "." for one in range(count))


def counted_essays(prompts=("a", "b"), each=4):
    """Essays of 3, 6, ... sentences of two words."""
    return [
        UnscoredEssay(f"{prompt}{number}", prompt, sentences(2, 3 * (number + 1)))
        for prompt in prompts
        for number in range(each)
    ]
