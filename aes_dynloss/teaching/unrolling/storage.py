"""How the points of a trajectory are kept until it is walked back."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor

from aes_dynloss.teaching.unrolling.update_rules import Point

Storage = Literal["device", "host", "bf16"]
# Answers a kept point again.
Kept = Callable[[], Point]


def keep(point: Point, storage: Storage) -> Kept:
    """Keep a point.

    Args:
        point: The point; its tensors are not changed afterwards.
        storage: device: as it is. host: in the computer's memory, pinned, so that copies do not wait. bf16: with eight
            bits of each number, which costs a hypergradient about 2e-3 of accuracy.
    """
    if storage == "device":
        return lambda: point
    tensors = [point.weights, *point.slots]
    if storage == "bf16":
        packed = [tensor.to(torch.bfloat16) for tensor in tensors]
    else:
        packed = [_to_host(tensor) for tensor in tensors]
    dtype, device, step = point.weights.dtype, point.weights.device, point.step

    def unpack() -> Point:
        weights, *slots = (tensor.to(device=device, dtype=dtype, non_blocking=True) for tensor in packed)
        return Point(weights, tuple(slots), step)

    return unpack


def _to_host(tensor: Tensor) -> Tensor:
    if tensor.device.type == "cpu":
        return tensor
    host = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=True)
    return host.copy_(tensor, non_blocking=True)
