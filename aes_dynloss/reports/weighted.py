"""A prompt's figures where some of its essays were drawn to be read: estimates for all of them, and nothing else.

What has no weighted form here is left out of the report, rather than told of the essays that happen to be read.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from aes_dynloss.errors import ConfigError, DataError
from aes_dynloss.measures.agreement import divided, none_if_nan
from aes_dynloss.measures.bootstrap import IntervalSettings, percentile_interval, prompt_generator
from aes_dynloss.measures.design_weights import checked_weights, effective_size, weighted_agreement, weighted_draws
from aes_dynloss.measures.fairness import INTERVAL_MEASURES, SMALL_GROUP, UNTOLD, group_labels, merged_groups
from aes_dynloss.reports.criteria import CRITERIA, MIN_GROUP, RULES, Criterion, Rules
from aes_dynloss.reports.flags import few_notes, report_flags, worst_disagreements
from aes_dynloss.reports.model import PromptEntry, Report, Settings
from aes_dynloss.reports.predictions import PredictionTable
from aes_dynloss.reports.prompt_means import PromptReport, mean_entry
from aes_dynloss.reports.prompts import prompt_order
from aes_dynloss.reports.traits import with_traits
from aes_dynloss.tables.cells import parse_numbers
from aes_dynloss.tables.columns import ID_COLUMNS, RATINGS_COLUMN, TRAIT_COLUMN
from aes_dynloss.tables.scale_ids import prompt_and_trait
from aes_dynloss.tables.score_range import ScoreRange

Array = NDArray[np.float64]

WEIGHT = "weight"
_WITH_INTERVAL = ("qwk", "exact_agreement", "pearson", "smd", "dsm")
_SDS = ("sd_reference", "sd_raw")


def build_weighted_report(
    predictions: PredictionTable,
    weights: str,
    *,
    subgroups: Sequence[str] = (),
    resamples: int = 1000,
    confidence: float = 0.95,
    seed: int = 0,
    criteria: Mapping[str, Criterion] = CRITERIA,
    min_group: int = MIN_GROUP,
) -> Report:
    """Estimate agreement on all essays from those that were drawn to be read, prompt by prompt and in the mean.

    Args:
        predictions: What ``read_predictions`` returned for essays that were read, the column of weights kept.
        weights: Column of their design weights, each 1 / the essay's chance to be drawn.
        subgroups: Columns of groups of writers that were kept.
        resamples: Bootstrap resamples for the intervals; 0 for none.
        confidence: Share of resamples inside an interval, between 0 and 1.
        seed: Seed of the resamples, >= 0.
        criteria: What figures are judged by.
        min_group: Fewest essays of a group of writers of which figures are told.

    Returns:
        A report as ``build_report`` returns; what has no weighted form is None, and its criteria are unknown.

    Raises:
        ConfigError: Essays have a row for each rating.
        DataError: There are no human scores, or a weight is missing or below 1.
    """
    settings, rules = IntervalSettings(resamples, confidence, seed), Rules(dict(criteria), min_group)
    table = _with_weights(predictions, weights)
    parts = {
        str(prompt): _measured(str(prompt), essays, predictions.ranges[str(prompt)], settings, subgroups, min_group)
        for prompt, essays in sorted(table.groupby("prompt_id"), key=lambda one: prompt_order(str(one[0])))
    }
    mean, mean_notes = mean_entry(parts, settings, min_group)
    entries = {prompt: part.entry for prompt, part in parts.items()}
    notes = [note for part in parts.values() for note in part.notes]
    report = Report(
        prompts=entries,
        mean=mean,
        floors={},
        flags=report_flags(entries, mean, rules=rules),
        worst=worst_disagreements(table, predictions.ranges),
        notes=[_weighting_note(table), *predictions.notes, *notes, *mean_notes, *few_notes(entries, min_group)],
        settings=Settings.from_dict(settings.to_dict(weighted=True)),
        rules=None if rules == RULES else rules,
    )
    return with_traits(report, parts, table, settings, weighted=True) if TRAIT_COLUMN in table else report


def _with_weights(predictions: PredictionTable, column: str) -> pd.DataFrame:
    """The checked predictions with their design weights in the column ``weight``, float64."""
    table = predictions.table
    if RATINGS_COLUMN in table:
        raise ConfigError(
            "Weighted estimates are of essays with one human score each; found a row for each rating. Leave out the "
            "weights, or give such a file."
        )
    if table["reference"].isna().any():
        raise DataError("There are no human scores of the essays with weights. Give them with --references.")
    weights = parse_numbers(table[column], column, table["essay_id"], "the weights")
    unknown = np.isnan(weights)
    if unknown.any():
        essay = table["essay_id"].iloc[int(unknown.argmax())]
        raise DataError(f"{column} of essay {essay!r} is blank. Give each essay that was read its weight.")
    return table.assign(**{WEIGHT: checked_weights(weights)})


def _measured(
    prompt: str,
    essays: pd.DataFrame,
    score_range: ScoreRange,
    settings: IntervalSettings,
    subgroups: Sequence[str],
    min_group: int,
) -> PromptReport:
    """What the report says about one prompt, estimated for all essays that those read stand for."""
    # Traits of the same essays are drawn alike, so that means over them have intervals.
    drawn_as = prompt_and_trait(prompt)[0] if TRAIT_COLUMN in essays else prompt
    figures, draws = _figures(essays, score_range, settings, drawn_as)
    weights = essays[WEIGHT].to_numpy(dtype=np.float64)
    entry: dict[str, Any] = {
        "n": len(essays),
        "range": score_range,
        "stands_for": float(weights.sum()),
        "effective_n": effective_size(weights),
        **{name: none_if_nan(np.asarray(value)) for name, value in figures.items() if name not in _SDS},
        **_intervals(draws, settings),
        "human_human": _two_humans(essays, score_range),
    }
    notes = []
    if subgroups:
        columns = {}
        for name in dict.fromkeys(subgroups):
            labels, merged = merged_groups(name, group_labels(essays[name]), min_group)
            columns[name] = _groups(essays, labels, score_range, settings, figures)
            notes += [f"Prompt {prompt}: {note}" for note in merged]
        entry["fairness"] = {"columns": columns, "comparisons": 0, "small_group": SMALL_GROUP, "notes": []}
    return PromptReport(PromptEntry.from_dict(entry), draws, notes)


def _weighting_note(table: pd.DataFrame) -> str:
    """What a reader of weighted figures must know."""
    essays = table
    if TRAIT_COLUMN in table:
        prompts = [prompt_and_trait(scale)[0] for scale in table["prompt_id"]]
        essays = table.assign(prompt_id=prompts).drop_duplicates([*ID_COLUMNS])
    return (
        f"The figures are estimates for {essays[WEIGHT].sum():,.0f} essays from the {len(essays):,} that were read, by "
        "their design weights; intervals cover the figure that reading all of them would give. What has no weighted "
        "form is left out. The worst disagreements are those among essays that were read."
    )


def _columns(essays: pd.DataFrame) -> tuple[Array, Array, Array, Array]:
    reference, raw, score, weights = (
        essays[one].to_numpy(dtype=np.float64) for one in ("reference", "raw", "score", WEIGHT)
    )
    return reference, raw, score, weights


def _figures(
    essays: pd.DataFrame, score_range: ScoreRange, settings: IntervalSettings, stream: str
) -> tuple[dict[str, Array], dict[str, Array]]:
    """Measures and, where they are wanted, their draws."""
    figures = weighted_agreement(*_columns(essays), step=score_range.step)
    if not settings.resamples:
        return figures, {}
    generator = prompt_generator(settings.seed, stream)
    drawn = weighted_draws(*_columns(essays), settings.resamples, generator, step=score_range.step)
    return figures, drawn


def _intervals(draws: dict[str, Array], settings: IntervalSettings) -> dict[str, Any]:
    drawn = {name: draws[name] for name in _WITH_INTERVAL if name in draws}
    return {f"{name}_interval": percentile_interval(values, settings.confidence) for name, values in drawn.items()}


def _groups(
    essays: pd.DataFrame,
    labels: NDArray[np.object_],
    score_range: ScoreRange,
    settings: IntervalSettings,
    whole: Mapping[str, Array],
) -> dict[str, Any]:
    """Each group's agreement, in units of all essays; tests of differences have no weights."""
    names, counts = np.unique(labels[labels != UNTOLD].astype(str), return_counts=True)
    groups = {}
    for name in names[np.lexsort((names, -counts))]:
        members = essays[labels == name]
        figures, draws = (
            {**one, **_in_units(one, whole)} for one in _figures(members, score_range, settings, str(name))
        )
        size = {"n": len(members), "small": len(members) < SMALL_GROUP}
        means = {one: float(figures[one]) for one in ("mean_reference", "mean_raw")}
        told = {one: none_if_nan(np.asarray(figures[one])) for one in INTERVAL_MEASURES}
        intervals = dict.fromkeys(f"{one}_interval" for one in INTERVAL_MEASURES) | _intervals(draws, settings)
        groups[str(name)] = {**size, **means, **told, **intervals}
    untested = {"r_squared_adjusted": None, "p": None, "p_holm": None}
    return {"groups": groups, **dict.fromkeys(("osa", "osd", "csd"), untested)}


