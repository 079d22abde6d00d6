"""From a detector's numbers to boxes, and from boxes to mean average precision."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from anchors import AnchorGrid, decode
from numpy.typing import NDArray
from pydantic import Field
from single_stage_network import CLASSES, OBJECTNESS
from torch import Tensor

from aes_dynloss.configfile import ConfigModel

# With more classes, one average precision each would bury the mean.
MOST_NAMED = 20


class AnswerConfig(ConfigModel):
    """Which boxes are answered."""

    least_score: float = Field(default=0.01, ge=0, lt=1, description="A box needs such a score, object times class.")
    overlap: float = Field(
        default=0.5, gt=0, le=1, description="Of boxes of one class with more IoU than this, the best one is answered."
    )
    candidates: int = Field(default=1000, ge=1, description="Boxes an image that are compared, at most.")


@dataclass(frozen=True)
class Boxes:
    """Boxes in one image.

    Args:
        places: Corners x1, y1, x2, y2 in pixels, (n, 4).
        labels: Their classes, (n,) int64.
        scores: From 0 to 1, (n,), the highest first; 1 for what is true.
    """

    places: Tensor
    labels: Tensor
    scores: Tensor


def true_boxes(boxes: Tensor, labels: Tensor) -> list[Boxes]:
    """The boxes of each image without padding.

    Args:
        boxes: (N, M, 4).
        labels: (N, M), -1 for padding.
    """
    return [
        Boxes(b[known >= 0], known[known >= 0], torch.ones(int((known >= 0).sum())))
        for b, known in zip(boxes, labels, strict=True)
    ]


def answered_boxes(outputs: Tensor, grid: AnchorGrid, config: AnswerConfig) -> list[Boxes]:
    """The boxes that a detector finds in each image, by non-maximum suppression of each class.

    Args:
        outputs: (N, anchors * (5 + K)).
        grid: The anchors.
        config: Which are answered.
    """
    from torchvision.ops import batched_nms

    priors = grid.priors()
    answers = []
    for output in outputs.float():
        raw = output.view(len(grid), -1)
        scores = raw[:, OBJECTNESS, None].sigmoid() * raw[:, CLASSES:].softmax(1)
        classes = scores.shape[1]
        best, where = scores.flatten().topk(min(config.candidates, scores.numel()))
        where = where[best > config.least_score]
        anchor, label = where // classes, where % classes
        places = _inside(decode(raw[anchor, :OBJECTNESS], priors[anchor], grid.stride), grid.size)
        kept = batched_nms(places, best[: len(where)], label, config.overlap)
        answers.append(Boxes(places[kept], label[kept], best[kept]))
    return answers


def average_precision(answers: Sequence[Boxes], truths: Sequence[Boxes], names: Sequence[str]) -> dict[str, float]:
    """COCO's mean average precision over IoU .50 to .95, that at .50, and the latter of each class if they are few.

    Args:
        answers: Of N images; the best 100 of an image count.
        truths: Of the same images, at least one box in all.
        names: Of the classes.

    Returns:
        ``map``, ``map50`` and ``map50_NAME``, in [0, 1]; 0 where nothing is answered.

    References:
        Lin et al. 2014, Microsoft COCO: Common objects in context; pycocotools.cocoeval.
    """
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    present = torch.cat([truth.labels for truth in truths]).bincount(minlength=len(names)) > 0
    rows = _rows(answers)
    if len(rows) == 0:
        precision = np.zeros((2, len(names)))
    else:
        with contextlib.redirect_stdout(io.StringIO()):
            truth = COCO()
            truth.dataset = _dataset(truths, names)
            truth.createIndex()
            evaluation = COCOeval(truth, truth.loadRes(rows), "bbox")
            evaluation.params.areaRng, evaluation.params.areaRngLbl = [[0, 1e10]], ["all"]
            evaluation.evaluate()
            evaluation.accumulate()
        # (IoU, recall, class, area, most answers); -1 for a class that is nowhere.
        curves = evaluation.eval["precision"][:, :, :, 0, -1]
        precision = np.stack([curves.mean((0, 1)), curves[0].mean(0)])
    of_class = {f"map50_{name}": float(precision[1, k]) for k, name in enumerate(names) if present[k]}
    mean, at_half = precision[:, present.numpy()].mean(1).tolist()
    return {"map": mean, "map50": at_half, **(of_class if len(names) <= MOST_NAMED else {})}


def _rows(answers: Sequence[Boxes]) -> NDArray[np.float64]:
    """Image, x, y, width, height, score and category of each box, (n, 7); images and categories count from 1."""
    rows = [
        torch.cat(
            [torch.full((len(a.labels), 1), float(n)), _sides(a.places), a.scores[:, None], a.labels[:, None] + 1], 1
        )
        for n, a in enumerate(answers, start=1)
    ]
    return torch.cat(rows).double().numpy()


def _dataset(truths: Sequence[Boxes], names: Sequence[str]) -> dict[str, list[dict[str, object]]]:
    known: list[dict[str, object]] = []
    for image, truth in enumerate(truths, start=1):
        for box, label in zip(_sides(truth.places).tolist(), truth.labels.tolist(), strict=True):
            # Numbers from 1: pycocotools takes 0 for `matched to nothing`.
            entry = {"id": len(known) + 1, "image_id": image, "category_id": label + 1}
            known.append({**entry, "bbox": box, "area": box[2] * box[3], "iscrowd": 0})
    images: list[dict[str, object]] = [{"id": number} for number in range(1, len(truths) + 1)]
    categories: list[dict[str, object]] = [{"id": k, "name": name} for k, name in enumerate(names, start=1)]
    return {"images": images, "annotations": known, "categories": categories}


def _sides(places: Tensor) -> Tensor:
    """Corners to x, y, width and height."""
    return torch.cat([places[:, :2], places[:, 2:] - places[:, :2]], dim=1)


def _inside(places: Tensor, size: tuple[int, int]) -> Tensor:
    height, width = size
    return torch.minimum(places.clamp(min=0), torch.tensor([width, height, width, height]))
