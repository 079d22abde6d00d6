"""The optimiser of a run as the teaching core sees it: an update rule, and points that are read and written."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from aes_dynloss.teaching.unrolling.live_student import LiveStudent
from aes_dynloss.teaching.unrolling.update_rules import AdamW, Point, Rates, Sgd, UpdateRule
from aes_dynloss.training.config import TrainingConfig
from aes_dynloss.training.optimization import rate_groups

_SLOTS = {"adamw": ("exp_avg", "exp_avg_sq"), "sgd": ("momentum_buffer",)}


def build_rule(live: LiveStudent, config: TrainingConfig) -> UpdateRule:
    """The pure form of what :func:`build_optimizer` builds."""
    groups = rate_groups(live.student, config)
    rate = _for_each(live, {id(p): group.rate for group in groups for p in group.parameters})
    decay = _for_each(live, {id(p): group.decay for group in groups for p in group.parameters})
    rates = Rates(rate, decay, config.clip_norm)
    return Sgd(rates, config.momentum) if config.optimizer == "sgd" else AdamW(rates)


def read_point(live: LiveStudent, optimizer: Optimizer, config: TrainingConfig) -> Point:
    """The point where a student and its torch optimiser are."""
    states = [optimizer.state.get(parameter, {}) for parameter in live.parameters]
    slots = tuple(live.flat([_copied(state.get(name)) for state in states]) for name in _slot_names(config))
    step = states[0].get("step", 0)
    return Point(live.weights(), slots, int(step))


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


def _copied(slot: Tensor | None) -> Tensor | None:
    return None if slot is None else slot.detach()


def _for_each(live: LiveStudent, numbers: dict[int, float]) -> Tensor:
    """A number for each weight, (P,), or one for all where they are equal."""
    like = live.parameters[0].detach()
    if len(set(numbers.values())) == 1:
        return like.new_tensor(next(iter(numbers.values())))
    return torch.cat([like.new_full((parameter.numel(),), numbers[id(parameter)]) for parameter in live.parameters])
