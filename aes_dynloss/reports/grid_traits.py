"""Arms of a grid whose essays are scored on several traits: means by trait and over traits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import fmean

import pandas as pd

from aes_dynloss.reports.arms import ScoredRun
from aes_dynloss.reports.comparison import VERSIONS, Benchmark, GridFigures, TraitFigures
from aes_dynloss.reports.prompt_means import mean_if_known
from aes_dynloss.reports.table import Column, Table, measure_column, number, words, words_column
from aes_dynloss.reports.traits import mcrmse
from aes_dynloss.tables.columns import TRAIT_COLUMN
from aes_dynloss.tables.scale_ids import prompt_and_trait


def arm_traits(prompts: Mapping[str, GridFigures], runs: Sequence[ScoredRun]) -> TraitFigures | None:
    """An arm's means by trait and over traits; None where essays have one score.

    Args:
        prompts: Its figures by prompt and trait.
        runs: Its runs.
    """
    if not all(TRAIT_COLUMN in run.test.table for run in runs):
        return None
    by_trait: dict[str, list[GridFigures]] = {}
    by_prompt: dict[str, list[GridFigures]] = {}
    for scale, figures in prompts.items():
        prompt, trait = prompt_and_trait(scale)
        by_trait.setdefault(trait, []).append(figures)
        by_prompt.setdefault(prompt, []).append(figures)
    traits = {trait: _means(own) for trait, own in by_trait.items()}
    return TraitFigures(
        by_trait=traits,
        over_prompts_first=_mean_of(list(traits.values())),
        over_traits_first=_mean_of([_means(own) for own in by_prompt.values()]),
        mcrmse=_mcrmse(runs),
    )


def _means(figures: Sequence[GridFigures]) -> dict[str, float | None]:
    return {version: mean_if_known([one[version] for one in figures]) for version in VERSIONS}


def _mean_of(means: Sequence[Mapping[str, float | None]]) -> dict[str, float | None]:
    return {version: mean_if_known([one[version] for one in means]) for version in VERSIONS}


def _mcrmse(runs: Sequence[ScoredRun]) -> float | None:
    """The mean over strata of that over seeds; None where scores have not one scale."""
    if len({span for run in runs for span in run.test.ranges.values()}) > 1:
        return None
    strata: dict[str, list[pd.DataFrame]] = {}
    for run in runs:
        strata.setdefault(f"{run.stratum}/{run.seed}", []).append(run.test.table)
    found = {place: mcrmse(pd.concat(tables)) for place, tables in strata.items()}
    by_stratum: dict[str, list[float]] = {}
    for place, value in found.items():
        by_stratum.setdefault(place.rpartition("/")[0], []).append(value)
    return fmean(fmean(values) for values in by_stratum.values())


def trait_arms_table(benchmark: Benchmark) -> Table | None:
    """Means over traits of each arm, and its rescaled QWK by trait; None where essays have one score.

    Args:
        benchmark: What ``build_benchmark_report`` returned.
    """
    arms = {arm: entry.traits for arm, entry in benchmark.arms.items() if entry.traits is not None}
    if not arms:
        return None
    names = list(dict.fromkeys(trait for traits in arms.values() for trait in traits.by_trait))
    rows = []
    for arm, traits in arms.items():
        means = [
            traits.over_prompts_first["qwk"],
            traits.over_prompts_first["qwk_rescaled"],
            traits.over_traits_first["qwk"],
            traits.over_traits_first["qwk_rescaled"],
            traits.mcrmse,
        ]
        own = [traits.by_trait.get(name, {}).get("qwk") for name in names]
        rows.append([words(arm), *map(number, means), *map(number, own)])
    columns = [
        words_column("arm", "Arm", "arm"),
        measure_column("qwk", "QWK, mean over traits"),
        measure_column("qwk_rescaled", "rescaled", "trait_rescaled"),
        measure_column("qwk", "over traits first", "traits_first"),
        measure_column("qwk_rescaled", "rescaled", "traits_first_rescaled"),
        Column("mcrmse", "MCRMSE"),
        *(Column(f"trait_{name}", name) for name in names),
    ]
    return Table("traits-table", "Means over traits, and QWK by trait", columns, rows).known_columns()
