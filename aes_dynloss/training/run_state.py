"""The state of a run that changes while it trains, and its checkpoints, from which a run resumes exactly."""

from __future__ import annotations

import math
import pickle
import time
import zlib
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal
from zipfile import BadZipFile, ZipFile

import torch
from accelerate import Accelerator
from accelerate.utils import broadcast_object_list, gather_object
from torch import Tensor
from torch.nn import Module
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from aes_dynloss.errors import CheckpointError
from aes_dynloss.tables.atomic import atomic_file
from aes_dynloss.teaching.policies import StateTracker
from aes_dynloss.teaching.student import RandomState, buffers_of, put_buffers, random_state, set_random_state
from aes_dynloss.training.optimization import WeightAverage

if TYPE_CHECKING:
    from torch.distributed.checkpoint.stateful import Stateful

FORMAT = 1
_UNREADABLE = (pickle.UnpicklingError, BadZipFile, zlib.error)


def trained_state(module: Module) -> dict[str, Tensor]:
    """Copies of what training changes: parameters that learn, and buffers; frozen weights are left out."""
    frozen = {name for name, parameter in module.named_parameters() if not parameter.requires_grad}
    return {name: tensor.detach().cpu().clone() for name, tensor in module.state_dict().items() if name not in frozen}


def load_trained_state(module: Module, state: dict[str, Tensor]) -> None:
    """Restore :func:`trained_state`.

    Raises:
        CheckpointError: The state belongs to another student.
    """
    expected = trained_state(module)
    wrong = sorted(expected.keys() ^ state.keys())
    wrong += sorted(name for name in expected.keys() & state.keys() if expected[name].shape != state[name].shape)
    if wrong:
        raise CheckpointError(
            f"The checkpoint belongs to another student: {len(wrong)} weights do not fit, such as {wrong[0]}. "
            "Resume with the configuration of the run, or start again with --force."
        )
    module.load_state_dict(state, strict=False)


def write_checkpoint(path: Path, content: dict[str, Any]) -> None:
    """Write a checkpoint that is there whole or not at all, whenever the process is killed.

    Raises:
        CheckpointError: It cannot be written, such as on a full disk; the one before it is still there.
    """
    try:
        with atomic_file(path, raises=None) as temporary, temporary.open("wb") as file:
            torch.save({"format": FORMAT, **content}, file)
    except (OSError, RuntimeError) as error:  # torch hides the system's words behind its own
        cause = error if isinstance(error, OSError) else error.__context__ or error
        reason = getattr(cause, "strerror", None) or str(cause).splitlines()[0]
        raise CheckpointError(
            f"{path} cannot be written: {reason}. Make room on the disk, then go on with --resume."
        ) from None


def read_checkpoint(path: Path) -> dict[str, Any]:
    """Read a checkpoint; nothing in it is executed.

    Raises:
        CheckpointError: The file is damaged, or of another format.
    """
    try:
        # torch.load does not look at the checksums, and would take a changed byte for a weight.
        with ZipFile(path) as archive:
            if (damaged := archive.testzip()) is not None:
                raise BadZipFile(f"{damaged} does not have its checksum")
        content = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, ValueError, LookupError, EOFError, *_UNREADABLE) as error:
        raise CheckpointError(
            f"{path} is no readable checkpoint ({str(error).splitlines()[0] if str(error) else type(error).__name__}). "
            "Remove it and start again with --force."
        ) from None
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise CheckpointError(f"{path} is no checkpoint of this version. Start again with --force.")
    return content


class CheckpointClock:
    """Says, on all processes alike, when the next checkpoint is due.

    Args:
        accelerator: The run's; the main process's clock decides.
        minutes: From one checkpoint to the next.
        now: The time in seconds.
    """

    def __init__(self, accelerator: Accelerator, minutes: float, now: Callable[[], float] = time.monotonic) -> None:
        self._together = accelerator.num_processes > 1
        self._seconds = 60 * minutes
        self._now = now
        self.restart()

    def restart(self) -> None:
        """Begin anew: a checkpoint was written."""
        self._due, self._last = False, self._now()

    def is_due(self, *, waiting: bool) -> bool:
        """Whether a checkpoint is due; once it is, that stands until :meth:`restart`.

        Args:
            waiting: Whether the processes wait for their devices here in any case. Several ask the main one only then.
        """
        if not self._due and (waiting or not self._together):
            (self._due,) = broadcast_object_list([self._now() - self._last >= self._seconds])
        return self._due


