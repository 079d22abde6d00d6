"""What a student shows to losses, the loop and the teachers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from torch import Tensor
from torch.nn import Module, Parameter

from aes_dynloss.teaching.elements import Elements


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
