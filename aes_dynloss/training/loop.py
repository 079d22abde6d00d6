"""The training loop: the only place where the order of operations is written."""

from __future__ import annotations

import logging
import math
import time
import warnings
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import torch
from accelerate import Accelerator
from accelerate.optimizer import AcceleratedOptimizer
from torch import Tensor
from torch.nn import Module
from torch.optim import Optimizer

from aes_dynloss.errors import TrainingError
from aes_dynloss.progress import Progress
from aes_dynloss.teaching.losses.dynamic_loss import DynamicLoss
from aes_dynloss.teaching.losses.learned_loss import LearnedLoss
from aes_dynloss.teaching.policies import LossPolicy, StateTracker, StudentState
from aes_dynloss.teaching.student import Student, random_state
from aes_dynloss.teaching.unrolling.step_plan import StepPlan
from aes_dynloss.training.accelerator import agree_on_buffers
from aes_dynloss.training.batching import Examples, steps_left, total_steps
from aes_dynloss.training.config import TrainingConfig
from aes_dynloss.training.effective_batch import StepRecord, backward
from aes_dynloss.training.optimization import WeightAverage, build_optimizer, build_scheduler
from aes_dynloss.training.problem import step_plan
from aes_dynloss.training.run_folder import CHECKPOINT, METRICS, RunLog
from aes_dynloss.training.run_state import CheckpointClock, RunState, load_trained_state

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class RunContext:
    """Everything that a training run needs besides the student, its data and its loss.

    Args:
        accelerator: Devices, processes and precision.
        config: Settings of the student's training.
        folder: The run's folder: metrics.jsonl, the checkpoint, and what a teacher leaves.
        measure: Measures the student as it is on dev; called by every process; higher is better.
        select_by: The measure that selects the best checkpoint, stops early and is shown to a teacher.
        resume: Continue from the folder's checkpoints, if there are any.
        clock: The time in seconds, by which checkpoints between evaluations are due.
        keep: Which weights the student has in the end: those of the best dev measure, or of the last.

    Examples:
        >>> from aes_dynloss.training.accelerator import plain_accelerator
        >>> accelerator, config = plain_accelerator(cpu=True), TrainingConfig(epochs=2)
        >>> context = RunContext(accelerator, config, Path("run"), measure=lambda: {"qwk": 0.5}, select_by="qwk")
        >>> context.measure()[context.select_by], context.resume
        (0.5, False)
    """

    accelerator: Accelerator
    config: TrainingConfig
    folder: Path
    measure: Callable[[], Mapping[str, float]]
    select_by: str
    resume: bool = False
    clock: Callable[[], float] = time.monotonic
    keep: Literal["best", "last"] = "best"


class TeacherUpdate:
    """Moves a teacher's parameters by a hypergradient, between the student's steps; schedules have none.

    This one does nothing: it is the update of a run whose loss follows a schedule or a frozen teacher.
    """

    def record_step(self, plan: StepPlan, coefficients: Tensor, optimizer: Optimizer) -> None:
        """Record a step whose gradients are computed, before the student takes it."""

    def update(self, optimizer: Optimizer, *, last: bool) -> Mapping[str, float]:  # noqa: ARG002
        """Update the teacher after a step, if one is due, and the student with it.

        Args:
            optimizer: The student's.
            last: Whether the student is measured and saved next, so that no window may stay open.

        Returns:
            Numbers for the log; empty without an update.
        """
        return {}

    @property
    def can_be_saved(self) -> bool:
        """Whether :meth:`state_dict` holds everything now: no window of steps is open."""
        return True

    def state_dict(self) -> dict[str, Any]:
        """The state to resume from."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore :meth:`state_dict`."""


NO_TEACHER = TeacherUpdate()


@dataclass(frozen=True)
class FitResult:
    """The outcome of a training run.

    Args:
        best_measure: Best dev measure.
        best_step: Optimiser step after which it was measured.
        steps: Optimiser steps taken.
        stopped_early: Whether patience ran out.
        state: State of the student as the run ended.
        learned: The loss as a teacher left it, where ``train_student`` had one.
    """

    best_measure: float
    best_step: int
    steps: int
    stopped_early: bool
    state: StudentState
    learned: LearnedLoss | None = field(default=None, compare=False)


