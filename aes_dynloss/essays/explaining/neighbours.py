"""The training essays that a model finds nearest to an essay."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from aes_dynloss.essays.ensembles.ensemble import EssayEnsemble
from aes_dynloss.essays.explaining.reading import Reading
from aes_dynloss.essays.model.protocol import Scorer

if TYPE_CHECKING:
    from aes_dynloss.essays.model.scorer import EncoderScorer

NEIGHBOURS = 3


@dataclass(frozen=True)
class Neighbour:
    """A training essay near to an essay.

    Args:
        essay_id: Its id; None of a model folder that keeps none.
        score: Its human score.
        similarity: Cosine of both essays' vectors, those of the encoder's last layer.
    """

    essay_id: str | None
    score: float
    similarity: float


def neighbours(scorer: Scorer, essay: Reading, scale: str) -> list[Neighbour]:
    """The training essays nearest to an essay, among those whose vectors the model keeps, up to 256 a prompt.

    Args:
        scorer: The scorer; of an ensemble its first member that keeps such vectors answers.
        essay: The essay.
        scale: The prompt, or prompt and trait.

    Returns:
        Up to NEIGHBOURS, the nearest first; none of scorers without an encoder.
    """
    members = [one.scorer for one in scorer.members] if isinstance(scorer, EssayEnsemble) else [scorer]
    for member in members:
        training, screening = (getattr(member, name, None) for name in ("training", "screening"))
        if screening is not None and training is not None and scale in training.scores:
            return _of_encoder(member, essay, scale)  # type: ignore[arg-type]
    return []


def _of_encoder(scorer: EncoderScorer, essay: Reading, scale: str) -> list[Neighbour]:
    from aes_dynloss.essays.model.ood_distance import essay_vectors

    training, screening = scorer.training, scorer.screening
    if training is None or screening is None:
        return []
    read = essay.examples(scorer, scale)
    if read.features is None:
        return []
    vector = essay_vectors(scorer.model, read.features)[0]
    ids, scores = training.ids.get(scale), training.scores[scale]
    nearest = screening.ood_distance.nearest(vector, int(read.groups[0]), NEIGHBOURS)
    return [Neighbour(None if ids is None else ids[row], float(scores[row]), cosine) for row, cosine in nearest]
