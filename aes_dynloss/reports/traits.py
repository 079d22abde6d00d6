"""Reports on essays that are scored on several traits: what was measured by trait, and means over traits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd

from aes_dynloss.measures.agreement import fisher_mean, none_if_nan, pearson
from aes_dynloss.measures.bootstrap import IntervalSettings, percentile_interval
from aes_dynloss.reports.flags import report_flags
from aes_dynloss.reports.model import (
    Disagreement,
    Floor,
    MeanEntry,
    PromptEntry,
    Report,
    TraitCorrelations,
    TraitEntry,
    TraitMeans,
)
from aes_dynloss.reports.prompt_means import (
    HUMAN_MEASURES,
    MEAN_MEASURES,
    PromptReport,
    is_few,
    mean_entry,
    mean_if_known,
    needs_second_score,
)
from aes_dynloss.tables.columns import TRAIT_COLUMN
from aes_dynloss.tables.scale_ids import MAIN_TRAITS, prompt_and_trait, scale_id
from aes_dynloss.tables.score_range import ONE_PROMPT, spanning


def with_traits(
    report: Report,
    measured: Mapping[str, PromptReport],
    table: pd.DataFrame,
    settings: IntervalSettings,
    *,
    weighted: bool = False,
) -> Report:
    """Sort a report by trait.

    Args:
        report: The report, whose prompts are prompts and traits.
        measured: What was measured on each of these.
        table: Checked predictions, with the column ``trait``.
        settings: How intervals are drawn.
        weighted: Whether figures are estimates for other essays than the table's; then those of the table, MCRMSE and
            correlations of traits, are left out.

    Returns:
        The same with ``traits`` and ``trait_means``.
    """
    min_group = report.judged_by.min_group
    parts: dict[str, dict[str, PromptReport]] = {trait: {} for trait in dict.fromkeys(table[TRAIT_COLUMN])}
    for scale, part in measured.items():
        prompt, trait = prompt_and_trait(scale)
        parts[trait][prompt] = part
    traits = {}
    for trait, own in parts.items():
        entries = {prompt: part.entry for prompt, part in own.items()}
        mean, _ = mean_entry(own, settings, min_group)
        traits[trait] = TraitEntry(
            entries, mean, _floors_of(report, trait), report_flags(entries, mean, rules=report.judged_by)
        )
    by_prompt: dict[str, list[PromptReport]] = {}
    for scale, part in measured.items():
        by_prompt.setdefault(prompt_and_trait(scale)[0], []).append(part)
    one_scale = len({part.entry.range for part in measured.values()}) == 1
    by_name, how = [list(own.values()) for own in parts.values()], (len(by_prompt), settings, min_group)
    alike = _same_essays(table)
    means = TraitMeans(
        over_prompts_first=_mean_of_means(by_name, *how, alike=alike),
        over_traits_first=_mean_of_means(list(by_prompt.values()), *how, alike=alike),
        mcrmse=mcrmse(table) if one_scale and not weighted else None,
        correlations=None if weighted else _correlations(table, list(parts)),
    )
    worst = [_by_prompt(one) for one in report.worst]
    report = replace(report, traits=traits, trait_means=means, worst=worst)
    main = main_trait(report)
    if main is not None:
        own_entry = traits[main]
        return replace(
            report, prompts=own_entry.prompts, mean=own_entry.mean, floors=own_entry.floors, flags=own_entry.flags
        )
    prompts = {prompt: _over_traits(own, min_group) for prompt, own in by_prompt.items()}
    floors = {name: _mean_floor([trait.floors[name] for trait in traits.values()]) for name in report.floors}
    flat = {scale_id(*key): entry for key, entry in _entries(traits).items()}
    flags = report_flags(flat, means.over_prompts_first, report.rows, report.judged_by)
    return replace(report, prompts=prompts, mean=means.over_prompts_first, floors=floors, flags=flags)


def by_scale(report: Report, *, short: bool = False) -> Report:
    """A report whose prompts are prompts and traits; one without traits is as it is.

    Args:
        report: A report, or what this function returned.
        short: Whether, of a single prompt, the traits alone are named: for tables and pictures.
    """
    if report.traits is None or report.trait_means is None:
        return report
    prompts = {prompt for trait in report.traits.values() for prompt in trait.prompts}

    def name(prompt: str, trait: str) -> str:
        return trait if short and len(prompts) == 1 else scale_id(prompt, trait)

    entries = {name(*key): entry for key, entry in _entries(report.traits).items()}
    floors: dict[str, Floor] = {}
    for floor in report.floors:
        own = {trait: entry.floors[floor] for trait, entry in report.traits.items()}
        kappas = {name(prompt, trait): kappa for trait, one in own.items() for prompt, kappa in one.prompts.items()}
        floors[floor] = Floor(kappas, float(np.mean([one.mean for one in own.values()])))
    worst = [
        replace(one, prompt_id=name(one.prompt_id, one.trait), trait=None) if one.trait else one for one in report.worst
    ]
    features = report.features
    if features is not None:
        renamed = {
            feature: replace(one, prompts={name(*prompt_and_trait(key)): value for key, value in one.prompts.items()})
            for feature, one in features.by_name.items()
        }
        features = replace(features, by_name=renamed)
    mean = report.trait_means.over_prompts_first
    return replace(
        report,
        prompts=entries,
        mean=mean,
        floors=floors,
        flags=report_flags(entries, mean, report.rows, report.judged_by),
        worst=worst,
        features=features,
    )


def essay_count(report: Report) -> int:
    """Number of essays, whatever they are scored on."""
    return sum(report.rows.of_prompts({row: entry.n for row, entry in report.scale_entries.items()}).values())


def what_is_scored(report: Report) -> str:
    """The prompts, and the traits where there are several, in words: ``2 prompts and 4 traits``."""
    traits = report.traits or {}
    prompts = list(report.prompts) if not traits else list({one for trait in traits.values() for one in trait.prompts})
    words = f"Prompt {prompts[0]}" if len(prompts) == 1 else f"{len(prompts)} prompts"
    if prompts == [ONE_PROMPT] and traits:
        words = ""
    return ", ".join(filter(None, [words, f"{len(traits)} traits" if traits else ""]))


def main_trait(report: Report) -> str | None:
    """The trait whose figures stand for the report; None where those of all do, or essays have one score."""
    return next((trait for trait in MAIN_TRAITS if trait in (report.traits or {})), None)


def _entries(traits: Mapping[str, TraitEntry]) -> dict[tuple[str, str], PromptEntry]:
    """Entries by prompt and trait."""
    return {(prompt, name): entry for name, trait in traits.items() for prompt, entry in trait.prompts.items()}


def _floors_of(report: Report, trait: str) -> dict[str, Floor]:
    floors = {}
    for name, floor in report.floors.items():
        own = {
            prompt_and_trait(scale)[0]: kappa
            for scale, kappa in floor.prompts.items()
            if prompt_and_trait(scale)[1] == trait
        }
        floors[name] = Floor(own, float(np.mean(list(own.values()))) if own else floor.mean)
    return floors


def _mean_floor(floors: Sequence[Floor]) -> Floor:
    prompts: dict[str, list[float]] = {}
    for floor in floors:
        for prompt, kappa in floor.prompts.items():
            prompts.setdefault(prompt, []).append(kappa)
    means = {prompt: float(np.mean(kappas)) for prompt, kappas in prompts.items()}
    return Floor(means, float(np.mean([floor.mean for floor in floors])))


def _same_essays(table: pd.DataFrame) -> bool:
    """Whether the traits of each prompt are of the same essays in the same order."""
    essays: dict[str, list[str]] = {}
    for scale, rows in table.groupby("prompt_id", sort=False):
        ids = rows["essay_id"].tolist()
        if essays.setdefault(prompt_and_trait(str(scale))[0], ids) != ids:
            return False
    return True


def _mean_of_means(
    groups: Sequence[Sequence[PromptReport]], prompts: int, settings: IntervalSettings, min_group: int, *, alike: bool
) -> MeanEntry:
    """The mean over groups of each group's mean; a measure that somebody lacks has none.

    What rests on essays that were scored twice leaves out parts with few of these, as ``mean_entry`` does. Where a
    prompt's traits are of the same essays (``alike``), these are drawn together, and there are intervals.
    """
    values: dict[str, Any] = {"n_prompts": prompts}
    enough = [own for group in groups if (own := _enough(group, min_group))] or groups
    for name in MEAN_MEASURES:
        judged = enough if needs_second_score(name) else groups
        known = [mean_if_known([part.entry[name] for part in group]) for group in judged]
        values[name] = mean_if_known(known)
        draws = [[part.draws.get(name) for part in group] for group in judged]
        if values[name] is not None and alike and all(drawn is not None for group in draws for drawn in group):
            mean = np.mean([np.mean(group, axis=0) for group in draws], axis=0)  # type: ignore[arg-type]
            values[f"{name}_interval"] = percentile_interval(mean, settings.confidence)
        if name == "qwk":
            values["qwk_fisher"] = fisher_mean([value for value in known if value is not None])
    humans = [[part.entry.human_human for part in group] for group in enough]
    if all(human and human.n for own in humans for human in own):
        values["human_human"] = {
            key: mean_if_known([mean_if_known([human[key] for human in own if human]) for own in humans])
            for key in HUMAN_MEASURES
        }
    return MeanEntry.from_dict(values)


def _enough(parts: Sequence[PromptReport], min_group: int) -> list[PromptReport]:
    """Those of which not just a few essays were scored twice."""
    return [part for part in parts if not is_few(part.entry.scored_twice, min_group)]


def _over_traits(parts: Sequence[PromptReport], min_group: int) -> PromptEntry:
    """A prompt's means over traits, of the measures whose mean means something."""
    widest = spanning(part.entry.range for part in parts)
    enough = _enough(parts, min_group) or parts
    values: dict[str, Any] = {
        name: mean_if_known([part.entry[name] for part in (enough if needs_second_score(name) else parts)])
        for name in MEAN_MEASURES
    }
    return PromptEntry.from_dict({"n": max(part.entry.n for part in parts), "range": widest, **values})


