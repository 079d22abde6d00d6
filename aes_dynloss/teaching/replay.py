"""Snapshots of what a forward pass changes: random generators and module buffers.

Restoring the generators replays a forward pass with the same dropout; restoring the buffers undoes its update of batch
norm's statistics.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import Module


@dataclass(frozen=True)
class RandomState:
    """The state of torch's generators on the CPU and on one accelerator."""

    cpu: Tensor
    cuda: Tensor | None = None


def random_state(device: torch.device) -> RandomState:
    """The generators' state now, on the CPU and on ``device``."""
    cuda = torch.cuda.get_rng_state(device) if device.type == "cuda" else None
    return RandomState(torch.get_rng_state(), cuda)


def set_random_state(state: RandomState, device: torch.device) -> None:
    """Put the generators back into a state."""
    torch.set_rng_state(state.cpu)
    if state.cuda is not None:
        torch.cuda.set_rng_state(state.cuda, device)


@contextmanager
def replayed(state: RandomState, device: torch.device) -> Iterator[None]:
    """Within the block the generators run from ``state``; afterwards they go on as if the block had not been."""
    now = random_state(device)
    set_random_state(state, device)
    try:
        yield
    finally:
        set_random_state(now, device)


def buffers_of(module: Module) -> list[Tensor]:
    """Copies of a module's buffers."""
    return [buffer.clone() for buffer in module.buffers()]


@torch.no_grad()
def put_buffers(module: Module, values: Sequence[Tensor]) -> None:
    """Put :func:`buffers_of` back."""
    for buffer, value in zip(module.buffers(), values, strict=True):
        # By `data`, so that graphs which are kept stay valid: they hold batch norm's statistics, but do not read them.
        buffer.data.copy_(value)


@contextmanager
def kept_buffers(module: Module) -> Iterator[None]:
    """Afterwards the buffers are as they were: for a forward pass that is made once more."""
    values = buffers_of(module)
    try:
        yield
    finally:
        put_buffers(module, values)
