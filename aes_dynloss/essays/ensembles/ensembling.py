"""Ensembles made of fine-tuning runs: weights and a postprocessing, fitted on essays which no member has learned from.

Weights are fitted on predictions that members of one split have made of dev, or out of fold of train. Those of another
split's runs would not do: dev of one fold is test of the next, and their models have learned from test essays here.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
import pandas as pd

from aes_dynloss.errors import ConfigError, DataError
from aes_dynloss.essays.ensembles.cross_fitted import CrossFittedMembers, OutOfFoldFigures
from aes_dynloss.essays.ensembles.ensemble import DEV, EssayEnsemble, Member
from aes_dynloss.essays.ensembles.member_predictions import MemberPredictions
from aes_dynloss.essays.finetune.held_out import FITTED_ON, OUT_OF_FOLD, check_held_out, essay_hashes
from aes_dynloss.essays.finetune.predicted import Predicted, learn_from_dev
from aes_dynloss.essays.model.model_folder import MODEL
from aes_dynloss.essays.model.prompt_scales import Rule, fit_postprocessing
from aes_dynloss.essays.model.sharing import locate_model
from aes_dynloss.measures.stacking import DEV_SHRINKAGE, LEAST_ESSAYS
from aes_dynloss.reports.predictions import is_cross_fitted, predictions_file, read_predictions
from aes_dynloss.tables.columns import ColumnNames

if TYPE_CHECKING:
    from accelerate import Accelerator

logger = logging.getLogger(__name__)

FEWEST_DEV_ESSAYS = 2  # of a prompt: one essay has no spread to fit to
_KEYS = ["prompt_id", "essay_id"]


def ensemble_runs(
    runs: Sequence[Path],
    postprocessing: Rule = "none",
    weights: Literal["equal", "nnls"] = "equal",
    *,
    accelerator: Accelerator | None = None,
) -> EssayEnsemble:
    """An ensemble of the models of some runs: see :func:`measured_ensemble`, without the figures."""
    return measured_ensemble(runs, postprocessing, weights, accelerator=accelerator)[0]


def measured_ensemble(
    runs: Sequence[Path],
    postprocessing: Rule = "none",
    weights: Literal["equal", "nnls"] = "equal",
    *,
    accelerator: Accelerator | None = None,
) -> tuple[EssayEnsemble, OutOfFoldFigures | None]:
    """An ensemble of the models of some runs, and its figures where the runs are cross-fitted.

    Args:
        runs: Folders of runs, or model folders.
        postprocessing: none: raw is rounded. rescale, cut_points: fitted on the members' mean raw predictions of dev
            essays, so that each member must come with its run's predictions. With fitted weights, it is fitted on the
            same predictions as they are.
        weights: equal; or nnls: non-negative weights by prompt, fitted on out-of-fold predictions of train essays where
            all runs have such, else on dev. The runs must have the same essays and split.
        accelerator: Devices and precision; by default what Accelerate finds.

    Returns:
        The ensemble. And None, or, if a run is cross-fitted, as all must be then, the ensemble's out-of-fold
        predictions, each part's by weights and a postprocessing that were fitted without it, and a report on them.

    Raises:
        CheckpointError: A model is missing, damaged or something else.
        ConfigError: The models make no ensemble, there are too few dev essays that no member was trained on, weights
            are to be fitted for runs of different splits, or cross-fitted runs have different parts.
        DataError: A run's predictions are missing, damaged, have other human scores than another run's, or, where
            weights are fitted, are not those of its own split.
    """
    folders = list(map(locate_model, runs))
    ensemble = EssayEnsemble.from_members(folders, accelerator=accelerator)
    notes = list(ensemble.notes)
    repeated = len(folders) - len({member.sha256 for member in ensemble.members})
    if repeated:
        notes.append(f"{repeated} of the {len(folders)} members repeat another one, which counts the more for it.")
    stacked = weights == "nnls"
    figures = None
    if any(is_cross_fitted(_run_of(member)) for member in ensemble.members):
        members = CrossFittedMembers.read(ensemble.members, DEV_SHRINKAGE)
        ensemble.fitted_on = FITTED_ON["test"]
        notes += _fit_weights(ensemble, members.test) if stacked else []
        figures = members.figures(ensemble, postprocessing, stacked=stacked)
    else:
        notes += _fit(ensemble, postprocessing, stacked=stacked)
    for note in notes:
        logger.warning("%s", note)
    return ensemble, figures


def _fit(ensemble: EssayEnsemble, postprocessing: Rule, *, stacked: bool) -> list[str]:
    """Give an ensemble what its members' runs of one split say of it; notes on that."""
    notes: list[str] = []
    if stacked:
        _check_one_split(ensemble.members)
    dev = _dev_if_there(ensemble.members, stacked=stacked, needed=stacked or postprocessing != "none")
    fitting = dev
    if stacked and all((_run_of(member) / predictions_file(OUT_OF_FOLD)).is_file() for member in ensemble.members):
        fitting = member_predictions(ensemble.members, OUT_OF_FOLD, of_split=True)
        ensemble.fitted_on = "out-of-fold predictions of train essays"
    if fitting is not None and stacked:
        notes += _fit_weights(ensemble, fitting)
    if fitting is not None and postprocessing != "none":
        notes += _fit_postprocessing(ensemble, fitting, postprocessing)
    if dev is not None:
        # Certainty comes of the ensemble's errors, as dev's files hold no probabilities.
        raw = ensemble.combine(dev.raw, dev.prompt_ids)
        learn_from_dev(ensemble, dev.prompt_ids, dev.reference, Predicted(raw))
    return notes


