"""The one-step (short-horizon) estimator: each step is evaluated by the dev measure directly after it."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from aes_dynloss.errors import ConfigError
from aes_dynloss.teaching.hypergradient.protocol import Hypergradient, Measure
from aes_dynloss.teaching.unrolling.objective import Objective
from aes_dynloss.teaching.unrolling.unroll import Trajectory
from aes_dynloss.teaching.unrolling.update_rules import Point, UpdateRule


@dataclass(frozen=True)
class OneStep:
    """dF(w_{t+1}) / d phi_t for every step, later steps left out of account; biased towards what helps at once.

    phi enters a single step only through the loss of the predictions, so M^T q needs no backward pass of the student:
    two forward passes at w + h q and w - h q, and the loss's own gradient with respect to phi there.

    Args:
        size: Norm of the perturbation h q.

    References:
        Wu et al. 2018b, Understanding short-horizon bias in stochastic meta-optimization (the bias).
    """

    size: float = 1e-3

    def __call__(
        self, objective: Objective, rule: UpdateRule, trajectory: Trajectory, measure: Measure
    ) -> Hypergradient:
        """See :class:`Estimator`."""
        coefficients = torch.zeros_like(trajectory.coefficients)
        after, values = trajectory.end, []
        nothing = tuple(torch.zeros_like(slot) for slot in after.slots)
        for number, step, point in trajectory.backwards(objective, rule):
            if step.gradient is None and rule.needs_gradient:
                raise ConfigError("The one-step estimator needs the run's gradients here (Memory.gradients).")
            value, slope = measure.gradient(after.weights)
            values.append(value)
            known = step.gradient.weights if step.gradient is not None else None
            _, cotangent = rule.vjp(point, known, step.plan.factor, Point(slope, nothing, after.step))
            norm = cotangent.norm()
            if norm > 0:
                shift = self.size / norm * cotangent
                objective.live.put(point.weights + shift)
                above = objective.coefficient_gradient(step.plan, step.coefficients)
                objective.live.put(point.weights - shift)
                below = objective.coefficient_gradient(step.plan, step.coefficients)
                coefficients[number] = (above - below) * (norm / (2 * self.size)).to(coefficients.dtype)
            after = point
        return Hypergradient(values[0], coefficients)
