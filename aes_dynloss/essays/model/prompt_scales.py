"""Each prompt's scale: statistics of its training scores, the way from raw to score, and on to a reported scale."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from aes_dynloss.errors import CheckpointError, ConfigError, DataError
from aes_dynloss.essays.data.essay_table import Prompt
from aes_dynloss.essays.model.model_config import LEAST_RESCALED
from aes_dynloss.measures.calibration import RESAMPLES, CutPoints, RescalingLine, fit_cut_points, fit_rescaling
from aes_dynloss.measures.scales import ConversionTable, linear_table
from aes_dynloss.tables.score_range import ONE_PROMPT, ScoreRange

Rule = Literal["none", "rescale", "cut_points"]
# As it is asked for: auto is rescale for the prompts that have essays enough.
AskedRule = Rule | Literal["auto"]


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
            of all, trait by trait where there are traits, so that a prompt may have no essay.

    Raises:
        DataError: A prompt has fewer than two different training scores; with ``shared``, all together have.
    """
    unit = np.empty(len(scores))
    for number, prompt in enumerate(prompts):
        unit[groups == number] = prompt.range.to_unit(scores[groups == number])
    scales = []
    for number, prompt in enumerate(prompts):
        alike = [other for other, each in enumerate(prompts) if shared and each.trait == prompt.trait]
        rows = np.isin(groups, alike) if shared else groups == number
        seen = np.unique(unit[rows])
        if len(seen) < 2 and shared:
            raise DataError(
                "The training essays hold fewer than two different scores; at least two are needed to learn from. Add "
                "essays, or change data.split."
            )
        if len(seen) < 2:
            held = f"only the score {scores[rows][0]:g}" if len(seen) else "no essay"
            raise DataError(
                f"Prompt {prompt.id}: its training essays hold {held}; at least two different scores are needed "
                "to learn from. Add essays, change data.split, leave the prompt out with data.keep_prompts, or learn "
                "one head for all prompts with model.prompts: shared."
            )
        count = prompt.range.count
        points = np.arange(count) if shared else prompt.range.to_index(scores[rows])  # shared: alike for all points
        shares = tuple((np.bincount(points, minlength=count) / len(points)).tolist())
        lengths = log_lengths[rows]
        length_sd = float(lengths.std())
        length_sd = length_sd if length_sd > 1e-9 else 1.0  # equal lengths leave float noise, not always 0
        mean, sd = float(unit[rows].mean()), float(unit[rows].std())
        scales.append(PromptScale(prompt, mean, sd, shares, float(lengths.mean()), length_sd))
    return scales


logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Postprocessing:
    """Rounding of raw predictions, prompt by prompt, and the scale on which the scores are reported.

    Args:
        kind: none, rescale or cut_points.
        fitted: What was fitted on dev for each prompt; prompts without are rounded.
        reported: Table of reported scores of each prompt; prompts without have none.
    """

    kind: Rule = "none"
    fitted: Mapping[str, RescalingLine | CutPoints] = field(default_factory=dict)
    reported: Mapping[str, ConversionTable] = field(default_factory=dict)

    def score(self, prompt_id: str, score_range: ScoreRange, raw: NDArray[np.float64]) -> NDArray[np.float64]:
        """Score points of raw predictions of one prompt: trimmed to its range and rounded half up. NaN: DataError."""
        if np.isnan(raw).any():
            raise DataError("A prediction that is NaN has no score point. Look for the cause in the scorer's outputs.")
        rule = self.fitted.get(prompt_id)
        if isinstance(rule, CutPoints):
            return rule.apply(raw)
        return score_range.to_point(raw if rule is None else rule.apply(raw))

    def points(
        self, prompts: Mapping[str, Prompt], prompt_ids: Sequence[str], raw: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        """Score points of raw predictions of several prompts, (N,).

        Args:
            prompts: The prompts by id.
            prompt_ids: The prompt of each, N of them.
            raw: Continuous predictions, (N,).
        """
        points = np.empty(len(raw))
        answered = np.array(prompt_ids, dtype=object)
        for prompt in prompts.values():
            rows = answered == prompt.id
            points[rows] = self.score(prompt.id, prompt.range, raw[rows])
        return points

    def on_scale_of(self, earlier: Postprocessing) -> Postprocessing:
        """The same with the reported scale of an earlier one, but for tables that hang on how its scores are spread."""
        lost = [prompt for prompt, table in earlier.reported.items() if table.method == "equipercentile"]
        if lost:
            logger.warning(
                "The equipercentile tables of %s were of the earlier scores and are taken out. Make them again: "
                "aes-dynloss calibrate --reference-form FILE.",
                ", ".join(lost),
            )
        kept = {prompt: table for prompt, table in earlier.reported.items() if prompt not in lost}
        return replace(self, reported=kept)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for a model folder; ``reported`` where there is a reported scale."""
        reported = {prompt: table.to_dict() for prompt, table in self.reported.items()}
        return {
            "kind": self.kind,
            "prompts": {prompt: rule.to_dict() for prompt, rule in self.fitted.items()},
            **({"reported": reported} if reported else {}),
        }

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
        tables = values.get("reported", {})
        return cls(
            kind,
            {prompt: rules[kind].from_dict(rule) for prompt, rule in prompts.items()},
            {prompt: ConversionTable.from_dict(table) for prompt, table in tables.items()},
        )


def fit_postprocessing(
    kind: AskedRule,
    ranges: Mapping[str, ScoreRange],
    prompt_ids: NDArray[np.object_],
    raw: NDArray[np.float64],
    reference: NDArray[np.float64],
    *,
    quiet: bool = False,
) -> Postprocessing:
    """Fit the rounding on dev.

    Args:
        kind: none, rescale or cut_points; auto: rescale for each prompt with ``LEAST_RESCALED`` dev essays or more.
        ranges: Score range of each prompt.
        prompt_ids: Prompt of each dev essay, (N,).
        raw: Raw predictions on the original scale, (N,).
        reference: Human scores, (N,).
        quiet: Not to warn of prompts with too few essays, as where this is fitted anew at each look.
    """
    if kind == "none":
        return Postprocessing()
    fitted: dict[str, RescalingLine | CutPoints] = {}
    for prompt_id, score_range in ranges.items():
        rows = prompt_ids == prompt_id
        if not rows.any() or (kind == "auto" and rows.sum() < LEAST_RESCALED):
            found = f"{rows.sum()} of the {LEAST_RESCALED} dev essays" if kind == "auto" else "no dev essays"
            what = "rescale" if kind == "auto" else kind
            level = logging.DEBUG if quiet else logging.WARNING
            logger.log(level, "Prompt %s has %s to fit %s on; its scores are plainly rounded.", prompt_id, found, what)
        elif kind == "cut_points":
            fitted[prompt_id] = fit_cut_points(raw[rows], reference[rows], score_range, resamples=RESAMPLES)
        else:
            fitted[prompt_id] = fit_rescaling(raw[rows], reference[rows])
    return Postprocessing("rescale" if kind == "auto" else kind, fitted)


def reported_scores(
    tables: Mapping[str, ConversionTable],
    prompts: Mapping[str, Prompt],
    prompt_ids: Sequence[str],
    scores: NDArray[np.float64],
) -> list[float | None]:
    """Scores of several prompts on their reported scales; None of a prompt without one.

    Args:
        tables: By prompt.
        prompts: The prompts by id.
        prompt_ids: The prompt of each score, N of them.
        scores: Score points, (N,).
    """
    reported = np.full(len(scores), np.nan)
    answered = np.array(prompt_ids, dtype=object)
    for prompt, table in tables.items():
        rows = answered == prompt
        if rows.any():
            reported[rows] = table.apply(prompts[prompt].range, scores[rows])
    return [None if np.isnan(value) else value for value in reported.tolist()]


def linear_tables(prompts: Mapping[str, Prompt], scales: Mapping[str, ScoreRange]) -> dict[str, ConversionTable]:
    """Tables of linear scales.

    Args:
        prompts: The prompts by id.
        scales: The reported range by prompt, by prompt and trait, or of ``ONE_PROMPT`` for all others.

    Raises:
        ConfigError: There is no such prompt.
    """
    known = {ONE_PROMPT, *prompts, *(prompt.prompt_id for prompt in prompts.values())}
    unknown = [name for name in scales if name not in known]
    if unknown:
        raise ConfigError(f"--scale names prompt {unknown[0]!r}, and the model knows {', '.join(prompts)}. Correct it.")
    found = {
        name: next((scales[one] for one in (name, prompt.prompt_id, ONE_PROMPT) if one in scales), None)
        for name, prompt in prompts.items()
    }
    return {name: linear_table(prompts[name].range, scale) for name, scale in found.items() if scale is not None}
