"""How a loss's coefficients went over a training, for plots of it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TypeVar

from torch import Tensor

from aes_dynloss.teaching.policies import LossPolicy
from aes_dynloss.teaching.state import StudentState

# Progress in [0, 1], and the coefficients there, (K,).
History = list[tuple[float, Tensor]]

MOST_PLACES = 60
_Item = TypeVar("_Item")


def answers_over(policy: LossPolicy, log: Path) -> History:
    """What a policy without memory answered over a run, asked again with the states in its metrics.jsonl.

    Args:
        policy: A schedule, a frozen teacher, or one whose episodes are over.
        log: The run's metrics.jsonl.
    """
    lines = [json.loads(line) for line in log.read_text(encoding="utf-8").splitlines()]
    states = [StudentState(**line["state"]) for line in lines if "state" in line]
    return [(state.progress, policy.coefficients(state).detach().cpu()) for state in thinned(states)]


def thinned(items: Sequence[_Item], most: int = MOST_PLACES) -> list[_Item]:
    """At most so many of them, evenly, with the first and the last."""
    if len(items) <= most:
        return list(items)
    return [items[round(place * (len(items) - 1) / (most - 1))] for place in range(most)]