def _check_one_split(members: Sequence[Member]) -> None:
    """Refuse members whose runs differ in essays or splits."""
    first, *others = members
    expected = essay_hashes(_run_of(first))
    for member in others:
        found = essay_hashes(_run_of(member))
        if found != expected:
            what = "essays" if found["data"] != expected["data"] else "splits of them"
            raise ConfigError(
                f"Weights can only be fitted for runs of one split, but the runs of {first.folder} and {member.folder} "
                f"have different {what}. What is dev or out of fold in one split may be train or test in another, so "
                "that weights would be fitted on essays which a member has learned from. Name runs of one fold, or use "
                "--weights equal."
            )


def _fit_weights(ensemble: EssayEnsemble, fitting: MemberPredictions) -> list[str]:
    """Fit the members' weights, prompt by prompt; notes on prompts with too few essays."""
    on_dev = ensemble.fitted_on == DEV
    reason = f", as not all runs have {predictions_file(OUT_OF_FOLD)}" if on_dev else ""
    logger.info("Weights fitted on %s%s, in the order of the members:", ensemble.fitted_on, reason)
    ensemble.weights = fitting.weights(ensemble.prompts, DEV_SHRINKAGE if on_dev else 0.0)
    notes = []
    for prompt in ensemble.prompts:
        count = fitting.prompt_ids.count(prompt)
        if prompt in ensemble.weights:
            listed = ", ".join(f"{one:.3f}" for one in ensemble.weights[prompt])
            logger.info("Prompt %s: %s (%d essays).", prompt, listed, count)
        else:
            notes.append(f"Prompt {prompt}: {count} essays to fit weights on, not {LEAST_ESSAYS}: they stay equal.")
    return notes


def _fit_postprocessing(ensemble: EssayEnsemble, fitting: MemberPredictions, postprocessing: Rule) -> list[str]:
    """Fit the postprocessing to the ensemble's raw predictions; notes on it."""
    ranges = {prompt.id: prompt.range for prompt in ensemble.prompts.values()}
    counts = {prompt: fitting.prompt_ids.count(prompt) for prompt in ranges}
    short = [f"prompt {prompt} has {count}" for prompt, count in counts.items() if count < FEWEST_DEV_ESSAYS]
    if short and ensemble.fitted_on == DEV:
        raise ConfigError(
            f"{postprocessing} is fitted on essays that are dev essays in the run of every member, "
            f"{FEWEST_DEV_ESSAYS} of each prompt or more; {', '.join(short)}. A dev essay of one fold may be a "
            "training essay of another, so members of different folds share few or none. Use --postprocessing "
            "none, or members of one fold."
        )
    raw = ensemble.combine(fitting.raw, fitting.prompt_ids)
    prompt_ids = np.array(fitting.prompt_ids, dtype=object)
    ensemble.postprocessing = fit_postprocessing(postprocessing, ranges, prompt_ids, raw, fitting.reference)
    return [f"Prompt {name}: {rule.note}." for name, rule in ensemble.postprocessing.fitted.items() if rule.note]


def _dev_if_there(members: Sequence[Member], *, stacked: bool, needed: bool) -> MemberPredictions | None:
    """Dev predictions, of the prompts that all members know; None where runs hold none and none are needed."""
    dev, reason = None, "no essay is a dev essay in every member's run."
    try:
        dev = member_predictions(members, "dev", of_split=stacked)
    except DataError as error:
        if needed:
            raise
        reason = str(error)
    if not needed and (dev is None or not len(dev.index)):
        logger.warning("The ensemble has no prediction intervals, and does not know how sure it is: %s", reason)
    return dev


def member_predictions(members: Sequence[Member], part: str, *, of_split: bool = False) -> MemberPredictions:
    """The members' raw predictions of the essays that all their runs have in a part.

    An essay that is dev in one fold is a training essay of another, whose member knows its score: the mean over such
    would be too good. A run does not keep the ids of all its training essays, so only one among the dev predictions
    of all is known to be new to all.

    Args:
        members: The members, each in the folder ``model`` of its run.
        part: dev, or OUT_OF_FOLD for train essays, each by a head that was fitted without it.
        of_split: Whether each run's file must hold exactly the essays of the part in the run's manifest.

    Returns:
        Predictions sorted by prompt and essay; perhaps of no essay.

    Raises:
        DataError: Predictions are missing, damaged, or have other human scores than another run's; or, with
            ``of_split``, are of other essays.
    """
    tables = [_predictions_of(member, part, of_split=of_split) for member in members]
    return MemberPredictions.of(members, tables)


def _run_of(member: Member) -> Path:
    """The folder of a member's run, if its model is in one."""
    return member.folder.parent


def _predictions_of(member: Member, part: str, *, of_split: bool) -> pd.DataFrame:
    """Columns reference and raw of a member's predictions of a part, under their prompt's and their own id."""
    path = _run_of(member) / predictions_file(part)
    if member.folder.name != MODEL or not path.is_file():
        raise DataError(
            f"The member {member.folder} comes without its run's {path.name}, from which an ensemble learns. "
            "Name the run's own folder; for a postprocessing or fitted weights there is no other way."
        )
    ranges = {prompt.id: prompt.range for prompt in member.scorer.prompts.values()}
    columns = ColumnNames(prompt_id="prompt_id", reference="reference", raw="raw")
    table = read_predictions(path, columns=columns, ranges=ranges).table
    if of_split:
        check_held_out(path.parent, part, table["essay_id"])
    if table["reference"].isna().any():
        raise DataError(f"{path} holds no human scores. Bring back the file of the run, or use --postprocessing none.")
    return table.set_index(_KEYS)[["reference", "raw"]]
