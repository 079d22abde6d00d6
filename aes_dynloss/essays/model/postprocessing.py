"""From raw predictions to score points, as it is fitted on dev and stored with a model."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from aes_dynloss.errors import CheckpointError, DataError
from aes_dynloss.evaluation.calibration import RESAMPLES, CutPoints, RescalingLine, fit_cut_points, fit_rescaling
from aes_dynloss.evaluation.score_range import ScoreRange

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
