"""The report's entries: what it says about one prompt, and about the mean over prompts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from aes_dynloss.errors import ConfigError
from aes_dynloss.evaluation.agreement import measures, pearson, quadratic_weighted_kappa
from aes_dynloss.evaluation.calibration import fit_cut_points, fit_rescaling
from aes_dynloss.evaluation.pooling import fisher_mean
from aes_dynloss.evaluation.resampling import Paired, bootstrap_draws, percentile_interval, prompt_generator
from aes_dynloss.evaluation.score_range import ScoreRange

# Measures whose mean over prompts means something; an error in score points, for one, does not.
MEAN_MEASURES = (
    "qwk",
    "qwk_rescaled",
    "qwk_cut_points",
    "exact_agreement",
    "adjacent_agreement",
    "pearson",
    "spearman",
)
INTERVAL_MEASURES = ("qwk", "qwk_rescaled", "qwk_cut_points", "pearson")


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
        kind = "percentile bootstrap over essays within prompts"
        return {"interval": kind, **asdict(self), "qwk_of_identical_constants": 1.0}


@dataclass(frozen=True)
class PromptReport:
    """What was measured on one prompt.

    Args:
        entry: Measures by name, for the report.
        draws: Their values on the bootstrap's resamples, each of shape (resamples,); empty without resamples.
        notes: What a reader of the figures must know.
    """

    entry: dict[str, Any]
    draws: dict[str, NDArray[np.float64]]
    notes: list[str]


def measure_prompt(
    prompt: str,
    essays: pd.DataFrame,
    dev: pd.DataFrame | None,
    score_range: ScoreRange,
    settings: IntervalSettings,
) -> PromptReport:
    """All that the report says about one prompt.

    Args:
        prompt: The prompt's id.
        essays: Its checked predictions, at least one.
        dev: Its checked predictions on dev, maybe none, or None where there is no dev at all.
        score_range: Its score points.
        settings: How intervals are drawn.

    Returns:
        The entry with its draws and notes.

    Raises:
        DataError: A score is no score point.
    """
    reference, raw, score = (essays[column].to_numpy(dtype=np.float64) for column in ("reference", "raw", "score"))
    calibrated, notes = calibrated_scores(prompt, raw, dev, score_range)
    pairs = {"qwk": Paired(quadratic_weighted_kappa, reference, score), "pearson": Paired(pearson, reference, raw)}
    pairs |= {name: Paired(quadratic_weighted_kappa, reference, points) for name, points in calibrated.items()}
    draws = {}
    if settings.resamples:
        draws = bootstrap_draws(pairs, settings.resamples, prompt_generator(settings.seed, prompt))
    values = {
        **dict.fromkeys(("qwk", "qwk_rescaled", "qwk_cut_points")),
        **measures(reference, raw, score, score_range),
        **{name: float(quadratic_weighted_kappa(reference, points)) for name, points in calibrated.items()},
    }
    entry: dict[str, Any] = {"n": len(essays), "range": asdict(score_range)}
    for name, value in values.items():
        entry[name] = value
        if name in INTERVAL_MEASURES:
            entry[f"{name}_interval"] = percentile_interval(draws[name], settings.confidence) if name in draws else None
    entry |= {"mean_reference": float(reference.mean()), "mean_raw": float(raw.mean())}
    human = human_entry(essays)
    if human is not None:
        entry["human_human"] = human
    return PromptReport(entry, draws, [*notes, *_constant_notes(prompt, reference, raw, draws)])


def mean_entry(parts: Mapping[str, PromptReport], settings: IntervalSettings) -> tuple[dict[str, Any], list[str]]:
    """Means over prompts, each prompt counting the same; a measure that some prompt lacks has none.

    Args:
        parts: What was measured, by prompt.
        settings: How intervals are drawn.

    Returns:
        Means by name, and notes on them.
    """
    mean: dict[str, Any] = {"n_prompts": len(parts)}
    notes = []
    for name in MEAN_MEASURES:
        values = {prompt: part.entry[name] for prompt, part in parts.items()}
        lacking = [prompt for prompt, value in values.items() if value is None]
        mean[name] = None if lacking else float(np.mean(list(values.values())))
        if 0 < len(lacking) < len(parts):
            notes.append(f"The mean {name} is null: prompts {', '.join(lacking)} have none.")
        if name in INTERVAL_MEASURES:
            drawn = [part.draws[name] for part in parts.values() if name in part.draws]
            known = bool(drawn) and not lacking
            mean[f"{name}_interval"] = (
                percentile_interval(np.mean(drawn, axis=0), settings.confidence) if known else None
            )
        if name == "qwk":
            mean["qwk_fisher"] = fisher_mean(list(values.values()))
    humans = [part.entry.get("human_human", {}) for part in parts.values()]
    if all(human.get("n") for human in humans):
        mean["human_human"] = {key: float(np.mean([human[key] for human in humans])) for key in ("qwk", "degradation")}
    return mean, notes


def calibrated_scores(
    prompt: str, raw: NDArray[np.float64], dev: pd.DataFrame | None, score_range: ScoreRange
) -> tuple[dict[str, NDArray[np.float64]], list[str]]:
    """One prompt's score points after the calibrations that are fitted on dev.

    Args:
        prompt: The prompt's id, for notes.
        raw: Predictions before rounding, shape (n,).
        dev: The same scorer's checked predictions of the prompt's dev essays, maybe none, or None where there is no dev
            at all.
        score_range: The prompt's score points.

    Returns:
        Score points, shape (n,), by ``qwk_rescaled`` and ``qwk_cut_points``, empty without dev essays; and notes.

    Raises:
        DataError: A human score of dev is no score point.
    """
    if dev is None:
        return {}, []
    if dev.empty:
        return {}, [f"Prompt {prompt} has no dev essays: its qwk_rescaled and qwk_cut_points are null."]
    dev_raw, dev_reference = (dev[column].to_numpy(dtype=np.float64) for column in ("raw", "reference"))
    line = fit_rescaling(dev_raw, dev_reference)
    cuts = fit_cut_points(dev_raw, dev_reference, score_range)
    scores = {"qwk_rescaled": score_range.to_point(line.apply(raw)), "qwk_cut_points": cuts.apply(raw)}
    return scores, [f"Prompt {prompt}: {fitted.note}." for fitted in (line, cuts) if fitted.note]


def _constant_notes(
    prompt: str, reference: NDArray[np.float64], raw: NDArray[np.float64], draws: Mapping[str, NDArray[np.float64]]
) -> list[str]:
    """Notes on columns, and resamples of columns, in which all values are equal."""
    if reference.min() == reference.max():
        return [f"Prompt {prompt}: all human scores are equal: correlations are undefined and kappa says nothing."]
    if raw.min() == raw.max():
        return [f"Prompt {prompt}: all predictions are equal: correlations are undefined."]
    undefined = int(np.isnan(draws["pearson"]).sum()) if draws else 0
    if undefined:
        return [f"Prompt {prompt}: r is undefined on {undefined} of {len(draws['pearson'])} resamples, left out."]
    return []


# Where the reference was resolved from two raters it is no rater's, and they may use another scale.
_RATER_PAIRS = (("rater1", "rater2"), ("reference", "second_reference"))


def human_entry(essays: pd.DataFrame) -> dict[str, Any] | None:
    """Human-human kappa, and what the machine loses against it, on the essays that were scored twice.

    Human-human kappa is that of two single raters where both are there, or of reference and second_reference;
    human-machine that of reference and score. Degradation = human-human QWK - human-machine QWK (Williamson, Xi and
    Breyer, 2012, flag more than .10), both on the same essays, lest it measure which essays were scored twice.

    Args:
        essays: Checked predictions of one prompt.

    Returns:
        ``n`` essays that were scored twice, ``qwk``, ``human_machine_qwk`` and ``degradation``, None where n is 0; or
        None where the table holds no two humans' scores.
    """
    raters = next((pair for pair in _RATER_PAIRS if set(pair) <= set(essays.columns)), None)
    if raters is None:
        return None
    first, second = raters
    twice = essays[essays[first].notna() & essays[second].notna()]
    if twice.empty:
        return {"n": 0, "qwk": None, "human_machine_qwk": None, "degradation": None}
    human = float(quadratic_weighted_kappa(twice[first], twice[second]))
    machine = float(quadratic_weighted_kappa(twice["reference"], twice["score"]))
    return {"n": len(twice), "qwk": human, "human_machine_qwk": machine, "degradation": human - machine}
