"""Outputs of a student for a whole table."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

import numpy as np
import torch
from accelerate import Accelerator
from torch import Tensor
from torch.nn import Module

from aes_dynloss.progress import Progress
from aes_dynloss.training.accelerator import gather_rows
from aes_dynloss.training.batching import Examples, micro_batches, packed, share_of
from aes_dynloss.training.config import Precision

# More at once is no faster on a CPU, whose caches the states of so many already fill, slower in int8, and takes memory.
CPU_TOKENS = 2048


@contextmanager
def evaluating(module: Module) -> Iterator[None]:
    """Within the block the module is in evaluation mode and no graph is built; each part goes back to its own mode.

    Nothing is written where all parts are in evaluation mode already, so that several threads may share such a module.
    """
    awake = [part for part in module.modules() if part.training]
    for part in awake:
        part.training = False
    try:
        with torch.inference_mode():
            yield
    finally:
        for part in awake:
            part.training = True


def predict(
    accelerator: Accelerator,
    module: Module,
    examples: Examples,
    *,
    tokens: int | None = 32768,
    size: int | None = None,
    progress: str | None = None,
    precision: Precision = "float32",
) -> Tensor:
    """Outputs for every example, in the table's order, on every process.

    Args:
        accelerator: The run's; each of its processes takes a share.
        module: The student, unwrapped.
        examples: N examples.
        tokens: Padded tokens a forward pass, at most, and on a CPU :data:`CPU_TOKENS` at most; None for any number.
        size: Examples a forward pass, at most.
        progress: Words beside a progress bar; None for none.
        precision: bf16 multiplies matrices in bf16, as the accelerator does where it is told so; else as it is told.

    Returns:
        (N, D) on the CPU, in the outputs' precision.

    Examples:
        >>> from aes_dynloss import Batch
        >>> from aes_dynloss.training.accelerator import plain_accelerator
        >>> class Points:
        ...     lengths = sequences = np.ones(3, dtype=np.int64)
        ...     def __len__(self):
        ...         return 3
        ...     def batch(self, rows):
        ...         index = torch.tensor(rows)
        ...         return Batch({"input": 1.0 * index[:, None]}, 1.0 * index, 0 * index, index)
        >>> predict(plain_accelerator(cpu=True), torch.nn.Softplus(), Points())
        tensor([[0.6931],
                [1.3133],
                [2.1269]])
    """
    if tokens is not None and accelerator.device.type == "cpu":
        tokens = min(tokens, CPU_TOKENS)
    share = share_of(np.arange(len(examples)), examples, accelerator.process_index, accelerator.num_processes)
    packs = packed(share, examples, tokens, size)
    bar = Progress(packs, desc=progress, unit="batch", disable=progress is None or not accelerator.is_main_process)
    outputs, indices = [], []
    reduced = torch.autocast(accelerator.device.type, torch.bfloat16) if precision == "bf16" else nullcontext()
    with evaluating(module), accelerator.autocast(), reduced:
        for pack in bar:
            (batch,) = micro_batches(pack, examples, None, None)
            batch = batch.to(accelerator.device)
            outputs.append(module(**batch.inputs).detach())
            indices.append(batch.index)
    _, (rows,) = gather_rows(accelerator, torch.cat(indices), [torch.cat(outputs)])
    return rows.clone().cpu()
