"""Ensembles made of fine-tuning runs, with a postprocessing that is fitted on essays which no member was trained on."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from functools import reduce
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
import pandas as pd

from aes_dynloss.errors import ConfigError, DataError
from aes_dynloss.essays.ensembles.ensemble import EssayEnsemble, Member
from aes_dynloss.essays.finetune.warm_start import MODEL, PREDICTIONS_DEV
from aes_dynloss.essays.model.model_folder import CONFIG
from aes_dynloss.essays.model.prompt_scales import fit_postprocessing
from aes_dynloss.essays.model.protocol import agreement_probability
from aes_dynloss.measures.intervals import equal_points, fit_certainty, fit_intervals
from aes_dynloss.reports.predictions import read_predictions
from aes_dynloss.tables.columns import ColumnNames

if TYPE_CHECKING:
    from accelerate import Accelerator

logger = logging.getLogger(__name__)

FEWEST_DEV_ESSAYS = 2  # of a prompt: one essay has no spread to fit to
_KEYS = ["prompt_id", "essay_id"]


def ensemble_runs(
    runs: Sequence[Path],
    postprocessing: Literal["none", "rescale", "cut_points"] = "none",
    *,
    accelerator: Accelerator | None = None,
) -> EssayEnsemble:
    """An ensemble of the models of some runs.

    Args:
        runs: Folders of runs, or model folders.
        postprocessing: none: raw is rounded. rescale, cut_points: fitted on the mean of the members' raw predictions
            of dev essays, so that each member must come with its run's predictions.
        accelerator: Devices and precision; by default what Accelerate finds.

    Raises:
        CheckpointError: A model is missing, damaged or something else.
        ConfigError: The models make no ensemble, or there are too few dev essays that no member was trained on.
        DataError: A run's dev predictions are missing, damaged, or have other human scores than another run's.
    """
    folders = [run / MODEL if not (run / CONFIG).exists() and (run / MODEL).is_dir() else run for run in runs]
    ensemble = EssayEnsemble.from_members(folders, accelerator=accelerator)
    notes = list(ensemble.notes)
    repeated = len(folders) - len({member.sha256 for member in ensemble.members})
    if repeated:
        notes.append(f"{repeated} of the {len(folders)} members repeat another one, which counts the more for it.")
    dev = _dev_if_there(ensemble.members, needed=postprocessing != "none")
    if dev is not None:
        notes += _fit_to_dev(ensemble, dev, postprocessing)
    for note in notes:
        logger.warning("%s", note)
    return ensemble


def _fit_to_dev(
    ensemble: EssayEnsemble, dev: pd.DataFrame, postprocessing: Literal["none", "rescale", "cut_points"]
) -> list[str]:
    """Fit intervals, postprocessing and certainty to the mean predictions of dev essays; notes on the postprocessing.

    Certainty comes of the ensemble's errors, as dev's files hold no probabilities.
    """
    ranges = {prompt.id: prompt.range for prompt in ensemble.prompts.values()}
    prompt_ids, raw = dev["prompt_id"].tolist(), dev["raw"].to_numpy(dtype=np.float64)
    ensemble.intervals = fit_intervals(prompt_ids, raw, dev["reference"])
    notes = []
    if postprocessing != "none":
        counts = {prompt: prompt_ids.count(prompt) for prompt in ranges}
        short = [f"prompt {prompt} has {count}" for prompt, count in counts.items() if count < FEWEST_DEV_ESSAYS]
        if short:
            raise ConfigError(
                f"{postprocessing} is fitted on essays that are dev essays in the run of every member, "
                f"{FEWEST_DEV_ESSAYS} of each prompt or more; {', '.join(short)}. A dev essay of one fold may be a "
                "training essay of another, so members of different folds share few or none. Use --postprocessing "
                "none, or members of one fold."
            )
        columns = dev["prompt_id"].to_numpy(), raw, dev["reference"].to_numpy()
        ensemble.postprocessing = fit_postprocessing(postprocessing, ranges, *columns)
        notes = [f"Prompt {name}: {rule.note}." for name, rule in ensemble.postprocessing.fitted.items() if rule.note]
    if not dev.empty:
        score = ensemble.postprocessing.points(ensemble.prompts, prompt_ids, raw)
        chances = agreement_probability(ensemble.prompts, ensemble.intervals, prompt_ids, raw, score, None)
        ensemble.certainty = fit_certainty(
            prompt_ids, chances, equal_points(ranges, prompt_ids, score, dev["reference"])
        )
    return notes


def _dev_if_there(members: Sequence[Member], *, needed: bool) -> pd.DataFrame | None:
    """Mean dev predictions, of the prompts that all members know; None where runs hold none and none are needed."""
    dev, reason = None, "no essay is a dev essay in every member's run."
    try:
        dev = mean_dev_predictions(members)
    except DataError as error:
        if needed:
            raise
        reason = str(error)
    if not needed and (dev is None or dev.empty):
        logger.warning("The ensemble has no prediction intervals, and does not know how sure it is: %s", reason)
    return dev


def mean_dev_predictions(members: Sequence[Member]) -> pd.DataFrame:
    """The members' mean raw predictions of the essays that were dev essays in every member's run.

    An essay that is dev in one fold is a training essay of another, whose member knows its score: the mean over such
    would be too good. A run does not keep the ids of its training essays, so only an essay among the dev predictions
    of all is known to be new to all.

    Args:
        members: The members, each in the folder ``model`` of its run.

    Returns:
        Columns prompt_id, essay_id, reference and raw, sorted by the ids; perhaps without a row.

    Raises:
        DataError: Dev predictions are missing, damaged, or have other human scores than another run's.
    """
    tables = [_dev_predictions(member) for member in members]
    shared = reduce(pd.MultiIndex.intersection, (table.index for table in tables)).sort_values()
    first, *others = (table.loc[shared] for table in tables)
    for member, other in zip(members[1:], others, strict=True):
        differs = (other["reference"] != first["reference"]).to_numpy()
        if differs.any():
            row = int(differs.argmax())
            raise DataError(
                f"Essay {shared[row][1]} of prompt {shared[row][0]} has the human score "
                f"{first['reference'].iloc[row]:g} in the run of {members[0].folder} and "
                f"{other['reference'].iloc[row]:g} in that of {member.folder}. Name runs on the same essays and "
                "scores, or fit no postprocessing."
            )
    raw = np.mean([table["raw"].to_numpy() for table in (first, *others)], axis=0)
    return first.assign(raw=raw).reset_index()


def _dev_predictions(member: Member) -> pd.DataFrame:
    """Columns reference and raw of a member's dev essays, under their prompt's and their own id."""
    path = member.folder.parent / PREDICTIONS_DEV
    if member.folder.name != MODEL or not path.is_file():
        raise DataError(
            f"The member {member.folder} comes without its run's {PREDICTIONS_DEV}, from which an ensemble learns. "
            "Name the run's own folder; for a postprocessing there is no other way."
        )
    ranges = {prompt.id: prompt.range for prompt in member.scorer.prompts.values()}
    columns = ColumnNames(prompt_id="prompt_id", reference="reference", raw="raw")
    table = read_predictions(path, columns=columns, ranges=ranges).table
    if table["reference"].isna().any():
        raise DataError(f"{path} holds no human scores. Bring back the file of the run, or use --postprocessing none.")
    return table.set_index(_KEYS)[["reference", "raw"]]
