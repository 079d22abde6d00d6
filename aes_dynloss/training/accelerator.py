"""Devices, processes and precision, through Accelerate."""

from __future__ import annotations

from pathlib import Path

import torch
from accelerate import Accelerator, DistributedDataParallelKwargs
from accelerate.tracking import get_available_trackers
from accelerate.utils import set_seed

from aes_dynloss.errors import ConfigError
from aes_dynloss.training.config import TrainingConfig


def has_device() -> bool:
    """Whether this machine has a GPU or its like. Without one Accelerate must be told, or processes stay apart."""
    if hasattr(torch, "accelerator"):  # torch 2.6 and newer
        return bool(torch.accelerator.is_available())
    return torch.cuda.is_available() or torch.backends.mps.is_available()


def plain_accelerator(*, cpu: bool = False, mixed_precision: str | None = "no") -> Accelerator:
    """Accelerator for scoring: devices and processes as they are.

    Args:
        cpu: Keep a GPU out of it.
        mixed_precision: no, unless the caller has other means to see that scores stay what they are; None: as
            Accelerate's environment or its configuration file says.
    """
    return Accelerator(cpu=cpu or not has_device(), mixed_precision=mixed_precision)


def build_accelerator(config: TrainingConfig, folder: Path | None = None) -> Accelerator:
    """Accelerator of a run, with torch's, numpy's and Python's generators seeded.

    float16 is not offered: its loss scaling would change the products that teachers differentiate.

    Args:
        config: Device, precision, trackers, seed.
        folder: Where trackers that write files put them.

    Raises:
        ConfigError: A tracker is not installed.
    """
    installed = [str(tracker) for tracker in get_available_trackers()]
    missing = [tracker for tracker in config.trackers if tracker not in installed]
    if missing:
        raise ConfigError(
            f"training.trackers: {missing[0]} is not installed; here are: {', '.join(installed) or 'none'}. "
            "Install it, or leave it out: metrics.jsonl is written in any case."
        )
    cpu = config.device == "cpu"
    has_bf16 = not cpu and torch.cuda.is_available() and torch.cuda.is_bf16_supported()
    bf16 = config.precision == "bf16" or (config.precision == "auto" and has_bf16)
    # Buffers are constants, or local statistics on which `fit` makes processes agree where it measures; sending them
    # with every forward pass would only cost.
    kwargs = DistributedDataParallelKwargs(broadcast_buffers=False)
    accelerator = Accelerator(
        cpu=cpu or not has_device(),
        mixed_precision="bf16" if bf16 else "no",
        kwargs_handlers=[kwargs],
        log_with=list(config.trackers) or None,
        project_dir=folder,
    )
    if config.trackers:
        accelerator.init_trackers("aes-dynloss")
    set_seed(config.seed)
    return accelerator
