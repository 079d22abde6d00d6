"""A measured robustness as a file: what it holds, and reading it back."""

from __future__ import annotations

import json
from collections.abc import Collection
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field

from aes_dynloss.configfile import ConfigModel, validate
from aes_dynloss.errors import ConfigError, DataError

Part = Annotated[float, Field(ge=0, le=1)]
Count = Annotated[int, Field(ge=0)]
Group = Literal["must_not_rise", "fall", "not_rise", "stay"]


class Share(ConfigModel):
    """A share of changes, with its interval."""

    share: Part
    low: Part
    high: Part


class Figures(ConfigModel):
    """What ``change_figures`` answers."""

    n: Count
    essays: Count
    already_lowest: Count
    rises: Share | None
    falls: Share | None
    stays: Share | None
    raw_rises: Share | None
    raw_falls: Share | None
    to_lowest: Share | None
    score_change_sd: float | None
    raw_change_sd: float | None


class GroupFigures(Figures):
    """Figures over all kinds of one expectation."""

    kinds: list[str]


class KindFigures(Figures):
    """One kind's figures over all prompts."""

    unchanged: Count


class PromptFigures(KindFigures):
    """One kind's figures on one prompt, with means on its scale."""

    mean_score: float | None
    mean_changed_score: float | None
    mean_score_change: float | None
    mean_raw_change: float | None


class KindEntry(ConfigModel):
    """One kind of change."""

    title: str
    expected: Literal["fall", "not_rise", "stay"]
    worthless: bool
    total: KindFigures
    prompts: dict[str, PromptFigures]


class Settings(ConfigModel):
    """How it was measured."""

    seed: Count
    most: Count | None
    confidence: Part
    interval: str
    raw_tolerance: float


class Robustness(ConfigModel):
    """What ``measure_robustness`` answers."""

    settings: Settings
    essays: dict[str, Count]
    expected: dict[Group, GroupFigures]
    kinds: dict[str, KindEntry]
    notes: list[str]


def read_robustness(path: str | Path) -> dict[str, Any]:
    """Read robustness.json, as ``aes-dynloss robustness`` wrote it.

    Args:
        path: The file.

    Raises:
        DataError: It cannot be read, or is something else.
    """
    advice = "Give a robustness.json that `aes-dynloss robustness --output-dir` wrote, or make it again."
    try:
        values = json.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(f"{path} cannot be read as a robustness: {error}. {advice}") from None
    if not isinstance(values, dict) or not values.keys() >= set(Robustness.model_fields):
        named = ", ".join(Robustness.model_fields)
        raise DataError(f"{path} is no robustness: expected {named} in it. {advice}")
    try:
        found = validate(Robustness, values, str(path))
    except ConfigError as error:
        raise DataError(f"{error}\n{advice}") from None
    groups = {entry.expected for entry in found.kinds.values()}
    if not found.kinds or not groups <= found.expected.keys():
        raise DataError(f"{path} is no whole robustness: kinds of change lack their sums in expected. {advice}")
    return found.model_dump(mode="json")


def of_same_prompts(robustness: dict[str, Any], prompts: Collection[str], source: object) -> dict[str, Any]:
    """A robustness, if it is about a report's prompts; otherwise it is another model's.

    Args:
        robustness: What was measured.
        prompts: The report's prompts.
        source: Its name in the message.

    Raises:
        DataError: It was measured on a prompt that the report does not know.
    """
    other = [prompt for prompt in robustness["essays"] if prompt not in prompts]
    if other:
        raise DataError(
            f"{source} was measured on essays to prompt {', '.join(other)}, and the predictions answer "
            f"{', '.join(prompts)}. Give the robustness of the same model on the same prompts."
        )
    return robustness
