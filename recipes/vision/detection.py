"""Object detection: a small single-stage network on blood cells (BCCD), COCO, or data of the same layout.

python recipes/vision/detection.py recipes/vision/bccd.yaml data.source=FILE --output-dir runs/bccd
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

import torch
from accelerate import Accelerator
from box_data import BoxDataConfig, BoxTable, Variation, read_boxes
from box_measures import AnswerConfig, answered_boxes, average_precision, true_boxes
from extras import needs
from first_weights import start_from
from image_table import four
from matplotlib.figure import Figure
from pictures import draw_boxes
from pydantic import Field, model_validator
from single_stage_network import SingleStageConfig, SingleStageNetwork
from torch import Tensor
from vision_run import VisionConfig, command

DRAWN = 4


class DetectionConfig(VisionConfig):
    """A run of object detection."""

    data: BoxDataConfig
    model: SingleStageConfig = Field(default=SingleStageConfig())
    answers: AnswerConfig = Field(default=AnswerConfig())
    measure_size: int = Field(default=16, ge=1, description="Images in one forward pass where nothing is learnt.")

    @model_validator(mode="after")
    def _check_grid(self) -> Self:
        stride = self.model.stride
        if any(side % stride for side in self.data.size):
            raise ValueError(
                f"data.size: expected a height and a width that model.stride = {stride} divides, found "
                f"{list(self.data.size)}"
            )
        return self


@dataclass
class Detection:
    """See :class:`vision_run.Task`; outputs are what the network answers for all anchors."""

    student: SingleStageNetwork
    names: Sequence[str]
    answers: AnswerConfig
    train: BoxTable
    teacher_dev: BoxTable
    dev: BoxTable
    test: BoxTable
    select_by: str = "map50"

    @property
    def classes(self) -> int:
        """Columns of an element: the classes of objects, none, and object."""
        return len(self.names) + 2

    def measures(self, outputs: Tensor, examples: BoxTable) -> dict[str, float]:
        """Mean average precision over IoU .50 to .95, and at .50."""
        known = examples.known
        answers = answered_boxes(outputs, examples.grid, self.answers)
        return average_precision(answers, true_boxes(known.boxes, known.labels), self.names)

    def draw(self, outputs: Tensor, examples: BoxTable) -> Figure:
        """The first images with their true and their answered boxes."""
        known = examples.known
        truths = true_boxes(known.boxes[:DRAWN], known.labels[:DRAWN])
        answers = answered_boxes(outputs[:DRAWN], examples.grid, self.answers)
        return draw_boxes(known.images[:DRAWN].cpu(), truths, answers, self.names)


def build(config: Any, accelerator: Accelerator) -> Detection:  # noqa: ANN401
    """The task that a configuration describes."""
    needs("torchvision", "pycocotools")
    names, parts = read_boxes(config.data, accelerator.device)
    torch.manual_seed(config.training.seed)
    student = SingleStageNetwork(config.model, parts["train"], len(names))
    start_from(student, config.model.weights)
    student.settle()
    still = Variation()
    tables = {
        name: BoxTable(part, student.grid, config.data.vary if name == "train" else still)
        for name, part in parts.items()
    }
    return Detection(student, names, config.answers, *four(tables))


if __name__ == "__main__":
    command("detection.py", DetectionConfig, build)
