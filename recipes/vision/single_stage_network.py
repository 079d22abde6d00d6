"""A small single-stage detector: a residual trunk, and a head that answers boxes for all anchors of a grid."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, Self

import torch
from anchors import AnchorGrid, Matched, anchor_sizes, decode, generalised_iou
from backbones import input_moments, light_layers, resnet18_layers
from batch_norm import BatchNorm
from box_data import BoxedImages
from image_student import ImageStudent
from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.nn import Module, functional

from aes_dynloss import Elements
from aes_dynloss.configfile import ConfigModel

# Log-probability of what an element cannot be: an anchor's class element an object, its objectness a class.
ABSENT = -1e4
# Of an anchor's numbers: four of its box, objectness, then one a class.
OBJECTNESS, CLASSES = 4, 5
FIRST_OBJECTNESS = 0.01


class SingleStageConfig(ConfigModel):
    """Trunk, anchors, and what the parts of the detector's loss weigh."""

    backbone: Literal["light", "resnet18"] = Field(
        default="light", description="light: a stem and a stage for each halving; resnet18: torchvision's, 11 million."
    )
    width: int = Field(default=16, ge=1, description="Channels of the light trunk's stem, doubled by each stage.")
    blocks: int = Field(default=1, ge=1, le=8, description="Residual blocks in each of its stages.")
    stride: Literal[8, 16] = Field(default=16, description="Side of a grid's cell in pixels.")
    anchors: int = Field(default=5, ge=1, le=32, description="Anchors a cell, of sizes found by k-means.")
    pretrained: bool = Field(default=False, description="Fetch resnet18's ImageNet weights by torchvision's hub.")
    weights: str | None = Field(
        default=None,
        description="A .safetensors file to start from, as far as it fits: an earlier student's, or that of a bare "
        "backbone, such as torchvision's resnet18.",
    )
    background_weight: float = Field(default=0.5, ge=0, description="What a background anchor counts beside an object.")
    class_weight: float = Field(default=1.0, gt=0, description="What a box's class counts.")
    box_weight: float = Field(default=2.0, ge=0, description="What a box's place counts: 1 less its generalised IoU.")

    @model_validator(mode="after")
    def _check_pretrained(self) -> Self:
        if self.pretrained and (self.backbone != "resnet18" or self.weights is not None):
            raise ValueError("pretrained goes with backbone resnet18 and without weights")
        return self


