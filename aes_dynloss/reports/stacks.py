"""Stacks: several runs as one scorer, by weights that are fitted on out-of-fold predictions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from aes_dynloss.errors import ConfigError, DataError
from aes_dynloss.measures.calibration import RescalingLine, fit_rescaling
from aes_dynloss.measures.stacking import fit_weights
from aes_dynloss.reports.arms import ScoredRun, mean_run, mean_table, rescaled, same_seeds, split_by_prompt
from aes_dynloss.reports.predictions import PredictionTable
from aes_dynloss.reports.prompts import refuse_shared_essays
from aes_dynloss.tables.columns import TRAIT_COLUMN
from aes_dynloss.tables.scale_ids import prompt_and_trait


def stacked_runs(
    runs: Sequence[ScoredRun], *, across_traits: bool = False
) -> tuple[list[ScoredRun], dict[str, dict[str, dict[str, float]]]]:
    """Several runs as one scorer: raw is their mean by weights that are fitted for each stratum and prompt.

        raw = sum_m w_m raw_m,    score = round(slope * raw + intercept)

    The weights, by ``fit_weights``, and the rescaling are fitted on the runs' out-of-fold predictions in the stratum:
    no test or dev essay of it takes part in either, and no model from outside it.

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
        DataError: A run has no out-of-fold predictions, or some that are of test or dev essays; the members have not
            scored the same essays, a run is there twice, or human scores or ranges differ.
    """
    if across_traits and not all(TRAIT_COLUMN in run.test.table for run in runs):
        raise ConfigError("Stacks across traits need essays that are scored on several; these have one score.")
    stacks: list[ScoredRun] = []
    weights: dict[str, dict[str, dict[str, float]]] = {}
    parts = same_seeds([part for run in runs for part in split_by_prompt(run)])
    for (stratum, prompts), own in parts.items():
        (prompt,) = prompts
        others = {next(iter(scale)): part for (place, scale), part in parts.items() if place == stratum}
        by_seed = own if not across_traits else {**own, **_of_other_traits(prompt, own, others)}
        where = f"prompt {prompt!r} of stratum {stratum!r}"
        tables = {seed: _out_of_fold(run, f"{seed!r}, {where}") for seed, run in by_seed.items()}
        human = mean_table(tables, f"train essays of {where}").table
        raw = np.column_stack([one.table["raw"].to_numpy(dtype=np.float64) for one in tables.values()])
        fitted = fit_weights(raw, human["reference"], human["essay_id"].tolist())
        lines = {prompt: fit_rescaling(raw @ fitted, human["reference"])}
        stacks.append(rescaled(mean_run(stratum, by_seed, f"stack of {len(by_seed)}", fitted), lines))
        weights.setdefault(stratum, {})[prompt] = dict(zip(by_seed, fitted.tolist(), strict=True))
    return stacks, weights


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


def _out_of_fold(run: ScoredRun, where: str) -> PredictionTable:
    """A run's out-of-fold predictions, which hold no essay that it is measured on."""
    table = run.out_of_fold
    if table is None or table.table.empty:
        raise DataError(f"There are no out-of-fold predictions to fit weights on in the run of {where}.")
    if table.table["reference"].isna().any():
        raise DataError(f"The out-of-fold predictions of {where} hold no human scores to fit weights on.")
    for other in (run.test, run.dev):
        if other is not None:
            refuse_shared_essays(other, table, f"{where}: ", fitted_on="out-of-fold predictions")
    return table
