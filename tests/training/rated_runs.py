"""Simulated students of ratings by several raters, some of them bad, and a few trusted ones."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from aes_dynloss.configfile import validate
from aes_dynloss.measures.agreement import quadratic_weighted_kappa
from aes_dynloss.teaching.policies import LossConfig
from aes_dynloss.teaching.student import Batch, Elements
from aes_dynloss.teaching.teachers.config import DlfConfig, FrozenTeacherConfig, GlcConfig
from aes_dynloss.training.accelerator import build_accelerator
from aes_dynloss.training.config import TrainingConfig
from aes_dynloss.training.loop import FitResult, RunContext
from aes_dynloss.training.prediction import predict
from aes_dynloss.training.run import train_student

FEATURES, POINTS = 6, 5
RATERS = ["trusted", "Ann", "Bo", "Cy", "Di"]
BAD = 2  # Bo
KINDS = {"dlf": DlfConfig, "glc": GlcConfig, "frozen": FrozenTeacherConfig}


class RatedStudent(nn.Module):
    """Linear; of scores on [0, 1], or of a distribution over score points. Targets have score, weight and rater."""

    def __init__(self, *, points: int | None = None, dropout: float = 0.0, seed: int = 0) -> None:
        super().__init__()
        self.points = points
        self.linear = nn.Linear(FEATURES, points or 1)
        self.dropout = nn.Dropout(dropout)
        generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for parameter in self.parameters():
                parameter.copy_(0.1 * torch.randn(parameter.shape, generator=generator))

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(self.dropout(x))

    def elements(self, outputs: Tensor, targets: Tensor, groups: Tensor) -> Elements:
        score, weight, rater = targets.unbind(1)
        half = torch.full_like(outputs[:, 0], 0.5)
        plain = Elements(half + 0.25 * outputs[:, 0], score.to(half.dtype), groups, centre=half, spread=0.5 * half)
        plain = replace(plain, weights=weight[:, None].to(half.dtype), raters=rater.long())
        if self.points is None:
            return plain
        log_probs = functional.log_softmax(outputs, dim=1)
        expected = log_probs.exp() @ torch.linspace(0, 1, self.points)
        classes = (score * (self.points - 1)).round().long()
        return replace(plain, scores=expected, log_probs=log_probs, classes=classes)

    def parameter_stack(self) -> list[list[tuple[str, nn.Parameter]]]:
        return [list(self.linear.named_parameters())]

    def as_module(self) -> nn.Module:
        return self


class RatedExamples:
    """Examples whose score a plane tells; the first ``trusted`` of them are, the others have one of four raters.

    Args:
        number: Examples.
        seed: Of the draw.
        trusted: How many are trusted.
        bad: Number of the rater whose scores are reversed; 0: of none.
        lowest: Part of the other ratings that are the lowest score by mistake.
    """

    def __init__(self, number: int, seed: int, *, trusted: int = 0, bad: int = 0, lowest: float = 0.0) -> None:
        generator = np.random.default_rng(seed)
        self.x = generator.standard_normal((number, FEATURES)).astype(np.float32)
        signal = self.x @ np.array([1.0, -0.7, 0.5, 0.4, 0.0, 0.0]) + 0.3 * generator.standard_normal(number)
        self.truth = np.clip(np.rint(2 + 1.2 * signal), 0, POINTS - 1) / (POINTS - 1)
        self.raters = np.where(np.arange(number) < trusted, 0, generator.integers(1, len(RATERS), number))
        mistaken = (generator.random(number) < lowest) & (self.raters > 0)
        self.targets = np.where((self.raters == bad) & (bad > 0), 1 - self.truth, np.where(mistaken, 0, self.truth))
        self.lengths = self.sequences = np.ones(number, dtype=np.int64)
        self.read: list[np.ndarray] = []

    def __len__(self) -> int:
        return len(self.x)

    def batch(self, rows) -> Batch:
        index = np.asarray(rows, dtype=np.int64)
        self.read.append(index)
        columns = np.stack([self.targets[index], np.ones(len(index)), self.raters[index]], axis=1)
        rows = torch.from_numpy(index)
        return Batch({"x": torch.from_numpy(self.x[index])}, torch.from_numpy(columns), 0 * rows, rows)

    def select(self, rows: np.ndarray) -> RatedExamples:
        chosen = RatedExamples(len(rows), 0)
        for name in ("x", "truth", "raters", "targets"):
            setattr(chosen, name, getattr(self, name)[rows])
        return chosen


def settings(**changed: Any) -> TrainingConfig:
    """Settings that suit the student."""
    plain = {"epochs": 4, "batch_size": 25, "device": "cpu", "precision": "float32", "micro_batch_tokens": None}
    plain |= {"learning_rate": 0.05, "head_learning_rate": 0.05, "warmup": 0.0}
    return TrainingConfig.model_validate(plain | changed)


def rated_run(
    folder: Path,
    *,
    teacher: Mapping[str, Any] | None,
    loss: Mapping[str, Any] = {},
    seed: int = 0,
    student: RatedStudent | None = None,
    train: RatedExamples | None = None,
    resume: bool = False,
    before_measure: Callable[[], None] = lambda: None,
    raters: list[str] = RATERS,
    unit: str | None = RATERS[0],
    shared: bool = True,
    **changed: Any,
) -> tuple[FitResult, RatedStudent, float]:
    """Train under a teacher that learns on trusted training examples; its QWK on 500 further, clean ones is last."""
    config = settings(seed=seed, **changed)
    accelerator = build_accelerator(config)
    student = student or RatedStudent(seed=seed)
    train = train or RatedExamples(200, 10 * seed + 1, trusted=40, bad=BAD)
    dev, test = RatedExamples(100, 10 * seed + 2), RatedExamples(500, 10 * seed + 3)
    trusted = np.flatnonzero(train.raters == 0)

    def qwk(examples: RatedExamples) -> float:
        batch = examples.batch(range(len(examples)))
        with torch.no_grad():
            scores = student.elements(predict(accelerator, student, examples), batch.targets, batch.groups).scores
        points = np.clip(np.rint(scores.numpy() * (POINTS - 1)), 0, POINTS - 1)
        return float(quadratic_weighted_kappa(np.rint(examples.truth * (POINTS - 1)), points))

    def measure() -> dict[str, float]:
        before_measure()
        return {"qwk": qwk(dev)}

    folder.mkdir(parents=True, exist_ok=True)
    result = train_student(
        RunContext(accelerator, config, folder, measure, "qwk", resume),
        student,
        train,
        train.select(trusted),
        validate(LossConfig, dict(loss), "loss"),
        None if teacher is None else validate(KINDS[teacher["kind"]], dict(teacher), "teacher"),
        classes=student.points,
        raters=raters,
        unit=unit,
        shared=trusted if shared else None,
    )
    return result, student, qwk(test)
