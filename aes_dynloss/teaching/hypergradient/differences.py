"""Finite differences of the student's gradient in place of second derivatives.

They need no second backward pass, so that any attention kernel will do. :func:`check_differences` compares them with
the exact products on one step of a run.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from aes_dynloss.errors import ConfigError
from aes_dynloss.teaching.hypergradient.protocol import Hypergradient, Measure, terminal_adjoint
from aes_dynloss.teaching.unrolling.derivatives import twice_differentiable
from aes_dynloss.teaching.unrolling.objective import Objective
from aes_dynloss.teaching.unrolling.step_plan import StepPlan
from aes_dynloss.teaching.unrolling.unroll import Trajectory
from aes_dynloss.teaching.unrolling.update_rules import UpdateRule


@dataclass(frozen=True)
class Differences:
    """Products by differences: H q = (g(w + h q) - g(w - h q)) / 2 h, and M^T q from dL/dphi in the same way.

    Args:
        one_sided: Use the gradient of the forward run for the second point, which must have been kept: one pass less,
            an error of first order.
        size: Norm of the perturbation h q.

    References:
        Pearlmutter 1994, Fast exact multiplication by the Hessian (which this approximates); Liu et al. 2019, DARTS.
    """

    one_sided: bool = False
    size: float = 1e-3

    def __call__(
        self, objective: Objective, rule: UpdateRule, trajectory: Trajectory, measure: Measure
    ) -> Hypergradient:
        """See :class:`Estimator`."""
        value, adjoint, coefficients = terminal_adjoint(trajectory, measure)
        for number, step, point in trajectory.backwards(objective, rule):
            if step.gradient is None and (self.one_sided or rule.needs_gradient):
                raise ConfigError(
                    "Differences need the forward run's gradients here; remember them (Memory.gradients)."
                )
            known = step.gradient.weights if step.gradient is not None else None
            adjoint, cotangent = rule.vjp(point, known, step.plan.factor, adjoint)
            here = (step.gradient.weights, step.gradient.coefficients) if self.one_sided and step.gradient else None
            hessian_vector_product, coefficients[number] = difference_product(
                objective, step.plan, step.coefficients, point.weights, cotangent, size=self.size, here=here
            )
            adjoint = replace(adjoint, weights=adjoint.weights + hessian_vector_product)
        return Hypergradient(value, coefficients)


def difference_product(
    objective: Objective,
    plan: StepPlan,
    coefficients: Tensor,
    weights: Tensor,
    cotangent: Tensor,
    *,
    size: float,
    here: tuple[Tensor, Tensor] | None = None,
) -> tuple[Tensor, Tensor]:
    """H q, (P,), and M^T q, (K,), by differences.

    Args:
        objective: The loss.
        plan: The step.
        coefficients: (K,).
        weights: (P,).
        cotangent: q, (P,); 0 gives 0.
        size: Norm of the perturbation.
        here: Gradients with respect to weights and coefficients at ``weights``, for one-sided differences.
    """
    norm = cotangent.norm()
    scale = torch.where(norm > 0, size / norm, 0.0)
    objective.live.put(weights + scale * cotangent)
    above = objective.gradient(plan, coefficients)
    if here is None:
        objective.live.put(weights - scale * cotangent)
        below = objective.gradient(plan, coefficients)
        here = (below.weights, below.coefficients)
        scale = 2 * scale
    factor = torch.where(scale > 0, 1 / torch.where(scale > 0, scale, 1.0), 0.0)
    return factor * (above.weights - here[0]), factor.to(coefficients.dtype) * (above.coefficients - here[1])


logger = logging.getLogger(__name__)

# Central differences under bf16 were measured at 5 %, one-sided at 13 %.
LARGEST_ERROR = 0.15


def check_differences(
    objective: Objective, rule: UpdateRule, trajectory: Trajectory, measure: Measure, size: float
) -> float:
    """Relative error of central differences at a run's last step, on one attention kernel; a warning where it is large.

    Args:
        objective: The loss.
        rule: The optimiser.
        trajectory: The run.
        measure: The dev measure, whose gradient at the end is the direction that is tried.
        size: Norm of the perturbation.

    Returns:
        Error of (H q, M^T q), by Euclidean norm, as a part of the exact one; 0 where both are 0.
    """
    _, adjoint, _ = terminal_adjoint(trajectory, measure)
    _, step, point = next(trajectory.backwards(objective, rule))
    objective.live.put(point.weights)
    with twice_differentiable():  # each attention kernel draws dropout in its own way; both are to have one mask
        first, product = objective.product(step.plan, step.coefficients)
        _, cotangent = rule.vjp(point, first.weights if first is not None else None, step.plan.factor, adjoint)
        exact = product(cotangent)
        near = difference_product(objective, step.plan, step.coefficients, point.weights, cotangent, size=size)
    errors = [
        float((one - other).norm() / other.norm().clamp(min=1e-30)) for one, other in zip(near, exact, strict=True)
    ]
    worst = max(errors)
    if worst > LARGEST_ERROR:
        logger.warning(
            "Finite differences are off by %.0f %% of the exact product on one step. Change "
            "teacher.hypergradient.difference_size (now %g; float32 likes 1e-3, bf16 1e-2), or choose "
            "teacher.hypergradient.estimator=exact.",
            100 * worst,
            size,
        )
    return worst
