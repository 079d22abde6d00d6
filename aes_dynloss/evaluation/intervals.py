"""How a report's intervals are drawn."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from aes_dynloss.errors import ConfigError
from aes_dynloss.evaluation.agreement_draws import MOST_DRAWN_ESSAYS


@dataclass(frozen=True)
class IntervalSettings:
    """How intervals are drawn.

    Args:
        resamples: Bootstrap resamples; 0 for no intervals.
        confidence: Share of resamples inside an interval, between 0 and 1.
        seed: Seed of the resamples, >= 0.

    Raises:
        ConfigError: A value is out of its bounds.
    """

    resamples: int
    confidence: float
    seed: int

    def __post_init__(self) -> None:
        """Check the settings at construction."""
        if self.resamples < 0 or not 0 < self.confidence < 1 or self.seed < 0:
            raise ConfigError(f"Intervals need resamples >= 0, 0 < confidence < 1 and seed >= 0, found {self}.")

    def to_dict(self) -> dict[str, Any]:
        """Plain values for the report."""
        kind = f"percentile bootstrap over essays within prompts (more than {MOST_DRAWN_ESSAYS:,}: its normal limit)"
        return {"interval": kind, **asdict(self), "qwk_of_identical_constants": 1.0}
