"""What detector and segmenter stand on: layers that turn pictures into maps of features."""

from __future__ import annotations

from collections.abc import Sequence
from pickle import UnpicklingError

import torch
from batch_norm import BatchNorm
from extras import needs
from image_table import pixel_moments
from residual_network import Block
from torch import Tensor, nn
from torch.nn import Module

from aes_dynloss import ConfigError

_IMAGENET = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def input_moments(backbone: str, images: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and deviation of each channel on [0, 1], (3, 1, 1) each, by which pictures are brought to a network's scale.

    Args:
        backbone: resnet18 takes ImageNet's, by which its weights were trained; another takes the images' own.
        images: Training images, (N, 3, H, W) uint8.
    """
    if backbone != "resnet18":
        return pixel_moments(images)
    mean, deviation = (torch.tensor(moment)[:, None, None] for moment in _IMAGENET)
    return mean, deviation


def light_layers(width: int, stages: Sequence[tuple[int, int]], blocks: int) -> dict[str, Module]:
    """A stem that halves the size, and stages of residual blocks, by name.

    Args:
        width: Channels of the stem.
        stages: Channels and stride of each stage.
        blocks: Blocks in each.
    """
    stem = nn.Sequential(nn.Conv2d(3, width, 3, 2, 1, bias=False), BatchNorm(width), nn.ReLU())
    layers: dict[str, Module] = {"stem": stem}
    into = width
    for number, (out, stride) in enumerate(stages, start=1):
        first, others = Block(into, out, stride), [Block(out, out, 1) for _ in range(blocks - 1)]
        layers[f"stage{number}"] = nn.Sequential(first, *others)
        into = out
    for module in (module for layer in layers.values() for module in layer.modules()):
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
    return layers


def resnet18_layers(*, pretrained: bool) -> dict[str, Module]:
    """Torchvision's ResNet-18 without its classifier, by torchvision's names.

    Args:
        pretrained: Whether ImageNet's weights are downloaded.

    Raises:
        ConfigError: torchvision is not installed, or its hub cannot be reached.
    """
    needs("torchvision")
    from torchvision.models import ResNet18_Weights, resnet18

    try:
        network = resnet18(weights=ResNet18_Weights.DEFAULT if pretrained else None)
    except (OSError, RuntimeError, EOFError, UnpicklingError) as error:  # urllib's errors are the first of these
        raise ConfigError(
            f"model.pretrained: torchvision cannot fetch resnet18's weights: {str(error).splitlines()[0]}. Connect to "
            f"the network; if it is connected, remove {torch.hub.get_dir()}/checkpoints/resnet18*, which may be a "
            "damaged download; or name a local .safetensors file in model.weights."
        ) from None
    return {name: layer for name, layer in network.named_children() if name not in ("avgpool", "fc")}
