"""What the teaching core needs of several processes; the training package answers it through Accelerate."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Protocol

from torch import Tensor


class Processes(Protocol):
    """The processes that share a run, each with its part of every batch."""

    @property
    def number(self) -> int:
        """How many there are."""

    def total(self, tensor: Tensor) -> Tensor:
        """The sum of a tensor over all processes, on each of them."""

    def rows(self, index: Tensor, tensors: Sequence[Tensor]) -> tuple[Tensor, list[Tensor]]:
        """Rows of all processes in the order of their index, without fillers (index -1)."""

    def autocast(self) -> AbstractContextManager[object]:
        """The precision in which forward passes run."""


class Alone:
    """A single process in full precision."""

    number = 1

    def total(self, tensor: Tensor) -> Tensor:
        """The tensor itself."""
        return tensor

    def rows(self, index: Tensor, tensors: Sequence[Tensor]) -> tuple[Tensor, list[Tensor]]:
        """Rows in the order of their index, without fillers."""
        order = index.argsort(stable=True)
        order = order[int((index < 0).sum()) :]
        return index[order], [tensor[order] for tensor in tensors]

    def autocast(self) -> AbstractContextManager[object]:
        """Nothing changes."""
        return nullcontext()
