"""What a trajectory stores until the backward pass, and where: settings alone, without torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Storage = Literal["device", "host", "bf16"]


@dataclass(frozen=True)
class Memory:
    """Settings of what a trajectory stores.

    Args:
        storage: Where points are kept.
        snapshots: Keep about sqrt(T) points of T, and compute those between again: one more pass, far less memory.
        gradients: Keep every step's first derivatives, which one-sided differences read.
        kept_graphs: Bytes for graphs of the last steps, so that walking them back needs no second forward pass;
            first derivatives are then kept too where the optimiser's adjoint reads them.
    """

    storage: Storage = "device"
    snapshots: bool = False
    gradients: bool = False
    kept_graphs: int = 0
