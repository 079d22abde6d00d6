"""Derivatives of a loss that couples elements of several micro-batches or processes, in legs.

Outputs o of all micro-batches first; then the loss on all of them, gathered; then each micro-batch back to the
weights, with its share of the loss's derivative as cotangent. No graph is larger than a micro-batch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from aes_dynloss.teaching.batch import Batch
from aes_dynloss.teaching.buffers import kept_buffers
from aes_dynloss.teaching.dynamic_loss import DynamicLoss
from aes_dynloss.teaching.elements import Elements
from aes_dynloss.teaching.randomness import RandomState, random_state, set_random_state
from aes_dynloss.teaching.unrolling.derivatives import pulled_back, slopes
from aes_dynloss.teaching.unrolling.kernels import twice_differentiable
from aes_dynloss.teaching.unrolling.live_student import LiveStudent
from aes_dynloss.teaching.unrolling.processes import Processes
from aes_dynloss.teaching.unrolling.step_plan import Gradient, StepPlan


@dataclass(frozen=True)
class _Outputs:
    """Outputs of the whole effective batch.

    Args:
        states: State of the generators before each of this process's micro-batches.
        leaf: All processes' outputs, (E, D), the leaf of ``elements``.
        elements: Elements on it.
        mine: Place of each of this process's rows in ``leaf``, -1 for fillers.
    """

    states: list[RandomState]
    leaf: Tensor
    elements: Elements
    mine: Tensor

    def shares(self, plan: StepPlan, rows: Tensor) -> list[Tensor]:
        """This process's rows of a tensor like ``leaf``, micro-batch by micro-batch; 0 for fillers."""
        own = torch.where((self.mine >= 0)[:, None], rows[self.mine.clamp(min=0)], torch.zeros_like(rows[:1]))
        return plan.shares(own)


@dataclass(frozen=True)
class CoupledLegs:
    """See :class:`Objective`, whose methods these are where the loss couples elements."""

    live: LiveStudent
    loss: DynamicLoss
    processes: Processes

    def gradient(self, plan: StepPlan, coefficients: Tensor) -> Gradient:
        """First derivatives."""
        whole = self._outputs(plan)
        value = self.loss(coefficients, whole.elements)
        cotangent, to_coefficients = pulled_back([value], [torch.ones_like(value)], [whole.leaf, coefficients])
        flat = torch.zeros_like(self.live.weights())
        for batch, state, part in zip(plan.batches, whole.states, whole.shares(plan, cotangent), strict=True):
            flat += self.live.flat(pulled_back([self._answer(batch, state)], [part], self.live.parameters))
        error = whole.elements.errors().detach().sum() / plan.count
        return Gradient(value.detach(), self.processes.total(flat), to_coefficients, error)

    def coefficient_gradient(self, plan: StepPlan, coefficients: Tensor) -> Tensor:
        """The gradient with respect to the coefficients alone."""
        value = self.loss(coefficients, self._outputs(plan).elements)
        return pulled_back([value], [torch.ones_like(value)], [coefficients])[0]

    def product(self, plan: StepPlan, coefficients: Tensor, cotangent: Tensor) -> tuple[Tensor, Tensor]:
        """With c = dl/do and r = J q: H q = J^T d<c(o), r>/do + d<c, J q>/dw, c held; M^T q = d<c(o, phi), r>/dphi."""
        whole = self._outputs(plan)
        views = self.live.views(cotangent)
        with twice_differentiable():
            own = [self._tangent(*place, views) for place in zip(plan.batches, whole.states, strict=True)]
            _, (tangent,) = self.processes.rows(plan.index, [torch.cat(own)])
            (slope,) = slopes(self.loss(coefficients, whole.elements), [whole.leaf])
            bent, to_coefficients = pulled_back([slope], [tangent], [whole.leaf, coefficients])
            parts, bends = whole.shares(plan, slope.detach()), whole.shares(plan, bent)
            flat = torch.zeros_like(cotangent)
            for batch, state, part, bend in zip(plan.batches, whole.states, parts, bends, strict=True):
                answer = self._answer(batch, state)
                first = slopes(answer, self.live.parameters, part)
                flat += self.live.flat(pulled_back([*first, answer], [*views, bend], self.live.parameters))
        return self.processes.total(flat), to_coefficients

    def _answer(self, batch: Batch, state: RandomState) -> Tensor:
        set_random_state(state, self.live.device)
        return self.live.outputs(batch, self.processes.autocast())

    def _tangent(self, batch: Batch, state: RandomState, direction: Sequence[Tensor]) -> Tensor:
        """J q, (B, D), by differentiating the transposed product."""
        answer = self._answer(batch, state)
        zero = torch.zeros_like(answer).requires_grad_()
        return pulled_back(slopes(answer, self.live.parameters, zero), direction, [zero])[0]

    def _outputs(self, plan: StepPlan) -> _Outputs:
        states, outputs = [], []
        for batch in plan.batches:
            states.append(random_state(self.live.device))
            with torch.no_grad(), kept_buffers(self.live.module):
                outputs.append(self.live.outputs(batch, self.processes.autocast()))
        columns = [torch.cat([getattr(batch, name) for batch in plan.batches]) for name in ("targets", "groups")]
        index, (leaf, targets, groups) = self.processes.rows(plan.index, [torch.cat(outputs), *columns])
        leaf = leaf.requires_grad_()
        mine = torch.where(plan.index >= 0, torch.searchsorted(index, plan.index), -1)
        return _Outputs(states, leaf, self.live.student.elements(leaf, targets, groups), mine)