def fit(
    context: RunContext,
    student: Student,
    train: Examples,
    loss: DynamicLoss,
    policy: LossPolicy,
    teacher: TeacherUpdate = NO_TEACHER,
) -> FitResult:
    """Train a student; afterwards it has the weights of its best dev measure (``context.keep``).

    Args:
        context: The run.
        student: The student.
        train: Training examples.
        loss: The loss, a function of coefficients and elements.
        policy: Returns the coefficients for the state of the student.
        teacher: Updates the teacher behind ``policy``.

    Returns:
        The outcome.

    Raises:
        TrainingError: The loss, its gradient or the dev measure is no longer finite; the last checkpoint is kept.
        CheckpointError: The checkpoint is damaged or belongs to another run.

    Examples:
        A line, learnt from four points by squared error; for essays, ``finetune`` calls this.

        >>> import numpy as np
        >>> from tempfile import TemporaryDirectory
        >>> from aes_dynloss import Batch, Elements, LossConfig
        >>> from aes_dynloss.training.accelerator import build_accelerator
        >>> class Line(torch.nn.Linear):
        ...     def elements(self, outputs, targets, groups):
        ...         half = torch.full_like(targets, 0.5)
        ...         return Elements(outputs[:, 0], targets, groups, centre=half, spread=half)
        ...     def parameter_stack(self):
        ...         return [list(self.named_parameters())]
        ...     def as_module(self):
        ...         return self
        >>> class Points:
        ...     lengths = sequences = np.ones(4, dtype=np.int64)
        ...     def __len__(self):
        ...         return 4
        ...     def batch(self, rows):
        ...         index = torch.tensor(rows)
        ...         x = index / 3
        ...         return Batch({"input": x[:, None]}, 0.5 * x, 0 * index, index)
        >>> student, train = Line(1, 1), Points()
        >>> def measure():  # on dev; here one point serves as such
        ...     return {"minus_error": -abs(student(torch.ones(1, 1)).item() - 0.5)}
        >>> config = TrainingConfig(epochs=2, batch_size=2, device="cpu", precision="float32")
        >>> loss, policy = LossConfig(terms={"mse": 1.0}).build()
        >>> with TemporaryDirectory() as folder:
        ...     context = RunContext(build_accelerator(config), config, Path(folder), measure, select_by="minus_error")
        ...     result = fit(context, student, train, loss, policy)
        >>> result.steps, result.stopped_early, result.best_measure == measure()["minus_error"]
        (4, False, True)
    """
    accelerator, config, select_by = context.accelerator, context.config, context.select_by
    checkpoint = context.folder / CHECKPOINT
    module = student.as_module().to(accelerator.device)
    learning = [parameter for parameter in module.parameters() if parameter.requires_grad]
    model, optimizer = _prepare(accelerator, module, build_optimizer(student, config), config.seed)
    total = total_steps(train, config)
    scheduler = build_scheduler(optimizer.optimizer, total, config)
    average = WeightAverage(learning, config.averaging) if config.averaging is not None else None
    clock = CheckpointClock(accelerator, config.checkpoint_minutes, context.clock)
    run = RunState(module, optimizer, scheduler, StateTracker(total), teacher, clock, average, keep=context.keep)
    kept = run.restore(accelerator, checkpoint) if context.resume and checkpoint.exists() else 0
    hidden = not accelerator.is_main_process
    path, tracker = (None if hidden else context.folder / METRICS), (accelerator.log if config.trackers else None)
    log, unread = RunLog(path, keep=kept, tracker=tracker), list[Unread]()
    with log, Progress(total=total, initial=run.tracker.step, desc="fine-tune", unit="step", disable=hidden) as bar:
        for step in steps_left(train, config, taken=run.tracker.step):
            if run.since_best >= (config.patience or math.inf):
                break
            # 1. The policy returns the loss's coefficients for the state of the student.
            state = run.tracker.state()
            coefficients = policy.coefficients(state).to(accelerator.device, non_blocking=True)
            # 2. This process's share of the batch goes forwards and backwards.
            module.train()
            planned = step_plan(accelerator, train, step, run.tracker.step, total, config, over_batch=loss.over_batch)
            plan = replace(planned, random=random_state(accelerator.device))
            record = backward(accelerator, model, student, loss, coefficients, plan.batches, plan.count)
            teacher.record_step(plan, coefficients, optimizer.optimizer)
            # 3. The student steps.
            norm = accelerator.clip_grad_norm_(learning, config.clip_norm or math.inf)
            rate = float(run.scheduler.get_last_lr()[0])
            run.optimizer.step()
            run.scheduler.step()
            run.optimizer.zero_grad()
            if average is not None:
                average.update()
            run.tracker.step += 1
            # 4. The teacher is updated, if that is due.
            taught = teacher.update(optimizer.optimizer, last=step.measured)
            # 5. Numbers leave the device, some steps at a time.
            logged = loss.logged_values(coefficients)
            unread.append(Unread(run.tracker.step, step.epoch, rate, state, logged, record, norm, taught))
            bar.update()
            shown = step.measured or len(run.tracker.unseen) + len(unread) >= config.log_every
            saved = step.measured or (clock.is_due(waiting=shown) and teacher.can_be_saved)
            if shown or saved:
                _read(unread, log, run.tracker, shown=shown)
            # 6. At times the student is measured on dev, and the best weights are kept.
            if step.measured:
                measured = _measure(context, run)
                log.write({"step": run.tracker.step, "epoch": step.epoch, "dev": measured})
                bar.set_postfix({select_by: f"{measured[select_by]:.3f}", "best": f"{run.best.measure:.3f}"})
            # 7. The run is saved then, and by the clock.
            if saved:
                run.save(accelerator, checkpoint, log.flushed())
    load_trained_state(module, run.best.weights)
    _release(accelerator, model)
    logger.info(
        "%s dev %s %.4f after step %d of %d.",
        context.keep.capitalize(),
        select_by,
        run.best.measure,
        run.best.step,
        run.tracker.step,
    )
    return FitResult(run.best.measure, run.best.step, run.tracker.step, run.tracker.step < total, run.tracker.state())


