"""The objective of a step as a function of the student's weights: gradients and exact Hessian products.

A loss that couples elements of several micro-batches or processes is differentiated in three passes: outputs of all
micro-batches; the loss on all of them, gathered; each micro-batch back to the weights, with its share of the loss's
derivative as cotangent. No graph is larger than a micro-batch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from aes_dynloss.teaching.losses.dynamic_loss import DynamicLoss
from aes_dynloss.teaching.student import Batch, Elements, RandomState, kept_buffers, random_state, set_random_state
from aes_dynloss.teaching.unrolling.derivatives import differentiable_grad, twice_differentiable, vjp
from aes_dynloss.teaching.unrolling.live_student import LiveStudent
from aes_dynloss.teaching.unrolling.step_plan import Gradient, Processes, Product, StepPlan


@dataclass(frozen=True)
class _Outputs:
    """Outputs of the whole effective batch.

    Args:
        states: State of the generators before each of this process's micro-batches.
        leaf: All processes' outputs, (E, D), the leaf of ``elements``.
        elements: Elements on it.
        local_rows: Index in ``leaf`` of each of this process's rows, -1 for fillers.
    """

    states: list[RandomState]
    leaf: Tensor
    elements: Elements
    local_rows: Tensor

    def shares(self, plan: StepPlan, rows: Tensor) -> list[Tensor]:
        """This process's rows of a tensor like ``leaf``, micro-batch by micro-batch; 0 for fillers."""
        local = torch.where(
            (self.local_rows >= 0)[:, None], rows[self.local_rows.clamp(min=0)], torch.zeros_like(rows[:1])
        )
        return plan.shares(local)


