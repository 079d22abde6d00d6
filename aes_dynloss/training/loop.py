"""The training loop: the only place where the order of operations is written."""

from __future__ import annotations

import logging
import math
import warnings
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from accelerate import Accelerator
from accelerate.optimizer import AcceleratedOptimizer
from torch import Tensor
from torch.nn import Module
from torch.optim import Optimizer
from tqdm import tqdm

from aes_dynloss.errors import TrainingError
from aes_dynloss.teaching.batch import Batch
from aes_dynloss.teaching.dynamic_loss import DynamicLoss
from aes_dynloss.teaching.policies import LossPolicy
from aes_dynloss.teaching.state import StateTracker, StudentState
from aes_dynloss.teaching.student import Student
from aes_dynloss.training.batching import Examples, micro_batches, share_of, steps_left, total_steps
from aes_dynloss.training.checkpoint import load_trained_state
from aes_dynloss.training.config import TrainingConfig
from aes_dynloss.training.effective_batch import StepRecord, backward
from aes_dynloss.training.optimization import WeightAverage, build_optimizer, build_scheduler
from aes_dynloss.training.run_log import RunLog
from aes_dynloss.training.run_state import Restorable, RunState

logger = logging.getLogger(__name__)

CHECKPOINT = "checkpoint.pt"
METRICS = "metrics.jsonl"


class TeacherUpdate(Restorable, Protocol):
    """Moves a teacher's parameters by a hypergradient, between the student's steps; schedules have none."""

    def after_step(self, student: Student, batches: list[Batch], state: StudentState) -> None:
        """Take in a student step; now and then, update the teacher."""


@dataclass(frozen=True)
class FitResult:
    """How a run ended.

    Args:
        best_measure: Best dev measure.
        best_step: Optimiser step after which it was seen.
        steps: Optimiser steps taken.
        stopped_early: Whether patience ran out.
    """

    best_measure: float
    best_step: int
    steps: int
    stopped_early: bool


def fit(
    accelerator: Accelerator,
    student: Student,
    train: Examples,
    loss: DynamicLoss,
    policy: LossPolicy,
    config: TrainingConfig,
    *,
    measure: Callable[[], Mapping[str, float]],
    select_by: str,
    folder: Path,
    teacher: TeacherUpdate | None = None,
    resume: bool = False,
) -> FitResult:
    """Train a student; afterwards it holds the weights of its best dev measure.

    Args:
        accelerator: Devices, processes and precision.
        student: The student.
        train: Training examples.
        loss: The loss whose coefficients change.
        policy: Who answers the coefficients.
        config: Settings.
        measure: Measures the student as it then is on dev; called by every process; higher is better.
        select_by: The measure that chooses the best weights and stops early.
        folder: Where metrics.jsonl and the checkpoint go.
        teacher: Moves the teacher that is behind ``policy``, if there is one.
        resume: Go on from the folder's checkpoint, if there is one.

    Returns:
        The run's result.

    Raises:
        TrainingError: The loss, its gradient or the dev measure is no longer a number; the last checkpoint is kept.
        CheckpointError: The checkpoint is damaged or belongs to another run.
    """
    module = student.as_module().to(accelerator.device)
    learning = [parameter for parameter in module.parameters() if parameter.requires_grad]
    model, optimizer = _prepare(accelerator, module, build_optimizer(student, config), config.seed)
    total = total_steps(train, config)
    scheduler = build_scheduler(optimizer.optimizer, total, config)
    average = WeightAverage(learning, config.averaging) if config.averaging is not None else None
    run = RunState(module, optimizer, scheduler, StateTracker(total), average, teacher)
    kept = run.restore(accelerator, folder / CHECKPOINT) if resume and (folder / CHECKPOINT).exists() else 0
    tracker = accelerator.log if config.trackers else None
    log = RunLog(folder / METRICS if accelerator.is_main_process else None, keep=kept, tracker=tracker)
    patience = config.patience or math.inf
    unread: list[Unread] = []

    hidden = not accelerator.is_main_process
    with log, tqdm(total=total, initial=run.tracker.step, desc="fine-tune", unit="step", disable=hidden) as bar:
        for step in steps_left(train, config, taken=run.tracker.step):
            if run.since_best >= patience:
                break
            # 1. The policy looks at the student and answers the loss's coefficients.
            state = run.tracker.state()
            coefficients = policy.coefficients(state).to(accelerator.device)
            # 2. This process's share of the batch goes forwards and backwards.
            module.train()
            share = share_of(step.rows, train, accelerator.process_index, accelerator.num_processes)
            packs = micro_batches(share, train, config.micro_batch_tokens, config.micro_batch_size)
            batches = [batch.to(accelerator.device) for batch in packs]
            record = backward(accelerator, model, student, loss, coefficients, batches, len(step.rows))
            # 3. The student steps.
            norm = accelerator.clip_grad_norm_(learning, config.clip_norm or math.inf)
            rate = float(run.scheduler.get_last_lr()[0])
            run.optimizer.step()
            run.scheduler.step()
            run.optimizer.zero_grad()
            if average is not None:
                average.update()
            run.tracker.step += 1
            # 4. The teacher learns from it.
            if teacher is not None:
                teacher.after_step(student, batches, state)
            # 5. Numbers leave the device, some steps at a time.
            unread.append(Unread(run.tracker.step, step.epoch, rate, coefficients, record, norm))
            bar.update()
            if len(unread) >= config.log_every or step.measured:
                _read(unread, loss.coefficient_names, log, run.tracker)
            # 6. At times the student is measured on dev, the best weights are kept, and the run is saved.
            if step.measured:
                with average.in_place() if average is not None else nullcontext():
                    measured = dict(measure())
                    _check_finite(run.tracker.step, {select_by: measured[select_by]})
                    run.take_measure(measured[select_by])
                log.write({"step": run.tracker.step, "epoch": step.epoch, "dev": measured})
                bar.set_postfix({select_by: f"{measured[select_by]:.3f}", "best": f"{run.best.measure:.3f}"})
                run.save(accelerator, folder / CHECKPOINT, log.flushed())
    load_trained_state(module, run.best.weights)
    accelerator.unwrap_model(model, keep_fp32_wrapper=False)
    logger.info("Best dev %s %.4f after step %d of %d.", select_by, run.best.measure, run.best.step, run.tracker.step)
    return FitResult(run.best.measure, run.best.step, run.tracker.step, run.tracker.step < total)


