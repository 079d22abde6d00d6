"""Changes to a model, or to an essay, that an explanation must show."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

import numpy as np

from aes_dynloss.essays.classical.text_regression import TextRegression
from aes_dynloss.essays.explaining.explanation import sentence_contributions
from aes_dynloss.essays.explaining.reading import Reading
from aes_dynloss.essays.explaining.sentences import sentence_spans
from aes_dynloss.essays.model.classical_scorer import ClassicalScorer
from aes_dynloss.essays.model.protocol import Scorer

if TYPE_CHECKING:
    from aes_dynloss.essays.model.scorer import EncoderScorer

# Words that say nothing, of the length of a sentence.
BABBLE = "Blorf quandle the wibbly snark of, grumpled to zizzle and a frobbed it narf."

Part = Literal["head", "encoder"]


def randomised(scorer: Scorer, part: Part, seed: int = 0) -> Scorer | None:
    """A copy of a scorer in which nothing is left of what a part of it has learned.

    The numbers that the head has learned are shuffled; the encoder's matrices are drawn anew with the same spread.

    Args:
        scorer: The scorer.
        part: Which part.
        seed: Of the draw.

    Returns:
        None where the scorer has no such part: ensembles, boosted trees, and the encoder of those without one.

    References:
        Adebayo et al. (2018), Sanity checks for saliency maps.
    """
    random = np.random.default_rng(seed)
    if isinstance(scorer, ClassicalScorer):
        if part == "encoder" or not all(isinstance(one, TextRegression) for one in scorer.models.values()):
            return None
        other = copy.copy(scorer)
        other.models = {name: _shuffled(one, random) for name, one in scorer.models.items()}
        return other
    if not hasattr(scorer, "model"):
        return None
    return _randomised_encoder_scorer(scorer, part, random)  # type: ignore[arg-type]


def _shuffled(model: object, random: np.random.Generator) -> TextRegression:
    if not isinstance(model, TextRegression):
        raise TypeError(model)
    strings = model.strings
    if strings is not None:
        strings = replace(strings, weights=random.permutation(strings.weights))
    return replace(model, coefficients=random.permutation(model.coefficients), strings=strings)


def _randomised_encoder_scorer(scorer: EncoderScorer, part: Part, random: np.random.Generator) -> EncoderScorer:
    import torch

    other = copy.copy(scorer)
    other.model = copy.deepcopy(scorer.model)
    generator = torch.Generator().manual_seed(int(random.integers(2**31)))
    with torch.no_grad():
        if part == "encoder":
            for weights in other.model.encoder.parameters():
                if weights.ndim > 1:
                    drawn = torch.randn(weights.shape, generator=generator)
                    weights.copy_(drawn * weights.float().std().cpu() + weights.float().mean().cpu())
            return other
        for weights in other.model.head.parameters():
            if weights.ndim > 1:
                order = torch.randperm(weights.shape[-1], generator=generator)
                weights.copy_(weights[..., order])
        kernel = other.model.kernel
        if kernel is not None:
            for number in range(len(other.model.scales)):
                own = kernel.owner == number if kernel.coefficients.ndim == 1 else kernel.coefficients[:, number] != 0
                rows = own.nonzero().flatten()
                shuffled = rows[torch.randperm(len(rows), generator=generator)]
                if kernel.coefficients.ndim == 1:
                    kernel.coefficients[rows] = kernel.coefficients[shuffled]
                else:
                    kernel.coefficients[rows, number] = kernel.coefficients[shuffled, number]
    other.strings = {
        name: replace(one, weights=random.permutation(one.weights)) for name, one in scorer.strings.items()
    }
    return other


@dataclass(frozen=True)
class Planted:
    """A sentence put into an essay.

    Args:
        shown: What rescoring shows that it adds, in score points.
        left_out: What the explanation says that the score loses without it.
        contribution: What the explanation says that it adds in the mean over all orders.
    """

    shown: float
    left_out: float
    contribution: float

    @property
    def agrees(self) -> bool:
        """Whether rescoring and what is lost without it have one sign."""
        return self.shown * self.left_out > 0


def plant(scorer: Scorer, essay: Reading, scale: str, sentence: str) -> Planted | None:
    """Put a sentence into the middle of an essay, and see what is said of it.

    Args:
        scorer: The scorer.
        essay: The essay, of two sentences or more.
        scale: The prompt, or prompt and trait.
        sentence: The sentence.

    Returns:
        None where the sentence is not found as one of its own.
    """
    spans = sentence_spans(essay.text)
    at = spans[len(spans) // 2].start
    before = essay.text[:at]
    space = "" if not before or before[-1].isspace() else " "
    text = f"{before}{space}{sentence} {essay.text[at:]}"
    start = len(before) + len(space)
    there = sentence_spans(text)
    place = next((number for number, span in enumerate(there) if span.start == start), None)
    if place is None or there[place].of(text).strip() != sentence.strip():
        return None
    raw = scorer.score([text, essay.text], [scale] * 2, features=None if essay.own is None else [essay.own] * 2).raw
    parts, last = sentence_contributions(scorer, Reading(text, essay.own), [scale], there, exact=False)
    return Planted(float(raw[0] - raw[1]), float(last[place, 0]), float(parts[place, 0]))


def best_sentence(texts: Sequence[str], scores: Sequence[float]) -> str:
    """The longest sentence of the essay with the highest score; empty without any.

    Args:
        texts: Essays.
        scores: Theirs.
    """
    if not len(texts):
        return ""
    text = texts[int(np.argmax(scores))]
    return max((span.of(text).strip() for span in sentence_spans(text)), key=len, default="")
