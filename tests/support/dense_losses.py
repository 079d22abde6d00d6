"""Losses for students whose examples have several elements, and steps of theirs."""

from __future__ import annotations

import torch
from dense_student import CLASSES, dense_examples

from aes_dynloss.teaching.losses.bilinear_loss import BilinearLogLoss
from aes_dynloss.teaching.losses.dynamic_loss import DynamicLoss, Mixture
from aes_dynloss.teaching.losses.loss_network import LossNetwork
from aes_dynloss.teaching.losses.meta_weight import MetaWeightLoss
from aes_dynloss.teaching.unrolling.step_plan import StepPlan

SMALL = {"width": 3, "hidden": 1, "plain": 1.0}
DENSE_LOSSES: dict[str, DynamicLoss] = {
    "bilinear": BilinearLogLoss(CLASSES, floor=0.1),
    "network": LossNetwork("distribution", **SMALL),
    "smooth network": LossNetwork("distribution", **SMALL, smooth=True),
    "meta weights": MetaWeightLoss({"cross_entropy": 1.0}, width=5),
    "mixture": Mixture(["cross_entropy", "focal", "expected_error"]),
}


def coefficients_of(name: str, steps: int) -> torch.Tensor:
    """Coefficients that speak, other ones in every step, (T, K)."""
    generator, loss = torch.Generator().manual_seed(7), DENSE_LOSSES[name]
    if isinstance(loss, BilinearLogLoss):
        start = loss.neutral().double()
    elif isinstance(loss, LossNetwork):
        start = loss.start(generator, silent=False).double()
    elif isinstance(loss, MetaWeightLoss):
        start = loss.start(generator).double()
    else:
        start = torch.tensor([1.0, 0.7, 0.4], dtype=torch.float64)
    return start + 0.2 * torch.rand(steps, len(start), generator=generator, dtype=torch.float64)


def dense_plan(rows: list[int], micro: int) -> StepPlan:
    """A step over these rows in micro-batches of a size."""
    parts = [rows[start : start + micro] for start in range(0, len(rows), micro)]
    return StepPlan(tuple(dense_examples(part) for part in parts), len(rows))
