"""What the students of all vision recipes have in common."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import replace

import torch
from image_table import pixel_moments
from torch import Tensor, nn
from torch.nn import Module, Parameter

from aes_dynloss import Elements


class ImageStudent(nn.Module):
    """A student, see :class:`aes_dynloss.teaching.student.Student`, of images; each network brings its layers."""

    mean: Tensor
    deviation: Tensor
    chance_error: Tensor

    def set_moments(self, mean: Tensor, deviation: Tensor) -> None:
        """Keep the mean and deviation of each channel on [0, 1], (C, 1, 1) each, with the weights."""
        self.register_buffer("mean", mean)
        self.register_buffer("deviation", deviation)

    def set_chance_error(self, error: Tensor) -> None:
        """Set the error of an answer by chance; not kept: weights of other data must not bring their own."""
        self.register_buffer("chance_error", error, persistent=False)

    def centred(self, images: Tensor) -> Tensor:
        """Images, (B, C, H, W) uint8, less the mean and over the deviation."""
        return (images.to(self.mean.dtype).div(255) - self.mean) / self.deviation

    @abstractmethod
    def layers(self) -> Sequence[tuple[str, Module]]:
        """The layers from input to output, with their names."""

    def parameter_stack(self) -> Sequence[Sequence[tuple[str, Parameter]]]:
        """The parameters of those layers that have some."""
        stack = [
            [(f"{name}.{key}", weight) for key, weight in layer.named_parameters()] for name, layer in self.layers()
        ]
        return [layer for layer in stack if layer]

    def as_module(self) -> Module:
        """Itself."""
        return self


class ImageClassifier(ImageStudent):
    """A student that answers one class an image; each network brings its layers and ``forward``, images to logits.

    Args:
        images: Training images, (N, C, H, W) uint8; their mean and deviation centre what comes in.
        labels: Their classes, (N,).
        classes: How many there are.
    """

    def __init__(self, images: Tensor, labels: Tensor, classes: int) -> None:
        super().__init__()
        self.set_moments(*pixel_moments(images))
        self.set_chance_error(1.0 - (torch.bincount(labels, minlength=classes) / len(labels)).max())

    def elements(self, outputs: Tensor, targets: Tensor, groups: Tensor) -> Elements:  # noqa: ARG002
        """One element an image; its target is the middle of the class's share of [0, 1], for weights by level.

        Args:
            outputs: Logits, (B, classes).
            targets: Classes, (B,); or (B, 2) with 0 beside those that are trusted and 1 beside others.
            groups: Of no account.
        """
        classes, raters = (targets, None) if targets.ndim == 1 else targets.unbind(1)
        elements = Elements.of_classes(outputs.log_softmax(1), classes, self.chance_error)
        if raters is None:
            return elements
        places = (classes + 0.5).to(elements.scores.dtype) / outputs.shape[1]
        return replace(elements, scores=elements.scores - 1.0 + places, targets=places, centre=places, raters=raters)
