"""Whole runs of the toy student."""

from __future__ import annotations

import itertools
import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from toy_student import ToyExamples, ToyStudent

from aes_dynloss.teaching.policies import LossConfig, LossPolicy
from aes_dynloss.training.accelerator import build_accelerator
from aes_dynloss.training.config import TrainingConfig
from aes_dynloss.training.loop import NO_TEACHER, FitResult, RunContext, fit
from aes_dynloss.training.prediction import predict
from aes_dynloss.training.run_folder import METRICS
from aes_dynloss.training.run_state import trained_state

MIXTURE = {"mse": "rest", "stde": {"schedule": "linear", "start": 0.1, "end": 0.6}}
EVERYTHING = {
    "mse": 0.3, "mae": 0.2, "huber": 0.2, "binary_cross_entropy": 0.1, "cross_entropy": 0.1,
    "ranking": 0.1, "one_minus_qwk": 0.2, "stde": 0.3, "all_pairs_error": 0.1,
}  # fmt: skip


class Stopped(Exception):
    """Stands for whatever ends a run."""


@dataclass
class Outcome:
    """What a run left: its result, the student's weights and the lines of its log."""

    result: FitResult
    weights: dict[str, Tensor]
    log: list[dict[str, Any]]

    @property
    def losses(self) -> list[float]:
        return [line["loss"] for line in self.log if "loss" in line]


def settings(**changed: Any) -> TrainingConfig:
    """Settings that suit the toy student."""
    plain = {"epochs": 3, "batch_size": 6, "device": "cpu", "precision": "float32", "log_every": 3}
    plain |= {"learning_rate": 0.01, "head_learning_rate": 0.02, "micro_batch_tokens": None}
    return TrainingConfig.model_validate(plain | changed)


def toy_fit(
    folder: Path,
    *,
    student: ToyStudent | None = None,
    train: ToyExamples | None = None,
    terms: Mapping[str, Any] = MIXTURE,
    resume: bool = False,
    before_measure: Callable[[], None] = lambda: None,
    policy: Callable[[LossPolicy], LossPolicy] = lambda policy: policy,
    teacher: Any = NO_TEACHER,
    clock: Callable[[], float] = time.monotonic,
    **changed: Any,
) -> Outcome:
    """Train a toy student; what is measured is 1 minus the squared error on dev."""
    config = settings(**changed)
    accelerator = build_accelerator(config)
    student = ToyStudent() if student is None else student
    train = ToyExamples(37) if train is None else train
    dev = ToyExamples(11, seed=1)

    def measure() -> dict[str, float]:
        before_measure()
        scores = student.elements(predict(accelerator, student, dev), torch.from_numpy(dev.targets), student_groups)
        return {"one_minus_mse": 1.0 - float((scores.scores - scores.targets).square().mean())}

    student_groups = torch.from_numpy(dev.groups)
    loss, scheduled = LossConfig.model_validate({"terms": dict(terms)}).build()
    folder.mkdir(parents=True, exist_ok=True)
    result = fit(
        RunContext(accelerator, config, folder, measure, "one_minus_mse", resume, clock),
        student, train, loss, policy(scheduled), teacher,
    )  # fmt: skip
    log = [json.loads(line) for line in (folder / METRICS).read_text(encoding="utf-8").splitlines()]
    return Outcome(result, trained_state(student), log)


def clock_of_looks() -> Callable[[], float]:
    """A clock that goes on by a minute with each look at it, of which there is one a step."""
    return itertools.count(0, 60).__next__


def stops_at_measure(number: int) -> Callable[[], None]:
    """Called before each measure, ends the run at one of them; the first is 1."""
    measures = iter(range(1, number))

    def stop() -> None:
        if next(measures, None) is None:
            raise Stopped

    return stop


def assert_same_weights(found: Mapping[str, Tensor], expected: Mapping[str, Tensor], tolerance: float = 0.0) -> None:
    """Fail unless both have the same weights, to the bit or within an absolute tolerance."""
    assert found.keys() == expected.keys()
    for name in expected:
        torch.testing.assert_close(
            found[name], expected[name], rtol=0, atol=tolerance, msg=lambda m, n=name: f"{n}: {m}"
        )