def _in_units(figures: Mapping[str, Array], whole: Mapping[str, Array]) -> dict[str, Array]:
    """SMD and DSM of a group, as ``group_entries`` defines them, where it has means."""
    if not figures:
        return {}
    human_sd, raw_sd = (whole[name] for name in _SDS)
    raw, human = (
        divided(figures[f"mean_{one}"] - whole[f"mean_{one}"], whole[f"sd_{one}"]) for one in ("raw", "reference")
    )
    unit = np.sqrt((human_sd**2 + raw_sd**2) / 2)
    return {"smd": divided(figures["mean_raw"] - figures["mean_reference"], unit), "dsm": raw - human}


def _two_humans(essays: pd.DataFrame, score_range: ScoreRange) -> dict[str, Any] | None:
    """Agreement of two humans, and the machine's on the same essays; None without a second human's scores."""
    if "second_reference" not in essays:
        return None
    twice = essays[essays["second_reference"].notna()]
    if twice.empty:
        return None
    first, raw, score, weights = _columns(twice)
    second = twice["second_reference"].to_numpy(dtype=np.float64)
    humans = weighted_agreement(first, second, second, weights, score_range.step)
    machine = weighted_agreement(first, raw, score, weights)
    told: dict[str, Any] = {"n": len(twice)}
    for name, lost in (("qwk", "degradation"), ("pearson", "pearson_degradation")):
        human, own = (none_if_nan(np.asarray(one[name])) for one in (humans, machine))
        told |= {name: human, f"human_machine_{name}": own}
        told[lost] = None if human is None or own is None else human - own
    return told | {
        "exact_agreement": float(humans["exact_agreement"]),
        "adjacent_agreement": float(humans["adjacent_agreement"]),
        "smd": none_if_nan(np.asarray(humans["smd"])),
        "mean_first": float(humans["mean_reference"]),
        "mean_second": float(humans["mean_raw"]),
    }