def _prepare(
    accelerator: Accelerator, module: Module, optimizer: Optimizer, seed: int
) -> tuple[Module, AcceleratedOptimizer]:
    """What Accelerate makes of student and optimiser; further processes get dropout noise of their own."""
    with warnings.catch_warnings():
        # DDP's successor of this option is not in every torch that is supported.
        warnings.filterwarnings("ignore", message="`broadcast_buffers` is deprecated", category=FutureWarning)
        model, prepared = accelerator.prepare(module, optimizer)
    if accelerator.process_index > 0:
        torch.manual_seed(seed + accelerator.process_index)
    return model, prepared


@dataclass(frozen=True)
class Unread:
    """Numbers of a step that still lie on the device."""

    step: int
    epoch: int
    rate: float
    coefficients: Tensor
    record: StepRecord
    norm: Tensor

    def packed(self) -> Tensor:
        """All of them as one tensor."""
        record = self.record
        return torch.stack([*self.coefficients, record.loss, record.error, self.norm, *record.terms.values()])


def _read(unread: list[Unread], names: tuple[str, ...], log: RunLog, tracker: StateTracker) -> None:
    """Bring the numbers of the last steps from the device, in one go, and log them."""
    rows = torch.stack([entry.packed().double() for entry in unread]).tolist()
    for entry, numbers in zip(unread, rows, strict=True):
        coefficients, (loss, error, norm, *terms) = numbers[: len(names)], numbers[len(names) :]
        line: dict[str, Any] = {"step": entry.step, "epoch": entry.epoch, "lr": entry.rate}
        line |= {"coefficients": dict(zip(names, coefficients, strict=True)), "loss": loss}
        line |= {"terms": dict(zip(entry.record.terms, terms, strict=True)), "error": error, "gradient_norm": norm}
        log.write(line)
        _check_finite(entry.step, {"loss": loss, "gradient_norm": norm})
        tracker.take_error(error)
    unread.clear()


def _check_finite(step: int, numbers: Mapping[str, float]) -> None:
    for name, value in numbers.items():
        if not math.isfinite(value):
            raise TrainingError(
                f"After step {step} the {name} is {value}, expected a finite number. The run stops here and its last "
                "checkpoint is kept. Lower training.learning_rate or training.head_learning_rate, or check loss.terms."
            )
