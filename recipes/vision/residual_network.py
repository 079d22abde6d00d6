"""Residual networks for small images, of 6 n + 2 layers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from batch_norm import BatchNorm
from image_student import ImageClassifier
from pydantic import Field
from torch import Tensor, nn
from torch.nn import Module, functional

from aes_dynloss.configfile import ConfigModel


class ResidualNetworkConfig(ConfigModel):
    """Depth and width."""

    kind: Literal["residual"] = "residual"
    depth: Literal[8, 20, 32] = Field(default=8, description="Layers: 8, 20 or 32.")
    width: int = Field(
        default=16,
        ge=1,
        description="Channels of the first stage, doubled twice: 16 as published for CIFAR-10, 64 as "
        "in the program of L2T-DLN's authors.",
    )
    weights: str | None = Field(default=None, description="A .safetensors file to start from.")


class Block(nn.Module):
    """Two convolutions with batch norm, and a shortcut without weights.

    References:
        He et al. 2016, Deep residual learning for image recognition, section 4.2 (option A).
    """

    def __init__(self, into: int, out: int, stride: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(into, out, 3, stride, 1, bias=False)
        self.first_norm = BatchNorm(out)
        self.second = nn.Conv2d(out, out, 3, 1, 1, bias=False)
        self.second_norm = BatchNorm(out)
        self._stride = stride
        self._more = out - into

    def forward(self, x: Tensor) -> Tensor:
        """(B, into, H, W) to (B, out, H / stride, W / stride)."""
        answer = functional.relu(self.first_norm(self.first(x)))
        answer = self.second_norm(self.second(answer))
        shortcut = x[:, :, :: self._stride, :: self._stride]
        if self._more:
            shortcut = functional.pad(shortcut, (0, 0, 0, 0, self._more // 2, self._more - self._more // 2))
        return functional.relu(answer + shortcut)


class ResidualNetwork(ImageClassifier):
    """A student, see :class:`aes_dynloss.teaching.student.Student`: images to logits.

    Args:
        config: Depth and width.
        images: Training images, (N, C, H, W) uint8; their mean and deviation centre what comes in.
        labels: Their classes, (N,).
        classes: How many there are.

    References:
        He et al. 2016, Deep residual learning for image recognition, section 4.2; He et al. 2015, Delving deep into
        rectifiers (first weights).
    """

    def __init__(self, config: ResidualNetworkConfig, images: Tensor, labels: Tensor, classes: int) -> None:
        super().__init__(images, labels, classes)
        channels, width = images.shape[1], config.width
        self.stem = nn.Sequential(nn.Conv2d(channels, width, 3, 1, 1, bias=False), BatchNorm(width), nn.ReLU())
        stages, into = [], width
        for number in range(3):
            out = width * 2**number
            blocks = []
            for index in range((config.depth - 2) // 6):
                blocks.append(Block(into, out, 2 if number and not index else 1))
                into = out
            stages.append(nn.Sequential(*blocks))
        self.stages = nn.ModuleList(stages)
        self.head = nn.Linear(into, classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")

    def forward(self, images: Tensor) -> Tensor:
        """Images, (B, C, H, W) uint8, to logits, (B, classes) float32."""
        x = self.stem(self.centred(images))
        for stage in self.stages:
            x = stage(x)
        logits: Tensor = self.head(x.mean((2, 3)))
        return logits.to(self.mean.dtype)

    def layers(self) -> Sequence[tuple[str, Module]]:
        """Stem, stages, head."""
        stages = [(f"stages.{number}", stage) for number, stage in enumerate(self.stages)]
        return [("stem", self.stem), *stages, ("head", self.head)]
