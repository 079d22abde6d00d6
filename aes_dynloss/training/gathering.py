"""Bringing rows, and buffers, together from all processes."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from accelerate import Accelerator
from torch import Tensor
from torch.nn import Module


@torch.no_grad()
def agree_on_buffers(accelerator: Accelerator, module: Module) -> None:
    """Make a module's buffers, such as batch norm's statistics, their mean over processes, which each has of its own.

    Before the student is measured and saved: else each process would measure another one.
    """
    if accelerator.num_processes > 1:
        for buffer in module.buffers():
            if buffer.is_floating_point():
                buffer.data.copy_(accelerator.reduce(buffer.data.clone(), "mean"))


def gather_rows(
    accelerator: Accelerator, index: Tensor, tensors: Sequence[Tensor], count: int | None = None
) -> tuple[Tensor, list[Tensor]]:
    """Rows of all processes, in the order of their index, without fillers.

    The order makes sums over a batch the same whichever process held which row.

    Args:
        accelerator: The run's.
        index: Row of each entry in its table, (B,) int64; -1 marks a filler. B may differ between processes.
        tensors: Tensors of B rows.
        count: Rows of all processes that are no fillers, where that is known: then nothing waits for the device here.

    Returns:
        The index of all rows, ascending, and the tensors with their rows in that order.
    """
    if accelerator.num_processes > 1:
        padded = accelerator.pad_across_processes([index, *tensors], dim=0)
        marks = accelerator.pad_across_processes(index, dim=0, pad_index=-1)
        index, *tensors = accelerator.gather([marks, *(tensor.contiguous() for tensor in padded[1:])])
    order = torch.argsort(index, stable=True)
    order = order[int((index < 0).sum()) if count is None else len(order) - count :]
    return index[order], [tensor[order] for tensor in tensors]
