"""Several seeds' predictions of the same essays, brought together as those of one scorer: their mean."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import pandas as pd

from aes_dynloss.errors import ConfigError, DataError
from aes_dynloss.evaluation.arm_cells import ScoredRun
from aes_dynloss.evaluation.predictions import PredictionTable
from aes_dynloss.evaluation.ranges import widened
from aes_dynloss.evaluation.score_range import ScoreRange

Part = tuple[str, frozenset[str]]  # a stratum, and the prompts that one model scored in it


def shared_seeds(runs: Sequence[ScoredRun]) -> list[str]:
    """The seeds of an arm's runs, if every stratum (and prompt, where a run has one) was scored with the same ones.

    Args:
        runs: Runs of one arm.

    Returns:
        The seeds in order; none where some part lacks a seed that another has.

    Raises:
        DataError: A run is there twice.
    """
    seeds = {frozenset(part) for part in _parts(runs).values()}
    return sorted(seeds.pop()) if len(seeds) == 1 else []


def seed_ensemble(runs: Sequence[ScoredRun]) -> list[ScoredRun]:
    """The mean of an arm's seeds as one scorer: raw is the mean over seeds of raw, score is that rounded half up.

    Args:
        runs: Runs of one arm, every stratum with the same seeds; a stratum may have a run for all of its prompts or one
            for each.

    Returns:
        One run a stratum (and prompt, where runs have one), of seed ``mean of N``, its essays in the order of prompts
        and ids. Without dev where a seed has none.

    Raises:
        ConfigError: There is no run.
        DataError: The seeds have not scored the same essays, a run is there twice, or human scores or ranges differ.
    """
    if not runs:
        raise ConfigError("A mean over seeds needs runs, found none.")
    parts = _parts(runs)
    seeds = sorted({run.seed for run in runs})
    for (stratum, prompts), found in parts.items():
        lacking = [seed for seed in seeds if seed not in found]
        if lacking:
            raise DataError(
                f"Seed {lacking[0]!r} has no run of stratum {stratum!r} (prompts {', '.join(sorted(prompts))}), seed "
                f"{next(iter(found))!r} has. A mean over seeds needs the same essays of all seeds: complete the "
                "runs, or leave the seed out."
            )
    return [_mean_run(stratum, {seed: found[seed] for seed in seeds}) for (stratum, _), found in parts.items()]


def split_by_prompt(run: ScoredRun) -> list[ScoredRun]:
    """A run as one for each of its prompts, so that it meets runs that scored one prompt each."""

    def part(table: PredictionTable, prompt: str) -> PredictionTable:
        rows = table.table[table.table["prompt_id"] == prompt].reset_index(drop=True)
        ranges = {name: span for name, span in table.ranges.items() if name == prompt}
        return replace(table, table=rows, ranges=ranges, inferred=table.inferred & ranges.keys())

    prompts = run.test.table["prompt_id"].unique()
    return [
        replace(run, test=part(run.test, prompt), dev=None if run.dev is None else part(run.dev, prompt))
        for prompt in prompts
    ]


def _parts(runs: Sequence[ScoredRun]) -> dict[Part, dict[str, ScoredRun]]:
    """Runs by what they scored, and then by seed."""
    parts: dict[Part, dict[str, ScoredRun]] = {}
    for run in runs:
        found = parts.setdefault((run.stratum, frozenset(run.test.ranges)), {})
        if run.seed in found:
            raise DataError(f"Seed {run.seed!r} is there twice in stratum {run.stratum!r}. Give each run once.")
        found[run.seed] = run
    return parts


def _mean_run(stratum: str, runs: Mapping[str, ScoredRun]) -> ScoredRun:
    """The mean of the seeds of one stratum."""
    devs = {seed: run.dev for seed, run in runs.items() if run.dev is not None}
    test = _mean_table({seed: run.test for seed, run in runs.items()}, f"test essays of stratum {stratum!r}")
    dev = _mean_table(devs, f"dev essays of stratum {stratum!r}") if len(devs) == len(runs) else None
    return ScoredRun(stratum, f"mean of {len(runs)}", test, dev)


def _mean_table(tables: Mapping[str, PredictionTable], where: str) -> PredictionTable:
    """The seeds' tables as one, with the mean of raw."""
    ordered = {
        seed: one.table.sort_values(["prompt_id", "essay_id"], ignore_index=True) for seed, one in tables.items()
    }
    (first, expected), *others = ordered.items()
    for seed, found in others:
        _refuse_other_essays(f"Seeds {first!r} and {seed!r}", expected, found, where)
    spans, inferred = _common_ranges(tables, where)
    raw = np.mean([one["raw"].to_numpy(dtype=np.float64) for one in ordered.values()], axis=0)
    score = np.empty_like(raw)
    prompts = expected["prompt_id"].to_numpy(dtype=object)
    for prompt, span in spans.items():
        score[prompts == prompt] = span.to_point(raw[prompts == prompt])
    notes = tuple(dict.fromkeys(note for one in tables.values() for note in one.notes))
    table = expected.assign(raw=raw, score=score)
    return replace(tables[first], table=table, ranges=spans, inferred=inferred, notes=notes)


def _refuse_other_essays(seeds: str, expected: pd.DataFrame, found: pd.DataFrame, where: str) -> None:
    """Refuse essays or human scores that differ."""
    one, other = (set(zip(table["prompt_id"], table["essay_id"], strict=True)) for table in (expected, found))
    if one != other:
        prompt, essay = min(one ^ other)
        raise DataError(
            f"{seeds} have not scored the same {where}: essay {essay!r} of prompt {prompt!r} is in one of them alone "
            f"({len(one ^ other)} essays differ). A mean over seeds needs the same essays of all."
        )
    human = [table["reference"].to_numpy(dtype=np.float64) for table in (expected, found)]
    unequal = ~np.isclose(human[0], human[1], rtol=0, atol=1e-6, equal_nan=True)
    if unequal.any():
        row = int(unequal.argmax())
        raise DataError(
            f"{seeds} have different human scores in the {where}: {human[0][row]:g} and {human[1][row]:g} for essay "
            f"{expected['essay_id'].iloc[row]!r} of prompt {expected['prompt_id'].iloc[row]!r} "
            f"({int(unequal.sum())} essays differ). Score all seeds' essays from the same file."
        )


def _common_ranges(tables: Mapping[str, PredictionTable], where: str) -> tuple[dict[str, ScoreRange], frozenset[str]]:
    """Every prompt's given range, or the one that spans those that were inferred; and for which prompts it is that."""
    given: dict[str, ScoreRange] = {}
    spans: dict[str, ScoreRange] = {}
    for one in tables.values():
        for prompt in one.ranges.keys() - one.inferred:
            if given.setdefault(prompt, one.ranges[prompt]) != one.ranges[prompt]:
                raise DataError(
                    f"Seeds differ in the range of prompt {prompt!r} in the {where}: {given[prompt]} and "
                    f"{one.ranges[prompt]}. Give one range for all."
                )
        guessed = {prompt: one.ranges[prompt] for prompt in one.inferred}
        spans |= widened(guessed, spans)
    return {**spans, **given}, frozenset(spans.keys() - given.keys())
