"""The interface of hypergradient estimators: the dev measure, the result and the terminal adjoint."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from aes_dynloss.teaching.unrolling.objective import Objective
from aes_dynloss.teaching.unrolling.step_plan import StepPlan
from aes_dynloss.teaching.unrolling.unroll import Trajectory
from aes_dynloss.teaching.unrolling.update_rules import Point, UpdateRule


@dataclass(frozen=True)
class Measure:
    """A smooth measure F of the student on the teacher's dev batch; lower is better.

    Args:
        objective: The measure as an objective without coefficients, ``measuring``.
        plan: Its batches.
    """

    objective: Objective
    plan: StepPlan

    def value(self, weights: Tensor) -> Tensor:
        """F at weights, which are in the live module afterwards; no backward pass."""
        self.objective.live.put(weights)
        return self.objective.value(self.plan, weights.new_zeros(0))

    def gradient(self, weights: Tensor) -> tuple[Tensor, Tensor]:
        """F and its gradient, (P,), at weights, which are in the live module afterwards."""
        self.objective.live.put(weights)
        gradient = self.objective.gradient(self.plan, weights.new_zeros(0))
        return gradient.value, gradient.weights


@dataclass(frozen=True)
class Hypergradient:
    """The derivative of the measure at a run's end by the coefficients of every step.

    Args:
        measure: F, a scalar.
        coefficients: dF / d phi_t for every step, (T, K).
    """

    measure: Tensor
    coefficients: Tensor

    @property
    def norm(self) -> Tensor:
        """Euclidean norm of all of them."""
        norm: Tensor = torch.linalg.vector_norm(self.coefficients)
        return norm


class Estimator(Protocol):
    """An estimator of a trajectory's hypergradient. It changes the live module; callers keep that ``undisturbed``."""

    def __call__(
        self, objective: Objective, rule: UpdateRule, trajectory: Trajectory, measure: Measure
    ) -> Hypergradient:
        """The hypergradient of a measure over T steps."""


def terminal_adjoint(trajectory: Trajectory, measure: Measure) -> tuple[Tensor, Point, Tensor]:
    """Start of every backward pass: F, the adjoint of the last point, and zeros for all coefficients, (T, K)."""
    value, slope = measure.gradient(trajectory.end.weights)
    slots = tuple(torch.zeros_like(slot) for slot in trajectory.end.slots)
    return value, Point(slope, slots, trajectory.end.step), torch.zeros_like(trajectory.coefficients)
