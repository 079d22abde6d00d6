"""What one training step reads."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Batch:
    """Some examples, ready for a student.

    Args:
        inputs: What the student's ``predict`` reads, by name; the first dimensions are the student's own business.
        targets: What it is to answer, (B, ...).
        groups: The group of each example whose scale it is judged on, (B,) int64: an essay's prompt, else all 0.
        index: The row of each example in its table, (B,) int64; -1 marks a filler, which counts for nothing.
    """

    inputs: Mapping[str, Tensor]
    targets: Tensor
    groups: Tensor
    index: Tensor

    def __len__(self) -> int:
        """Rows, fillers included."""
        return self.index.shape[0]

    def to(self, device: torch.device) -> Batch:
        """The same batch on a device; nothing waits until it is there."""
        inputs = {name: _sent(tensor, device) for name, tensor in self.inputs.items()}
        targets, groups, index = (_sent(tensor, device) for tensor in (self.targets, self.groups, self.index))
        return Batch(inputs, targets, groups, index)


def _sent(tensor: Tensor, device: torch.device) -> Tensor:
    # From memory that may be swapped out, a copy would first wait for all that the device has to do.
    if device.type == "cuda" and tensor.device.type == "cpu":
        tensor = tensor.pin_memory()
    return tensor.to(device, non_blocking=True)
