"""Who answers the loss's coefficients: the hinge between the training loop and schedules or teachers."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import Annotated, Literal, Protocol

import torch
from pydantic import AfterValidator, Field, model_validator
from torch import Tensor

from aes_dynloss.configfile import ConfigModel
from aes_dynloss.teaching.components import COMPONENTS
from aes_dynloss.teaching.dynamic_loss import Mixture
from aes_dynloss.teaching.schedules import Constant, Schedule
from aes_dynloss.teaching.state import StudentState


def _known_component(name: str) -> str:
    if name not in COMPONENTS:
        near = difflib.get_close_matches(name, COMPONENTS, n=1)
        advice = f"did you mean {near[0]}?" if near else f"known: {', '.join(COMPONENTS)}"
        raise ValueError(f"there is no loss {name!r}; {advice}")
    return name


ComponentName = Annotated[str, AfterValidator(_known_component)]


class LossPolicy(Protocol):
    """Answers the coefficients of a dynamic loss for the next step."""

    def coefficients(self, state: StudentState) -> Tensor:
        """Coefficients phi_t for the state s_t, float32."""


class ScheduledPolicy:
    """Coefficients from schedules, without looking at the student beyond its progress.

    Args:
        weights: A schedule for each component; None for one that gets what the others leave of 1.
    """

    def __init__(self, weights: Mapping[str, Schedule | None]) -> None:
        self._weights = dict(weights)

    def coefficients(self, state: StudentState) -> Tensor:
        """Weights at the state's progress, (K,)."""
        given = {name: rule(state.progress) for name, rule in self._weights.items() if rule is not None}
        rest = 1.0 - sum(given.values())
        return torch.tensor([given.get(name, rest) for name in self._weights])


class LossConfig(ConfigModel):
    """Which losses are mixed, and how their weights change."""

    terms: dict[ComponentName, float | Literal["rest"] | Schedule] = Field(
        default={"mse": 1.0},
        min_length=1,
        description="Component losses with their weights: a number, a schedule, or `rest` for 1 minus the others.",
    )
    standardise: bool = Field(
        default=False,
        description="Measure errors in units of each prompt's standard deviation instead of its score range.",
    )

    @model_validator(mode="after")
    def _check_rest(self) -> LossConfig:
        if sum(weight == "rest" for weight in self.terms.values()) > 1:
            raise ValueError("at most one term can have the weight `rest`")
        if list(self.terms.values()) == ["rest"]:
            raise ValueError("a single term cannot have the weight `rest`; give it 1.0")
        return self

    def build(self) -> tuple[Mixture, ScheduledPolicy]:
        """The loss and the policy that steers it."""
        schedules: dict[str, Schedule | None] = {}
        for name, weight in self.terms.items():
            if weight == "rest":
                schedules[name] = None
            elif isinstance(weight, float):
                schedules[name] = Constant(value=weight)
            else:
                schedules[name] = weight
        return Mixture(list(self.terms), standardise=self.standardise), ScheduledPolicy(schedules)