class Objective:
    """The loss of a student over an effective batch, at the weights that are in the live module.

    Args:
        live: The student.
        loss: The loss.
        processes: The processes that share the batch, and the precision; by default one process in full precision.
        measuring: Whether it is a measure: no dropout, and no statistics of batch norm but the batch's own.
    """

    def __init__(
        self, live: LiveStudent, loss: DynamicLoss, processes: Processes | None = None, *, measuring: bool = False
    ) -> None:
        self.live = live
        self.loss = loss
        self.processes = processes or Processes()
        self._measuring = measuring

    def gradient(self, plan: StepPlan, coefficients: Tensor) -> Gradient:
        """First derivatives.

        Args:
            plan: The step.
            coefficients: Of the loss, (K,).
        """
        self._prepare(plan)
        coefficients = coefficients.detach().requires_grad_()
        if self._is_coupled(plan):
            return self._coupled_gradient(plan, coefficients)
        parts = []
        for batch in plan.batches:
            value, error = self._part(batch, coefficients, plan.count)
            flat, to_coefficients = self._split(
                torch.autograd.grad(
                    value, [*self.live.parameters, coefficients], allow_unused=True, materialize_grads=True
                )
            )
            parts.append(Gradient(value.detach(), flat, to_coefficients, error))
        return self._total(parts)

    @torch.no_grad()
    def value(self, plan: StepPlan, coefficients: Tensor) -> Tensor:
        """The loss alone, a scalar: no backward pass."""
        self._prepare(plan)
        if self._is_coupled(plan):
            return self.loss(coefficients, self._outputs(plan).elements)
        parts = [self._part(batch, coefficients, plan.count)[0] for batch in plan.batches]
        return self.processes.total(sum(parts[1:], parts[0]))

    def coefficient_gradient(self, plan: StepPlan, coefficients: Tensor) -> Tensor:
        """The loss's gradient with respect to the coefficients alone, (K,): no backward pass of the student."""
        self._prepare(plan)
        coefficients = coefficients.detach().requires_grad_()
        if self._is_coupled(plan):
            value = self.loss(coefficients, self._outputs(plan).elements)
            return vjp([value], [torch.ones_like(value)], [coefficients])[0]
        total = torch.zeros_like(coefficients)
        for batch in plan.batches:
            with torch.no_grad():
                outputs = self.live.outputs(batch, self.processes.autocast())
            value = self._value(self._elements(outputs, [batch]), coefficients, plan.count)
            total += vjp([value], [torch.ones_like(value)], [coefficients])[0]
        return self.processes.total(total)

    def is_one_graph(self, plan: StepPlan) -> bool:
        """Whether the step is a single graph, which can be kept."""
        return len(plan.batches) == 1 and not self._is_coupled(plan)

    def product(
        self, plan: StepPlan, coefficients: Tensor, *, weights: Tensor | None = None, gradient: bool = True
    ) -> tuple[Gradient | None, Product]:
        """First derivatives, with a function that returns exact products of the second derivatives, once.

        Reverse over reverse: differentiating forward-mode products again is silently wrong through layer norm.

        Args:
            plan: The step.
            coefficients: Of the loss, (K,).
            weights: Weights, (P,), whose graph outlives the next change of the live module; None for those in it.
                Only where the step :meth:`is_one_graph`, and not for a student that checkpoints its activations.
            gradient: Whether first derivatives are wanted; where they cost a pass of their own, they are left out
                otherwise.

        Returns:
            First derivatives, or None; and the product.
        """
        coefficients = coefficients.detach().requires_grad_()
        if not self.is_one_graph(plan):
            first = self.gradient(plan, coefficients) if gradient else None
            return first, lambda cotangent: self._several_product(plan, coefficients, cotangent)
        self._prepare(plan)
        inputs = None if weights is None else [view.detach().requires_grad_() for view in self.live.views(weights)]
        leaves = [*(self.live.parameters if inputs is None else inputs), coefficients]
        with twice_differentiable():
            value, error = self._part(plan.batches[0], coefficients, plan.count, inputs)
            gradients = differentiable_grad(value, leaves)

        def product(cotangent: Tensor) -> tuple[Tensor, Tensor]:
            with twice_differentiable():  # a student that checkpoints its activations computes them again here
                flat, to_coefficients = self._split(vjp(gradients[:-1], self.live.views(cotangent), leaves))
            return self.processes.total(flat), self.processes.total(to_coefficients)

        if not gradient:
            return None, product
        flat, to_coefficients = self._split([slope.detach() for slope in gradients])
        return self._total([Gradient(value.detach(), flat, to_coefficients, error)]), product

    def graph(self, plan: StepPlan, coefficients: Tensor, weights: Tensor) -> Tensor:
        """The loss as a function of weights, (P,), and coefficients, (K,), with one graph over all; one process.

        Costly in memory: it is the reference that the estimators are checked against.
        """
        self._prepare(plan)
        inputs = self.live.views(weights)
        with twice_differentiable():
            outputs = [self.live.outputs(batch, self.processes.autocast(), inputs) for batch in plan.batches]
            return self._value(self._elements(torch.cat(outputs), plan.batches), coefficients, plan.count)

    def _prepare(self, plan: StepPlan) -> None:
        if self._measuring:
            self.live.measure_mode()
        else:
            self.live.module.train()
        if plan.random is not None:
            set_random_state(plan.random, self.live.device)

    def _is_coupled(self, plan: StepPlan) -> bool:
        """Whether the loss couples elements of several micro-batches or processes."""
        return self.loss.over_batch and (self.processes.world_size > 1 or len(plan.batches) > 1)

    def _elements(self, outputs: Tensor, batches: Sequence[Batch]) -> Elements:
        keep = torch.cat([batch.index for batch in batches]) >= 0
        targets = torch.cat([batch.targets for batch in batches])[keep]
        groups = torch.cat([batch.groups for batch in batches])[keep]
        return self.live.student.elements(outputs[keep], targets, groups)

    def _value(self, elements: Elements, coefficients: Tensor, count: int) -> Tensor:
        value = self.loss(coefficients, elements)
        return value if self.loss.over_batch else elements.by_example(value).sum() / count

    def _part(
        self, batch: Batch, coefficients: Tensor, count: int, weights: Sequence[Tensor] | None = None
    ) -> tuple[Tensor, Tensor]:
        """This micro-batch's part of the loss, and of the error."""
        elements = self._elements(self.live.outputs(batch, self.processes.autocast(), weights), [batch])
        return self._value(elements, coefficients, count), elements.errors().detach().sum() / count

    def _split(self, gradients: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """Gradients of all weights as one vector, (P,), and of the coefficients, (K,)."""
        return self.live.flat(gradients[:-1]), gradients[-1]

    def _total(self, parts: Sequence[Gradient]) -> Gradient:
        """The parts of all micro-batches and processes together."""
        sums = []
        for name in ("value", "weights", "coefficients", "error"):
            whole = getattr(parts[0], name)
            for part in parts[1:]:
                whole = whole + getattr(part, name)
            sums.append(self.processes.total(whole))
        return Gradient(*sums)

    def _several_product(self, plan: StepPlan, coefficients: Tensor, cotangent: Tensor) -> tuple[Tensor, Tensor]:
        """Product over several micro-batches; over those that the loss does not couple, one graph at a time."""
        self._prepare(plan)
        if self._is_coupled(plan):
            return self._coupled_product(plan, coefficients, cotangent)
        leaves = [*self.live.parameters, coefficients]
        flat, to_coefficients = torch.zeros_like(cotangent), torch.zeros_like(coefficients)
        for batch in plan.batches:
            with twice_differentiable():
                value, _ = self._part(batch, coefficients, plan.count)
                first = differentiable_grad(value, self.live.parameters)
                part, more = self._split(vjp(first, self.live.views(cotangent), leaves))
            flat, to_coefficients = flat + part, to_coefficients + more
        return self.processes.total(flat), self.processes.total(to_coefficients)

    def _coupled_gradient(self, plan: StepPlan, coefficients: Tensor) -> Gradient:
        """First derivatives where the loss couples elements."""
        whole = self._outputs(plan)
        value = self.loss(coefficients, whole.elements)
        cotangent, to_coefficients = vjp([value], [torch.ones_like(value)], [whole.leaf, coefficients])
        flat = torch.zeros_like(self.live.weights())
        for batch, state, part in zip(plan.batches, whole.states, whole.shares(plan, cotangent), strict=True):
            flat += self.live.flat(vjp([self._forward(batch, state)], [part], self.live.parameters))
        error = whole.elements.errors().detach().sum() / plan.count
        return Gradient(value.detach(), self.processes.total(flat), to_coefficients, error)

    def _coupled_product(self, plan: StepPlan, coefficients: Tensor, cotangent: Tensor) -> tuple[Tensor, Tensor]:
        """With c = dl/do and r = J q: H q = J^T d<c(o), r>/do + d<c, J q>/dw, c held; M^T q = d<c(o, phi), r>/dphi."""
        whole = self._outputs(plan)
        views = self.live.views(cotangent)
        with twice_differentiable():
            local = [
                self._tangent(batch, state, views) for batch, state in zip(plan.batches, whole.states, strict=True)
            ]
            _, (tangent,) = self.processes.rows(plan.index, [torch.cat(local)])
            (slope,) = differentiable_grad(self.loss(coefficients, whole.elements), [whole.leaf])
            output_hvp, to_coefficients = vjp([slope], [tangent], [whole.leaf, coefficients])
            parts, hvp_parts = whole.shares(plan, slope.detach()), whole.shares(plan, output_hvp)
            flat = torch.zeros_like(cotangent)
            for batch, state, part, hvp_part in zip(plan.batches, whole.states, parts, hvp_parts, strict=True):
                outputs = self._forward(batch, state)
                first = differentiable_grad(outputs, self.live.parameters, part)
                flat += self.live.flat(vjp([*first, outputs], [*views, hvp_part], self.live.parameters))
        return self.processes.total(flat), to_coefficients

    def _forward(self, batch: Batch, state: RandomState) -> Tensor:
        set_random_state(state, self.live.device)
        return self.live.outputs(batch, self.processes.autocast())

    def _tangent(self, batch: Batch, state: RandomState, direction: Sequence[Tensor]) -> Tensor:
        """J q, (B, D), by differentiating the transposed product."""
        outputs = self._forward(batch, state)
        zero = torch.zeros_like(outputs).requires_grad_()
        return vjp(differentiable_grad(outputs, self.live.parameters, zero), direction, [zero])[0]

    def _outputs(self, plan: StepPlan) -> _Outputs:
        states, outputs = [], []
        for batch in plan.batches:
            states.append(random_state(self.live.device))
            with torch.no_grad(), kept_buffers(self.live.module):
                outputs.append(self.live.outputs(batch, self.processes.autocast()))
        columns = [torch.cat([getattr(batch, name) for batch in plan.batches]) for name in ("targets", "groups")]
        index, (leaf, targets, groups) = self.processes.rows(plan.index, [torch.cat(outputs), *columns])
        leaf = leaf.requires_grad_()
        local_rows = torch.where(plan.index >= 0, torch.searchsorted(index, plan.index), -1)
        return _Outputs(states, leaf, self.live.student.elements(leaf, targets, groups), local_rows)
