"""Exact reverse mode: one vector-Jacobian product a step, no graph longer than a step."""

from __future__ import annotations

from dataclasses import dataclass, replace

from aes_dynloss.teaching.hypergradient.estimator import Hypergradient, Measure, end_of
from aes_dynloss.teaching.unrolling.objective import Objective
from aes_dynloss.teaching.unrolling.unroll import Trajectory
from aes_dynloss.teaching.unrolling.update_rules import UpdateRule


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
        value, ahead, coefficients = end_of(trajectory, measure)
        first = 0 if self.last is None else max(0, len(trajectory) - self.last)
        for number, step, point in trajectory.backwards(objective, rule):
            if number < first:
                break
            known = step.gradient.weights if step.gradient is not None else None
            product = step.product
            if product is None or (rule.needs_gradient and known is None):
                objective.live.put(point.weights)
                wanted = rule.needs_gradient and known is None
                found, product = objective.product(step.plan, step.coefficients, gradient=wanted)
                known = found.weights if known is None and found is not None else known
            ahead, cotangent = rule.pull_back(point, known, step.plan.factor, ahead)
            bent, coefficients[number] = product(cotangent)
            ahead = replace(ahead, weights=ahead.weights + bent)
        return Hypergradient(value, coefficients)
