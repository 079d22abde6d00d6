"""The estimators by name, and their configuration.

An estimator is imported where it is built, and torch with it: a configuration is checked without.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Literal, Self

from pydantic import Field, model_validator

from aes_dynloss.configfile import ConfigModel
from aes_dynloss.teaching.unrolling.memory import Memory, Storage

if TYPE_CHECKING:
    from aes_dynloss.teaching.hypergradient.protocol import Estimator

_MIB = 2**20


class HypergradientConfig(ConfigModel):
    """Configuration of the hypergradient estimator and of what it stores."""

    estimator: Literal["exact", "truncated", "central", "one_sided", "one_step", "unrolled_graph"] = Field(
        default="exact",
        description="exact: reverse mode, about 4 plain steps a step; truncated: the same over the last steps, biased; "
        "central: finite differences from both sides, about 3 plain steps; one_sided: from one side, about 2; "
        "one_step: one step alone, biased; unrolled_graph: autograd through all steps, the reference, memory-hungry.",
    )
    last: int | None = Field(default=None, ge=1, description="Steps that truncated walks back.")
    difference_size: float = Field(
        default=1e-3, gt=0, description="Norm of the perturbation in finite differences; 1e-2 suits bf16."
    )
    storage: Storage = Field(
        default="device", description="Where the trajectory is kept: device, host (pinned memory), or bf16."
    )
    snapshots: bool = Field(
        default=False, description="Keep only about sqrt(T) points of T steps and compute the others again."
    )
    graph_budget: int = Field(
        default=0, ge=0, description="MiB for graphs of the last steps; exact products then cost down to 3 plain steps."
    )
    self_check: bool = Field(
        default=True, description="Compare finite differences with the exact product on one step, and warn."
    )

    @model_validator(mode="after")
    def _check(self) -> Self:
        if (self.last is not None) != (self.estimator == "truncated"):
            raise ValueError("last belongs to the estimator truncated, which needs it")
        if self.graph_budget and self.estimator not in {"exact", "truncated"}:
            raise ValueError("graph_budget serves exact products; leave it out with this estimator")
        if self.graph_budget and self.snapshots:
            raise ValueError("graph_budget and snapshots exclude each other: one takes memory, the other saves it")
        return self

    def build(self) -> Estimator:
        """The estimator."""
        return ESTIMATORS[self.estimator](self)

    def memory(self, *, needs_gradient: bool) -> Memory:
        """Settings of what a run must store for this estimator.

        Args:
            needs_gradient: Whether the optimiser's adjoint reads gradients.
        """
        forward = self.estimator in {"central", "one_step"} and needs_gradient
        return Memory(
            storage=self.storage,
            snapshots=self.snapshots,
            gradients=forward or self.estimator == "one_sided",
            kept_graphs=self.graph_budget * _MIB,
        )

    @property
    def by_differences(self) -> bool:
        """Whether second derivatives are approximated, so that a self-check makes sense."""
        return self.estimator in {"central", "one_sided", "one_step"}


def _exact(config: HypergradientConfig) -> Estimator:
    from aes_dynloss.teaching.hypergradient.exact import Exact

    return Exact(last=config.last)


def _differences(config: HypergradientConfig) -> Estimator:
    from aes_dynloss.teaching.hypergradient.differences import Differences

    return Differences(one_sided=config.estimator == "one_sided", size=config.difference_size)


def _one_step(config: HypergradientConfig) -> Estimator:
    from aes_dynloss.teaching.hypergradient.one_step import OneStep

    return OneStep(size=config.difference_size)


def _unrolled_graph(_: HypergradientConfig) -> Estimator:
    from aes_dynloss.teaching.hypergradient.exact import UnrolledGraph

    return UnrolledGraph()


ESTIMATORS: dict[str, Callable[[HypergradientConfig], Estimator]] = {
    "exact": _exact,
    "truncated": _exact,
    "central": _differences,
    "one_sided": _differences,
    "one_step": _one_step,
    "unrolled_graph": _unrolled_graph,
}
