"""What the training essays say about each prompt's scale, as heads and losses need it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from aes_dynloss.errors import DataError
from aes_dynloss.essays.data.essay_table import Prompt


@dataclass(frozen=True)
class PromptScale:
    """A prompt and the statistics of its training essays.

    Args:
        prompt: The prompt.
        mean: Mean training score on [0, 1].
        sd: Population standard deviation of the same, above 0.
        shares: Share of each score point among the training essays.
        length_mean: Mean of log(1 + tokens).
        length_sd: Standard deviation of the same, above 0.
    """

    prompt: Prompt
    mean: float
    sd: float
    shares: tuple[float, ...]
    length_mean: float
    length_sd: float


def measure_scales(
    prompts: Sequence[Prompt],
    groups: NDArray[np.int64],
    scores: NDArray[np.float64],
    log_lengths: NDArray[np.float64],
    *,
    shared: bool = False,
) -> list[PromptScale]:
    """Statistics of the training essays, prompt by prompt.

    Args:
        prompts: The prompts, in the order of ``groups``.
        groups: Prompt of each essay, (N,).
        scores: Scores on the original scale, (N,).
        log_lengths: log(1 + tokens) of each essay, (N,).
        shared: Whether all prompts get the mean and deviation that scores on [0, 1] and lengths have over the essays
            of all, so that a prompt may have no essay.

    Raises:
        DataError: A prompt has fewer than two different training scores; with ``shared``, all together have.
    """
    if shared:
        return _shared_scales(prompts, groups, scores, log_lengths)
    scales = []
    for number, prompt in enumerate(prompts):
        mine = scores[groups == number]
        if len(np.unique(mine)) < 2:
            found = f"only the score {mine[0]:g}" if len(mine) else "no essay"
            raise DataError(
                f"Prompt {prompt.id}: its training essays hold {found}; at least two different scores are needed to "
                "learn from. Add essays, change data.split, leave the prompt out with data.keep_prompts, or learn one "
                "head for all prompts with model.prompts: shared."
            )
        unit = prompt.range.to_unit(mine)
        lengths = log_lengths[groups == number]
        counts = np.bincount(prompt.range.to_index(mine), minlength=prompt.range.count)
        shares = tuple((counts / counts.sum()).tolist())
        spread = float(lengths.std())
        spread = spread if spread > 1e-9 else 1.0  # equal lengths leave float noise, not always 0
        scales.append(PromptScale(prompt, float(unit.mean()), float(unit.std()), shares, float(lengths.mean()), spread))
    return scales


def _shared_scales(
    prompts: Sequence[Prompt], groups: NDArray[np.int64], scores: NDArray[np.float64], log_lengths: NDArray[np.float64]
) -> list[PromptScale]:
    unit = np.empty(len(scores))
    for number, prompt in enumerate(prompts):
        unit[groups == number] = prompt.range.to_unit(scores[groups == number])
    if len(np.unique(unit)) < 2:
        raise DataError(
            "The training essays hold fewer than two different scores; at least two are needed to learn from. Add "
            "essays, or change data.split."
        )
    spread = float(log_lengths.std())
    spread = spread if spread > 1e-9 else 1.0
    even = [tuple([1 / prompt.range.count] * prompt.range.count) for prompt in prompts]
    length = float(log_lengths.mean())
    return [
        PromptScale(prompt, float(unit.mean()), float(unit.std()), shares, length, spread)
        for prompt, shares in zip(prompts, even, strict=True)
    ]
