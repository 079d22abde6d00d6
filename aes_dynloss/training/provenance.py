"""What made a run, whatever was trained: versions, machine, time."""

from __future__ import annotations

import importlib.metadata
import os
import platform
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import torch
from accelerate import Accelerator


def describe_run(accelerator: Accelerator, packages: Sequence[str]) -> dict[str, Any]:
    """When, with which versions and on what a run was made; no path of the machine.

    Args:
        accelerator: The run's.
        packages: Names of the packages whose versions matter.
    """
    cuda = accelerator.device.type == "cuda"
    return {
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "versions": {"python": platform.python_version(), **{name: package_version(name) for name in packages}},
        "machine": {
            "system": platform.system(),
            "processor": platform.machine(),
            "cores": os.cpu_count(),
            "device": torch.cuda.get_device_name(accelerator.device) if cuda else "cpu",
            "processes": accelerator.num_processes,
            "precision": accelerator.mixed_precision,
        },
    }


def package_version(package: str) -> str | None:
    """The version of a package that is installed; None for another."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None
