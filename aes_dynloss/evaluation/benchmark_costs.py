"""What an arm's runs cost: seconds of a card, or of a processor."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from aes_dynloss.errors import ConfigError

GPU_SECONDS, CPU_SECONDS = "GPU-seconds", "CPU-seconds"


@dataclass(frozen=True)
class RunCost:
    """What one run cost.

    Args:
        seconds: Wall time, >= 0.
        device: What each of its processes ran on, such as ``NVIDIA H100 80GB HBM3`` or ``CPU, 2 threads``: a processor
            if it starts with CPU, otherwise a card.
        processes: Number of processes, >= 1, each with such a device of its own.

    Raises:
        ConfigError: A value is out of its bounds.
    """

    seconds: float
    device: str
    processes: int

    def __post_init__(self) -> None:
        """Check the cost at construction."""
        if not math.isfinite(self.seconds) or self.seconds < 0 or self.processes < 1 or not self.device.strip():
            raise ConfigError(f"A run's cost needs seconds >= 0, a device and processes >= 1, found {self}.")

    @property
    def device_seconds(self) -> float:
        """Seconds of one device: wall time times processes."""
        return self.seconds * self.processes

    @property
    def unit(self) -> str:
        """Which kind of device they are seconds of."""
        return CPU_SECONDS if self.device.startswith("CPU") else GPU_SECONDS


def cost_entry(costs: Sequence[RunCost]) -> dict[str, Any] | None:
    """The cost of an arm's runs.

    Args:
        costs: One a run.

    Returns:
        ``runs``, ``seconds_per_run`` (mean), ``total_seconds``, ``unit``, ``devices``; the seconds and the unit are
        None where some runs used cards and others processors, whose seconds are not the same thing. None without runs.
    """
    if not costs:
        return None
    units = {cost.unit for cost in costs}
    total = sum(cost.device_seconds for cost in costs) if len(units) == 1 else None
    return {
        "runs": len(costs),
        "seconds_per_run": None if total is None else total / len(costs),
        "total_seconds": total,
        "unit": None if total is None else units.pop(),
        "devices": sorted({cost.device for cost in costs}),
    }


def cost_notes(entries: Mapping[str, Mapping[str, Any] | None]) -> list[str]:
    """What a reader must know who compares costs.

    Args:
        entries: What :func:`cost_entry` gave, by arm.

    Returns:
        Notes on arms whose runs were on cards and on processors, and on arms of different devices.
    """
    known = {arm: entry for arm, entry in entries.items() if entry is not None}
    notes = [
        f"{arm}: its runs were on cards and on processors, whose seconds are not added."
        for arm, entry in known.items()
        if entry["unit"] is None
    ]
    if len({tuple(entry["devices"]) for entry in known.values()}) > 1:
        words = "; ".join(f"{arm}: {', '.join(entry['devices'])}" for arm, entry in known.items())
        notes.append(f"Arms ran on different devices, so that their seconds do not compare ({words}).")
    return notes
