"""What the machine can do at speed: matrices in bf16, and as many threads as it has idle cores."""

from __future__ import annotations

import logging
import os
from pathlib import Path

import torch

from aes_dynloss.errors import ConfigError
from aes_dynloss.training.config import Precision, TrainingConfig

logger = logging.getLogger(__name__)

# Of a processor, as both torch and /proc/cpuinfo name them. What those of other architectures gain was never measured.
_BF16_INSTRUCTIONS = {"avx512_bf16", "amx_bf16"}
_CPUINFO = Path("/proc/cpuinfo")
# Any of them is a choice of threads that torch follows.
_THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS")


def cpu_has_bf16() -> bool:
    """Whether the processor multiplies bf16 matrices in hardware, and torch was built to use that."""
    if not torch.backends.mkldnn.is_available():  # type: ignore[no-untyped-call]
        return False
    capabilities = getattr(torch.cpu, "get_capabilities", None)  # not in every torch that is supported
    if capabilities is not None:
        return any(capabilities().get(name, False) for name in _BF16_INSTRUCTIONS)
    try:
        return not _BF16_INSTRUCTIONS.isdisjoint(_CPUINFO.read_text(encoding="utf-8").split())
    except OSError:  # another system than Linux
        return False


def check_bf16(subject: str, instead: str) -> None:
    """Refuse bf16 on a processor that has it in software alone.

    Args:
        subject: What asks for it, as a sentence begins.
        instead: What to do instead, as a sentence begins.

    Raises:
        ConfigError: The processor has no instructions for it.
    """
    if not cpu_has_bf16():
        raise ConfigError(
            f"{subject}, and this processor has no instructions for bf16 (avx512_bf16 or amx_bf16): it would be 6 to "
            f"67 times slower than float32. {instead}, or give --force-precision."
        )


def resolve_precision(config: TrainingConfig, began_in: Precision | None = None, *, force: bool = False) -> Precision:
    """The precision of a run: ``auto`` is bf16 where the device has it in hardware, else float32.

    Args:
        config: Its device and precision.
        began_in: What ``auto`` was when the run, or its grid, began: that is kept. None: it begins now.
        force: Allow bf16 on a processor that has no instructions for it.

    Raises:
        ConfigError: It is bf16 on such a processor.

    Examples:
        >>> resolve_precision(TrainingConfig(precision="float32"))
        'float32'
        >>> resolve_precision(TrainingConfig(), began_in="float32")
        'float32'
    """
    on_cpu = config.device == "cpu" or not torch.accelerator.is_available()
    if config.precision != "auto":
        precision = config.precision
        subject, instead = f"training.precision is {precision}", "Leave it at auto"
    elif began_in is not None:
        precision = began_in
        subject, instead = f"This run, or its grid, began in {precision}", "Go on with it on a machine that has them"
    elif on_cpu:
        return "bf16" if cpu_has_bf16() else "float32"
    else:
        hardware = torch.cuda.is_available() and torch.cuda.is_bf16_supported(including_emulation=False)
        return "bf16" if hardware else "float32"
    if precision == "bf16" and on_cpu and not force:
        check_bf16(subject, instead)
    return precision


def leave_busy_cores() -> None:
    """Take fewer threads where other work keeps cores busy: threads that wait for each other would be slower than one.

    At the start of a command, before its own work is in the load. Threads that the user has chosen stay.
    """
    if any(os.environ.get(name) for name in _THREAD_VARIABLES) or not hasattr(os, "getloadavg"):
        return
    load, cores, before = os.getloadavg()[0], os.cpu_count() or 1, torch.get_num_threads()
    threads = max(1, cores - round(load))
    if threads < before:
        torch.set_num_threads(threads)
        logger.warning(
            "The machine is busy (a load of %.1f on %d cores): using %d of %d threads. OMP_NUM_THREADS sets another "
            "number.",
            load,
            cores,
            threads,
            before,
        )
