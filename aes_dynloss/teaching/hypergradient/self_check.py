"""Whether finite differences are near enough to the exact products, seen on one step of a run."""

from __future__ import annotations

import logging

from aes_dynloss.teaching.hypergradient.differences import difference_product
from aes_dynloss.teaching.hypergradient.estimator import Measure, end_of
from aes_dynloss.teaching.unrolling.objective import Objective
from aes_dynloss.teaching.unrolling.unroll import Trajectory
from aes_dynloss.teaching.unrolling.update_rules import UpdateRule

logger = logging.getLogger(__name__)

# Central differences under bf16 were measured at 5 %, one-sided at 13 %.
LARGEST_ERROR = 0.15


def check_differences(
    objective: Objective, rule: UpdateRule, trajectory: Trajectory, measure: Measure, size: float
) -> float:
    """Relative error of central differences at a run's last step; a warning where it is large.

    Args:
        objective: The loss.
        rule: The optimiser.
        trajectory: The run.
        measure: The dev measure, whose gradient at the end is the direction that is tried.
        size: Norm of the perturbation.

    Returns:
        Error of (H q, M^T q), by Euclidean norm, as a part of the exact one; 0 where both are 0.
    """
    _, ahead, _ = end_of(trajectory, measure)
    _, step, point = next(trajectory.backwards(objective, rule))
    objective.live.put(point.weights)
    first, product = objective.product(step.plan, step.coefficients)
    _, cotangent = rule.pull_back(point, first.weights if first is not None else None, step.plan.factor, ahead)
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
