"""Means over prompts of what was measured on each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from aes_dynloss.measures.agreement import fisher_mean
from aes_dynloss.measures.bootstrap import IntervalSettings, percentile_interval
from aes_dynloss.reports.human_entries import MeanHumanAgreement
from aes_dynloss.reports.measure_list import MEASURES, Missing
from aes_dynloss.reports.model import MeanEntry, PromptEntry

_MEASURED = {one.name for one in fields(PromptEntry)} - {"human_human"}
# Measures whose mean over prompts means something; an error in score points, for one, does not.
MEAN_MEASURES = [one.name for one in fields(MeanEntry) if one.name in _MEASURED and not one.name.endswith("_interval")]
# What is told of two humans in a mean.
HUMAN_MEASURES = [one.name for one in fields(MeanHumanAgreement)]


@dataclass(frozen=True)
class PromptReport:
    """What was measured on one prompt.

    Args:
        entry: Measures by name, for the report.
        draws: Their values on the bootstrap's resamples, each of shape (resamples,); empty without resamples.
        notes: What a reader of the figures must know.
    """

    entry: PromptEntry
    draws: dict[str, NDArray[np.float64]]
    notes: list[str]


def is_few(scored_twice: int, min_group: int) -> bool:
    """Whether some essays were scored twice, and too few to judge by.

    Args:
        scored_twice: Essays with two humans' scores.
        min_group: Fewest essays to rest on.
    """
    return 0 < scored_twice < min_group


def needs_second_score(measure: str) -> bool:
    """Whether a measure rests on essays that were scored twice.

    Args:
        measure: Its name in MEASURES.
    """
    return MEASURES[measure].needs is Missing.NO_SECOND_SCORE


def mean_entry(
    parts: Mapping[str, PromptReport], settings: IntervalSettings, min_group: int
) -> tuple[MeanEntry, list[str]]:
    """Means over prompts, each prompt counting the same; a measure that some prompt lacks has none.

    What rests on essays that were scored twice leaves out prompts with few of these, unless all have few.

    Args:
        parts: What was measured, by prompt.
        settings: How intervals are drawn.
        min_group: Fewest essays to rest on.

    Returns:
        Means, and notes on them.
    """
    mean: dict[str, Any] = {"n_prompts": len(parts)}
    notes = []
    enough = {prompt: part for prompt, part in parts.items() if not is_few(part.entry.scored_twice, min_group)} or parts
    for name in MEAN_MEASURES:
        known = enough if needs_second_score(name) else parts
        values = [part.entry[name] for part in known.values()]
        lacking = [prompt for prompt, part in known.items() if part.entry[name] is None]
        mean[name] = mean_if_known(values)
        if 0 < len(lacking) < len(known):
            notes.append(f"The mean {name} is null: prompts {', '.join(lacking)} have none.")
        drawn = [part.draws[name] for part in known.values() if name in part.draws]
        if drawn and not lacking:
            mean[f"{name}_interval"] = percentile_interval(np.mean(drawn, axis=0), settings.confidence)
        if name == "qwk":
            mean["qwk_fisher"] = fisher_mean(values)
    humans = [part.entry.human_human for part in enough.values()]
    if all(human and human.n for human in humans):
        mean["human_human"] = {key: mean_if_known([human[key] for human in humans if human]) for key in HUMAN_MEASURES}
    return MeanEntry.from_dict(mean), notes


def mean_if_known(values: Sequence[float | None]) -> float | None:
    """The mean of values; None where one is unknown, or there is none.

    Args:
        values: The values.
    """
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known and len(known) == len(values) else None
