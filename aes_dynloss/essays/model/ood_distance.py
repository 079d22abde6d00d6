"""Out-of-distribution distance: how far an essay's vector is from those of the training essays."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from accelerate import Accelerator
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from aes_dynloss.errors import ShapeError
from aes_dynloss.essays.model.examples import EssayExamples
from aes_dynloss.essays.model.scoring_model import ScoringModel
from aes_dynloss.essays.screening.training_statistics import learn_distance_threshold
from aes_dynloss.training.prediction import predict

NEIGHBOURS = 5
MOST_REFERENCES = 256
# Essays of a prompt: with so many in dev, these alone tell how far others are; with fewer in all, nothing does.
ENOUGH_DEV, FEWEST = 100, 50


class OodDistance(nn.Module):
    """Distance of essays from training essays of the same prompt, as a multiple of what nearly all essays keep to.

        d = 1 - the k-th largest cosine between the essay's vector and those of training essays, k = 5

    Args:
        references: For each prompt of the model, vectors of training essays, (R_p, H), 0 <= R_p <= 256; R_p = 0:
            nothing is known of the prompt.
        thresholds: For each, the distance that nearly all essays keep to, > 0.

    Raises:
        ShapeError: The numbers differ, there are too many vectors, one is not finite, or a threshold is not above 0.

    References:
        Sun, Ming, Zhu and Li (2022), Out-of-distribution detection with deep nearest neighbors, ICML.
    """

    thresholds: Tensor

    def __init__(self, references: Sequence[Tensor], thresholds: Sequence[float]) -> None:
        super().__init__()
        widths = {vectors.shape[1] for vectors in references if vectors.ndim == 2 and len(vectors)}
        # Vectors without a number take no room in a file, however many they are, but do in memory.
        fit = all(v.ndim == 2 and v.is_floating_point() and len(v) <= MOST_REFERENCES for v in references)
        fit = fit and len(widths) <= 1 and all(bool(torch.isfinite(vectors.float()).all()) for vectors in references)
        if not fit or len(references) != len(thresholds) or not all(t > 0 for t in thresholds):
            raise ShapeError(
                f"Expected finite vectors of one width, at most {MOST_REFERENCES}, and a threshold above 0 for each "
                f"prompt, found those of {len(references)} prompts, of widths {sorted(widths)}, and {len(thresholds)} "
                "thresholds."
            )
        self.references = [functional.normalize(vectors.float(), dim=1) for vectors in references]
        self.register_buffer("thresholds", torch.tensor(list(thresholds), dtype=torch.float32), persistent=False)

    def nearest(self, vector: Tensor, prompt: int, count: int) -> list[tuple[int, float]]:
        """The training essays nearest to an essay: their places among the references of its prompt, and cosines.

        Args:
            vector: The essay's vector, (H,).
            prompt: Number of its prompt.
            count: How many, at most.
        """
        known = self.references[prompt]
        if not len(known):
            return []
        cosines = functional.normalize(vector.float()[None], dim=1).cpu() @ known.cpu().T
        best = cosines[0].topk(min(count, len(known)))
        return list(zip(best.indices.tolist(), best.values.tolist(), strict=True))

    def forward(self, vectors: Tensor, prompt: Tensor) -> Tensor:
        """Multiples of the threshold.

        Args:
            vectors: The essays' vectors, (B, H).
            prompt: Number of each essay's prompt, (B,).

        Returns:
            (B,) float32: above 1 where an essay is farther than nearly all; NaN where nothing is known.
        """
        # Under bf16 autocast a cosine near 1 would have eight bits.
        with torch.autocast(vectors.device.type, enabled=False):
            multiples = torch.full((len(vectors),), torch.nan, device=vectors.device)
            for number, references in enumerate(self.references):
                rows = prompt == number
                if len(references) and bool(rows.any()):
                    multiples[rows] = _distances(vectors[rows], references) / self.thresholds[number]
            return multiples


def _distances(vectors: Tensor, references: Tensor, *, itself: bool = False) -> Tensor:
    """Distances, (B,), from references of length 1; with ``itself`` from the other references, which the vectors are.

    Without references there are none.
    """
    if len(references) <= itself or len(vectors) == 0:
        return torch.zeros(0)
    cosines = functional.normalize(vectors.float(), dim=1) @ references.to(vectors.device).T
    if itself:
        cosines.fill_diagonal_(-torch.inf)
    neighbours = min(NEIGHBOURS, len(references) - itself)
    return 1 - cosines.topk(neighbours, dim=1).values[:, -1]


class WithOodDistance(nn.Module):
    """A scoring model that also says how far essays are from those that it learned from.

    Args:
        model: The model.
        ood_distance: What it compares with.
    """

    def __init__(self, model: ScoringModel, ood_distance: OodDistance) -> None:
        super().__init__()
        self.model = model
        self.ood_distance = ood_distance

    def forward(self, **inputs: Tensor) -> Tensor:
        """The model's outputs and, in a last column, multiples of the familiar distance: (B, D + 1)."""
        features = self.model.pooled(inputs)
        outputs = self.model(**{**inputs, "features": features})
        multiples = self.ood_distance(essay_vectors(self.model, features), inputs["prompt"])
        return torch.cat([outputs, multiples[:, None].to(outputs.dtype)], dim=1)


