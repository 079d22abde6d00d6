"""The three stages of L2T-DLN: the student learns, the loss network learns, the teacher learns."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from aes_dynloss.teaching.hypergradient.estimator import Estimator, Measure
from aes_dynloss.teaching.state import StudentState
from aes_dynloss.teaching.teachers.lstm import CoordinateFeedForward, CoordinateLstm, detached
from aes_dynloss.teaching.unrolling.objective import Objective
from aes_dynloss.teaching.unrolling.unroll import Trajectory, unroll
from aes_dynloss.teaching.unrolling.update_rules import Point, UpdateRule


def build_coordinate_teacher(kind: str, seed: int) -> CoordinateLstm | CoordinateFeedForward:
    """The recurrent teacher, or one of its controls.

    Args:
        kind: ``lstm``, ``memoryless_lstm`` or ``feed_forward``.
        seed: Of its first weights.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return CoordinateFeedForward() if kind == "feed_forward" else CoordinateLstm(remembers=kind == "lstm")


@dataclass(frozen=True)
class TeacherStep:
    """What one teacher step left.

    Args:
        end: Where the student stands now, after the second run.
        buffers: The student's buffers there.
        before: Dev measure at the end of the first run.
        after: And of the second.
        hypergradient_norm: Norm of the measure's gradient with respect to the loss network, first run.
    """

    end: Point
    buffers: list[Tensor]
    before: Tensor
    after: Tensor
    hypergradient_norm: Tensor


class LossNetworkTeacher:
    """A loss network's weights phi and the teacher that rewrites them; the policy of a run under L2T-DLN.

    From w_0 the student takes N steps under phi; G = d e(w_N) / d phi; phi' = phi - c teacher(G, memory). Then once
    more from w_0 over the same batches, under phi', to w'_N; the teacher's weights move along d e(w'_N) / d theta,
    which reaches them through phi' alone: one walk back for d e / d phi', one vector-Jacobian product through the
    teacher. phi', w'_N and the memory stay.

    Args:
        coefficients: First phi, (P,).
        network: The teacher.
        step_size: c.
        learning_rate: Adam's, for the teacher.
        memory_span: Steps after which its memory begins anew; None: never, as published. The last cell of an LSTM that
            remembers for ever soon saturates, for no gradient reaches what it remembers beyond a step.

    References:
        Hai et al. 2023, arXiv 2310.19313, and its released program.
    """

    def __init__(
        self,
        coefficients: Tensor,
        network: CoordinateLstm | CoordinateFeedForward,
        *,
        step_size: float = 1e-3,
        learning_rate: float = 1e-3,
        memory_span: int | None = None,
    ) -> None:
        self.phi = coefficients
        self.network = network
        self.memory = network.fresh(len(coefficients))
        self._step_size = step_size
        self._memory_span = memory_span
        self._steps = 0
        self._optimizer = torch.optim.Adam(network.parameters(), lr=learning_rate)

    def coefficients(self, state: StudentState) -> Tensor:  # noqa: ARG002 - the signature of all policies
        """The loss network as it is now, (P,)."""
        return self.phi

    def step(
        self,
        objective: Objective,
        rule: UpdateRule,
        first: Trajectory,
        buffers: list[Tensor],
        measure: Measure,
        estimator: Estimator,
    ) -> TeacherStep:
        """Learn from a run of N steps under phi; the live module is left as it was, ``first`` is used up.

        Args:
            objective: The student's loss.
            rule: Its optimiser.
            first: The run.
            buffers: The student's buffers before it.
            measure: The dev measure e.
            estimator: How hypergradients are taken.
        """
        with objective.live.undisturbed():
            found = estimator(objective, rule, first, measure)
            gradient = found.coefficients.sum(0)
            first.release()
            if self._memory_span is not None and self._steps % self._memory_span == 0:
                self.memory = self.network.fresh(len(self.phi))
            change, memory = self.network(gradient.to(self.phi.dtype), self.memory)
            following = self.phi - self._step_size * change
            held = following.detach()
            plans = [step.plan for step in first.steps]
            objective.live.put_buffers(buffers)
            second = unroll(objective, rule, first.start, plans, lambda: held, memory=first.memory)
            kept = objective.live.buffers()
            judged = estimator(objective, rule, second, measure)
            self._optimizer.zero_grad()
            following.backward(judged.coefficients.sum(0).to(following.dtype))
            self._optimizer.step()
        self._steps += 1
        self.phi = held
        self.memory = detached(memory)
        return TeacherStep(second.end, kept, found.measure, judged.measure, gradient.norm())

    def state_dict(self) -> dict[str, Any]:
        """Everything needed to go on: phi, the teacher, its memory and its optimiser."""
        return {
            "phi": self.phi,
            "network": self.network.state_dict(),
            "memory": [list(pair) for pair in self.memory],
            "steps": self._steps,
            "optimizer": self._optimizer.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Put :meth:`state_dict` back."""
        device = self.phi.device
        self.phi = state["phi"].to(device)
        self.network.load_state_dict(state["network"])
        self.memory = [(hidden.to(device), inner.to(device)) for hidden, inner in state["memory"]]
        self._steps = state["steps"]
        self._optimizer.load_state_dict(state["optimizer"])
