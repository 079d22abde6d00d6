"""What a report holds of robustness: how scores answer changes of essays."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

import pydantic

from aes_dynloss.reports.entry import Entry, Figure
from aes_dynloss.reports.row_words import RowWords

Part = Annotated[float, pydantic.Field(ge=0, le=1)]
Count = Annotated[int, pydantic.Field(ge=0)]
Expected = Literal["fall", "not_rise", "stay"]
ChangeGroup = Literal["must_not_rise", "fall", "not_rise", "stay"]


class StrictEntry(Entry):
    """An entry with finite numbers and no unknown keys."""

    __pydantic_config__: ClassVar[pydantic.ConfigDict] = {"extra": "forbid", "allow_inf_nan": False}


class Share(StrictEntry):
    """A share of changes, with its interval."""

    share: Part
    low: Part
    high: Part


class ChangeFigures(StrictEntry):
    """Shares and mean changes, as ``change_figures`` returns them."""

    n: Count
    essays: Count
    already_lowest: Count
    rises: Share | None
    falls: Share | None
    stays: Share | None
    raw_rises: Share | None
    raw_falls: Share | None
    to_lowest: Share | None
    score_change_sd: Figure
    raw_change_sd: Figure


class GroupFigures(ChangeFigures):
    """Figures over all kinds of one expectation."""

    kinds: list[str]


class KindFigures(ChangeFigures):
    """One kind's figures over all prompts."""

    unchanged: Count


class PromptFigures(KindFigures):
    """One kind's figures on one prompt, with means on its scale."""

    mean_score: Figure
    mean_changed_score: Figure
    mean_score_change: Figure
    mean_raw_change: Figure


class ChangeKind(StrictEntry):
    """One kind of change."""

    title: str
    expected: Expected
    worthless: bool
    total: KindFigures
    prompts: dict[str, PromptFigures]


class RobustnessSettings(StrictEntry):
    """How robustness was measured."""

    seed: Count
    most: Count | None
    confidence: Part
    interval: str
    raw_tolerance: float


class Robustness(StrictEntry):
    """What ``measure_robustness`` returns; ``traits`` are those of the essays, where they are scored on several."""

    LEFT_OUT = ("traits",)

    settings: RobustnessSettings
    essays: dict[str, Count]
    expected: dict[ChangeGroup, GroupFigures]
    kinds: dict[str, ChangeKind]
    notes: list[str]
    traits: list[str] | None = None

    @property
    def rows(self) -> RowWords:
        """What the prompts, or the traits, of its figures are called."""
        return RowWords.of(self.essays, traits=self.traits is not None)
