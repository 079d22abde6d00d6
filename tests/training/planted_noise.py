"""A task whose right loss is known and changes: two topics, one after the other, whose raters err in opposite ways."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from aes_dynloss.teaching.losses.dynamic_loss import DynamicLoss
from aes_dynloss.teaching.losses.loss_spec import fixed_objective
from aes_dynloss.teaching.policies import LossPolicy
from aes_dynloss.teaching.student import Batch, Elements
from aes_dynloss.teaching.teachers.config import DlfConfig, DlnConfig
from aes_dynloss.training.accelerator import build_accelerator
from aes_dynloss.training.config import TrainingConfig
from aes_dynloss.training.loop import NO_TEACHER, RunContext, TeacherUpdate, fit
from aes_dynloss.training.prediction import predict
from aes_dynloss.training.problem import BilevelProblem

FEATURES = 3
Kind = Literal["labels", "scores"]


class TwoTopicStudent(nn.Module):
    """Linear, with weights of its own for each topic: what it learns of one topic leaves the other as it is.

    Of labels it answers a distribution over two classes, of scores a score.
    """

    def __init__(self, kind: Kind, seed: int) -> None:
        super().__init__()
        self.kind = kind
        self.linear = nn.Linear(2 * (FEATURES + 1), 2 if kind == "labels" else 1, bias=False)
        generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            self.linear.weight.copy_(0.1 * torch.randn(self.linear.weight.shape, generator=generator))

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(x)

    def elements(self, outputs: Tensor, targets: Tensor, groups: Tensor) -> Elements:
        log_probs = functional.log_softmax(outputs, dim=1) if self.kind == "labels" else None
        return Elements(
            scores=outputs[:, 0] if log_probs is None else log_probs[:, 1].exp(),
            targets=targets,
            groups=groups,
            centre=torch.zeros_like(targets),
            spread=torch.ones_like(targets),
            log_probs=log_probs,
            classes=None if log_probs is None else targets.long(),
        )

    def parameter_stack(self) -> list[list[tuple[str, nn.Parameter]]]:
        return [list(self.linear.named_parameters())]

    def as_module(self) -> nn.Module:
        return self


class Ratings:
    """A table of both topics: clean, or rated as it is read.

    A noisy table is read once in a run. Its first half, in the order of reading, is on topic A, and a part of its
    ratings errs upwards: label 1 whatever the truth, or ``SHIFT`` too high a score. Its second half is on topic B and
    errs downwards as often and as far. Rows are drawn at random, so that a run's order says nothing about them.

    Args:
        kind: Labels in {0, 1}, or scores.
        number: Examples.
        seed: Of the examples.
        noise: Part of the ratings that err; 0 for a clean table, half of which is on either topic.
    """

    SHIFT = 1.5

    def __init__(self, kind: Kind, number: int, seed: int, noise: float = 0.0) -> None:
        generator = np.random.default_rng(seed)
        self._kind = kind
        self._x = generator.standard_normal((number, FEATURES))
        self._truth = self._x @ np.array([1.0, -0.6, 0.4]) + 0.2 * generator.standard_normal(number)
        self._errs = generator.random(number) < noise
        self._timed = noise > 0
        self._read = 0

    @property
    def lengths(self) -> np.ndarray:
        return np.ones(len(self), dtype=np.int64)

    @property
    def sequences(self) -> np.ndarray:
        return np.ones(len(self), dtype=np.int64)

    def __len__(self) -> int:
        return len(self._truth)

    def batch(self, rows) -> Batch:
        rows = np.asarray(rows, dtype=np.int64)
        places = rows
        if self._timed:
            places = self._read + np.arange(len(rows))
            self._read = (self._read + len(rows)) % len(self)
        on_b = places >= len(self) // 2
        errs = self._errs[rows]
        if self._kind == "labels":
            targets = np.where(errs, ~on_b, self._truth[rows] > 0)
        else:
            targets = self._truth[rows] + errs * np.where(on_b, -self.SHIFT, self.SHIFT)
        seen = np.concatenate([self._x[rows], np.ones((len(rows), 1))], axis=1)
        both = np.concatenate([seen * ~on_b[:, None], seen * on_b[:, None]], axis=1)
        return Batch(
            inputs={"x": torch.from_numpy(both).float()},
            targets=torch.from_numpy(targets).float(),
            groups=torch.zeros(len(rows), dtype=torch.int64),
            index=torch.from_numpy(rows),
        )


class PlantedTask:
    """One draw of the task, with runs of ``steps`` steps on it.

    Args:
        kind: Labels in {0, 1}, or scores.
        measure: What is judged, and what the teacher lowers.
        seed: Of everything.
        steps: Steps of a run.
        rate: The student's learning rate, the same in all steps.
        noise: Part of the training ratings that err.
    """

    BATCH = 32

    def __init__(self, kind: Kind, measure: str, seed: int, *, steps: int, rate: float, noise: float) -> None:
        self.kind, self.measure, self.seed, self.steps = kind, fixed_objective(measure), seed, steps
        self.train = Ratings(kind, steps * self.BATCH, 10 * seed + 1, noise)
        self.teacher_dev = Ratings(kind, 200, 10 * seed + 2)
        self._held_out = Ratings(kind, 2000, 10 * seed + 3)
        self.training = TrainingConfig(
            epochs=1, batch_size=self.BATCH, micro_batch_tokens=None, learning_rate=rate, head_learning_rate=rate,
            optimizer="sgd", weight_decay=0.0, warmup=0.0, decay="constant", clip_norm=None, precision="float32",
            device="cpu", log_every=5, seed=seed,
        )  # fmt: skip
        self.accelerator = build_accelerator(self.training)

    def student(self) -> TwoTopicStudent:
        """The student before its first step."""
        return TwoTopicStudent(self.kind, self.seed)

    def on_dev(self, student: TwoTopicStudent) -> Callable[[], dict[str, float]]:
        """What ``fit`` and ``Episodes`` ask for; both measure after the last step alone, so nothing is chosen by it."""
        return lambda: {"good": 1.0 - self._measured(student, self.teacher_dev)}

    def context(self, student: TwoTopicStudent, folder: Path) -> RunContext:
        """A run in a folder."""
        return RunContext(self.accelerator, self.training, folder, self.on_dev(student), "good")

    def problem(self, student: TwoTopicStudent, loss: DynamicLoss, config: DlfConfig | DlnConfig) -> BilevelProblem:
        """What a teacher of that student learns from."""
        how = config.hypergradient
        return BilevelProblem(self.accelerator, student, loss, self.teacher_dev, self.measure, how, self.training)

    def judged(
        self,
        folder: Path,
        loss: DynamicLoss,
        policy: LossPolicy,
        update: Callable[[TwoTopicStudent], TeacherUpdate] = lambda _: NO_TEACHER,
    ) -> float:
        """The measure on the held-out clean set after a run of ``fit``; lower is better."""
        student = self.student()
        folder.mkdir(parents=True, exist_ok=True)
        fit(self.context(student, folder), student, self.train, loss, policy, update(student))
        return self._measured(student, self._held_out)

    def _measured(self, student: TwoTopicStudent, table: Ratings) -> float:
        batch = table.batch(np.arange(len(table)))
        elements = student.elements(predict(self.accelerator, student, table), batch.targets, batch.groups)
        return float(self.measure(torch.zeros(0), elements).mean())
