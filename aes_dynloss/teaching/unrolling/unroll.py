"""Unrolling: a student's training run as pure functions, recorded so that it can be differentiated in reverse.

``fit`` is the loop that trains; :func:`unroll` takes the same steps for a teacher that learns from them.
:class:`Memory` sets how the points of a :class:`Trajectory` are stored until the backward pass.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from aes_dynloss.errors import ConfigError
from aes_dynloss.teaching.student import random_state
from aes_dynloss.teaching.unrolling.memory import Memory, Storage
from aes_dynloss.teaching.unrolling.objective import Objective
from aes_dynloss.teaching.unrolling.step_plan import Gradient, Product, StepPlan
from aes_dynloss.teaching.unrolling.update_rules import Point, UpdateRule

# Returns a stored point.
Kept = Callable[[], Point]


def keep(point: Point, storage: Storage) -> Kept:
    """Keep a point.

    Args:
        point: The point; its tensors are not changed afterwards.
        storage: device: as it is. host: in the computer's memory, pinned, so that copies do not wait. bf16: with eight
            bits of each number, which costs a hypergradient about 2e-3 of accuracy.
    """
    if storage == "device":
        return lambda: point
    tensors = [point.weights, *point.slots]
    if storage == "bf16":
        packed = [tensor.to(torch.bfloat16) for tensor in tensors]
    elif point.weights.device.type == "cpu":
        packed = tensors
    else:
        hosts = [torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=True) for tensor in tensors]
        packed = [host.copy_(tensor, non_blocking=True) for host, tensor in zip(hosts, tensors, strict=True)]
    dtype, device, step = point.weights.dtype, point.weights.device, point.step

    def unpack() -> Point:
        weights, *slots = (tensor.to(device=device, dtype=dtype, non_blocking=True) for tensor in packed)
        return Point(weights, tuple(slots), step)

    return unpack


@dataclass
class TakenStep:
    """A step that was taken.

    Args:
        plan: What it read, with the random state before it.
        coefficients: The loss's coefficients, (K,).
        kept: Returns the point before it; None where it must be computed again.
        gradient: Its first derivatives, where they were kept.
        product: Exact products at it, where its graph was kept.
    """

    plan: StepPlan
    coefficients: Tensor
    kept: Kept | None = None
    gradient: Gradient | None = None
    product: Product | None = None


@dataclass
class Trajectory:
    """A run of T steps.

    Args:
        steps: The steps in their order.
        end: The point after the last.
        memory: How it was remembered.
    """

    steps: list[TakenStep]
    end: Point
    memory: Memory = field(default_factory=Memory)

    def __len__(self) -> int:
        """Steps T."""
        return len(self.steps)

    @property
    def start(self) -> Point:
        """The point before the first step, which is always kept."""
        return self._kept_point(0)

    @property
    def coefficients(self) -> Tensor:
        """The coefficients of all steps, (T, K)."""
        return torch.stack([step.coefficients for step in self.steps])

    def release(self) -> None:
        """Forget all but what a run over the same batches needs: the plans and the first point."""
        for step in self.steps:
            step.gradient = step.product = None
        for step in self.steps[1:]:
            step.kept = None

    def backwards(self, objective: Objective, rule: UpdateRule) -> Iterator[tuple[int, TakenStep, Point]]:
        """The steps from the last to the first, each with its number and the point before it.

        Points that were not kept are computed again, a stretch at a time; the live module's weights change then.
        """
        end = len(self.steps)
        while end:
            start = next(number for number in range(end - 1, -1, -1) if self.steps[number].kept is not None)
            for number, point in reversed(list(self._stretch(start, end, objective, rule))):
                yield number, self.steps[number], point
            end = start

    def _kept_point(self, number: int) -> Point:
        kept = self.steps[number].kept
        if kept is None:
            raise ValueError(f"The point before step {number} was not kept.")
        return kept()

    def _stretch(self, start: int, end: int, objective: Objective, rule: UpdateRule) -> Iterator[tuple[int, Point]]:
        point = self._kept_point(start)
        for number in range(start, end):
            yield number, as_read(point, rule)
            if number + 1 < end:
                step = self.steps[number]
                objective.live.put(point.weights)
                gradient = step.gradient or objective.gradient(step.plan, step.coefficients)
                point = rule.advance(point, gradient.weights, step.plan.factor)


def as_read(point: Point, rule: UpdateRule) -> Point:
    """The part of a point that the backward pass reads: its slots only where the rule's adjoint needs them."""
    return point if rule.needs_slots else replace(point, slots=())


