"""Linear layers of a frozen encoder in int8: a quarter of the memory, and two to eight times as fast on a CPU.

A layer's input is coded in 8 bits, by a range that each of its features kept to on some essays (fixed, so that an
essay's score does not depend on those beside it), its weights in 7 bits: products of the two then never overflow the
16 bits that processors without VNNI instructions add them up in. Sums are whole numbers, the same on every processor.

References:
    Xiao et al. 2023, SmoothQuant (features with wide ranges share their difficulty with the weights).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from aes_dynloss.errors import ConfigError
from aes_dynloss.essays.model.chunks import read_chunks
from aes_dynloss.essays.model.encoders import layer_list

# The highest code of a weight, and of an input about its middle.
_WEIGHT_CODES, _MIDDLE, _INPUT_CODES = 63, 128, 127
# Where a feature never varied, or no weight reads it.
_SMALLEST = 1e-6
# Part of the inputs' differences in range that the weights take over: with less, features of wide range leave few codes
# to the others; with more, weights of wide range do.
_DIFFICULTY = 0.75


class Int8Linear(nn.Module):
    """y = W x + b with x and W in whole numbers.

        y = scale * (codes @ (u - 128)) + bias,  u = round(clip(gain * x + shift, 0, 255))

    Args:
        inputs: Features of x.
        outputs: Features of y.

    Example:
        >>> linear = nn.Linear(2, 1)
        >>> x = torch.tensor([[0.5, 1.0], [-0.5, 2.0]])
        >>> in_int8 = Int8Linear.of(linear, low=x.amin(0), high=x.amax(0), mean=x.mean(0))
        >>> bool((in_int8(x) - linear(x)).abs().max() < 0.05)
        True
    """

    codes: Tensor
    scale: Tensor
    bias: Tensor
    gain: Tensor
    shift: Tensor

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.register_buffer("codes", torch.zeros(outputs, inputs, dtype=torch.int8))
        self.register_buffer("scale", torch.ones(outputs))
        self.register_buffer("bias", torch.zeros(outputs))
        self.register_buffer("gain", torch.ones(inputs))
        self.register_buffer("shift", torch.full((inputs,), float(_MIDDLE)))
        # As the kernel wants them, with the version of the codes from which they were made.
        self._packed: tuple[Tensor, int] | None = None

    @classmethod
    def of(cls, linear: nn.Linear, low: Tensor, high: Tensor, mean: Tensor) -> Int8Linear:
        """A linear layer in int8, exact at the mean input but for the rounding of that input.

        Args:
            linear: The layer.
            low: Least value of each feature of its input, (inputs,).
            high: Greatest value of each.
            mean: Mean of each.
        """
        weight = linear.weight.detach()
        middle, half = (high + low) / 2, ((high - low) / 2).clamp(min=_SMALLEST)
        step = half**_DIFFICULTY * weight.abs().amax(0).clamp(min=_SMALLEST) ** (_DIFFICULTY - 1)
        step = step * (half / step).amax() / _INPUT_CODES
        scaled = weight * step
        scale = scaled.abs().amax(1).clamp(min=_SMALLEST**2) / _WEIGHT_CODES
        made = cls(linear.in_features, linear.out_features)
        made.codes.copy_((scaled / scale[:, None]).round())
        made.scale.copy_(scale)
        made.gain.copy_(1 / step)
        made.shift.copy_(_MIDDLE - middle / step)
        # Some features are far from the middle of their range: rounded weights would shift all outputs.
        made.bias.copy_(weight @ mean - scale * (made.codes.float() @ ((mean - middle) / step)))
        if linear.bias is not None:
            made.bias += linear.bias.detach()
        return made

    def forward(self, x: Tensor) -> Tensor:
        """Values, (..., outputs) float32, of ``x`` (..., inputs)."""
        # The conversion cuts off what is behind the point.
        codes = torch.addcmul(self.shift + 0.5, x, self.gain).clamp_(0, 255).to(torch.uint8)
        kernel = self._kernel()
        if kernel is None:
            with torch.autocast(x.device.type, enabled=False):  # sums of whole numbers, which bf16 would round
                return functional.linear(codes.float() - _MIDDLE, self.codes.float()) * self.scale + self.bias
        zeros = torch.zeros(len(self.scale), dtype=torch.int32)
        weights = (kernel, self.scale, zeros, self.bias)
        output: tuple[Any, ...] = (1.0, 0, torch.float32, "none", [], "")
        return cast(Tensor, torch.ops.onednn.qlinear_pointwise(codes, 1.0, _MIDDLE, *weights, *output))

    def _kernel(self) -> Tensor | None:
        """The codes as oneDNN wants them; None where this device, or this torch, lacks its kernel."""
        if self.codes.device.type != "cpu" or not _HAS_KERNEL:
            return None
        version = self.codes._version
        if self._packed is None or self._packed[1] != version:
            self._packed = torch.ops.onednn.qlinear_prepack(self.codes, None), version
        return self._packed[0]

    def __getstate__(self) -> dict[str, Any]:
        """What a copy begins with: packed codes cannot be copied."""
        return {**self.__dict__, "_packed": None}


def _has_kernel() -> bool:
    try:
        torch.ops.onednn.qlinear_prepack(torch.zeros(1, 1, dtype=torch.int8), None)
    except (AttributeError, NotImplementedError, RuntimeError):  # torch for another kind of processor
        return False
    return hasattr(torch.ops.onednn, "qlinear_pointwise")


_HAS_KERNEL = _has_kernel()


def linear_to_int8(encoder: Any, batches: Iterable[Mapping[str, Tensor]]) -> None:  # noqa: ANN401
    """Put the linear layers within an encoder's Transformer layers into int8, for good.

    Args:
        encoder: A pretrained encoder of transformers.
        batches: Inputs of :func:`aes_dynloss.essays.model.chunks.read_chunks`: some essays, which tell between which
            values each layer's inputs lie.

    Raises:
        ConfigError: It has no linear layers of torch's there.
    """
    places = _places(encoder)
    seen = {name: _Seen(linear.in_features) for name, linear in places.items()}
    hooks = [linear.register_forward_pre_hook(seen[name].hook) for name, linear in places.items()]
    was_training = encoder.training
    encoder.eval()
    with torch.no_grad():
        for inputs in batches:
            read_chunks(encoder, inputs)
    encoder.train(was_training)
    for hook in hooks:
        hook.remove()
    for name, linear in places.items():
        _put(encoder, name, Int8Linear.of(linear, *seen[name].values()))


class _Seen:
    """Least, greatest and mean value of each feature of a layer's inputs."""

    def __init__(self, inputs: int) -> None:
        self._low, self._high = torch.full((inputs,), torch.inf), torch.full((inputs,), -torch.inf)
        self._sum, self._rows = torch.zeros(inputs, dtype=torch.float64), 0

    def hook(self, _: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        rows = inputs[0].flatten(0, -2).float().cpu()
        self._low, self._high = torch.minimum(self._low, rows.amin(0)), torch.maximum(self._high, rows.amax(0))
        self._sum += rows.sum(0, dtype=torch.float64)
        self._rows += len(rows)

    def values(self) -> tuple[Tensor, Tensor, Tensor]:
        return self._low, self._high, (self._sum / self._rows).float()


def expect_int8(encoder: Any) -> None:  # noqa: ANN401 - transformers is untyped
    """Give an encoder int8 layers, without values, where it has linear ones: weights are to be loaded.

    Args:
        encoder: An encoder; one that has int8 layers is left as it is.

    Raises:
        ConfigError: It has neither.
    """
    if not any(isinstance(module, Int8Linear) for module in encoder.modules()):
        for name, linear in _places(encoder).items():
            _put(encoder, name, Int8Linear(linear.in_features, linear.out_features))


def _places(encoder: Any) -> dict[str, nn.Linear]:  # noqa: ANN401 - transformers is untyped
    """The linear layers within an encoder's Transformer layers, by their names in it."""
    layers = layer_list(encoder)
    inner = set() if layers is None else {id(module) for module in layers.modules()}
    found = {
        name: module for name, module in encoder.named_modules() if id(module) in inner and type(module) is nn.Linear
    }
    if not found:
        raise ConfigError(
            f"model.int8: an encoder of the kind {encoder.config.model_type} has no linear layers that are known here. "
            "Leave it out."
        )
    return found


def _put(encoder: nn.Module, name: str, module: nn.Module) -> None:
    parent, _, last = name.rpartition(".")
    setattr(encoder.get_submodule(parent), last, module)