def mcrmse(table: pd.DataFrame) -> float:
    """Mean over traits of the root mean squared error of raw predictions.

    Args:
        table: Predictions, with the column ``trait``; all on one scale.
    """
    squares = (table["raw"] - table["reference"]) ** 2
    return float(np.sqrt(squares.groupby(table[TRAIT_COLUMN].to_numpy()).mean()).mean())


def _correlations(table: pd.DataFrame, traits: Sequence[str]) -> TraitCorrelations:
    """Pearson's r of each pair of traits over the essays that have both, each in its prompt's standard deviations."""
    matrices = {}
    for name, column in (("human", "reference"), ("machine", "raw")):
        grouped = table.groupby("prompt_id", sort=False)[column]
        units = (table[column] - grouped.transform("mean")) / grouped.transform("std", ddof=0).replace(0.0, np.nan)
        prompts = [prompt_and_trait(scale)[0] for scale in table["prompt_id"]]
        frame = pd.DataFrame({"essay": table["essay_id"], "prompt": prompts, "trait": table[TRAIT_COLUMN], "z": units})
        wide = frame.pivot_table(index=["prompt", "essay"], columns="trait", values="z")
        wide = wide.reindex(columns=list(traits))
        rows: list[list[float | None]] = []
        for first in traits:
            row: list[float | None] = []
            for second in traits:
                both = wide[[first, second]].dropna().to_numpy() if first != second else np.empty((0, 2))
                known = len(both) > 2
                row.append(1.0 if first == second else none_if_nan(pearson(both[:, 0], both[:, 1])) if known else None)
            rows.append(row)
        matrices[name] = rows
    return TraitCorrelations(list(traits), matrices["human"], matrices["machine"])


def _by_prompt(one: Disagreement) -> Disagreement:
    prompt, trait = prompt_and_trait(one.prompt_id)
    return replace(one, prompt_id=prompt, trait=trait)