@dataclass
class Best:
    """The best dev measure, and the weights that gave it."""

    measure: float = -math.inf
    step: int = 0
    weights: dict[str, Tensor] = field(default_factory=dict)


@dataclass
class RunState:
    """The moving parts of a run.

    Args:
        module: The student, unwrapped.
        optimizer: Its optimiser.
        scheduler: Its learning rates.
        tracker: Counts steps and keeps the state that policies see.
        teacher: The teacher's update.
        clock: When the next checkpoint is due.
        average: Averaged weights, if any.
        best: The best so far.
        since_best: Dev measures since the best.
        keep: Whether a later dev measure takes the place of the best whatever it is.
    """

    module: Module
    optimizer: Optimizer
    scheduler: LRScheduler
    tracker: StateTracker
    teacher: Stateful
    clock: CheckpointClock
    average: WeightAverage | None = None
    best: Best = field(default_factory=Best)
    since_best: int = 0
    keep: Literal["best", "last"] = "best"

    def take_measure(self, measure: float) -> None:
        """Take in a dev measure of the weights as they are; keep them if it is the best, or if the last are kept."""
        self.tracker.take_measure(measure)
        self.since_best += 1
        if measure > self.best.measure or self.keep == "last":
            self.best = Best(measure, self.tracker.step, trained_state(self.module))
            self.since_best = 0

    def save(self, accelerator: Accelerator, path: Path, log_bytes: int) -> None:
        """Write the checkpoint, on the main process; all take part: random states and buffers are each one's own."""
        local = random_state(accelerator.device)
        # Batch norm's statistics agree only where the student is measured.
        buffers = [buffer.cpu() for buffer in buffers_of(self.module)] if accelerator.num_processes > 1 else []
        states = gather_object([((local.cpu, local.cuda), buffers)])
        if accelerator.is_main_process:
            content = {
                "student": trained_state(self.module),
                "optimizer": self.optimizer.state_dict(),
                "scheduler": self.scheduler.state_dict(),
                "tracker": asdict(self.tracker),
                "average": (self.average.steps, self.average.weights) if self.average is not None else None,
                "teacher": self.teacher.state_dict(),
                "best": asdict(self.best),
                "since_best": self.since_best,
                "random": [generators for generators, _ in states],
                "buffers": [own for _, own in states],
                "log_bytes": log_bytes,
            }
            write_checkpoint(path, content)
        self.clock.restart()
        accelerator.wait_for_everyone()

    def restore(self, accelerator: Accelerator, path: Path) -> int:
        """Restore a checkpoint.

        Returns:
            Bytes of the log up to the checkpoint.

        Raises:
            CheckpointError: It is damaged or belongs to another run.
        """
        saved = read_checkpoint(path)
        try:
            self._take_back(accelerator, saved)
            return int(saved["log_bytes"])
        except CheckpointError:
            raise
        except (LookupError, TypeError, ValueError, RuntimeError) as error:
            raise CheckpointError(
                f"{path} belongs to a run with other settings ({type(error).__name__}: {error}). Resume with the "
                "configuration of the run, or start again with --force."
            ) from error

    def _take_back(self, accelerator: Accelerator, saved: dict[str, Any]) -> None:
        steps = saved["tracker"]["total_steps"]
        if steps != self.tracker.total_steps:
            raise CheckpointError(
                f"The checkpoint is of a run of {steps} steps, this one has {self.tracker.total_steps}: the training "
                "examples or the settings have changed. Resume with those of the run, or start again with --force."
            )
        if (saved["average"] is None) != (self.average is None):
            raise CheckpointError(
                "The checkpoint and this run differ in training.averaging. Resume with the configuration of the run, "
                "or start again with --force."
            )
        load_trained_state(self.module, saved["student"])
        buffers = saved.get("buffers", [])[accelerator.process_index : accelerator.process_index + 1]
        if buffers and buffers[0]:
            put_buffers(self.module, buffers[0])
        self.optimizer.load_state_dict(saved["optimizer"])
        self.scheduler.load_state_dict(saved["scheduler"])
        self.tracker = StateTracker(**saved["tracker"])
        if self.average is not None:
            self.average.steps = saved["average"][0]
            self.average.weights = [weight.to(accelerator.device) for weight in saved["average"][1]]
        self.teacher.load_state_dict(saved["teacher"])
        self.best = Best(**saved["best"])
        self.since_best = saved["since_best"]
        states = saved["random"]
        set_random_state(RandomState(*states[accelerator.process_index % len(states)]), accelerator.device)
