"""The processes of a run as the teaching core sees them, through Accelerate."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager

from accelerate import Accelerator
from torch import Tensor

from aes_dynloss.training.gathering import gather_rows


class AccelerateProcesses:
    """See :class:`aes_dynloss.teaching.unrolling.processes.Processes`.

    The teaching core differentiates the unwrapped student: DDP neither synchronises what ``torch.autograd.grad``
    answers nor gradients of gradients. It counts over the whole effective batch, so that processes are summed.

    Args:
        accelerator: The run's.
    """

    def __init__(self, accelerator: Accelerator) -> None:
        self._accelerator = accelerator

    @property
    def number(self) -> int:
        """How many there are."""
        return int(self._accelerator.num_processes)

    def total(self, tensor: Tensor) -> Tensor:
        """The sum of a tensor over all processes, on each of them."""
        if self.number == 1:
            return tensor
        whole: Tensor = self._accelerator.reduce(tensor.contiguous(), "sum")
        return whole

    def rows(self, index: Tensor, tensors: Sequence[Tensor]) -> tuple[Tensor, list[Tensor]]:
        """Rows of all processes in the order of their index, without fillers."""
        return gather_rows(self._accelerator, index, tensors)

    def autocast(self) -> AbstractContextManager[object]:
        """The precision in which forward passes run."""
        context: AbstractContextManager[object] = self._accelerator.autocast()
        return context