def _prepare(
    accelerator: Accelerator, module: Module, optimizer: Optimizer, seed: int
) -> tuple[Module, AcceleratedOptimizer]:
    """Student and optimiser as Accelerate wraps them; each further process gets its own dropout noise."""
    with warnings.catch_warnings():
        # DDP's successor of this option is not in every torch that is supported.
        warnings.filterwarnings("ignore", message="`broadcast_buffers` is deprecated", category=FutureWarning)
        model, prepared = accelerator.prepare(module, optimizer)
    if accelerator.process_index > 0:
        torch.manual_seed(seed + accelerator.process_index)
    return model, prepared


def _release(accelerator: Accelerator, model: Module) -> None:
    """The student without what Accelerate wrapped around it, which keeps neither it nor its optimiser in memory."""
    accelerator.unwrap_model(model, keep_fp32_wrapper=False)
    accelerator.free_memory()


def _measure(context: RunContext, run: RunState) -> dict[str, float]:
    """Measure the student on dev, with averaged weights if there are any; the best are kept."""
    agree_on_buffers(context.accelerator, run.module)
    with run.average.in_place() if run.average is not None else nullcontext():
        measured = dict(context.measure())
        _check_finite(run.tracker.step, {context.select_by: measured[context.select_by]})
        run.take_measure(measured[context.select_by])
    return measured


@dataclass(frozen=True)
class Unread:
    """The numbers of a step that are still on the device."""

    step: int
    epoch: int
    rate: float
    state: StudentState
    logged: Mapping[str, Tensor]
    record: StepRecord
    norm: Tensor
    taught: Mapping[str, float]

    def packed(self) -> Tensor:
        """All numbers on the device as one tensor."""
        record = self.record
        return torch.stack([record.loss, record.error, self.norm, *record.terms.values(), *self.logged.values()])


def _read(unread: list[Unread], log: RunLog, tracker: StateTracker, *, shown: bool) -> None:
    """Copy the numbers of the last steps from the device, in one transfer, and log them.

    Policies are shown the errors at the same steps whenever the run was saved: a checkpoint must not change the run.
    """
    rows = torch.stack([entry.packed().double() for entry in unread]).tolist()
    for entry, numbers in zip(unread, rows, strict=True):
        loss, error, norm, *rest = numbers
        terms, coefficients = rest[: len(entry.record.terms)], rest[len(entry.record.terms) :]
        line: dict[str, Any] = {"step": entry.step, "epoch": entry.epoch, "lr": entry.rate}
        line |= {"state": asdict(entry.state), "coefficients": dict(zip(entry.logged, coefficients, strict=True))}
        line |= {"loss": loss, "terms": dict(zip(entry.record.terms, terms, strict=True))}
        line |= {"error": error, "gradient_norm": norm}
        if entry.taught:
            line["teacher"] = dict(entry.taught)
        log.write(line)
        _check_finite(entry.step, {"loss": loss, "gradient_norm": norm})
        tracker.unseen.append(error)
    unread.clear()
    if shown:
        tracker.show_errors()


def _check_finite(step: int, numbers: Mapping[str, float]) -> None:
    for name, value in numbers.items():
        if not math.isfinite(value):
            raise TrainingError(
                f"After step {step} the {name} is {value}, expected a finite number. The run stops here and its last "
                "checkpoint is kept. Lower training.learning_rate or training.head_learning_rate, or check loss.terms."
            )
