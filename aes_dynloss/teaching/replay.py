"""Replaying a forward pass with the same dropout."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor


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
