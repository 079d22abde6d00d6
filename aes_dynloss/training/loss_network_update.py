"""L2T-DLN inside ``fit``: every so many steps the loss network and its teacher learn from those steps."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from torch import Tensor
from torch.optim import Optimizer

from aes_dynloss.teaching.dynamic_loss import DynamicLoss
from aes_dynloss.teaching.hypergradient.estimator import Measure
from aes_dynloss.teaching.student import Student
from aes_dynloss.teaching.teachers.config import DlnConfig
from aes_dynloss.teaching.teachers.dln import LossNetworkTeacher
from aes_dynloss.teaching.unrolling.step_plan import Gradient, StepPlan
from aes_dynloss.teaching.unrolling.unroll import TakenStep, Trajectory, as_read, keep
from aes_dynloss.training.accelerator import agree_on_buffers
from aes_dynloss.training.batching import Examples
from aes_dynloss.training.config import TrainingConfig
from aes_dynloss.training.optimization import read_point, write_point
from aes_dynloss.training.plots import MOST_PLACES, History, thinned
from aes_dynloss.training.problem import Lesson


class LossNetworkUpdate:
    """The teacher update of a run under L2T-DLN.

    ``fit``'s own steps are the first run of a window; its second run replaces them. A window ends after
    ``config.window`` steps, or early where the student is measured, so that none is open in a checkpoint.

    Args:
        accelerator: The run's.
        student: The student, on its device.
        loss: The loss network.
        teacher: Its weights and their teacher.
        dev: Essays of teacher_dev.
        total: Steps of the run, over which progress is counted.
        measure: The measure on them, without coefficients.
        config: The teacher's settings.
        training: The student's.
    """

    def __init__(
        self,
        accelerator: Accelerator,
        student: Student,
        loss: DynamicLoss,
        teacher: LossNetworkTeacher,
        dev: Examples,
        total: int,
        measure: DynamicLoss,
        config: DlnConfig,
        training: TrainingConfig,
    ) -> None:
        self._lesson = Lesson.prepared(accelerator, student, loss, dev, measure, config.hypergradient, training)
        self._teacher = teacher
        self._total = total
        self._config = config
        self._training = training
        self._taken: list[TakenStep] = []
        # Not at a window's first step: `watch` comes after its forward pass, which has moved batch norm's statistics.
        self._buffers = self._lesson.live.buffers()
        self._windows = 0
        self._steps = 0
        self.history: History = [(0.0, teacher.phi.cpu())]

    def watch(self, plan: StepPlan, coefficients: Tensor, optimizer: Optimizer) -> None:
        """Remember a step of the window's first run."""
        point = read_point(self._lesson.live, optimizer, self._training)
        if self._taken:  # the second run starts from the first point as a whole
            point = as_read(point, self._lesson.rule)
        gradient = None
        if self._lesson.memory.gradients:
            weights = self._lesson.live.flat([parameter.grad for parameter in self._lesson.live.parameters]).clone()
            with self._lesson.live.undisturbed():
                to_coefficients = self._lesson.objective.coefficient_gradient(plan, coefficients)
            gradient = Gradient(weights.new_zeros(()), weights, to_coefficients, weights.new_zeros(()))
        # The first point is kept as it is, since the student itself goes on from there.
        kept = keep(point, self._lesson.memory.storage if self._taken else "device")
        self._taken.append(TakenStep(plan, coefficients, kept, gradient))

    def learn(self, optimizer: Optimizer, *, last: bool) -> Mapping[str, float]:
        """At the end of a window loss network and teacher learn, and the student goes on from the second run."""
        if len(self._taken) < self._config.window and not last:
            return {}
        end = read_point(self._lesson.live, optimizer, self._training)
        trajectory = Trajectory(self._taken, end, self._lesson.memory)
        measure = self._next_measure()
        if self._windows == 1:
            self._lesson.check(trajectory, measure)
        done = self._teacher.step(
            self._lesson.objective, self._lesson.rule, trajectory, self._buffers, measure, self._lesson.estimator
        )
        write_point(self._lesson.live, optimizer, self._training, done.end)
        self._lesson.live.put_buffers(done.buffers)
        if last:  # as `fit` does before it measures, and the next window starts from there
            agree_on_buffers(self._lesson.accelerator, self._lesson.live.module)
        self._buffers = self._lesson.live.buffers()
        self._steps += len(self._taken)
        self._taken = []
        self.history.append((self._steps / self._total, self._teacher.phi.cpu()))
        if len(self.history) > 2 * MOST_PLACES:
            self.history = thinned(self.history)
        numbers = torch.stack([done.before.double(), done.after.double(), done.hypergradient_norm.double()]).tolist()
        return dict(zip(("measure_before", "measure_after", "hypergradient_norm"), numbers, strict=True))

    def state_dict(self) -> dict[str, Any]:
        """Everything needed to go on between two windows."""
        history = [list(place) for place in self.history]
        counts = {"windows": self._windows, "steps": self._steps}
        return {"teacher": self._teacher.state_dict(), **counts, "history": history}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Put :meth:`state_dict` back."""
        self._teacher.load_state_dict(state["teacher"])
        self._windows, self._steps = state["windows"], state["steps"]
        self.history = [(progress, phi) for progress, phi in state["history"]]
        self._buffers = self._lesson.live.buffers()

    def _next_measure(self) -> Measure:
        """The measure on a fresh batch of teacher_dev, the same on all processes and in a resumed run."""
        generator = np.random.default_rng([self._training.seed, 1, self._windows])
        self._windows += 1
        size = min(self._config.dev_batch, len(self._lesson.dev))
        return self._lesson.measure_on(generator.choice(len(self._lesson.dev), size, replace=False))
