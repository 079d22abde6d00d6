"""A student's training from its configuration: the loss under a schedule or a teacher, then the training loop."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace

import torch

from aes_dynloss.teaching.losses.learned_loss import LearnedLoss
from aes_dynloss.teaching.policies import LossConfig
from aes_dynloss.teaching.student import Student
from aes_dynloss.teaching.teachers.config import TeacherConfig, TeachingConfig
from aes_dynloss.teaching.unrolling.derivatives import twice_differentiable
from aes_dynloss.training.batching import Examples, Rows
from aes_dynloss.training.config import check_averaging
from aes_dynloss.training.loop import FitResult, RunContext, TeacherUpdate, fit
from aes_dynloss.training.loss_setup import build_loss
from aes_dynloss.training.run_folder import METRICS, PLOTS, TEACHER


def train_student(
    context: RunContext,
    student: Student,
    train: Examples,
    teacher_dev: Examples,
    loss: LossConfig,
    teacher: TeacherConfig | None,
    *,
    classes: int | None,
    raters: Sequence[str] = (),
    unit: str | None = None,
    shared: Rows | None = None,
) -> FitResult:
    """Train a student under a schedule or a teacher; afterwards it has the weights of its best dev measure.

    The run's folder receives the teacher, if one learns, and plots of the loss. An L2T-DLF teacher learns first, in
    episodes that leave the student as it was, as does gold loss correction, from a first student; L2T-DLN and
    Meta-Weight-Net learn during ``fit``.

    Args:
        context: The run.
        student: The student, untrained.
        train: Training examples.
        teacher_dev: The teacher's examples, disjoint from all others but for ``shared``; may be empty where none
            learns.
        loss: The loss without a teacher; for a student of scores under L2T-DLF, and under a teacher from outside, the
            mixture that it weights, and under Meta-Weight-Net, the loss whose elements it weights.
        teacher: The teacher; None for a schedule.
        classes: Classes or score points of the student's distribution; None for a student of scores.
        raters: Names of those who gave the targets, in the order of their numbers, where ``loss.by`` asks for them.
        unit: The rater whose targets count 1 under ``loss.by``; the others are weighed beside him. None: there is none.
        shared: Where the teacher's examples are training examples too, trusted ones: the row of each in ``train``.
            Gold loss correction needs them.

    Raises:
        DataError: A teacher is to learn and there are no examples for it.
        ConfigError: The teacher does not fit the student, or ``training.averaging``.
        TrainingError: The loss, its gradient or a measure is no longer finite; the last checkpoint is kept.
        CheckpointError: A checkpoint is damaged or belongs to another run.

    Examples:
        A line, learnt from four points; the weight of the squared error falls while it trains.

        >>> import numpy as np
        >>> import torch
        >>> from pathlib import Path
        >>> from tempfile import TemporaryDirectory
        >>> from aes_dynloss import Batch, Elements, TrainingConfig
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
        >>> student, points = Line(1, 1), Points()
        >>> def measure():  # on dev; here one point serves as such
        ...     return {"minus_error": -abs(student(torch.ones(1, 1)).item() - 0.5)}
        >>> config = TrainingConfig(epochs=2, batch_size=2, device="cpu", precision="float32")
        >>> loss = LossConfig(terms={"mse": {"schedule": "linear", "start": 1.0, "end": 0.0}, "mae": "rest"})
        >>> with TemporaryDirectory() as folder:
        ...     context = RunContext(build_accelerator(config), config, Path(folder), measure, select_by="minus_error")
        ...     result = train_student(context, student, points, points, loss, None, classes=None)
        ...     sorted(path.name for path in Path(folder).iterdir())
        ['checkpoint.pt', 'metrics.jsonl', 'plots']
        >>> result.steps
        4
    """
    check_averaging(context.config, teacher)
    student.as_module().to(context.accelerator.device)
    with attention_of(teacher, context.accelerator.device):
        setup = build_loss(
            context,
            student,
            train,
            teacher_dev,
            loss,
            teacher,
            classes=classes,
            raters=raters,
            unit=unit,
            shared=shared,
        )
        # A policy over stretches is in the checkpoints with what it was asked, as an update is.
        update = setup.policy if isinstance(setup.policy, TeacherUpdate) else setup.update
        result = fit(context, student, train, setup.loss, setup.policy, update)
    if context.accelerator.is_main_process:
        setup.write(context.folder / TEACHER)
        setup.plot(context.folder / PLOTS, context.folder / METRICS)
    if setup.plain is None:
        return result
    coefficients = setup.policy.coefficients(result.state).detach()
    return replace(result, learned=LearnedLoss(setup.loss, coefficients, setup.plain))


def attention_of(teacher: TeacherConfig | None, device: torch.device) -> AbstractContextManager[None]:
    """The attention of all passes of a run: on a GPU that of second derivatives, where a teacher learns.

    Kernels draw dropout each in its own way: on two of them a step and its derivatives would have different masks.
    """
    learns = isinstance(teacher, TeachingConfig) and not teacher.hypergradient.by_differences
    return twice_differentiable() if learns and device.type == "cuda" else nullcontext()
