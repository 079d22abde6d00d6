"""Exact hypergradients by reverse-mode differentiation.

:class:`Exact` takes one vector-Jacobian product a step and keeps no graph longer than a step. :class:`UnrolledGraph`
builds one graph over all steps, whose memory grows with their number; it is the reference for the others.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch

from aes_dynloss.errors import ConfigError
from aes_dynloss.teaching.hypergradient.protocol import Hypergradient, Measure, terminal_adjoint
from aes_dynloss.teaching.unrolling.objective import Objective
from aes_dynloss.teaching.unrolling.unroll import Trajectory
from aes_dynloss.teaching.unrolling.update_rules import Point, UpdateRule


@dataclass(frozen=True)
class Exact:
    """Reverse-mode differentiation of the whole run (RMD).

    With the adjoint of the update rule, q = cotangent of the step's gradient; then dF/dphi_t = M_t^T q and
    H_t q is added to the cotangent of the weights, both from one product (reverse over reverse).

    Args:
        last: Walk back the last so many steps alone, and leave the others' hypergradient 0: the truncated estimator,
            which is biased (another objective: the start of the window is taken as given). None: the whole run.

    References:
        Wu et al. 2018, algorithm 2; Maclaurin et al. 2015; Franceschi et al. 2017, Forward and reverse gradient-based
        hyperparameter optimization; Shaban et al. 2019, Truncated back-propagation for bilevel optimization.
    """

    last: int | None = None

    def __call__(
        self, objective: Objective, rule: UpdateRule, trajectory: Trajectory, measure: Measure
    ) -> Hypergradient:
        """See :class:`Estimator`."""
        value, adjoint, coefficients = terminal_adjoint(trajectory, measure)
        first = 0 if self.last is None else max(0, len(trajectory) - self.last)
        for number, step, point in trajectory.backwards(objective, rule):
            if number < first:
                break
            known = step.gradient.weights if step.gradient is not None else None
            product = step.product
            if product is None or (rule.needs_gradient and known is None):
                objective.live.put(point.weights)
                wanted = rule.needs_gradient and known is None
                first_order, product = objective.product(step.plan, step.coefficients, gradient=wanted)
                known = first_order.weights if known is None and first_order is not None else known
            adjoint, cotangent = rule.vjp(point, known, step.plan.factor, adjoint)
            hessian_vector_product, coefficients[number] = product(cotangent)
            adjoint = replace(adjoint, weights=adjoint.weights + hessian_vector_product)
        return Hypergradient(value, coefficients)


@dataclass(frozen=True)
class UnrolledGraph:
    """Runs the trajectory again inside autograd and differentiates the measure at its end; one process alone."""

    def __call__(
        self, objective: Objective, rule: UpdateRule, trajectory: Trajectory, measure: Measure
    ) -> Hypergradient:
        """See :class:`Estimator`."""
        if objective.processes.world_size > 1:
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
        (hypergradient,) = torch.autograd.grad(value, coefficients, allow_unused=True, materialize_grads=True)
        return Hypergradient(value.detach(), hypergradient)
