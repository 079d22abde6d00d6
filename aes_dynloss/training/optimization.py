"""A run's optimiser, learning-rate schedule and weight averaging, and the optimiser's pure form for the teaching core.

The pure form is an update rule over points (weights, optimiser slots, step count), read from and written to torch's
optimiser.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.nn import Parameter
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR
from torch.optim.swa_utils import get_ema_multi_avg_fn

from aes_dynloss.errors import ConfigError
from aes_dynloss.teaching.student import Student
from aes_dynloss.teaching.unrolling.live_student import LiveStudent
from aes_dynloss.teaching.unrolling.update_rules import AdamW, Point, Rates, Sgd, UpdateRule
from aes_dynloss.training.config import TrainingConfig

_REST_AND_HEAD = 2
# Devices for which torch has the step of all weights as one kernel.
_FUSED = {"cpu", "cuda"}


def rate_groups(student: Student, config: TrainingConfig) -> list[dict[str, Any]]:
    """A learning rate for each layer, and weight decay on matrices only: torch's parameter groups.

    The head learns at ``head_learning_rate``; the layer below at ``learning_rate``, each one further down at
    ``layer_decay`` times the one above.

    Raises:
        ConfigError: ``layer_decay`` is asked for and the student has no layers, or a learning weight is in none.

    References:
        Howard and Ruder 2018, Universal language model fine-tuning (discriminative rates); Loshchilov and Hutter 2019,
        Decoupled weight decay regularization.
    """
    stack = list(student.parameter_stack())
    if config.layer_decay < 1 and len(stack) <= _REST_AND_HEAD:
        raise ConfigError(
            "training.layer_decay is below 1, but the student shows no layers between its lowest weights and its head. "
            "Set it to 1."
        )
    shown = {id(parameter) for layer in stack for _, parameter in layer}
    left_out = [n for n, p in student.as_module().named_parameters() if p.requires_grad and id(p) not in shown]
    if left_out:
        raise ConfigError(
            f"The student's parameter_stack() leaves out {len(left_out)} weights that want to learn, such as "
            f"{left_out[0]}. Show them, or freeze them."
        )
    # Layers that learn alike are one group: each takes some calls of its own a step.
    groups: dict[tuple[float, float], list[Parameter]] = {}
    for depth, layer in enumerate(reversed(stack)):
        rate = config.head_learning_rate if depth == 0 else config.learning_rate * config.layer_decay ** (depth - 1)
        for decayed in (True, False):
            parameters = [parameter for _, parameter in layer if (parameter.ndim > 1) is decayed]
            if parameters:
                groups.setdefault((rate, config.weight_decay * decayed), []).extend(parameters)
    return [{"params": group, "lr": rate, "weight_decay": decay} for (rate, decay), group in groups.items()]


def build_optimizer(student: Student, config: TrainingConfig) -> Optimizer:
    """AdamW or gradient descent over the student's :func:`rate_groups`."""
    groups = rate_groups(student, config)
    fused = all(parameter.device.type in _FUSED for parameter in student.as_module().parameters()) or None
    if config.optimizer == "sgd":
        return torch.optim.SGD(groups, momentum=config.momentum, fused=fused)
    return torch.optim.AdamW(groups, fused=fused)


def learning_rate_factor(step: int, total: int, config: TrainingConfig) -> float:
    """Factor on the peak learning rate in step ``step`` of ``total``, counted from 0; in [0, 1].

    Linear warm-up over the first ``warmup`` fraction of the steps; it never starts at 0, so that no step is wasted.
    """
    rising = config.warmup * total
    if step < rising:
        return (step + 1) / (rising + 1)
    left = (total - step) / max(1.0, total - rising)
    if config.decay == "linear":
        return left
    return 0.5 * (1.0 - math.cos(math.pi * left)) if config.decay == "cosine" else 1.0