def unroll(
    objective: Objective,
    rule: UpdateRule,
    start: Point,
    plans: Sequence[StepPlan],
    coefficients: Callable[[], Tensor],
    *,
    memory: Memory | None = None,
    on_step: Callable[[int, Gradient], None] | None = None,
) -> Trajectory:
    """Take steps from a point; afterwards the live module holds the last point's weights.

    Args:
        objective: The loss.
        rule: The optimiser.
        start: Where the student is.
        plans: T steps to take; a plan without a random state goes on from the generators' state.
        coefficients: Called before every step; returns the loss's coefficients, (K,), whose graph is not needed.
        memory: What is remembered.
        on_step: Called after every step with its number and its gradient; the live module holds the next point then.

    Returns:
        The trajectory.

    Raises:
        ConfigError: Graphs are to be kept of a student that checkpoints its activations.
    """
    memory = memory or Memory()
    if memory.kept_graphs and objective.live.checkpoints_activations:
        raise ConfigError(
            "Graphs cannot be kept of a student that checkpoints its activations: they would be computed again with "
            "other weights. Set model.gradient_checkpointing=false, or teacher.hypergradient.graph_budget=0."
        )
    stride = math.ceil(math.sqrt(len(plans))) if memory.snapshots else 1
    graphs = _GraphBudget(memory.kept_graphs, len(plans))
    steps: list[TakenStep] = []
    point = start
    objective.live.put(point.weights)
    for number, given in enumerate(plans):
        phi = coefficients().detach()
        plan = given if given.random is not None else replace(given, random=random_state(objective.live.device))
        kept = None
        if number % stride == 0:
            kept = keep(point if stride > 1 or number == 0 else as_read(point, rule), memory.storage)
        step = TakenStep(plan, phi, kept)
        if graphs.has_room(number) and objective.is_one_graph(plan):
            gradient, step.product = graphs.keep(objective, step, point)
        else:
            gradient = objective.gradient(plan, phi)
        # The same steps on every process, however many graphs each has kept: walking back, they talk in one order.
        if memory.gradients or (memory.kept_graphs and rule.needs_gradient):
            step.gradient = gradient
        steps.append(step)
        point = rule.advance(point, gradient.weights, plan.factor)
        objective.live.put(point.weights)
        if on_step is not None:
            on_step(number, gradient)
    return Trajectory(steps, point, memory)


class _GraphBudget:
    """The steps that keep their graphs: as many of the last as fit into a number of bytes.

    The size of a graph is measured on the first step, whose graph is not kept.
    """

    def __init__(self, budget: int, total: int) -> None:
        self._budget = budget
        self._total = total
        self._first_kept = 0 if budget else total
        self._measured = not budget

    def has_room(self, number: int) -> bool:
        """Whether this step's graph is kept, or is to be measured."""
        return not self._measured or number >= self._first_kept

    def keep(self, objective: Objective, step: TakenStep, point: Point) -> tuple[Gradient, Product | None]:
        """The step's gradient and, if it is kept, its graph."""
        if self._measured:
            first, product = objective.product(step.plan, step.coefficients, weights=point.weights)
            return _known(first), product
        sizes: dict[int, int] = {}

        def note(tensor: Tensor) -> Tensor:
            memory = tensor.untyped_storage()
            sizes[memory.data_ptr()] = memory.nbytes()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
            first, _ = objective.product(step.plan, step.coefficients, weights=point.weights)
        self._measured = True
        room = self._budget // max(1, sum(sizes.values()))
        self._first_kept = max(1, self._total - room)
        return _known(first), None


def _known(gradient: Gradient | None) -> Gradient:
    if gradient is None:
        raise ValueError("A kept graph must return its gradient.")
    return gradient
