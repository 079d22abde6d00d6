"""The memory that kernels of all pairs of a prompt's training essays take: it grows with the square of their number."""

from __future__ import annotations

import os
from pathlib import Path

from aes_dynloss.errors import ConfigError

_MEMINFO = Path("/proc/meminfo")
# Square matrices in float64 that a fit holds at once, measured: kernel, its centred form, eigenvectors, copies of them;
# with n-grams also theirs and the weighted means of both.
_MATRICES, _MATRICES_WITH_STRINGS = 5.1, 8.5


def kernel_bytes(essays: int, *, strings: bool) -> float:
    """Bytes that a kernel ridge regression on so many training essays takes at most.

    Args:
        essays: Their number.
        strings: Whether a string kernel is mixed in.

    Example:
        >>> f"{kernel_bytes(10_000, strings=True) / 1e9:.1f} GB"
        '6.8 GB'
    """
    return 8.0 * (_MATRICES_WITH_STRINGS if strings else _MATRICES) * essays**2


def free_memory() -> int | None:
    """Bytes of memory that are free; all there are, where the system does not tell; None where it tells neither."""
    try:
        lines = _MEMINFO.read_text(encoding="ascii").splitlines()
        return next(1024 * int(line.split()[1]) for line in lines if line.startswith("MemAvailable:"))
    except (OSError, StopIteration):  # another system than Linux
        try:
            return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
        except (AttributeError, ValueError, OSError):
            return None


def check_kernels(what: str, essays: int, *, strings: bool, instead: str) -> None:
    """Refuse kernels that would not fit into memory.

    Args:
        what: Whose they are, as a sentence begins.
        essays: Training essays.
        strings: Whether a string kernel is among them.
        instead: What to do instead, as a sentence begins.

    Raises:
        ConfigError: They would not.
    """
    needed, free = kernel_bytes(essays, strings=strings), free_memory()
    if free is not None and needed > free:
        raise ConfigError(
            f"{what}: kernels of {essays} training essays take up to {needed / 1e9:.1f} GB of memory, and "
            f"{free / 1e9:.1f} GB are free. {instead}, or train on fewer essays."
        )
