"""An essay's vectors, which each encoder makes of it once however often they are asked for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from aes_dynloss.essays.data.readers import UnscoredEssay

if TYPE_CHECKING:
    from torch import Tensor

    from aes_dynloss.essays.model.examples import EssayExamples
    from aes_dynloss.essays.model.scorer import EncoderScorer


@dataclass(frozen=True)
class Reading:
    """One essay, and what encoders have made of it.

    Args:
        text: The essay.
        own: Numeric columns of the user's own, where a scorer sees some.
    """

    text: str
    own: Mapping[str, float] | None = None
    _vectors: dict[int, Tensor] = field(default_factory=dict, repr=False)

    @classmethod
    def of(cls, essay: UnscoredEssay) -> Reading:
        """An essay that is to be scored."""
        return cls(essay.text, essay.features or None)

    def examples(self, scorer: EncoderScorer, scale: str) -> EssayExamples:
        """The essay as a scorer reads it for a prompt, or prompt and trait, with its vector: one example.

        Raises:
            DataError: A column is missing.
        """
        example = scorer.examples([self.text], [scale], None if self.own is None else [self.own])
        if id(scorer) not in self._vectors:
            from aes_dynloss.training.prediction import evaluating

            model, device = scorer.model.to(scorer.accelerator.device), scorer.accelerator.device
            with evaluating(model), scorer.accelerator.autocast():
                self.keep(scorer, model.pooled(example.batch([0]).to(device).inputs))
        return replace(example, features=self._vectors[id(scorer)], units=None)

    def keep(self, scorer: EncoderScorer, vector: Tensor) -> None:
        """Keep what a scorer's encoder made of the essay: its pooled vector, (1, H)."""
        self._vectors[id(scorer)] = vector.detach().float().cpu()
