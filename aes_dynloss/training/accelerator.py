"""Devices, processes and precision through Accelerate, for the training loop and for the teaching core.

Rows are gathered, and buffers synchronised, over all processes.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from datetime import timedelta
from pathlib import Path

import torch
from accelerate import Accelerator, DistributedDataParallelKwargs, InitProcessGroupKwargs
from accelerate.state import AcceleratorState
from accelerate.tracking import get_available_trackers
from accelerate.utils import set_seed
from torch import Tensor
from torch.nn import Module

from aes_dynloss.errors import ConfigError
from aes_dynloss.teaching.unrolling.step_plan import Processes
from aes_dynloss.training.config import Precision, TrainingConfig
from aes_dynloss.training.hardware import resolve_precision

# How long processes wait for the first of them, which alone fits floors and writes reports.
_PATIENCE = timedelta(hours=6)


def plain_accelerator(*, cpu: bool = False, mixed_precision: str | None = "no") -> Accelerator:
    """Accelerator for scoring: devices and processes as they are.

    Args:
        cpu: Keep a GPU out of it.
        mixed_precision: no, unless the caller has other means to see that scores stay what they are; None: as
            Accelerate's environment or its configuration file says.
    """
    cpu = cpu or not torch.accelerator.is_available()  # Accelerate must be told, or processes stay apart
    if mixed_precision == "no" and AcceleratorState._shared_state:
        # Accelerate refuses a precision beside that of a run in this process; scores are in none.
        accelerator = Accelerator(cpu=cpu)
        accelerator.native_amp = False
        return accelerator
    return Accelerator(cpu=cpu, mixed_precision=mixed_precision)


def build_accelerator(
    config: TrainingConfig, folder: Path | None = None, precision: Precision | None = None
) -> Accelerator:
    """Accelerator of a run, with torch's, numpy's and Python's generators seeded.

    float16 is not offered: its loss scaling would change the products that teachers differentiate.

    Args:
        config: Device, precision, trackers, seed.
        folder: Where trackers that write files put them.
        precision: That of the run, where it is known already; None: as the configuration says.

    Raises:
        ConfigError: A tracker is not installed, or the precision is one that the processor has in software alone.
    """
    installed = [str(tracker) for tracker in get_available_trackers()]
    missing = [tracker for tracker in config.trackers if tracker not in installed]
    if missing:
        raise ConfigError(
            f"training.trackers: {missing[0]} is not installed; here are: {', '.join(installed) or 'none'}. "
            "Install it, or leave it out: metrics.jsonl is written in any case."
        )
    cpu = config.device == "cpu"
    mixed_precision = "bf16" if (precision or resolve_precision(config)) == "bf16" else "no"
    if AcceleratorState._shared_state and AcceleratorState().mixed_precision != mixed_precision:
        AcceleratorState._reset_state()  # of an earlier run in this process: Accelerate would refuse another one's
    # Buffers are constants, or local statistics on which `fit` makes processes agree where it measures; sending them
    # with every forward pass would only cost.
    kwargs = DistributedDataParallelKwargs(broadcast_buffers=False)
    accelerator = Accelerator(
        cpu=cpu or not torch.accelerator.is_available(),
        mixed_precision=mixed_precision,
        kwargs_handlers=[kwargs, InitProcessGroupKwargs(timeout=_PATIENCE)],
        log_with=list(config.trackers) or None,
        project_dir=folder,
    )
    if config.trackers:
        accelerator.init_trackers("aes-dynloss")
    set_seed(config.seed)
    return accelerator


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


class AccelerateProcesses(Processes):
    """See :class:`aes_dynloss.teaching.unrolling.step_plan.Processes`.

    The teaching core differentiates the unwrapped student: DDP neither synchronises what ``torch.autograd.grad``
    answers nor gradients of gradients. It counts over the whole effective batch, so that processes are summed.

    Args:
        accelerator: The run's.
    """

    def __init__(self, accelerator: Accelerator) -> None:
        self._accelerator = accelerator

    @property
    def world_size(self) -> int:
        """Number of processes."""
        return int(self._accelerator.num_processes)

    def total(self, tensor: Tensor) -> Tensor:
        """The sum of a tensor over all processes, on each of them."""
        if self.world_size == 1:
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
