"""The one place that knows which attention kernels can be differentiated twice."""

from __future__ import annotations

from contextlib import AbstractContextManager

from torch.nn.attention import SDPBackend, sdpa_kernel


def twice_differentiable() -> AbstractContextManager[None]:
    """Within the block attention runs on the kernel that has second derivatives.

    Flash, memory-efficient and cuDNN attention have none, and on the CPU the fast kernel has none either. First-order
    passes keep their fast kernels: they stay outside.
    """
    context: AbstractContextManager[None] = sdpa_kernel(SDPBackend.MATH)
    return context
