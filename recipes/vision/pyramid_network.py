"""A pyramid pooling network: a class for each pixel, on a light backbone or on ResNet-18."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from typing import Literal, Self

import torch
from backbones import input_moments, light_layers, resnet18_layers
from batch_norm import BatchNorm
from image_student import ImageStudent
from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.nn import Module, functional

from aes_dynloss import Elements
from aes_dynloss.configfile import ConfigModel

BINS = (1, 2, 3, 6)
STRIDE = 8


class PyramidNetworkConfig(ConfigModel):
    """Backbone and head."""

    backbone: Literal["light", "resnet18"] = Field(
        default="light",
        description="light: six blocks, for a CPU. resnet18: torchvision's, its last two stages dilated.",
    )
    width: int = Field(default=32, ge=4, description="Channels of light's first stage, doubled twice.")
    dropout: float = Field(default=0.1, ge=0, lt=1, description="Part of the head's channels left out in training.")
    pretrained: bool = Field(
        default=False, description="Whether resnet18 starts from ImageNet's weights, which torchvision downloads."
    )
    weights: str | None = Field(
        default=None,
        description="A .safetensors file to start from, as far as it fits: an earlier student's, or that of a bare "
        "backbone, such as torchvision's resnet18.",
    )

    @model_validator(mode="after")
    def _check_start(self) -> Self:
        if self.pretrained and self.backbone != "resnet18":
            raise ValueError("pretrained is for the backbone resnet18; light has no weights to download")
        if self.pretrained and self.weights is not None:
            raise ValueError("pretrained and weights exclude each other; leave one of them out")
        return self


class PyramidPooling(nn.Module):
    """What is seen, beside its means over 1, 2 x 2, 3 x 3 and 6 x 6 parts of the image.

    There is no batch norm on the means, unlike in the original: over the whole image there is one number a channel,
    so that a batch of one image, which a micro-batch may be, would have none to norm.

    References:
        Zhao et al. 2017, Pyramid scene parsing network, section 3.2.
    """

    def __init__(self, into: int) -> None:
        super().__init__()
        self.parts = nn.ModuleList(nn.Conv2d(into, into // len(BINS), 1) for _ in BINS)
        self.out = into + into // len(BINS) * len(BINS)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, h, w) to (B, 2 C, h, w)."""
        seen = [x]
        for bins, part in zip(BINS, self.parts, strict=True):
            means = functional.relu(part(functional.adaptive_avg_pool2d(x, bins)))
            seen.append(functional.interpolate(means, x.shape[2:], mode="bilinear", align_corners=False))
        return torch.cat(seen, dim=1)


class PyramidNetwork(ImageStudent):
    """A student, see :class:`aes_dynloss.teaching.student.Student`: images to coarse logits of each place.

    Without the original's second classifier between the backbone's stages (section 3.3), which a student of one loss
    has no place for.

    Args:
        config: Backbone and head.
        images: Training images, (N, 3, H, W) uint8; their mean and deviation centre what comes in.
        masks: Classes of their pixels, (N, H, W); -1 where none is true.
        classes: How many there are.

    Raises:
        ConfigError: ResNet-18 or its weights cannot be had.

    References:
        Zhao et al. 2017, Pyramid scene parsing network; He et al. 2016, Deep residual learning for image recognition.
    """

    def __init__(self, config: PyramidNetworkConfig, images: Tensor, masks: Tensor, classes: int) -> None:
        super().__init__()
        self._classes = classes
        self._size = (images.shape[2], images.shape[3])
        if config.backbone == "light":  # of 1/2, 1/4, 1/8 and 1/8 of the size
            stages, into = [(config.width, 2), (2 * config.width, 2), (4 * config.width, 1)], 4 * config.width
            layers = OrderedDict(light_layers(config.width, stages, blocks=2))
        else:
            layers, into = _dilated_resnet18(config.pretrained), 512
        self.backbone = nn.Sequential(layers)
        pooling, hidden = PyramidPooling(into), into // 2
        first = nn.Conv2d(pooling.out, hidden, 3, 1, 1, bias=False)
        self.head = nn.Sequential(
            pooling,
            first,
            BatchNorm(hidden),
            nn.ReLU(),
            nn.Dropout2d(config.dropout),
            nn.Conv2d(hidden, classes, 1),
        )
        nn.init.kaiming_normal_(first.weight, nonlinearity="relu")
        self.set_moments(*input_moments(config.backbone, images))
        counts = torch.bincount(masks[masks >= 0], minlength=classes)
        self.set_chance_error(1.0 - counts.max() / counts.sum())

    def forward(self, images: Tensor) -> Tensor:
        """Images, (B, 3, H, W) uint8, to logits, (B, classes * h * w) float32, with h = H / 8 and w = W / 8."""
        logits: Tensor = self.head(self.backbone(self.centred(images)))
        return logits.flatten(1).to(self.mean.dtype)

    def full_size(self, outputs: Tensor) -> Tensor:
        """Outputs, (B, classes * h * w), to the logits of each pixel, (B, classes, H, W)."""
        coarse = [-(-side // STRIDE) for side in self._size]
        maps = outputs.unflatten(1, (self._classes, *coarse))  # type: ignore[no-untyped-call]
        # Not grid_sample at the wanted places alone: that has no second derivative.
        return functional.interpolate(maps, self._size, mode="bilinear", align_corners=False)

    def elements(self, outputs: Tensor, targets: Tensor, groups: Tensor) -> Elements:  # noqa: ARG002
        """P elements an image, its pixels of those places; one without a class weighs 0.

        Args:
            outputs: (B, classes * h * w).
            targets: Place in the flattened mask and class or -1, (B, P, 2).
            groups: (B,).
        """
        places, classes = targets.unbind(2)
        logits = self.full_size(outputs).flatten(2)
        picked = logits.gather(2, places[:, None].expand(-1, self._classes, -1)).transpose(1, 2).flatten(0, 1)
        known = (classes >= 0).to(outputs.dtype)
        weights = known / known.sum(1, keepdim=True).clamp(min=1)
        truths = classes.clamp(min=0).flatten()
        return Elements.of_classes(picked.log_softmax(1), truths, self.chance_error, weights=weights)

    def layers(self) -> Sequence[tuple[str, Module]]:
        """The backbone's parts, and the head."""
        return [*((f"backbone.{name}", part) for name, part in self.backbone.named_children()), ("head", self.head)]


def _dilated_resnet18(pretrained: bool) -> OrderedDict[str, Module]:
    """ResNet-18 whose last two stages are dilated by 2 and 4 in place of their strides."""
    layers = OrderedDict(resnet18_layers(pretrained=pretrained))
    for name, dilation in (("layer3", 2), ("layer4", 4)):
        for module in layers[name].modules():
            if isinstance(module, nn.Conv2d):
                module.stride = (1, 1)
                if module.kernel_size == (3, 3):
                    module.dilation = module.padding = (dilation, dilation)
    return layers
