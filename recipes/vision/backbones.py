"""What detector and segmenter stand on: layers that turn pictures into maps of features."""

from __future__ import annotations

from collections.abc import Sequence

from batch_norm import BatchNorm
from extras import needs
from residual_network import Block
from torch import nn
from torch.nn import Module

from aes_dynloss import ConfigError


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
    except (OSError, RuntimeError) as error:  # urllib's errors are the former, a damaged download is the latter
        raise ConfigError(
            f"model.pretrained: torchvision cannot fetch resnet18's weights: {error}. Connect to the network, or name "
            "a local .safetensors file in model.weights."
        ) from None
    return {name: layer for name, layer in network.named_children() if name not in ("avgpool", "fc")}
