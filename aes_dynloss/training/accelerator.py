"""Devices, processes and precision, through Accelerate."""

from __future__ import annotations

import torch
from accelerate import Accelerator, DistributedDataParallelKwargs
from accelerate.utils import set_seed

from aes_dynloss.training.config import TrainingConfig


def build_accelerator(config: TrainingConfig) -> Accelerator:
    """Accelerator of a run, with torch's, numpy's and Python's generators seeded.

    float16 is not offered: its loss scaling would change the products that teachers differentiate.
    """
    cpu = config.device == "cpu"
    has_bf16 = not cpu and torch.cuda.is_available() and torch.cuda.is_bf16_supported()
    bf16 = config.precision == "bf16" or (config.precision == "auto" and has_bf16)
    # Buffers are constants or local statistics here; sending them with every forward pass would only cost.
    kwargs = DistributedDataParallelKwargs(broadcast_buffers=False)
    accelerator = Accelerator(
        cpu=cpu,
        mixed_precision="bf16" if bf16 else "no",
        kwargs_handlers=[kwargs],
        log_with=list(config.trackers) or None,
    )
    set_seed(config.seed)
    return accelerator
