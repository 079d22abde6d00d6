"""Criteria that figures are held against, and the fewest essays that a verdict may rest on."""

from __future__ import annotations

from dataclasses import field
from math import inf
from typing import Literal

from aes_dynloss.reports.entry import Entry

Direction = Literal["at least", "at most", "within"]

# .8 - .7 is .10000000000000009, and is no more than .1.
FLOAT_NOISE = 1e-9
WILLIAMSON = "Williamson, Xi and Breyer (2012)"


class Criterion(Entry):
    """A threshold and the side of it on which a value should lie.

    Args:
        title: What is judged, in words.
        direction: "at least" or "at most" the threshold, or "within" it on both sides of 0; the threshold passes.
        threshold: The threshold.
        source: Whose criterion it is.
        percent: Whether the value is a share, to be told in percentage points.
    """

    title: str
    direction: Direction
    threshold: float
    source: str = WILLIAMSON
    percent: bool = False

    def met_by(self, value: float) -> bool:
        """Whether a value meets the criterion."""
        return self.excess(value) <= FLOAT_NOISE

    def excess(self, value: float | None) -> float:
        """How far a value lies on the wrong side of the threshold: the larger the worse, below 0 on the right side.

        Args:
            value: The value; None where it is unknown, which is -inf.
        """
        if value is None:
            return -inf
        if self.direction == "at least":
            return self.threshold - value
        return (abs(value) if self.direction == "within" else value) - self.threshold

    def __str__(self) -> str:
        """Words for a reader: ``at least 0.70``, ``from -0.15 to 0.15``, ``within 5 percentage points``."""
        if self.percent:
            return f"{self.direction} {100 * self.threshold:g} percentage points"
        # Two decimals, or as many as the threshold has.
        text = f"{self.threshold:.2f}" if round(self.threshold, 2) == self.threshold else f"{self.threshold:g}"
        return f"from -{text} to {text}" if self.direction == "within" else f"{self.direction} {text}"


# The share criterion is a convention of assessment programmes beside those of Williamson et al.; the DSM's threshold is
# the one from which RSMTool's report by group marks a value.
CRITERIA: dict[str, Criterion] = {
    "qwk": Criterion("QWK", "at least", 0.70),
    "pearson": Criterion("r", "at least", 0.70),
    "qwk_degradation": Criterion("QWK lost against human-human agreement", "at most", 0.10),
    "pearson_degradation": Criterion("r lost against human-human agreement", "at most", 0.10),
    "smd": Criterion("SMD", "within", 0.15),
    "subgroup_smd": Criterion("SMD of a subgroup", "within", 0.10),
    "subgroup_dsm": Criterion("DSM of a subgroup", "within", 0.10, source="RSMTool"),
    "score_share": Criterion("Largest gap of a score point's share", "within", 0.05, "programmes' convention", True),
    "score_level_gap": Criterion("Agreement lost at middle scores", "at most", 0.15, "this toolkit", True),
}
# Of a group of fewer essays no figure is told, and no flag rests on one.
MIN_GROUP = 10


class Rules(Entry):
    """What a report's figures are judged by.

    Args:
        criteria: Criteria by name, in the order of a report.
        min_group: Fewest essays of a group, score level or double-scored prompt that is told and judged.
    """

    criteria: dict[str, Criterion] = field(default_factory=CRITERIA.copy)
    min_group: int = MIN_GROUP


RULES = Rules()
