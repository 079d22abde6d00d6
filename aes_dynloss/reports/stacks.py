"""Stacks: several runs as one scorer, by weights that are fitted on essays which its members did not learn from."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

import numpy as np

from aes_dynloss.errors import ConfigError, DataError
from aes_dynloss.measures.calibration import RescalingLine, fit_rescaling
from aes_dynloss.measures.stacking import DEV_SHRINKAGE, fit_weights
from aes_dynloss.reports.arms import ScoredRun, mean_run, mean_table, rescaled, same_seeds, split_by_prompt
from aes_dynloss.reports.predictions import PredictionTable
from aes_dynloss.reports.prompts import refuse_shared_essays
from aes_dynloss.tables.columns import TRAIT_COLUMN
from aes_dynloss.tables.scale_ids import prompt_and_trait

_OUT_OF_FOLD = (
    "a stack's weights by stratum and prompt, and the rescaling of its scores, are fitted on its members' out-of-fold "
    "predictions of train essays in that stratum."
)
_ON_DEV = (
    "some members leave no out-of-fold predictions, so that weights by stratum and prompt, and the rescaling of "
    "scores, are fitted on its members' predictions of dev."
)


def stacked_runs(
    runs: Sequence[ScoredRun], *, across_traits: bool = False
) -> tuple[list[ScoredRun], dict[str, dict[str, dict[str, float]]]]:
    """Several runs as one scorer: raw is their mean by weights that are fitted for each stratum and prompt.

        raw = sum_m w_m raw_m,    score = round(slope * raw + intercept)

    The weights, by ``fit_weights``, and the rescaling are fitted in the stratum, on the runs' out-of-fold predictions:
    no test or dev essay of it takes part in either, and no model from outside it. Where a run has none, as one that
    was trained by gradient descent, both are fitted on all runs' predictions of dev, weights at most DEV_SHRINKAGE from
    equal ones.

    Args:
        runs: Runs of all members, told apart by their seeds; every stratum and prompt with the same ones.
        across_traits: Whether a trait's score may take from the members' predictions of the prompt's other traits, as
            if these were members too, with the mean and SD that their out-of-fold predictions of this trait have:
            raters' traits hang together, and so each tells of the others.

    Returns:
        A run for each stratum and prompt, of seed ``stack of M``, without dev where a member has none; and the weights
        by stratum, prompt and seed, of other traits with the trait behind it.

    Raises:
        ConfigError: There is no run, or traits are asked for where essays have one score.
        DataError: A run has neither out-of-fold predictions nor dev, or some that are of the essays that it is measured
            on; the members have not scored the same essays, a run is there twice, or human scores or ranges differ.
    """
    if across_traits and not all(TRAIT_COLUMN in run.test.table for run in runs):
        raise ConfigError("Stacks across traits need essays that are scored on several; these have one score.")
    stacks: list[ScoredRun] = []
    weights: dict[str, dict[str, dict[str, float]]] = {}
    on_dev = fitted_on_dev(runs)
    parts = same_seeds([_to_fit(part, on_dev=on_dev) for run in runs for part in split_by_prompt(run)])
    for (stratum, prompts), own in parts.items():
        (prompt,) = prompts
        others = {next(iter(scale)): part for (place, scale), part in parts.items() if place == stratum}
        by_seed = own if not across_traits else {**own, **_of_other_traits(prompt, own, others)}
        where = f"prompt {prompt!r} of stratum {stratum!r}"
        tables = {seed: run.out_of_fold for seed, run in by_seed.items() if run.out_of_fold is not None}
        human = mean_table(tables, f"{'dev' if on_dev else 'train'} essays of {where}").table
        raw = np.column_stack([one.table["raw"].to_numpy(dtype=np.float64) for one in tables.values()])
        least = DEV_SHRINKAGE if on_dev else 0.0
        fitted = fit_weights(raw, human["reference"], human["essay_id"].tolist(), least_shrinkage=least)
        lines = {prompt: fit_rescaling(raw @ fitted, human["reference"])}
        stacks.append(rescaled(mean_run(stratum, by_seed, f"stack of {len(by_seed)}", fitted), lines))
        weights.setdefault(stratum, {})[prompt] = dict(zip(by_seed, fitted.tolist(), strict=True))
    return stacks, weights


def fitted_on_dev(runs: Iterable[ScoredRun]) -> bool:
    """Whether weights of these runs are fitted on dev, as some run has no out-of-fold predictions of train."""
    return any(run.out_of_fold is None for run in runs)


def stack_notes(stacks: Mapping[str, Sequence[ScoredRun]]) -> list[str]:
    """On which essays the weights of stacks were fitted.

    Args:
        stacks: The runs of each stack's members.
    """
    noted: dict[str, list[str]] = {}
    for name, runs in stacks.items():
        noted.setdefault(_ON_DEV if fitted_on_dev(runs) else _OUT_OF_FOLD, []).append(name)
    return [f"{', '.join(names)}: {note}" for note, names in noted.items()]


def _of_other_traits(
    scale: str, own: Mapping[str, ScoredRun], others: Mapping[str, Mapping[str, ScoredRun]]
) -> dict[str, ScoredRun]:
    """What the members say of a prompt's other traits, as if it were of this one.

    Args:
        scale: Id of prompt and trait.
        own: The members' runs of it, by seed.
        others: All of the stratum's, by prompt and trait, and by seed.

    Returns:
        Runs by seed and other trait; none of a trait without out-of-fold predictions of the same essays.
    """
    (prompt, trait), found = prompt_and_trait(scale), {}
    for name, by_seed in others.items():
        other_prompt, other = prompt_and_trait(name)
        for seed, run in own.items() if other_prompt == prompt and other != trait else ():
            theirs = by_seed[seed]
            if run.out_of_fold is None or theirs.out_of_fold is None:
                continue
            line = _line(run.out_of_fold, theirs.out_of_fold)
            if line is not None:
                found[f"{seed}, {other}"] = replace(
                    run,
                    test=_as_trait(run.test, theirs.test, line),
                    dev=None if run.dev is None else _as_trait(run.dev, theirs.dev, line),
                    out_of_fold=_as_trait(run.out_of_fold, theirs.out_of_fold, line),
                )
    return found


def _line(own: PredictionTable, other: PredictionTable) -> RescalingLine | None:
    """What gives predictions of another trait the mean and SD of this one's, on the essays that have both, if any."""
    raw = own.table.merge(other.table, on="essay_id", suffixes=("", "_other"))
    return None if raw.empty else fit_rescaling(raw["raw_other"], raw["raw"])


