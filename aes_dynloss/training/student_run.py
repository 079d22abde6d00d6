"""The run of a recipe's student in a folder of its own: precision, folder, report, time."""

from __future__ import annotations

import logging
import shutil
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

from accelerate import Accelerator

from aes_dynloss.configfile import read_mapping
from aes_dynloss.training.accelerator import build_accelerator
from aes_dynloss.training.config import Precision, TrainingConfig
from aes_dynloss.training.episodes import TEACHING_CHECKPOINT
from aes_dynloss.training.hardware import resolve_precision
from aes_dynloss.training.run_folder import (
    CHECKPOINT,
    FIRST_STAGE,
    MANIFEST,
    recorded_precision,
    run_folder,
    write_json,
)

logger = logging.getLogger(__name__)


class RunConfig(Protocol):
    """A run's configuration, with the section ``training``."""

    training: TrainingConfig

    def model_dump(self, *, mode: str) -> dict[str, Any]:
        """Its keys and values."""


def student_run(
    config: RunConfig,
    folder: Path,
    products: Sequence[str],
    train: Callable[[Accelerator], dict[str, Any]],
    precision: Precision | None = None,
    *,
    resume: bool = False,
    force: bool = False,
    force_precision: bool = False,
) -> dict[str, Any]:
    """Train and test a student in a folder, which is complete when its report is there.

    Args:
        config: The resolved configuration.
        folder: For everything the run leaves behind.
        products: What that is, see :func:`aes_dynloss.training.run_folder.run_folder`; the last one is the report.
        train: Trains and tests; returns what the report says, in the main process, to which the run's seconds are
            added.
        precision: That of its grid; None: as the configuration says, and as the run began.
        resume: Go on with a run that was stopped.
        force: Replace an earlier run.
        force_precision: Allow bf16 on a processor that has it in software alone.

    Returns:
        The content of the report.

    Raises:
        AesDynlossError: One of its kinds; the message says what to mend.
    """
    began_in = recorded_precision(folder / MANIFEST) if resume else None
    precision = precision or resolve_precision(config.training, began_in, force=force_precision)
    accelerator = build_accelerator(config.training, folder, precision)
    values, report = config.model_dump(mode="json"), folder / products[-1]
    with run_folder(accelerator, folder, values, products, resume=resume, force=force) as complete:
        if complete:
            logger.info("The run in %s is complete; nothing is left to do.", folder)
        else:
            started, checkpoints = time.monotonic(), [folder / name for name in (CHECKPOINT, TEACHING_CHECKPOINT)]
            again = any(path.exists() for path in (*checkpoints, folder / FIRST_STAGE / CHECKPOINT))
            content = train(accelerator)
            if accelerator.is_main_process:
                # Of a run that was stopped in between the time is not known.
                write_json(report, content | {"seconds": None if again else round(time.monotonic() - started, 1)})
                for path in checkpoints:
                    path.unlink(missing_ok=True)
                shutil.rmtree(folder / FIRST_STAGE, ignore_errors=True)
            accelerator.wait_for_everyone()
    accelerator.end_training()
    return read_mapping(report)
