"""Report of a grid of runs (arms x strata x seeds): figures, differences, costs, floors and published systems.

Costs are seconds of a card or of a processor.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import pandas as pd

from aes_dynloss.errors import ConfigError
from aes_dynloss.measures.agreement import none_if_nan, pearson, sd_ratio
from aes_dynloss.measures.bootstrap import IntervalSettings
from aes_dynloss.measures.human_agreement import human_entry
from aes_dynloss.reports.arms import HALVES, are_dev_halves, seed_ensemble, shared_seeds, split_by_prompt
from aes_dynloss.reports.chosen import chosen_runs
from aes_dynloss.reports.comparison import (
    VERSIONS,
    ArmFigures,
    Benchmark,
    Cost,
    GridArm,
    GridFigures,
    HumanRaters,
    OverSeeds,
    PublishedFigure,
    Raters,
    ScoredRun,
    compare_arms,
)
from aes_dynloss.reports.grid_traits import arm_traits
from aes_dynloss.reports.model import Floor
from aes_dynloss.reports.prompt_means import mean_if_known
from aes_dynloss.reports.published_systems import published_rows
from aes_dynloss.reports.stacks import stack_notes, stacked_runs
from aes_dynloss.tables.columns import TRAIT_COLUMN
from aes_dynloss.tables.scale_ids import prompt_and_trait

GPU_SECONDS, CPU_SECONDS = "GPU-seconds", "CPU-seconds"


@dataclass(frozen=True)
class RunCost:
    """What one run cost.

    Args:
        seconds: Wall time, >= 0.
        device: What each of its processes ran on, such as ``NVIDIA H100 80GB HBM3`` or ``CPU, 2 threads``: a processor
            if it starts with CPU, otherwise a card.
        processes: Number of processes, >= 1, each with such a device of its own.

    Raises:
        ConfigError: A value is out of its bounds.
    """

    seconds: float
    device: str
    processes: int

    def __post_init__(self) -> None:
        """Check the cost at construction."""
        if not math.isfinite(self.seconds) or self.seconds < 0 or self.processes < 1 or not self.device.strip():
            raise ConfigError(f"A run's cost needs seconds >= 0, a device and processes >= 1, found {self}.")

    @property
    def unit(self) -> str:
        """Which kind of device they are seconds of."""
        return CPU_SECONDS if self.device.startswith("CPU") else GPU_SECONDS


def cost_entry(costs: Sequence[RunCost]) -> Cost | None:
    """The cost of an arm's runs.

    Args:
        costs: One a run.

    Returns:
        Their cost, of which the mean is ``seconds_per_run``. None without runs.
    """
    if not costs:
        return None
    devices = sorted({cost.device for cost in costs})
    units = {cost.unit for cost in costs}
    if len(units) > 1:
        return Cost(len(costs), None, None, None, devices)
    total = sum(cost.seconds * cost.processes for cost in costs)  # of one device
    return Cost(len(costs), total / len(costs), total, units.pop(), devices)


def cost_notes(entries: Mapping[str, Cost | None]) -> list[str]:
    """What a reader must know who compares costs.

    Args:
        entries: What :func:`cost_entry` gave, by arm.

    Returns:
        Notes on arms whose runs were on cards and on processors, and on arms of different devices.
    """
    known = {arm: entry for arm, entry in entries.items() if entry is not None}
    notes = [
        f"{arm}: its runs were on cards and on processors, whose seconds are not added."
        for arm, entry in known.items()
        if entry.unit is None
    ]
    if len({tuple(entry.devices) for entry in known.values()}) > 1:
        devices = "; ".join(f"{arm}: {', '.join(entry.devices)}" for arm, entry in known.items())
        notes.append(f"Arms ran on different devices, so that their seconds do not compare ({devices}).")
    return notes


__all__ = ["RunCost", "ScoredRun", "build_benchmark_report"]

# Measures of raw predictions, whose mean over prompts, strata and seeds is given without an interval.
RAW_MEASURES = {"pearson": pearson, "sd_ratio": sd_ratio}
DEV_NOTE = (
    "Measured on dev, for tuning: each half of the dev essays with calibrations fitted on the other. Dev has also "
    "chosen each run's epoch, so that these figures flatter; this report holds no figure of test."
)


def build_benchmark_report(
    arms: Mapping[str, Sequence[ScoredRun]],
    control: str,
    *,
    settings: IntervalSettings,
    protocol: str,
    measured_on: Literal["test", "dev"] = "test",
    ensembles: bool = True,
    mixtures: Mapping[str, Sequence[str]] | None = None,
    stacks: Mapping[str, Sequence[str]] | None = None,
    trait_stacks: Mapping[str, Sequence[str]] | None = None,
    chosen: Mapping[str, Sequence[str]] | None = None,
    postprocessed: Collection[str] = (),
    against: Mapping[str, Sequence[ScoredRun]] | None = None,
    costs: Mapping[str, Sequence[RunCost]] | None = None,
    floors: Mapping[str, Mapping[str, Mapping[str, float]]] | None = None,
    published: Sequence[PublishedFigure] = (),
) -> Benchmark:
    """Measure all arms of a grid on the same essays and resamples, and put beside them what they are to be read with.

    An arm's QWK on a prompt is the mean over strata of the mean over seeds, its mean that over prompts. r and sd ratio
    are those of raw predictions, averaged in the same way. The sd over seeds is that (divisor n - 1) of a seed's mean
    over strata (and prompts).

    Args:
        arms: Runs by the arm's name, one arm or more, as ``compare_arms`` takes them.
        control: The arm that the others are held against.
        settings: How intervals are drawn, with one resample or more.
        protocol: What was trained on what, in words.
        measured_on: ``test``; or ``dev``, where the runs are those that ``dev_halves`` makes.
        ensembles: Whether an arm of several seeds, the same in all strata, gets a further arm ``ARM, mean of N seeds``:
            the mean of its seeds' predictions, measured as one scorer. It is one more comparison for Holm's procedure.
        mixtures: Further ensembles by name: arms whose predictions, of all their seeds, are averaged as one scorer.
        stacks: Such ensembles with weights by stratum and prompt, see
            :func:`~aes_dynloss.reports.stacks.stacked_runs`.
        trait_stacks: Such stacks, each trait's across all traits of the prompt.
        chosen: Further scorers by name: the arms of which each has the best by dev in each stratum and seed, see
            :func:`~aes_dynloss.reports.chosen.chosen_runs`.
        postprocessed: Arms whose scores are more than raw rounded, so that their ensembles are rescaled on dev.
        against: Published arms to stand beside the others, by name; no ensembles are made of them.
        costs: The cost of each of an arm's runs, by arm.
        floors: QWK by stratum, floor and prompt. A floor that some stratum and prompt lacks is left out.
        published: Systems whose published figures are to stand beside the arms'.

    Raises:
        ConfigError: A setting is out of its bounds, an arm has no run, the control or an arm with costs is none of the
            arms, an arm has an ensemble's name, or ``measured_on`` does not fit the runs.
        DataError: The arms have not scored the same essays, or a run cannot be measured.
    """
    costs, against = costs or {}, against or {}
    _refuse_unfit(measured_on, arms, costs)
    made, ensemble_notes = make_ensembles(
        arms,
        seeds=ensembles,
        mixtures=mixtures,
        stacks=stacks,
        trait_stacks=trait_stacks,
        chosen=chosen,
        postprocessed=postprocessed,
    )
    measured = {**arms, **{name: ensemble.runs for name, ensemble in made.items()}}
    taken = [name for name in against if name in measured]
    if taken:
        raise ConfigError(f"A published arm has the name of an arm of the grid, {taken[0]!r}. Rename its file.")
    measured |= against
    comparison = compare_arms(
        measured,
        control,
        resamples=settings.resamples,
        confidence=settings.confidence,
        seed=settings.seed,
        fewest=1,
        ensembles={*made, *against},
    )
    entries = {}
    for arm, runs in measured.items():
        sources = made[arm].sources if arm in made else [arm]
        seeds = {source: {run.seed for run in measured[source]} for source in sources}
        raw, raw_means = _raw_measures(runs)
        compared = comparison.arms[arm]
        counts = made[arm].chosen if arm in made else None
        averaged = arm in made and counts is None
        prompts = {prompt: _figures(figures, raw[prompt]) for prompt, figures in compared.prompts.items()}
        entries[arm] = GridArm(
            ensemble_of=sources if averaged else None,
            members=None if arm in against else sum(map(len, seeds.values())) if averaged else 1,
            seeds=sorted(set().union(*seeds.values())),
            prompts=prompts,
            mean=_figures(compared.mean, raw_means),
            cost=None if counts else cost_entry([cost for source in sources for cost in costs.get(source, ())]),
            weights=made[arm].weights if arm in made else None,
            chosen=counts,
            traits=arm_traits(prompts, runs),
            fisher=compared.fisher,
        )
    essays: dict[str, set[tuple[str, str]]] = {}  # prompt and id, by stratum
    for run in arms[control]:
        columns = (run.test.table[column] for column in ("prompt_id", "essay_id"))
        essays.setdefault(run.stratum, set()).update(zip(*columns, strict=True))
    by_trait = TRAIT_COLUMN in arms[control][0].test.table
    distinct = {
        (prompt_and_trait(scale)[0] if by_trait else scale, one) for ids in essays.values() for scale, one in ids
    }
    places = sorted({(stratum, prompt) for stratum, ids in essays.items() for prompt, _ in ids})
    floor_entries, floor_notes = _floors(floors or {}, places, list(comparison.essays))
    notes = [*([DEV_NOTE] if measured_on == "dev" else []), *ensemble_notes, *_undefined_notes(entries), *floor_notes]
    stacks_made = {name: one.sources for name, one in made.items() if one.weights is not None}
    notes += stack_notes({name: [run for arm in own for run in arms[arm]] for name, own in stacks_made.items()})
    return Benchmark(
        measured_on=measured_on,
        protocol=protocol,
        control=control,
        strata=comparison.strata,
        essays=comparison.essays,
        distinct_essays=len(distinct),
        arms=entries,
        differences=comparison.differences,
        human_human=_human_human(arms[control], list(comparison.essays)),
        floors=floor_entries,
        published=published_rows(published, essays),
        notes=[*notes, *cost_notes({arm: entries[arm].cost for arm in arms}), *comparison.notes],
        settings=comparison.settings,
    )


def _refuse_unfit(
    measured_on: str, arms: Mapping[str, Sequence[ScoredRun]], costs: Mapping[str, Sequence[RunCost]]
) -> None:
    """Refuse figures of test under the name of dev, an unknown name, and costs of an arm that is not there."""
    if measured_on not in {"test", "dev"}:
        raise ConfigError(f"A benchmark is measured on test or on dev, found {measured_on!r}.")
    strata = sorted({run.stratum for runs in arms.values() for run in runs})
    if measured_on == "dev" and not are_dev_halves(strata):
        raise ConfigError(
            f"A benchmark that is measured on dev needs runs as dev_halves makes them, of strata that end in "
            f"{' and '.join(f'/{half}' for half in HALVES)}; found {', '.join(map(repr, strata))}."
        )
    unknown = [arm for arm in costs if arm not in arms]
    if unknown:
        raise ConfigError(f"There are costs of arm {unknown[0]!r}, which is none of the arms: {', '.join(arms)}.")


Weights = dict[str, dict[str, dict[str, float]]]  # by stratum, prompt and member


@dataclass(frozen=True)
class EnsembleArm:
    """Some arms' runs of all seeds, averaged as one scorer; or the best of them by dev.

    Args:
        sources: The arms.
        runs: One run a stratum (and prompt); of the best by dev, one a stratum and seed (and prompt).
        weights: Of a stack.
        chosen: How often each arm is the best by dev; None of what is averaged.
    """

    sources: list[str]
    runs: list[ScoredRun]
    weights: Weights | None = None
    chosen: dict[str, int] | None = None


def make_ensembles(
    arms: Mapping[str, Sequence[ScoredRun]],
    *,
    seeds: bool = True,
    mixtures: Mapping[str, Sequence[str]] | None = None,
    stacks: Mapping[str, Sequence[str]] | None = None,
    trait_stacks: Mapping[str, Sequence[str]] | None = None,
    chosen: Mapping[str, Sequence[str]] | None = None,
    postprocessed: Collection[str] = (),
) -> tuple[dict[str, EnsembleArm], list[str]]:
    """The ensembles of a grid, and what is chosen among its arms.

    Args:
        arms: Runs by the arm's name.
        seeds: Whether each arm of several seeds, the same in all strata, gets an ensemble ``ARM, mean of N seeds``.
        mixtures: Further ensembles by name: arms whose predictions, of all their seeds, are averaged.
        stacks: Such ensembles with fitted weights, see :func:`~aes_dynloss.reports.stacks.stacked_runs`.
        trait_stacks: Such stacks, each trait's across all traits of the prompt.
        chosen: By name, the arms of which each stratum and seed has the best by dev.
        postprocessed: Arms whose scores are more than raw rounded; ensembles with such an arm are rescaled on dev.

    Returns:
        Ensembles by name, and notes on arms without a mean over seeds and on what was chosen.

    Raises:
        ConfigError: A mixture or stack is of unknown arms, or two have one name.
        DataError: Runs of an ensemble have not scored the same essays.
    """
    made: dict[str, EnsembleArm] = {}
    notes = []
    for arm, runs in arms.items() if seeds else ():
        shared = shared_seeds(runs)
        if len(shared) > 1:
            name = f"{arm}, mean of {len(shared)} seeds"
            if name in arms:
                raise ConfigError(f"An arm has the name of an ensemble, {name!r}. Rename it, or leave ensembles out.")
            made[name] = EnsembleArm([arm], seed_ensemble(runs, rescale=arm in postprocessed))
        elif len({run.seed for run in runs}) > 1:
            notes.append(f"{arm}: no mean over seeds is scored, as not every stratum and prompt has the same seeds.")
    for name, members, runs in _members(arms, mixtures or {}, made.keys()):
        parts = [part for run in runs for part in split_by_prompt(run)]
        rescale = not {*postprocessed}.isdisjoint(members)
        made[name] = EnsembleArm(list(members), seed_ensemble(parts, rescale=rescale))
    for name, members, runs in _members(arms, stacks or {}, made.keys()):
        made[name] = EnsembleArm(list(members), *stacked_runs(runs))
    for name, members, runs in _members(arms, trait_stacks or {}, made.keys()):
        made[name] = EnsembleArm(list(members), *stacked_runs(runs, across_traits=True))
    for name, members, _ in _members(arms, chosen or {}, made.keys()):
        best, counts = chosen_runs({arm: arms[arm] for arm in members})
        made[name] = EnsembleArm(list(members), best, chosen=counts)
        listed = ", ".join(f"{arm} {count}" for arm, count in counts.items())
        notes.append(f"{name}: the arm with the best QWK on dev, by stratum and seed; times chosen: {listed}.")
    return made, notes


def _members(
    arms: Mapping[str, Sequence[ScoredRun]], wanted: Mapping[str, Sequence[str]], taken: Collection[str]
) -> Iterator[tuple[str, Sequence[str], list[ScoredRun]]]:
    """Name and arms of each ensemble of several arms, and their runs, told apart by arm and seed."""
    for name, members in wanted.items():
        if name in arms or name in taken or not arms.keys() >= set(members):
            raise ConfigError(
                f"The mixture, stack or choice {name!r} of {', '.join(members)} must be of arms, with its own name."
            )
        yield name, members, [replace(run, seed=f"{arm}, {run.seed}") for arm in members for run in arms[arm]]


def _figures(entry: ArmFigures, raw: Mapping[str, float | None]) -> GridFigures:
    """An arm's figures on a prompt or in the mean, with mean and sd over seeds where each seed has a value."""
    over_seeds = {}
    for version in VERSIONS:
        by_seed = entry[f"{version}_by_seed"] or {}
        values = list(by_seed.values())
        sd = float(np.std(values, ddof=1)) if len(values) > 1 else None
        over_seeds[version] = OverSeeds(len(values), float(np.mean(values)), sd, by_seed) if by_seed else None
    return GridFigures.from_dict({**entry, **raw, "over_seeds": over_seeds})


