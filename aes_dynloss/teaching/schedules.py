"""Schedules of a loss's weight: pure functions of progress, the part of all optimiser steps taken so far.

A new schedule is one class here plus its name in :data:`Schedule`.
"""

from __future__ import annotations

import math
from typing import Annotated, Literal

from pydantic import Field

from aes_dynloss.configfile import ConfigModel


class Constant(ConfigModel):
    """The same weight throughout.

    Examples:
        >>> Constant(value=0.3)(progress=0.5)
        0.3
    """

    schedule: Literal["constant"] = "constant"
    value: float = Field(description="The weight.")

    def __call__(self, progress: float) -> float:  # noqa: ARG002 - the signature of all schedules
        """Weight at ``progress`` in [0, 1]."""
        return self.value


class Morris(ConfigModel):
    """Morris's schedule: w = min(a, a exp(-c (progress - b))), a plateau and then exponential decay.

    References:
        Morris 2023, arXiv 2305.10447: a = 1, b = .15, c = 1.1 in the paper's figure; a = 1, b = .2, c = 1 in the runs
        behind its tables.

    Examples:
        >>> schedule = Morris(a=1.0, b=0.2, c=1.0)
        >>> [round(schedule(progress), 3) for progress in (0.0, 0.2, 0.6, 1.0)]
        [1.0, 1.0, 0.67, 0.449]
    """

    schedule: Literal["morris"] = "morris"
    a: float = Field(default=1.0, ge=0, description="Weight on the plateau.")
    b: float = Field(default=0.15, ge=0, le=1, description="Progress at which the plateau ends.")
    c: float = Field(default=1.1, ge=0, description="Rate of the decay.")

    def __call__(self, progress: float) -> float:
        """Weight at ``progress`` in [0, 1]."""
        # exp(0) on the plateau: before its end the exponent may be too great for a number.
        return self.a * math.exp(min(0.0, -self.c * (progress - self.b)))


class Linear(ConfigModel):
    """A straight line from ``start`` to ``end``.

    Examples:
        >>> schedule = Linear(start=1.0, end=0.0)
        >>> [schedule(progress) for progress in (0.0, 0.25, 1.0)]
        [1.0, 0.75, 0.0]
    """

    schedule: Literal["linear"] = "linear"
    start: float = Field(description="Weight at progress 0.")
    end: float = Field(description="Weight at progress 1.")

    def __call__(self, progress: float) -> float:
        """Weight at ``progress`` in [0, 1]."""
        return self.start + (self.end - self.start) * progress


class Cosine(ConfigModel):
    """Half a cosine wave from ``start`` to ``end``, flat at both.

    Examples:
        >>> schedule = Cosine(start=1.0, end=0.0)
        >>> [round(schedule(progress), 3) for progress in (0.0, 0.25, 0.5, 1.0)]
        [1.0, 0.854, 0.5, 0.0]
    """

    schedule: Literal["cosine"] = "cosine"
    start: float = Field(description="Weight at progress 0.")
    end: float = Field(description="Weight at progress 1.")

    def __call__(self, progress: float) -> float:
        """Weight at ``progress`` in [0, 1]."""
        return self.end + (self.start - self.end) * 0.5 * (1.0 + math.cos(math.pi * progress))


Schedule = Annotated[Constant | Morris | Linear | Cosine, Field(discriminator="schedule")]
