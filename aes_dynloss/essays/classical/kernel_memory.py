"""The memory that kernels of all pairs of a prompt's training essays take: it grows with the square of their number."""

from __future__ import annotations

import os
from collections.abc import Collection
from pathlib import Path

from aes_dynloss.errors import ConfigError

_MEMINFO = Path("/proc/meminfo")
_OWN_GROUPS, _GROUPS = Path("/proc/self/cgroup"), Path("/sys/fs/cgroup")
# By version of control groups: limit, use, and the part of it that is cached files.
_GROUP_FILES = {
    1: ("memory.limit_in_bytes", "memory.usage_in_bytes", ("total_active_file", "total_inactive_file")),
    2: ("memory.max", "memory.current", ("active_file", "inactive_file")),
}
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
    """Bytes of memory that this process can have, which a container may hold below what the machine has free.

    Returns:
        All there are, where the system does not tell what is free; None where it tells neither.
    """
    try:
        lines = _MEMINFO.read_text(encoding="ascii").splitlines()
        free = next(1024 * int(line.split()[1]) for line in lines if line.startswith("MemAvailable:"))
    except (OSError, StopIteration):  # another system than Linux
        try:
            return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
        except (AttributeError, ValueError, OSError):
            return None
    return min([free, *_left_in_control_groups()])


def _left_in_control_groups() -> list[int]:
    """Bytes that each control group with a limit leaves this process, versions 1 and 2; cached files count as free."""
    found = []
    try:
        lines = _OWN_GROUPS.read_text(encoding="utf-8").splitlines()
    except OSError:
        return []
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers and "memory" not in controllers.split(","):
            continue
        version = 1 if controllers else 2
        root = _GROUPS / "memory" if version == 1 else _GROUPS
        own = root / path.lstrip("/")
        # Inside a container the path may be that of the machine, and the container's own group is the root.
        groups = [folder for folder in (own, *own.parents) if folder.is_relative_to(root)]
        found += [_left(group, *_GROUP_FILES[version]) for group in groups]
    return [left for left in found if left is not None]


def _left(group: Path, limit: str, used: str, cached: Collection[str]) -> int | None:
    """Limit less use of a control group, in bytes; None where it has none."""
    try:
        most, now = (int((group / name).read_text(encoding="ascii")) for name in (limit, used))
        counts = dict(line.split() for line in (group / "memory.stat").read_text(encoding="ascii").splitlines())
        return max(most - now + sum(int(counts.get(name, 0)) for name in cached), 0)
    except (OSError, ValueError):  # no such file, or `max`
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
