"""Image classification: residual networks, a perceptron or LeNet on scikit-learn's digits, MNIST or CIFAR-10.

python recipes/vision/classification.py recipes/vision/digits.yaml --output-dir runs/digits
python recipes/vision/classification.py recipes/vision/cifar10.yaml data.source=DIR --output-dir runs/cifar10
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import torch
from accelerate import Accelerator
from digit_networks import Lenet, LenetConfig, Mlp, MlpConfig
from first_weights import start_from
from image_data import ImageDataConfig, Images, read_images
from image_student import ImageClassifier
from image_table import four
from matplotlib.figure import Figure
from pictures import draw_classes
from pydantic import BeforeValidator, Field
from residual_network import ResidualNetwork, ResidualNetworkConfig
from torch import Tensor
from vision_run import VisionConfig, command

from aes_dynloss.configfile import ChosenBy, ConfigModel

CONFIGS: dict[str, type[ConfigModel]] = {"residual": ResidualNetworkConfig, "mlp": MlpConfig, "lenet": LenetConfig}
STUDENTS: dict[str, Any] = {"residual": ResidualNetwork, "mlp": Mlp, "lenet": Lenet}


def _residual_unless_named(value: Any) -> Any:  # noqa: ANN401 - whatever a configuration holds
    return {"kind": "residual", **value} if isinstance(value, dict) else value


class ClassificationConfig(VisionConfig):
    """A run of image classification."""

    data: ImageDataConfig = Field(default=ImageDataConfig())
    model: Annotated[ConfigModel, ChosenBy("kind", CONFIGS), BeforeValidator(_residual_unless_named)] = Field(
        default=ResidualNetworkConfig()
    )


@dataclass
class Classification:
    """See :class:`vision_run.Task`; outputs are logits, (N, classes)."""

    student: ImageClassifier
    names: Sequence[str]
    train: Images
    teacher_dev: Images
    dev: Images
    test: Images
    select_by: str = "accuracy"

    @property
    def classes(self) -> int:
        """How many there are."""
        return len(self.names)

    def measures(self, outputs: Tensor, examples: Images) -> dict[str, float]:
        """Accuracy, and the mean cross-entropy's negative."""
        labels = examples.labels.cpu()
        likelihood = outputs.log_softmax(1).gather(1, labels[:, None]).mean()
        right = (outputs.argmax(1) == labels).double().mean()
        return {"accuracy": float(right), "log_likelihood": float(likelihood)}

    def draw(self, outputs: Tensor, examples: Images) -> Figure:
        """The first images with their true and their answered class."""
        return draw_classes(examples.images[:24].cpu(), examples.labels[:24].cpu(), outputs[:24], self.names)


def build(config: Any, accelerator: Accelerator) -> Classification:  # noqa: ANN401
    """The task that a configuration describes."""
    names, parts = read_images(config.data, accelerator.device)
    torch.manual_seed(config.training.seed)
    train = parts["train"]
    student = STUDENTS[config.model.kind](config.model, train.images, train.labels, len(names))
    start_from(student, config.model.weights)
    return Classification(student, names, *four(parts))


if __name__ == "__main__":
    command("classification.py", ClassificationConfig, build)
