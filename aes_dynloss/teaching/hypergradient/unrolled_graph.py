"""One graph over all steps: the plain way, whose memory grows with every step. The others are checked against it."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from aes_dynloss.errors import ConfigError
from aes_dynloss.teaching.hypergradient.estimator import Hypergradient, Measure
from aes_dynloss.teaching.unrolling.objective import Objective
from aes_dynloss.teaching.unrolling.unroll import Trajectory
from aes_dynloss.teaching.unrolling.update_rules import Point, UpdateRule


@dataclass(frozen=True)
class UnrolledGraph:
    """Runs the trajectory again inside autograd and differentiates the measure at its end; one process alone."""

    def __call__(
        self, objective: Objective, rule: UpdateRule, trajectory: Trajectory, measure: Measure
    ) -> Hypergradient:
        """See :class:`Estimator`."""
        if objective.processes.number > 1:
            raise ConfigError("The unrolled graph is for one process; choose the exact estimator.")
        if objective.live.checkpoints_activations:
            raise ConfigError(
                "The unrolled graph is not for a student that checkpoints its activations: they would be computed anew "
                "with other weights. Set model.gradient_checkpointing=false, or choose the exact estimator."
            )
        start = trajectory.start
        point = Point(start.weights.detach().requires_grad_(), start.slots, start.step)
        coefficients = trajectory.coefficients.requires_grad_()
        for phi, step in zip(coefficients, trajectory.steps, strict=True):
            value = objective.graph(step.plan, phi, point.weights)
            (slope,) = torch.autograd.grad(value, point.weights, create_graph=True)
            point = rule.advance(point, slope, step.plan.factor)
        value = measure.objective.graph(measure.plan, coefficients.new_zeros(0), point.weights)
        (found,) = torch.autograd.grad(value, coefficients, allow_unused=True, materialize_grads=True)
        return Hypergradient(value.detach(), found)
