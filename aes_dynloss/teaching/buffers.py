"""A module's buffers, such as batch norm's statistics, which a forward pass in training mode moves."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor
from torch.nn import Module


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
