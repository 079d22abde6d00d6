"""Semantic segmentation: a class for each pixel, by a pyramid pooling network, on CamVid.

python recipes/vision/segmentation.py recipes/vision/camvid.yaml data.source=FOLDER --output-dir runs/camvid
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import isnan
from typing import Any

import torch
from accelerate import Accelerator
from first_weights import start_from
from image_table import four
from mask_data import MaskDataConfig, Masks, read_masks
from matplotlib.figure import Figure
from pictures import draw_masks
from pydantic import Field
from pyramid_network import PyramidNetwork, PyramidNetworkConfig
from torch import Tensor
from vision_run import VisionConfig, command

DRAWN = 4


class SegmentationConfig(VisionConfig):
    """A run of semantic segmentation."""

    data: MaskDataConfig
    model: PyramidNetworkConfig = Field(default=PyramidNetworkConfig())
    measure_size: int = Field(default=16, ge=1, description="Images in one forward pass where nothing is learnt.")


@dataclass
class Segmentation:
    """See :class:`vision_run.Task`; outputs are coarse logits, (N, classes * h * w)."""

    student: PyramidNetwork
    names: Sequence[str]
    train: Masks
    teacher_dev: Masks
    dev: Masks
    test: Masks
    select_by: str = "mean_iou"

    @property
    def classes(self) -> int:
        """How many there are."""
        return len(self.names)

    def measures(self, outputs: Tensor, examples: Masks) -> dict[str, float]:
        """Mean IoU and accuracy over all labelled pixels, and each class's IoU; see :func:`overlaps`."""
        counts = torch.zeros(self.classes, self.classes, dtype=torch.int64)
        # Image by image: the logits of a whole split at full size would fill the memory.
        for output, mask in zip(outputs, examples.masks.cpu(), strict=True):
            counts += confusion(self.answers(output[None])[0], mask, self.classes)
        ious = overlaps(counts)
        by_class = zip(self.names, ious.tolist(), strict=True)
        return {
            "mean_iou": float(ious.nanmean()),
            "pixel_accuracy": float(counts.diagonal().sum() / counts.sum()),
            **{f"iou_{name.replace(' ', '_')}": iou for name, iou in by_class if not isnan(iou)},
        }

    def answers(self, outputs: Tensor) -> Tensor:
        """The likeliest class of each pixel, (N, H, W)."""
        return self.student.full_size(outputs).argmax(1)

    def draw(self, outputs: Tensor, examples: Masks) -> Figure:
        """A few images from all over the table, with their true and their answered classes."""
        rows = torch.linspace(0, len(outputs) - 1, min(DRAWN, len(outputs))).long()
        images, masks = examples.images.cpu()[rows], examples.masks.cpu()[rows]
        return draw_masks(images, masks, self.answers(outputs[rows]), self.names)


def confusion(answers: Tensor, truths: Tensor, classes: int) -> Tensor:
    """How many pixels of each class were answered as each, (classes, classes); void pixels are left out.

    Args:
        answers: Classes, of any shape.
        truths: Classes of the same pixels, -1 for void.
        classes: How many there are.
    """
    known = truths >= 0
    pairs = truths[known].long() * classes + answers[known].long()
    return torch.bincount(pairs, minlength=classes**2).view(classes, classes)


def overlaps(counts: Tensor) -> Tensor:
    """Intersection over union of each class, true positives / (true + answered - true positives), (classes,).

    Args:
        counts: Pixels by true and answered class, (classes, classes).

    Returns:
        On [0, 1]; NaN for a class that is neither true nor answered anywhere.

    References:
        Everingham et al. 2010, The PASCAL visual object classes challenge, section 4.2.
    """
    hits = counts.diagonal().double()
    return hits / (counts.sum(0) + counts.sum(1) - hits)


def build(config: Any, accelerator: Accelerator) -> Segmentation:  # noqa: ANN401
    """The task that a configuration describes."""
    names, parts = config.data.classes, read_masks(config.data, accelerator.device)
    torch.manual_seed(config.training.seed)
    student = PyramidNetwork(config.model, parts["train"].images, parts["train"].masks, len(names))
    start_from(student, config.model.weights)
    return Segmentation(student, names, *four(parts))


if __name__ == "__main__":
    command("segmentation.py", SegmentationConfig, build)