class SingleStageNetwork(ImageStudent):
    """A student, see :class:`aes_dynloss.teaching.student.Student`: images to all anchors' numbers.

    Its elements are each image's M boxes, which have one of K classes, then its N anchors, which are columns K (none)
    or K + 1 (an object); the boxes' places are beside them.

    Args:
        config: Trunk, anchors and weights.
        known: Training images; the sizes of anchors and the mean and deviation of pixels are theirs.
        classes: Classes K of objects.

    References:
        Redmon and Farhadi 2018, YOLOv3: An incremental improvement; Lin et al. 2017, Focal loss for dense object
        detection, section 3.3 (first objectness).
    """

    sizes: Tensor
    priors: Tensor

    def __init__(self, config: SingleStageConfig, known: BoxedImages, classes: int) -> None:
        super().__init__()
        self.classes = classes
        self._config = config
        self._size: tuple[int, int] = (known.images.shape[2], known.images.shape[3])
        trunk, into = _trunk(config)
        # Under their own names, so that a file of the trunk's weights fits as it is.
        for name, layer in trunk.items():
            self.add_module(name, layer)
        self._trunk = list(trunk)
        first = nn.Conv2d(into, into, 3, 1, 1, bias=False)
        last = nn.Conv2d(into, config.anchors * (CLASSES + classes), 1)
        self.head = nn.Sequential(first, BatchNorm(into), nn.ReLU(), last)
        self._start_head(first, last)
        real = known.labels >= 0
        boxes = known.boxes[real]
        self.register_buffer("sizes", anchor_sizes(boxes[:, 2:] - boxes[:, :2], config.anchors))
        self.register_buffer("priors", self.grid.priors(), persistent=False)
        self.set_moments(*input_moments(config.backbone, known.images))
        self.set_chance_error(self._chance(known.labels[real], len(known)))

    @property
    def grid(self) -> AnchorGrid:
        """The anchors; they are those of the file where the student started from one."""
        return AnchorGrid(self.sizes.cpu(), self._config.stride, self._size)

    def settle(self) -> None:
        """After weights were put in: the places of anchors follow their sizes."""
        self.priors.copy_(self.grid.priors())

    def forward(self, images: Tensor) -> Tensor:
        """Images, (B, 3, H, W) uint8, to each anchor's box, objectness and K classes, (B, N (5 + K)) float32."""
        x = self.centred(images)
        for name in self._trunk:
            x = self.get_submodule(name)(x)
        outputs: Tensor = self.head(x)
        return outputs.permute(0, 2, 3, 1).flatten(1).to(self.mean.dtype)

    def elements(self, outputs: Tensor, targets: Tensor, groups: Tensor) -> Elements:  # noqa: ARG002
        """M elements of the boxes' classes and N of the anchors' objectness, and the boxes' places beside them."""
        raw = outputs.unflatten(1, (len(self.priors), CLASSES + self.classes))  # type: ignore[no-untyped-call]
        matched = Matched.unpacked(targets, len(self.priors))
        real = matched.labels >= 0
        anchors = matched.anchors.clamp(min=0)
        boxes = raw.gather(1, anchors[:, :, None].expand(-1, -1, raw.shape[2]))
        of_class = functional.pad(boxes[..., CLASSES:].log_softmax(2), (0, 2), value=ABSENT)
        object_logit = raw[..., OBJECTNESS]
        either = torch.stack([functional.logsigmoid(-object_logit), functional.logsigmoid(object_logit)], dim=2)
        log_probs = torch.cat([of_class, functional.pad(either, (self.classes, 0), value=ABSENT)], dim=1)
        # An image's objects count 1 together, or a crowded one would outweigh the others; YOLO sums instead.
        count = real.sum(1, keepdim=True).clamp(min=1).to(raw.dtype)
        states = matched.states
        of_anchor = (states == 1).to(raw.dtype) + self._config.background_weight * (states == 0).to(raw.dtype)
        weights = torch.cat([self._config.class_weight * real.to(raw.dtype), of_anchor], dim=1) / count
        places = decode(boxes[..., :OBJECTNESS], self.priors[anchors], self._config.stride)
        apart = torch.where(real, 1 - generalised_iou(places, matched.boxes.to(raw.dtype)), 0.0)
        classes = torch.cat([matched.labels.clamp(min=0), self.classes + (states == 1).long()], dim=1)
        kinds = torch.cat([torch.zeros_like(anchors), torch.ones_like(states, dtype=anchors.dtype)], dim=1)
        return Elements.of_classes(
            log_probs.flatten(0, 1),
            classes.flatten(),
            self.chance_error,
            weights=weights,
            other=self._config.box_weight * (apart / count).sum(1),
            kinds=kinds.flatten(),
        )

    def layers(self) -> Sequence[tuple[str, Module]]:
        """The trunk's layers, and the head."""
        return [(name, self.get_submodule(name)) for name in (*self._trunk, "head")]

    def _start_head(self, first: nn.Conv2d, last: nn.Conv2d) -> None:
        nn.init.kaiming_normal_(first.weight, nonlinearity="relu")
        weight, bias = last.parameters()
        nn.init.normal_(weight, std=0.01)
        nn.init.zeros_(bias)
        # Nearly all anchors are background: begin there, or their sum drowns all else at first.
        with torch.no_grad():
            first_logit = torch.tensor(FIRST_OBJECTNESS).logit()
            bias.view(self._config.anchors, -1)[:, OBJECTNESS] = first_logit

    def _chance(self, labels: Tensor, images: int) -> Tensor:
        """What `no object` everywhere and the commonest class for every box get wrong, as elements are weighted."""
        rare = self._config.class_weight * (1 - torch.bincount(labels).max() / len(labels))
        background = self._config.background_weight * len(self.priors) * images / len(labels)
        return (rare + 1) / (self._config.class_weight + 1 + background)


def _trunk(config: SingleStageConfig) -> tuple[dict[str, Module], int]:
    """Layers that halve the size down to the grid's, and how many channels come out."""
    if config.backbone == "light":
        stages = [(config.width * 2**number, 2) for number in range(1, config.stride.bit_length() - 1)]
        return light_layers(config.width, stages, config.blocks), stages[-1][0]
    layers = resnet18_layers(pretrained=config.pretrained)
    above = ["layer3", "layer4"] if config.stride == 8 else ["layer4"]
    return {name: layer for name, layer in layers.items() if name not in above}, {8: 128, 16: 256}[config.stride]
