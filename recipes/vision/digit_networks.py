"""Students of MNIST of the two kinds that L2T-DLF was published on, a perceptron and LeNet; their sizes are ours."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from image_student import ImageClassifier
from pydantic import Field
from torch import Tensor, nn
from torch.nn import Module, functional

from aes_dynloss import ConfigError
from aes_dynloss.configfile import ConfigModel

_LENET_SIDE = 28


class MlpConfig(ConfigModel):
    """One hidden layer."""

    kind: Literal["mlp"] = "mlp"
    hidden: int = Field(default=500, ge=1, description="Hidden units.")
    weights: str | None = Field(default=None, description="A .safetensors file to start from.")


class LenetConfig(ConfigModel):
    """Two convolutions and three layers of units."""

    kind: Literal["lenet"] = "lenet"
    weights: str | None = Field(default=None, description="A .safetensors file to start from.")


class Mlp(ImageClassifier):
    """Pixels, a hidden layer of rectified units, classes.

    Args:
        config: Its width.
        images: Training images, (N, C, H, W) uint8; their mean and deviation centre what comes in.
        labels: Their classes, (N,).
        classes: How many there are.
    """

    def __init__(self, config: MlpConfig, images: Tensor, labels: Tensor, classes: int) -> None:
        super().__init__(images, labels, classes)
        self.hidden = nn.Linear(images[0].numel(), config.hidden)
        self.head = nn.Linear(config.hidden, classes)

    def forward(self, images: Tensor) -> Tensor:
        """Images, (B, C, H, W) uint8, to logits, (B, classes) float32."""
        logits: Tensor = self.head(functional.relu(self.hidden(self.centred(images).flatten(1))))
        return logits.to(self.mean.dtype)

    def layers(self) -> Sequence[tuple[str, Module]]:
        """Hidden layer, head."""
        return [("hidden", self.hidden), ("head", self.head)]


class Lenet(ImageClassifier):
    """LeNet-5 for 28 x 28 pixels, with rectified units and maximum pooling.

    Its arguments are those of :class:`Mlp`.

    References:
        LeCun et al. 1998, Gradient-based learning applied to document recognition.
    """

    def __init__(self, config: LenetConfig, images: Tensor, labels: Tensor, classes: int) -> None:  # noqa: ARG002
        super().__init__(images, labels, classes)
        if images.shape[2:] != (_LENET_SIDE, _LENET_SIDE):
            raise ConfigError(
                f"model.kind lenet expects images of 28 x 28 pixels, found {images.shape[3]} x {images.shape[2]}. Take "
                "model.kind=mlp or residual."
            )
        self.first = nn.Conv2d(images.shape[1], 6, 5, padding=2)
        self.second = nn.Conv2d(6, 16, 5)
        self.third = nn.Linear(400, 120)
        self.fourth = nn.Linear(120, 84)
        self.head = nn.Linear(84, classes)

    def forward(self, images: Tensor) -> Tensor:
        """Images, (B, C, 28, 28) uint8, to logits, (B, classes) float32."""
        x = functional.max_pool2d(functional.relu(self.first(self.centred(images))), 2)
        x = functional.max_pool2d(functional.relu(self.second(x)), 2).flatten(1)
        logits: Tensor = self.head(functional.relu(self.fourth(functional.relu(self.third(x)))))
        return logits.to(self.mean.dtype)

    def layers(self) -> Sequence[tuple[str, Module]]:
        """From the first convolution to the head."""
        return [(name, getattr(self, name)) for name in ("first", "second", "third", "fourth", "head")]
