"""Each prompt's scale: statistics of its training scores, and the postprocessing from raw to score fitted on dev."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from aes_dynloss.errors import CheckpointError, DataError
from aes_dynloss.essays.data.essay_table import Prompt
from aes_dynloss.measures.calibration import RESAMPLES, CutPoints, RescalingLine, fit_cut_points, fit_rescaling
from aes_dynloss.tables.score_range import ScoreRange


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


logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Postprocessing:
    """Rounding of raw predictions, prompt by prompt.

    Args:
        kind: none, rescale or cut_points.
        fitted: What was fitted on dev for each prompt, empty for none.
    """

    kind: Literal["none", "rescale", "cut_points"] = "none"
    fitted: Mapping[str, RescalingLine | CutPoints] = field(default_factory=dict)

    def score(self, prompt_id: str, score_range: ScoreRange, raw: NDArray[np.float64]) -> NDArray[np.float64]:
        """Score points of raw predictions of one prompt: trimmed to its range and rounded half up. NaN: DataError."""
        if np.isnan(raw).any():
            raise DataError("A prediction that is NaN has no score point. Look for the cause in the scorer's outputs.")
        rule = self.fitted.get(prompt_id)
        if isinstance(rule, CutPoints):
            return rule.apply(raw)
        return score_range.to_point(raw if rule is None else rule.apply(raw))

    def to_dict(self) -> dict[str, Any]:
        """Plain values for a model folder."""
        return {"kind": self.kind, "prompts": {prompt: rule.to_dict() for prompt, rule in self.fitted.items()}}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Postprocessing:
        """From :meth:`to_dict`.

        Raises:
            CheckpointError: The values are not such.
        """
        rules: dict[str, type[RescalingLine] | type[CutPoints]] = {"rescale": RescalingLine, "cut_points": CutPoints}
        kind, prompts = values.get("kind"), values.get("prompts")
        if kind not in {"none", *rules} or not isinstance(prompts, Mapping) or (kind == "none" and prompts):
            raise CheckpointError("config.json: postprocessing is damaged. Fetch the model folder again.")
        return cls(kind, {prompt: rules[kind].from_dict(rule) for prompt, rule in prompts.items()})


def fit_postprocessing(
    kind: Literal["none", "rescale", "cut_points"],
    ranges: Mapping[str, ScoreRange],
    prompt_ids: NDArray[np.object_],
    raw: NDArray[np.float64],
    reference: NDArray[np.float64],
) -> Postprocessing:
    """Fit the rounding on dev.

    Args:
        kind: none, rescale or cut_points.
        ranges: Score range of each prompt.
        prompt_ids: Prompt of each dev essay, (N,).
        raw: Raw predictions on the original scale, (N,).
        reference: Human scores, (N,).
    """
    if kind == "none":
        return Postprocessing()
    fitted: dict[str, RescalingLine | CutPoints] = {}
    for prompt_id, score_range in ranges.items():
        mine = prompt_ids == prompt_id
        if not mine.any():
            logger.warning("Prompt %s has no dev essays to fit %s on; its scores are plainly rounded.", prompt_id, kind)
            continue
        if kind == "rescale":
            fitted[prompt_id] = fit_rescaling(raw[mine], reference[mine])
        else:
            fitted[prompt_id] = fit_cut_points(raw[mine], reference[mine], score_range, resamples=RESAMPLES)
    return Postprocessing(kind, fitted)
