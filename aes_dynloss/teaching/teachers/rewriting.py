"""The step of teachers that rewrite a loss's weights while the student trains, and let it take its steps once more."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from aes_dynloss.teaching.hypergradient.protocol import Estimator, Hypergradient, Measure
from aes_dynloss.teaching.policies import StudentState
from aes_dynloss.teaching.student import buffers_of, put_buffers
from aes_dynloss.teaching.unrolling.objective import Objective
from aes_dynloss.teaching.unrolling.unroll import Trajectory, unroll
from aes_dynloss.teaching.unrolling.update_rules import Point, UpdateRule


@dataclass(frozen=True)
class TeacherStep:
    """The result of one teacher step.

    Args:
        end: The student's point after the second run.
        buffers: The student's buffers there.
        before: Dev measure at the end of the first run.
        after: And of the second.
        hypergradient_norm: Norm of the measure's gradient with respect to the loss's weights, first run.
        rewrite: Change of the loss's weights, (P,).
        fresh: The measure on another dev batch at the end of the first run, and of the second; None without one.
    """

    end: Point
    buffers: list[Tensor]
    before: Tensor
    after: Tensor
    hypergradient_norm: Tensor
    rewrite: Tensor
    fresh: tuple[Tensor, Tensor] | None = None


class RewritingTeacher(ABC):
    """Weights phi of a loss, and what rewrites them after every window of the student's steps; a run's policy.

    From w_0 the student takes N steps under phi to w_N; phi' follows from G = d e(w_N) / d phi, e a measure on dev.
    Then once more from w_0 over the same batches, under phi', to w'_N. phi' and w'_N stay.

    A subclass says what phi' is; one with a state of its own carries it in :meth:`state_dict`. From outside, see
    :func:`aes_dynloss.register_teacher`.

    Args:
        coefficients: First phi, (P,).

    Examples:
        >>> import torch
        >>> class Descent(RewritingTeacher):
        ...     def rewritten(self, hypergradient):
        ...         return self.phi - 0.1 * hypergradient
        >>> Descent(torch.tensor([1.0, 0.5])).rewritten(torch.tensor([2.0, -1.0]))
        tensor([0.8000, 0.6000])
    """

    def __init__(self, coefficients: Tensor) -> None:
        self.phi = coefficients

    @abstractmethod
    def rewritten(self, hypergradient: Tensor) -> Tensor:
        """phi', (P,), a tensor of its own, from G, (P,); it may have a graph, which :meth:`learn` gets back."""

    def learn(self, rewritten: Tensor, second: Callable[[], Hypergradient]) -> Tensor | None:  # noqa: ARG002
        """Learn from the second run, whose hypergradient ``second`` returns; by default nothing.

        Returns:
            The measure at its end; None where ``second`` was not called.
        """
        return None

    def state_dict(self) -> dict[str, Any]:
        """Everything needed to go on; by default phi alone."""
        return {"phi": self.phi}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Put :meth:`state_dict` back."""
        self.phi = state["phi"].to(self.phi.device)

    def coefficients(self, state: StudentState) -> Tensor:  # noqa: ARG002 - the signature of all policies
        """The loss's weights as they are now, (P,)."""
        return self.phi

    def step(
        self,
        objective: Objective,
        rule: UpdateRule,
        first: Trajectory,
        buffers: list[Tensor],
        measure: Measure,
        estimator: Estimator,
        fresh: Measure | None = None,
    ) -> TeacherStep:
        """Learn from a run of N steps under phi; the live module is left as it was, ``first`` is used up.

        Args:
            objective: The student's loss.
            rule: Its optimiser.
            first: The run.
            buffers: The student's buffers before it.
            measure: The dev measure e.
            estimator: How hypergradients are taken.
            fresh: The measure on a dev batch that gives no gradient, to tell what the rewriting is worth elsewhere.
        """
        both_fresh: list[Tensor] = []
        with objective.live.undisturbed():
            first_pass = estimator(objective, rule, first, measure)
            gradient = first_pass.coefficients.sum(0)
            if fresh is not None:
                both_fresh.append(fresh.value(first.end.weights))
            first.release()
            rewritten = self.rewritten(gradient.to(self.phi.dtype))
            next_phi = rewritten.detach()
            plans = [step.plan for step in first.steps]
            put_buffers(objective.live.module, buffers)
            second = unroll(objective, rule, first.start, plans, lambda: next_phi, memory=first.memory)
            buffers_after = buffers_of(objective.live.module)
            after = self.learn(rewritten, lambda: estimator(objective, rule, second, measure))
            if after is None:
                after = measure.value(second.end.weights)
            if fresh is not None:
                both_fresh.append(fresh.value(second.end.weights))
        rewrite, self.phi = next_phi - self.phi, next_phi
        known = (both_fresh[0], both_fresh[1]) if both_fresh else None
        return TeacherStep(second.end, buffers_after, first_pass.measure, after, gradient.norm(), rewrite, known)
