"""The student's state s_t: what a policy may know of the student when it answers the next step's coefficients."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor


@dataclass(frozen=True)
class StudentState:
    """What a policy sees, every field in [0, 1] and a plain number, so that nothing is differentiated through it.

    Args:
        progress: Part of all optimiser steps that were taken.
        train_error: Running mean of the training error, in units of the error of always answering the mean, cut at 1.
        dev_measure: The newest dev measure, higher is better; 0 before the first.

    References:
        Wu et al. 2018, Learning to teach with dynamic loss functions: the state of the student model.
    """

    SIZE: ClassVar[int] = 3

    progress: float
    train_error: float = 1.0
    dev_measure: float = 0.0

    def as_tensor(self, device: torch.device | None = None) -> Tensor:
        """The fields in their order, (3,) float32."""
        return torch.tensor([self.progress, self.train_error, self.dev_measure], device=device)


@dataclass
class StateTracker:
    """Keeps the state current while a student trains; ``fit`` owns one and checkpoints carry it.

    Args:
        total_steps: Optimiser steps of the whole run, at least 1.
        memory: Weight of the past in the running training error.
    """

    total_steps: int
    memory: float = 0.9
    step: int = 0
    train_error: float = 1.0
    dev_measure: float = 0.0

    def state(self) -> StudentState:
        """The state before the next step."""
        return StudentState(min(1.0, self.step / self.total_steps), self.train_error, self.dev_measure)

    def take_error(self, error: float) -> None:
        """Take in one step's training error (1 = always answering the mean)."""
        self.train_error = self.memory * self.train_error + (1 - self.memory) * min(1.0, max(0.0, error))

    def take_measure(self, measure: float) -> None:
        """Take in a new dev measure."""
        self.dev_measure = min(1.0, max(0.0, measure))