def _as_trait(own: PredictionTable, other: PredictionTable | None, line: RescalingLine) -> PredictionTable:
    """Predictions of another trait with this one's mean and SD; an essay that lacks them keeps its own."""
    known = own.table["raw"].to_numpy(dtype=np.float64)
    if other is None:
        return own
    raw = other.table.set_index("essay_id")["raw"].reindex(own.table["essay_id"]).to_numpy(dtype=np.float64)
    return replace(own, table=own.table.assign(raw=np.where(np.isnan(raw), known, line.apply(raw))))


def _to_fit(run: ScoredRun, *, on_dev: bool) -> ScoredRun:
    """A run of one prompt whose ``out_of_fold`` are the predictions to fit on, none of an essay it is measured on."""
    (prompt,) = run.test.ranges
    where = f"of {run.seed!r}, prompt {prompt!r} of stratum {run.stratum!r}"
    table, name = (run.dev, "dev") if on_dev else (run.out_of_fold, "out-of-fold")
    if table is None or table.table.empty:
        raise DataError(f"There are no {name} predictions to fit weights on in the run {where}.")
    if table.table["reference"].isna().any():
        raise DataError(f"The {name} predictions {where} hold no human scores to fit weights on.")
    for other in (run.test, None if on_dev else run.dev):
        if other is not None:
            refuse_shared_essays(other, table, f"{where}: ", fitted_on=f"{name} predictions")
    return replace(run, out_of_fold=table)