def build_scheduler(optimizer: Optimizer, total: int, config: TrainingConfig) -> LambdaLR:
    """Warm-up and decay over ``total`` steps."""
    return LambdaLR(optimizer, lambda step: learning_rate_factor(min(step, total - 1), total, config))


class WeightAverage:
    """Exponential moving average of weights, with a warm-up so that the random start is soon forgotten.

    Args:
        parameters: The live parameters.
        decay: Weight of the past, in (0, 1); in step t it is at most (1 + t) / (10 + t).

    References:
        Polyak and Juditsky 1992; Morales-Brotons et al. 2024, Exponential moving average of weights in deep learning.
    """

    def __init__(self, parameters: Iterable[Parameter], decay: float) -> None:
        self._live = list(parameters)
        self._decay = decay
        self.steps = 0
        self.weights: list[Tensor] = [parameter.detach().clone() for parameter in self._live]

    @torch.no_grad()
    def update(self) -> None:
        """Take in the live weights."""
        self.steps += 1
        decay = min(self._decay, (1 + self.steps) / (10 + self.steps))
        average = get_ema_multi_avg_fn(decay)  # type: ignore[no-untyped-call]
        average(self.weights, [parameter.detach() for parameter in self._live], self.steps)

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """Within the block the live parameters hold the averaged weights."""
        self._swap()
        try:
            yield
        finally:
            self._swap()

    @torch.no_grad()
    def _swap(self) -> None:
        for parameter, average in zip(self._live, self.weights, strict=True):
            kept = parameter.detach().clone()
            parameter.copy_(average)
            average.copy_(kept)


_SLOTS = {"adamw": ("exp_avg", "exp_avg_sq"), "sgd": ("momentum_buffer",)}


def build_rule(live: LiveStudent, config: TrainingConfig) -> UpdateRule:
    """The pure form of what :func:`build_optimizer` builds."""
    groups = rate_groups(live.student, config)
    rate, decay = (
        _for_each(live, {id(parameter): group[name] for group in groups for parameter in group["params"]})
        for name in ("lr", "weight_decay")
    )
    rates = Rates(rate, decay, config.clip_norm)
    return Sgd(rates, config.momentum) if config.optimizer == "sgd" else AdamW(rates)


@torch.no_grad()
def read_point(live: LiveStudent, optimizer: Optimizer, config: TrainingConfig) -> Point:
    """The point where a student and its torch optimiser are."""
    states = [optimizer.state.get(parameter, {}) for parameter in live.parameters]
    slots = tuple(live.flat([state.get(name) for state in states]) for name in _slot_names(config))
    # A weight that no loss has read has no state: its own step count says nothing about the others'.
    steps = [torch.as_tensor(state["step"]) for state in states if "step" in state]
    step = int(torch.stack(steps).max()) if steps else 0
    return Point(live.weights(), slots, step)


@torch.no_grad()
def write_point(live: LiveStudent, optimizer: Optimizer, config: TrainingConfig, point: Point) -> None:
    """Put a point into a student and its torch optimiser, which have taken as many steps."""
    live.put(point.weights)
    for name, slot in zip(_slot_names(config), point.slots, strict=True):
        for parameter, view in zip(live.parameters, live.views(slot), strict=True):
            state: dict[str, Any] = optimizer.state.get(parameter, {})
            if name in state:  # a weight that no loss has read has none yet
                state[name].copy_(view)


def _slot_names(config: TrainingConfig) -> tuple[str, ...]:
    return _SLOTS[config.optimizer] if config.optimizer == "adamw" or config.momentum else ()


def _for_each(live: LiveStudent, numbers: dict[int, float]) -> Tensor:
    """A number for each weight, (P,), or one for all where they are equal."""
    like = live.parameters[0].detach()
    if len(set(numbers.values())) == 1:
        return like.new_tensor(next(iter(numbers.values())))
    return torch.cat([like.new_full((parameter.numel(),), numbers[id(parameter)]) for parameter in live.parameters])