class Vectors(nn.Module):
    """A scoring model that answers essays' vectors alone.

    Args:
        model: The model.
    """

    def __init__(self, model: ScoringModel) -> None:
        super().__init__()
        self.model = model

    def forward(self, **inputs: Tensor) -> Tensor:
        """Vectors of the encoder's last layer, (B, H) float32."""
        return essay_vectors(self.model, self.model.pooled(inputs)).float()


def essay_vectors(model: ScoringModel, features: Tensor) -> Tensor:
    """The pooled vectors of the encoder's last layer, (B, H), out of those of all pooled layers."""
    return features[:, -(features.shape[1] // model.pooled_count) :]


def reference_rows(groups: NDArray[np.int64], prompts: int, seed: int) -> list[NDArray[np.int64]]:
    """Rows of the training essays whose vectors are kept, for each prompt, in rising order.

    Args:
        groups: Number of each training essay's prompt, (N,).
        prompts: Their number.
        seed: Of the draw.
    """
    drawn = []
    for number in range(prompts):
        rows = np.flatnonzero(groups == number)
        most = min(len(rows), MOST_REFERENCES)
        drawn.append(np.sort(np.random.default_rng(seed).choice(rows, most, replace=False)))
    return drawn


def fit_ood_distance(
    accelerator: Accelerator, model: ScoringModel, train: EssayExamples, dev: EssayExamples, seed: int = 0
) -> OodDistance:
    """What a model knows, from its training essays; how far essays are from them, from its dev essays.

    Where dev has fewer than 100 essays of a prompt, the training essays' distances from the other ones count too; where
    there are fewer than 50 in all, nothing is known of the prompt.

    Args:
        accelerator: The run's; all its processes must call.
        model: The trained model.
        train: Training essays, of which at most 256 a prompt are drawn.
        dev: Dev essays; may be none.
        seed: Of the draw.
    """
    drawn = reference_rows(train.groups, len(model.scales), seed)
    vectors = Vectors(model)
    known = predict(accelerator, vectors, train.select(np.concatenate(drawn)))
    references = list(torch.split(known, [len(rows) for rows in drawn]))
    others = predict(accelerator, vectors, dev) if len(dev) else known[:0]
    thresholds = []
    for number, essays in enumerate(references):
        unit = functional.normalize(essays.float(), dim=1)
        distances = _distances(others[torch.from_numpy(dev.groups == number)], unit)
        if len(distances) < ENOUGH_DEV:
            distances = torch.cat([distances, _distances(essays, unit, itself=True)])
        if len(distances) < FEWEST:
            references[number] = essays[:0]
            thresholds.append(1.0)
        else:
            thresholds.append(max(learn_distance_threshold(distances.double().numpy()), 1e-6))
    return OodDistance(references, thresholds)
