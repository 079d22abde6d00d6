"""L2T-DLN and Meta-Weight-Net inside ``fit``: after every window of steps the loss is rewritten from them."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.optim import Optimizer

from aes_dynloss.teaching.hypergradient.protocol import Measure
from aes_dynloss.teaching.student import buffers_of, put_buffers
from aes_dynloss.teaching.teachers.config import DlnConfig, MwnConfig, RewritingConfig
from aes_dynloss.teaching.teachers.dln import LossNetworkTeacher, gradient_response
from aes_dynloss.teaching.teachers.rewriting import RewritingTeacher
from aes_dynloss.teaching.unrolling.step_plan import Gradient, StepPlan
from aes_dynloss.teaching.unrolling.unroll import TakenStep, Trajectory, as_read, keep
from aes_dynloss.training.accelerator import agree_on_buffers
from aes_dynloss.training.batching import members
from aes_dynloss.training.loop import TeacherUpdate
from aes_dynloss.training.optimization import read_point, write_point
from aes_dynloss.training.plots import MOST_PLACES, History, thinned
from aes_dynloss.training.problem import BilevelProblem

logger = logging.getLogger(__name__)

# Range of a teacher's answers as a part of their mean. Untrained, eight seeds each: LSTM 0.001 to 0.022, feed-forward
# 1.0 to 18, the odd LSTM has no mean.
BLIND_BELOW = 0.1
# |mean| of the loss network's movement over its coordinates, in their SDs: 9 to 280 under teachers that are blind, 0.1
# to 4 under others. On ASAP a drift of 0.1 to 0.2 turned predictions upside down; half of that is worth a warning.
COMMON_DRIFT_SDS = 5.0
COMMON_DRIFT = 0.05
# The measure's change in a window, as a part of it, where it falls about as often as it rises: rounding over the
# window's steps. CamVid's first windows: 0.0001 with a step size of 0.1; with 10 it is 0.005, and the measure falls in
# each.
IDLE_WINDOWS, IDLE_CHANGE, IDLE_SHARE = 20, 0.002, 0.6


class WindowUpdate(TeacherUpdate):
    """The teacher update of a run under L2T-DLN, Meta-Weight-Net or another teacher that rewrites a loss's weights.

    ``fit``'s own steps are the first run of a window; its second run replaces them. A window ends after
    ``config.window`` steps, or early where the student is measured; no checkpoint is written while one is open.

    Args:
        problem: The student, trained by the learned loss, and the measure that the teacher minimises.
        teacher: The loss's weights and what rewrites them.
        total: Steps of the run, over which progress is counted.
        config: The teacher's settings.
    """

    def __init__(
        self,
        problem: BilevelProblem,
        teacher: RewritingTeacher,
        total: int,
        config: DlnConfig | MwnConfig | RewritingConfig,
    ) -> None:
        self._problem = problem
        self._teacher = teacher
        self._total = total
        self._config = config
        self._taken: list[TakenStep] = []
        # Not at a window's first step: `record_step` comes after its forward pass, which moved batch norm's statistics.
        self._buffers = buffers_of(self._problem.live.module)
        self._together = members(problem.dev)
        self._windows = 0
        self._steps = 0
        self._bettered = {"measure": 0, "fresh": 0}
        self._moved = 0.0
        self._warned: list[str] = []
        self.history: History = [(0.0, teacher.phi.cpu())]

    def record_step(self, plan: StepPlan, coefficients: Tensor, optimizer: Optimizer) -> None:
        """Record a step of the window's first run."""
        point = read_point(self._problem.live, optimizer, self._problem.training)
        if self._taken:  # the second run starts from the first point as a whole
            point = as_read(point, self._problem.rule)
        gradient = None
        if self._problem.memory.gradients:
            weights = self._problem.live.flat([parameter.grad for parameter in self._problem.live.parameters]).clone()
            with self._problem.live.undisturbed():
                to_coefficients = self._problem.objective.coefficient_gradient(plan, coefficients)
            gradient = Gradient(weights.new_zeros(()), weights, to_coefficients, weights.new_zeros(()))
        # The first point is kept as it is, since the student itself goes on from there.
        kept = keep(point, self._problem.memory.storage if self._taken else "device")
        self._taken.append(TakenStep(plan, coefficients, kept, gradient))

    def update(self, optimizer: Optimizer, *, last: bool) -> Mapping[str, float]:
        """At the end of a window update loss network and teacher; the student continues from the second run."""
        if len(self._taken) < self._config.window and not last:
            return {}
        end = read_point(self._problem.live, optimizer, self._problem.training)
        trajectory = Trajectory(self._taken, end, self._problem.memory)
        fresh, measure = self._next_measure(2), self._next_measure(1)
        self._windows += 1
        if self._windows == 1:
            self._problem.check(trajectory, measure)
        done = self._teacher.step(
            self._problem.objective,
            self._problem.rule,
            trajectory,
            self._buffers,
            measure,
            self._problem.estimator,
            fresh,
        )
        write_point(self._problem.live, optimizer, self._problem.training, done.end)
        put_buffers(self._problem.live.module, done.buffers)
        if last:  # as `fit` does before it measures, and the next window starts from there
            agree_on_buffers(self._problem.accelerator, self._problem.live.module)
        self._buffers = buffers_of(self._problem.live.module)
        self._steps += len(self._taken)
        self._taken = []
        self.history.append((self._steps / self._total, self._teacher.phi.cpu()))
        if len(self.history) > 2 * MOST_PLACES:
            self.history = thinned(self.history)
        logged = {"measure_before": done.before, "measure_after": done.after}
        if done.fresh is not None:
            logged |= {"fresh_before": done.fresh[0], "fresh_after": done.fresh[1]}
        spread = done.rewrite.std(unbiased=False)
        logged |= {"hypergradient_norm": done.hypergradient_norm, "rewrite_mean": done.rewrite.mean()}
        logged |= {"rewrite_sd": spread}
        numbers = torch.stack([number.double() for number in logged.values()]).tolist()
        known = dict(zip(logged, numbers, strict=True))
        shares = self._shares(known)
        if isinstance(self._teacher, LossNetworkTeacher):
            self._warn(self._teacher)
        return known | shares

    @property
    def can_be_saved(self) -> bool:
        """Whether no window is open: an open one holds the student at each of its steps."""
        return not self._taken

    def state_dict(self) -> dict[str, Any]:
        """The state between two windows."""
        history = [list(entry) for entry in self.history]
        counts = {
            "windows": self._windows,
            "steps": self._steps,
            "bettered": dict(self._bettered),
            "moved": self._moved,
        }
        return {"teacher": self._teacher.state_dict(), **counts, "warned": list(self._warned), "history": history}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore :meth:`state_dict`."""
        self._teacher.load_state_dict(state["teacher"])
        self._windows, self._steps = state["windows"], state["steps"]
        self._bettered, self._moved, self._warned = dict(state["bettered"]), state["moved"], list(state["warned"])
        self.history = [(progress, phi) for progress, phi in state["history"]]
        self._buffers = buffers_of(self._problem.live.module)

    def _shares(self, known: Mapping[str, float]) -> dict[str, float]:
        """Shares of the windows so far whose rewritten loss was better, on the gradient's batch and on a fresh one."""
        for batch in self._bettered:
            self._bettered[batch] += known[f"{batch}_after"] < known[f"{batch}_before"]
        before = known["measure_before"]
        self._moved += abs(known["measure_after"] - before) / abs(before) if before else 0.0
        return {f"{batch}_bettered": count / self._windows for batch, count in self._bettered.items()}

    def _warn(self, teacher: LossNetworkTeacher) -> None:
        """Warn, once a run each, of a teacher that hardly sees the gradient or moves nothing, and of a common drift."""
        if "blind" not in self._warned:
            span, mean = gradient_response(teacher.network)
            if span < BLIND_BELOW * mean:
                self._warned.append("blind")
                self._main_warning(
                    "The teacher's answer hardly depends on the gradient: over gradients of both signs and many sizes "
                    "it has a range of %.2g beside a mean of %.2g, so that all weights of the loss network move alike. "
                    "teacher.teacher=odd_lstm answers nothing but the gradient.",
                    span,
                    mean,
                )
        idle = self._moved < IDLE_CHANGE * self._windows and self._bettered["measure"] < IDLE_SHARE * self._windows
        if idle and self._windows >= IDLE_WINDOWS and not {"idle", "blind"}.intersection(self._warned):
            self._warned.append("idle")
            self._main_warning(
                "Rewriting the loss hardly moves the measure: over %d windows by %.1g of it in the mean, up about as "
                "often as down, as rounding does. Raise teacher.step_size.",
                self._windows,
                self._moved / self._windows,
            )
        if "drift" not in self._warned:
            moved = self.history[-1][1] - self.history[0][1]
            drift, spread = float(moved.mean().abs()), float(moved.std(unbiased=False))
            if drift > COMMON_DRIFT and drift > COMMON_DRIFT_SDS * spread:
                self._warned.append("drift")
                self._main_warning(
                    "All weights of the loss network drift as one: after %d windows they have moved by %.2g in the "
                    "mean, with a SD of %.2g between them. The loss says little of the essays then, and can turn "
                    "predictions upside down. Set teacher.teacher=odd_lstm, or lower teacher.step_size.",
                    self._windows,
                    drift,
                    spread,
                )

    def _main_warning(self, words: str, *numbers: float) -> None:
        if self._problem.accelerator.is_main_process:
            logger.warning(words, *numbers)

    def _next_measure(self, draw: int) -> Measure:
        """The measure on the window's batch of teacher_dev, the same on all processes and in a resumed run.

        Args:
            draw: 1: the batch that gives the hypergradient; 2: another one.
        """
        generator = np.random.default_rng([self._problem.training.seed, draw, self._windows])
        units = len(self._problem.dev if self._together is None else self._together)
        chosen = generator.choice(units, min(self._config.dev_batch, units), replace=False)
        rows = chosen if self._together is None else np.concatenate([self._together[unit] for unit in chosen])
        return self._problem.measure_on(rows)
