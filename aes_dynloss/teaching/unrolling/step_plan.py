"""Inputs and outputs of one step: its plan, its gradient, and the processes that share it.

The training package implements :class:`Processes` of several by Accelerate.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import torch
from torch import Tensor

from aes_dynloss.teaching.student import Batch, RandomState


class Processes:
    """The processes that share a run, each with its part of every batch; here a single process in full precision."""

    @property
    def world_size(self) -> int:
        """Number of processes."""
        return 1

    def total(self, tensor: Tensor) -> Tensor:
        """The sum of a tensor over all processes, on each of them."""
        return tensor

    def rows(self, index: Tensor, tensors: Sequence[Tensor]) -> tuple[Tensor, list[Tensor]]:
        """Rows of all processes in the order of their index, without fillers (index -1)."""
        order = index.argsort(stable=True)
        order = order[int((index < 0).sum()) :]
        return index[order], [tensor[order] for tensor in tensors]

    def autocast(self) -> AbstractContextManager[object]:
        """The precision in which forward passes run; full precision is a context that changes nothing."""
        return nullcontext()


@dataclass(frozen=True)
class StepPlan:
    """The inputs of one step: all that is needed to take it again.

    Args:
        batches: This process's micro-batches, on the student's device; at least one, fillers have index -1.
        count: Elements of the effective batch over all processes.
        factor: Learning rate as a part of the peak.
        random: State of the generators before the first forward pass, so that dropout is replayed; None to go on
            from where they are.
    """

    batches: tuple[Batch, ...]
    count: int
    factor: float = 1.0
    random: RandomState | None = None

    @property
    def index(self) -> Tensor:
        """Rows of all micro-batches, fillers included."""
        return torch.cat([batch.index for batch in self.batches])

    def shares(self, rows: Tensor) -> list[Tensor]:
        """A tensor with a row for each of :attr:`index`, micro-batch by micro-batch."""
        return list(torch.split(rows, [len(batch) for batch in self.batches]))


@dataclass(frozen=True)
class Gradient:
    """First derivatives of the loss of one step, summed over processes.

    Args:
        value: The loss, a scalar.
        weights: Its gradient with respect to the weights, (P,).
        coefficients: And with respect to the loss's coefficients, (K,).
        error: Mean squared error in units of each group's variance, a scalar; for the student's state.
    """

    value: Tensor
    weights: Tensor
    coefficients: Tensor
    error: Tensor


# From q, (P,), to H q, (P,), and M^T q, (K,): H the Hessian of the loss, M = d(gradient) / d(coefficients).
Product = Callable[[Tensor], tuple[Tensor, Tensor]]
