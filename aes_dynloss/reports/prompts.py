"""The report on predictions: agreement per prompt and in the mean over prompts, intervals, and what was assumed."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from aes_dynloss.errors import ConfigError, DataError
from aes_dynloss.measures.agreement import measures, none_if_nan, quadratic_weighted_kappa
from aes_dynloss.measures.bootstrap import IntervalSettings, agreement_draws, percentile_interval, prompt_generator
from aes_dynloss.measures.breakdowns import (
    confusion_cells,
    reliability_rows,
    residuals_by_length,
    residuals_by_score,
    score_level_rows,
    score_point_rows,
    version_entries,
)
from aes_dynloss.measures.calibration import RescalingLine, fit_cut_points, fit_rescaling
from aes_dynloss.measures.chance_agreement import gwet_ac1, gwet_ac2, unweighted_kappa
from aes_dynloss.measures.fairness import subgroup_fairness
from aes_dynloss.measures.human_agreement import human_entry, limit_entries
from aes_dynloss.measures.intervals import Intervals, coverage_entry, fit_intervals
from aes_dynloss.measures.reliability import length_partialled_pearson, variance_matched_qwk
from aes_dynloss.reports.criteria import CRITERIA, MIN_GROUP, RULES, Criterion, Rules
from aes_dynloss.reports.features import FeatureTable, measure_features
from aes_dynloss.reports.flags import few_notes, report_flags, worst_disagreements
from aes_dynloss.reports.model import Floor, PromptEntry, Report, Settings
from aes_dynloss.reports.predictions import PredictionTable, check_predictions
from aes_dynloss.reports.prompt_means import PromptReport, mean_entry
from aes_dynloss.reports.rater_report import assignment_words, measure_raters
from aes_dynloss.reports.traits import with_traits
from aes_dynloss.tables.atomic import atomic_file
from aes_dynloss.tables.columns import TRAIT_COLUMN
from aes_dynloss.tables.scale_ids import prompt_and_trait
from aes_dynloss.tables.score_range import ScoreRange, widened


def measure_prompt(
    prompt: str,
    essays: pd.DataFrame,
    dev: pd.DataFrame | None,
    score_range: ScoreRange,
    settings: IntervalSettings,
    subgroups: Sequence[str] = (),
    intervals: Intervals | None = None,
    min_group: int = MIN_GROUP,
) -> PromptReport:
    """All that the report says about one prompt.

    Args:
        prompt: The prompt's id.
        essays: Its checked predictions, at least one.
        dev: Its checked predictions on dev, maybe none, or None where there is no dev at all.
        score_range: Its score points.
        settings: How intervals are drawn.
        subgroups: Columns of ``essays`` that say which group of writers an essay comes from.
        intervals: The scorer's prediction intervals; None: those that its errors on dev tell.
        min_group: Essays of a group or score level of which figures are told, at least.

    Returns:
        The entry with its draws and notes.

    Raises:
        DataError: A score is no score point, or a column holds no groups.
    """
    reference, raw, score = (essays[column].to_numpy(dtype=np.float64) for column in ("reference", "raw", "score"))
    calibrated, notes = calibrated_scores(prompt, raw, dev, score_range)
    draws: dict[str, NDArray[np.float64]] = {}
    if settings.resamples:
        points = {name: score_range.to_index(scores) for name, scores in {"qwk": score, **calibrated}.items()}
        # Traits of the same essays are drawn alike, so that means over them have intervals.
        alike = TRAIT_COLUMN in essays
        generator = prompt_generator(settings.seed, prompt_and_trait(prompt)[0] if alike else prompt)
        columns = score_range.to_index(reference), points, {"pearson": (reference, raw)}
        draws = agreement_draws(*columns, settings.resamples, generator, alike=alike)
    bounds = None if intervals is None else intervals.bounds(prompt, raw, score_range)
    limits, limit_notes = limit_entries(prompt, essays, score_range)
    entry: dict[str, Any] = {
        "n": len(essays),
        "range": score_range,
        **measures(reference, raw, score, score_range),
        **{name: float(quadratic_weighted_kappa(reference, scores)) for name, scores in calibrated.items()},
        **{f"{name}_interval": percentile_interval(values, settings.confidence) for name, values in draws.items()},
        "mean_reference": float(reference.mean()),
        "mean_raw": float(raw.mean()),
        "kappa": float(unweighted_kappa(reference, score, score_range)),
        "gwet_ac1": float(gwet_ac1(reference, score, score_range)),
        "gwet_ac2": float(gwet_ac2(reference, score, score_range)),
        "qwk_variance_matched": none_if_nan(variance_matched_qwk(reference, raw, score_range)),
        **limits,
        "human_human": human_entry(essays, score_range),
        "score_levels": score_level_rows(reference, score, score_range, min_group),
        **_breakdowns(essays, dev, score_range, bounds),
    }
    notes += [*_constant_notes(prompt, reference, raw, draws), *limit_notes]
    if subgroups:
        entry["fairness"] = subgroup_fairness(essays, subgroups, score_range, settings, least=min_group)
        notes += [f"Prompt {prompt}: {note}" for note in entry["fairness"]["notes"]]
    return PromptReport(PromptEntry.from_dict(entry), draws, notes)


def _breakdowns(
    essays: pd.DataFrame,
    dev: pd.DataFrame | None,
    score_range: ScoreRange,
    bounds: tuple[NDArray[np.float64], NDArray[np.float64]] | None,
) -> dict[str, Any]:
    """What tables and pictures show of the scores, and what is known where essays have lengths."""
    reference, raw, score = (essays[column].to_numpy(dtype=np.float64) for column in ("reference", "raw", "score"))
    line: RescalingLine | None = None
    if dev is not None and len(dev):
        line = fit_rescaling(dev["raw"], dev["reference"])
        known = fit_intervals([""] * len(dev), dev["raw"], dev["reference"])
        bounds = known.bounds("", raw, score_range) if bounds is None else bounds
    breakdowns = {
        "score_points": score_point_rows(reference, score, score_range),
        "confusion": confusion_cells(reference, score, score_range),
        "score_versions": version_entries(reference, raw, score, score_range, line),
        "residuals_by_score": residuals_by_score(reference, raw),
        "reliability": reliability_rows(reference, raw),
        "prediction_interval": coverage_entry(reference, bounds),
    }
    if "words" in essays:
        words = essays["words"].to_numpy(dtype=np.float64)
        breakdowns["pearson_without_length"] = none_if_nan(length_partialled_pearson(reference, raw, words))
        breakdowns["residuals_by_length"] = residuals_by_length(reference, raw, words)
    return breakdowns


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


_WITHOUT_DEV = (
    "qwk_rescaled and qwk_cut_points are null: they are fitted on the same scorer's predictions of dev essays "
    "(--dev FILE)."
)


def build_report(
    predictions: PredictionTable | pd.DataFrame,
    *,
    ranges: Mapping[str, ScoreRange] | None = None,
    dev: PredictionTable | pd.DataFrame | None = None,
    out_of_fold: bool = False,
    floors: Mapping[str, Mapping[str, Any]] | None = None,
    features: FeatureTable | None = None,
    subgroups: Sequence[str] = (),
    resamples: int = 1000,
    confidence: float = 0.95,
    seed: int = 0,
    intervals: Intervals | None = None,
    criteria: Mapping[str, Criterion] = CRITERIA,
    min_group: int = MIN_GROUP,
) -> Report:
    """Measure predictions against human scores, prompt by prompt and in the mean over prompts.

    Kappa and agreement are those of the score points; Pearson, Spearman, RMSE, SMD and sd ratio those of the raw
    predictions. Kappas after rescaling and after tuned cut points are fitted prompt by prompt on ``dev`` alone.

    Args:
        predictions: What ``read_predictions`` returned, or a table with columns essay_id, prompt_id, reference, of raw
            and score at least one, and second_reference if there is one.
        ranges: Score range by prompt id, for a table; inferred from the scores seen where none is given.
        dev: Predictions of the same scorer on dev essays, in the same form, none of the essays of ``predictions``.
        out_of_fold: Whether the predictions are of several scorers, which have no dev in common: none is asked for.
        floors: Kappas of floors, as ``measure_floors`` gives them.
        features: Features of the essays, to be held against the human scores.
        subgroups: Columns of the predictions that say which group of writers an essay comes from; of what was read,
            those that ``read_predictions`` kept.
        resamples: Bootstrap resamples for the intervals; 0 for none.
        confidence: Share of resamples inside an interval, between 0 and 1.
        seed: Seed of the resamples, >= 0.
        intervals: Prediction intervals of a scorer whose errors on dev do not tell them; their coverage is measured.
        criteria: What figures are judged by, as ``read_criteria`` gives it.
        min_group: Fewest essays of a group of writers or score level of which figures are told and judged, and of those
            scored twice for a degradation to be judged; >= 1. Smaller groups are merged.

    Returns:
        The report. ``report.to_dict()`` is the content of report.json, whose keys the report takes too:
        ``report["mean"]["qwk"]`` is ``report.mean.qwk``. A value is None where it is undefined.

    Raises:
        ConfigError: A setting is out of its bounds.
        DataError: The predictions cannot be measured: a fault in a row, no human scores, essays shared with dev,
            essays without features.

    Examples:
        >>> scores = {"reference": [1, 2, 3, 4], "raw": [1.2, 1.9, 3.6, 4.4]}
        >>> essays = pd.DataFrame({"essay_id": list("abcd"), "prompt_id": "1", **scores})
        >>> report = build_report(essays, ranges={"1": ScoreRange(1, 6)}, resamples=0)
        >>> round(report.prompts["1"].qwk, 3), round(report.mean.pearson, 3)
        (0.917, 0.986)
    """
    settings = IntervalSettings(resamples, confidence, seed)
    if min_group < 1:
        raise ConfigError(f"The smallest group must have 1 essay or more, found {min_group}.")
    rules = Rules(dict(criteria), min_group)
    test = _checked(predictions, ranges, "the predictions", subgroups)
    dev_table = None if dev is None else _checked(dev, ranges, "the dev predictions")
    notes, spans = [*test.notes], {**test.ranges}
    if dev_table is None:
        notes += [] if out_of_fold else [_WITHOUT_DEV]
    else:
        refuse_shared_essays(test, dev_table)
        notes += [f"dev: {note}" for note in dev_table.notes]
        # An inferred range spans the scores of both tables.
        spans |= widened({prompt: test.ranges[prompt] for prompt in test.inferred}, dev_table.ranges)
    measured: dict[str, PromptReport] = {}
    scored = set(test.table["prompt_id"])  # of other prompts, all scores were withheld
    for prompt in sorted(scored, key=prompt_order):
        essays = test.table[test.table["prompt_id"] == prompt]
        dev_essays = None if dev_table is None else dev_table.table[dev_table.table["prompt_id"] == prompt]
        measured[prompt] = measure_prompt(
            prompt, essays, dev_essays, spans[prompt], settings, subgroups, intervals, min_group
        )
        notes += measured[prompt].notes
    mean, mean_notes = mean_entry(measured, settings, min_group)
    raters = measure_raters(test.table, spans, min_group, confidence)
    mean_notes += assignment_words(raters) if raters else []
    entries = {prompt: part.entry for prompt, part in measured.items()}
    report = Report(
        prompts=entries,
        mean=mean,
        floors={name: Floor.from_dict(floor) for name, floor in (floors or {}).items()},
        flags=report_flags(entries, mean, rules=rules),
        worst=worst_disagreements(test.table, spans),
        notes=[*notes, *mean_notes, *few_notes(entries, min_group)],
        settings=Settings.from_dict(settings.to_dict(traits=TRAIT_COLUMN in test.table)),
        features=None if features is None else measure_features(features, test.table, list(entries)),
        raters=raters,
        rules=None if rules == RULES else rules,
    )
    return report if TRAIT_COLUMN not in test.table else with_traits(report, measured, test.table, settings)


def write_report(report: Mapping[str, Any], path: str | Path) -> None:
    """Write a report as strict JSON; the file appears whole or not at all.

    Args:
        report: What ``build_report`` returned.
        path: Where to; missing folders are made, an existing file is replaced.

    Raises:
        DataError: The file cannot be written.
    """
    with atomic_file(Path(path)) as temporary:
        temporary.write_text(report_json(report), encoding="utf-8")


def read_report(path: str | Path) -> Report:
    """Read what ``write_report`` wrote.

    Args:
        path: The file.

    Raises:
        DataError: It cannot be read, or is no report.
    """
    return Report.read(path, "report", "Make it again.")


def report_json(report: Mapping[str, Any]) -> str:
    """A report as the text of its file; ValueError if it holds NaN or infinity, which JSON does not know."""
    return json.dumps(report, default=dict, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def _checked(
    predictions: PredictionTable | pd.DataFrame,
    ranges: Mapping[str, ScoreRange] | None,
    source: str,
    kept: Sequence[str] = (),
) -> PredictionTable:
    """A checked table with human scores."""
    if isinstance(predictions, pd.DataFrame):
        checked = check_predictions(predictions, ranges=ranges, source=source, kept=kept)
    elif ranges is not None:
        raise ConfigError("Predictions that were read have their ranges: give ranges= to read_predictions instead.")
    else:
        checked = predictions
    if checked.table["reference"].isna().any():
        raise DataError(
            f"There are no human scores to compare {source} with: fill in the column reference, or give a file of "
            "references (--references FILE)."
        )
    return checked


def refuse_shared_essays(test: PredictionTable, dev: PredictionTable, where: str = "", fitted_on: str = "dev") -> None:
    """Refuse essays that are in dev and in test.

    Args:
        test: The predictions.
        dev: The same scorer's predictions of the essays that something is fitted on.
        where: Whose they are, for the message.
        fitted_on: Which these essays are, for the message.

    Raises:
        DataError: There is such an essay.
    """
    dev_essays, essays = (pd.MultiIndex.from_frame(one.table[["prompt_id", "essay_id"]]) for one in (dev, test))
    shared = essays.intersection(dev_essays)
    if len(shared):
        prompt, essay = shared[0]
        raise DataError(
            f"{where}{len(shared)} essays are in {fitted_on} and in the predictions, such as {essay!r} of prompt "
            f"{prompt!r}. A calibration measured on the essays that it was fitted on flatters: fit it on other "
            "essays."
        )


def prompt_order(prompt: str) -> tuple[bool, int, str]:
    """Order of prompts: numbers by value, then names."""
    # Python reads no number of more than 4300 digits.
    number = prompt.isascii() and prompt.isdigit() and len(prompt) < 1000
    return not number, int(prompt) if number else 0, prompt