def _raw_measures(runs: Sequence[ScoredRun]) -> tuple[dict[str, dict[str, float | None]], dict[str, float | None]]:
    """Measures of raw predictions by prompt, the mean over strata of that over seeds, and their means over prompts."""
    values: dict[str, dict[str, list[list[float]]]] = {}
    for run in runs:
        for prompt, essays in run.test.table.groupby("prompt_id", sort=False):
            pair = essays["reference"].to_numpy(dtype=np.float64), essays["raw"].to_numpy(dtype=np.float64)
            strata = values.setdefault(str(prompt), {})
            strata.setdefault(run.stratum, []).append([float(measure(*pair)) for measure in RAW_MEASURES.values()])
    means = {
        prompt: np.mean([np.mean(seeds, axis=0) for seeds in strata.values()], axis=0)
        for prompt, strata in values.items()
    }
    named = {prompt: dict(zip(RAW_MEASURES, map(none_if_nan, row), strict=True)) for prompt, row in means.items()}
    return named, {name: mean_if_known([row[name] for row in named.values()]) for name in RAW_MEASURES}


def _undefined_notes(entries: Mapping[str, GridArm]) -> list[str]:
    """Arms without r or sd ratio."""
    reason = "some run's predictions or the human scores there are all equal, or there is a single essay."
    return [
        f"{arm}: {measure} is null on {', '.join(prompts)} and in the mean: {reason}"
        for arm, entry in entries.items()
        for measure in RAW_MEASURES
        if (prompts := [prompt for prompt, figures in entry.prompts.items() if figures[measure] is None])
    ]


