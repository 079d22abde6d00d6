"""A scorer and the processes that score with it, opened on the machine where they are to work."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from aes_dynloss.errors import ConfigError
from aes_dynloss.essays.data.readers import UnscoredEssay
from aes_dynloss.essays.ensembles.ensemble import needs_torch, open_scorer
from aes_dynloss.essays.model.protocol import Scorer
from aes_dynloss.essays.scoring.resume import OneProcess, Processes
from aes_dynloss.training.config import Precision


def open_to_score(
    model: Path, precision: Precision, *, cpu: bool, force_precision: bool = False, alone: str | None = None
) -> tuple[Processes, Scorer]:
    """The processes that score, and the scorer; torch is loaded where one of both needs it.

    Args:
        model: A model folder.
        precision: In which the scorer is to read.
        cpu: Whether a GPU is left alone.
        force_precision: Allow bf16 on a processor that has it in software alone.
        alone: Why there may be one process only, with what to do; None where several may score together.

    Raises:
        CheckpointError: The folder holds no model that can be opened.
        ConfigError: The processor has no instructions for the precision, or there are several processes.
    """
    accelerator = None
    if needs_torch(model) or int(os.environ.get("WORLD_SIZE", "1")) > 1:
        from aes_dynloss.training.accelerator import plain_accelerator
        from aes_dynloss.training.hardware import check_bf16, leave_busy_cores

        accelerator = plain_accelerator(cpu=cpu)
        if precision == "bf16" and accelerator.device.type == "cpu" and not force_precision:
            check_bf16("--precision is bf16", "Leave it out")
        if alone is not None and accelerator.num_processes > 1:
            raise ConfigError(alone)
        leave_busy_cores()
    return accelerator or OneProcess(), open_scorer(model, accelerator)


def in_checked_precision(
    scorer: Scorer, essays: Iterable[UnscoredEssay], precision: Precision
) -> tuple[Scorer, Iterable[UnscoredEssay]]:
    """The scorer in a precision, and the essays, the first of which are scored in float32 too.

    Args:
        scorer: In float32.
        essays: Those that it is to score.
        precision: float32, for which both are as they are, or bf16.

    Raises:
        ConfigError: The scorer is of a kind that is not known here.
    """
    if precision == "float32":
        return scorer, essays
    from aes_dynloss.essays.scoring.precision import checked_essays, in_precision

    fast = in_precision(scorer, precision)
    return fast, checked_essays(scorer, fast, precision, essays)
