"""What a student shows to losses, the loop and the teachers.

What one training step reads.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor
from torch.nn import Module, Parameter

from aes_dynloss.teaching.elements import Elements


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


class Student(Protocol):
    """A module under training: ``forward(**batch.inputs)`` answers outputs, ``elements`` makes them fit for a loss.

    The split keeps what is costly (the forward pass) apart from what is cheap (the loss), so that a loss over an
    effective batch needs only the outputs of its parts.
    """

    def __call__(self, **inputs: Tensor) -> Tensor:
        """Outputs of a batch, (B, D), float32 or float64."""

    def elements(self, outputs: Tensor, targets: Tensor, groups: Tensor) -> Elements:
        """Elements of outputs beside targets; cheap, differentiable in ``outputs``, and blind to the parameters."""

    def parameter_stack(self) -> Sequence[Sequence[tuple[str, Parameter]]]:
        """Named trainable parameters in layers from the bottom to the top; the last layer is the head."""

    def as_module(self) -> Module:
        """The student as the module that it is."""