def _human_human(runs: Sequence[ScoredRun], prompts: Sequence[str]) -> HumanRaters:
    """Agreement of two humans on the essays that are measured, each of them once."""
    entries = {}
    for prompt in prompts:
        tables = [run.test.table[run.test.table["prompt_id"] == prompt] for run in runs]
        essays = pd.concat([rows for rows in tables if len(rows)]).drop_duplicates("essay_id")
        human = human_entry(essays, next(run.test.ranges[prompt] for run in runs if prompt in run.test.ranges))
        if human is not None:
            entries[prompt] = Raters(human["n"], human["qwk"])
    return HumanRaters(
        entries, mean_if_known([entries[prompt].qwk if prompt in entries else None for prompt in prompts])
    )


def _floors(
    floors: Mapping[str, Mapping[str, Mapping[str, float]]],
    places: Sequence[tuple[str, str]],
    prompts: Sequence[str],
) -> tuple[dict[str, Floor], list[str]]:
    """Each floor's QWK by prompt, the mean over strata, and its mean over prompts; and notes on what is left out."""
    entries, notes = {}, []
    for name in dict.fromkeys(name for by_name in floors.values() for name in by_name):
        values = {place: floors.get(place[0], {}).get(name, {}).get(place[1]) for place in places}
        lacking = [place for place, value in values.items() if value is None]
        if lacking:
            stratum, prompt = lacking[0]
            notes.append(
                f"The floor {name} is left out: it has no figure for prompt {prompt} of stratum {stratum!r} "
                f"({len(lacking)} such in all)."
            )
            continue
        means = {
            prompt: float(np.mean([values[place] for place in places if place[1] == prompt])) for prompt in prompts
        }
        entries[name] = Floor(means, float(np.mean(list(means.values()))))
    return entries, notes
