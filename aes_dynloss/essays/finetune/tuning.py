"""A search over a short list of settings, judged on essays that no scorer learned from, and never on test."""

from __future__ import annotations

import json
import logging
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
import pandas as pd

from aes_dynloss.configfile import dump_yaml, validate, with_value
from aes_dynloss.errors import AesDynlossError, ConfigError, TrainingError
from aes_dynloss.essays.data.essay_table import Prompt
from aes_dynloss.essays.finetune.calibration import read_inner
from aes_dynloss.essays.finetune.config import FinetuneConfig
from aes_dynloss.essays.finetune.held_out import INNER, PART
from aes_dynloss.essays.finetune.presets import PRESETS, with_preset
from aes_dynloss.essays.finetune.run import run_finetuning
from aes_dynloss.essays.model.encoders import is_installed
from aes_dynloss.essays.model.model_folder import MODEL
from aes_dynloss.essays.model.prompt_scales import fit_postprocessing
from aes_dynloss.measures.agreement import quadratic_weighted_kappa
from aes_dynloss.reports.model import Report
from aes_dynloss.reports.predictions import (
    PREDICTIONS_TEST,
    predictions_file,
    read_predictions,
    write_predictions,
)
from aes_dynloss.reports.prompts import build_report, read_report
from aes_dynloss.reports.report_files import REPORT, write_report_files
from aes_dynloss.reports.trait_forms import with_scale_ids
from aes_dynloss.reports.traits import by_scale
from aes_dynloss.tables.atomic import write_text
from aes_dynloss.tables.formats import read_cells, write_table
from aes_dynloss.training.run_folder import CONFIG

logger = logging.getLogger(__name__)

TRIALS, TABLE, FEATURES = "trials", "trials.csv", "features"
# What a trial may set of data, with what is in it: all else may change which essays it is judged on, or their scores.
_OF_TRAINING = ("data.augmentation.", "data.balance.", "data.trusted_weight.")
_ALL = ""  # the only part of essays that are not cross-fitted

Changes = Mapping[str, Any]

_HEADS: Changes = {
    "preset": None,
    "model.encoder": PRESETS["balanced"]["model"]["encoder"],
    "model.frozen_layers": "all",
    "model.pooled_layers": "all",
    "model.linguistic": True,
    "training.epochs": 20,
}
_DYNAMIC = {"mse": 1.0, "one_minus_qwk": {"schedule": "linear", "start": 0.0, "end": 0.5}}
# For a table, in the order in which they are tried. Those whose encoder is not here are left out.
CANDIDATES: dict[str, Changes] = {
    "balanced": {"preset": "balanced"},
    "fast": {"preset": "fast"},
    "best": {"preset": "best"},
    "balanced_without_ngrams": {"preset": "balanced", "model.strings": False},
    "balanced_ridge": {"preset": "balanced", "model.solver": "ridge"},
    "balanced_three_layers": {"preset": "balanced", "model.keep_layers": 3},
    "boosting": {"preset": None, "model.kind": "boosting"},
    "heads_mse": {**_HEADS, "loss.terms": {"mse": 1.0}, "training.head_learning_rate": 4e-3},
    "heads_mse_fast": {**_HEADS, "loss.terms": {"mse": 1.0}, "training.head_learning_rate": 1.6e-2},
    "heads_dynamic": {**_HEADS, "loss.terms": _DYNAMIC, "training.head_learning_rate": 4e-3},
}
# For a configuration that trains: rates, and the loss where no teacher steers it.
_FACTORS = (0.5, 2.0)
_LOSSES: dict[str, Any] = {"huber": {"huber": 1.0}, "mse": {"mse": 1.0}, "dynamic": _DYNAMIC}


@dataclass(frozen=True)
class Trial:
    """One setting, and what became of it.

    Args:
        name: Of its folder.
        changes: Keys and values that it sets.
        qwk: On held-out essays, the mean over prompts, by part of the cross-fitting; empty where it failed or was left.
        minutes: That it took.
        note: Why there is no figure.
    """

    name: str
    changes: Changes
    qwk: Mapping[str, float] = field(default_factory=dict)
    minutes: float = 0.0
    note: str = ""

    @property
    def mean(self) -> float:
        """The mean over parts."""
        return fmean(self.qwk.values())


@dataclass(frozen=True)
class Tuned:
    """What a search found.

    Args:
        trials: All settings, in the order in which they were tried.
        winner: The best of them on held-out essays.
        report: Figures of the search's own scores: of each part's essays those of the setting that is best on the
            others; without cross-fitting, test figures of the winner.
    """

    trials: list[Trial]
    winner: Trial
    report: Report


def candidates(values: Mapping[str, Any], *, table: bool) -> dict[str, Changes]:
    """The settings to try, by name.

    Args:
        values: Of the run's configuration.
        table: Whether they were found in a table, and say nothing of the scorer.

    Example:
        >>> list(candidates({"data": {"source": "made-up-essays"}}, table=False))[:3]
        ['as_given', 'head_learning_rate_x0.5', 'head_learning_rate_x2']
    """
    if table:
        models = {name: with_preset(_configuration({}, changes))["model"] for name, changes in CANDIDATES.items()}
        needed = {name: model["encoder"] for name, model in models.items() if "encoder" in model}
        here = {encoder for encoder in set(needed.values()) if is_installed(encoder)}
        return {name: changes for name, changes in CANDIDATES.items() if name not in needed or needed[name] in here}
    config = validate(FinetuneConfig, values, "The configuration")
    found: dict[str, Changes] = {"as_given": {}}
    if config.model.solver != "sgd":
        for name in ("linguistic", "strings"):
            if config.model.kind == "encoder":
                found[f"other_{name}"] = {f"model.{name}": not getattr(config.model, name)}
        return found
    rates = ["head_learning_rate", *(["learning_rate"] if config.model.frozen_layers != "all" else [])]
    for rate in rates:
        for factor in _FACTORS:
            found[f"{rate}_x{factor:g}"] = {f"training.{rate}": getattr(config.training, rate) * factor}
    if config.teacher is None and config.model.head == "regression":
        found |= {f"loss_{name}": {"loss.terms": terms} for name, terms in _LOSSES.items()}
    return found


def tune(
    values: Mapping[str, Any],
    settings: Mapping[str, Changes],
    folder: Path,
    minutes: float,
    *,
    say: Callable[[Trial], None] = lambda _: None,
) -> Tuned:
    """Try settings until time is up, and keep the best.

    A setting is judged by QWK on essays that its scorers did not learn from: where essays are cross-fitted, those that
    each part's scorer was post-processed on, which are none of the part; else dev. Test plays no part in the choice.
    What is done is kept in the folder, so that the same call goes on where it was stopped.

    Args:
        values: What all settings share, as of a configuration.
        settings: Keys and values of each, by name, the first ones first.
        folder: For trials, their table, the winner's configuration and model, and the report.
        minutes: No further setting is begun once trials took so long; the first is always tried.
        say: Called with each trial that is done.

    Raises:
        ConfigError: A setting would divide the essays otherwise than the others do.
        AesDynlossError: No setting could be tried; the message is the first one's.
    """
    _refuse_other_parts(settings)
    trials: list[Trial] = []
    fault: AesDynlossError | None = None
    for name, changes in settings.items():
        if trials and sum(trial.minutes for trial in trials) >= minutes:
            trials.append(Trial(name, changes, note=f"not tried within --minutes {minutes:g}"))
            continue
        try:
            trials.append(_tried(values, name, changes, folder))
        except TrainingError as error:  # it diverges, and would again
            fault = fault or error
            trials.append(Trial(name, changes, note=str(error)))
        except AesDynlossError as error:
            if (folder / TRIALS / name / CONFIG).exists():  # begun: with other essays or keys, or in another process
                raise
            fault = fault or error
            trials.append(Trial(name, changes, note=str(error)))
        say(trials[-1])
        write_table(_table(trials), folder / TABLE)
    known = [trial for trial in trials if trial.qwk]
    if not known:
        raise fault or ConfigError("There is no setting to try. Name one in --trials.")
    write_table(_table(trials), folder / TABLE)
    winner = max(known, key=lambda trial: trial.mean)
    report = _report(known, winner, folder)
    config = _configuration(values, winner.changes)
    words = f"# {winner.name}: the best of {len(known)} settings on held-out essays.\n"
    write_text(folder / CONFIG, words + dump_yaml(config))
    shutil.rmtree(folder / MODEL, ignore_errors=True)
    shutil.copytree(folder / TRIALS / winner.name / MODEL, folder / MODEL)
    return Tuned(trials, winner, report)


def _refuse_other_parts(settings: Mapping[str, Changes]) -> None:
    """Refuse trials of other essays or other parts: figures could not be compared, nor parts be put together."""
    for name, changes in settings.items():
        for key in changes:
            if f"{key}.".startswith("data.") and not f"{key}.".startswith(_OF_TRAINING):
                raise ConfigError(
                    f"Trial {name} sets {key}, yet trials are compared on the same essays in the same parts. Set it "
                    f"for all of them, in INPUT or as {key}=VALUE behind it."
                )


def _configuration(values: Mapping[str, Any], changes: Changes) -> dict[str, Any]:
    result = dict(values)
    for key, value in changes.items():
        result = with_value(result, key, value, f"The trial's {key}")
    return result


def _tried(values: Mapping[str, Any], name: str, changes: Changes, folder: Path) -> Trial:
    """A trial that is run, or resumed, or was done before."""
    run = folder / TRIALS / name
    config = validate(FinetuneConfig, _configuration(values, changes), f"trial {name}")
    if config.model.frozen_layers == "all" and config.model.features_cache is None and config.model.kind == "encoder":
        shared = config.model.model_copy(update={"features_cache": str(folder / FEATURES)})
        config = config.model_copy(update={"model": shared})
    seconds = run / "seconds.json"
    before = float(json.loads(seconds.read_text())) if seconds.exists() else 0.0
    is_new, start = not (run / REPORT).exists(), time.perf_counter()
    try:
        run_finetuning(config, run, resume=(run / CONFIG).exists())
    finally:
        if is_new and (run / CONFIG).exists():
            before += time.perf_counter() - start
            write_text(seconds, json.dumps(before))
    return Trial(name, changes, _judged(run), before / 60)


def _judged(run: Path) -> dict[str, float]:
    """QWK on held-out essays, the mean over prompts, by part; what is not post-processed yet is rescaled."""
    ranges = {prompt: entry.range for prompt, entry in by_scale(read_report(run / REPORT)).prompts.items()}
    if not (run / predictions_file(INNER)).exists():
        return {_ALL: _mean_kappa(read_predictions(run / predictions_file("dev"), ranges=ranges).table)}
    prompts = {prompt: Prompt(prompt, span) for prompt, span in ranges.items()}
    parts: dict[str, float] = {}
    for part, essays in read_inner(run).groupby(PART):
        answered, raw = essays["prompt_id"].to_numpy(dtype=object), essays["raw"].to_numpy(dtype=np.float64)
        way = fit_postprocessing("auto", ranges, answered, raw, essays["reference"].to_numpy(dtype=np.float64))
        parts[str(part)] = _mean_kappa(essays.assign(score=way.points(prompts, answered.tolist(), raw)))
    return parts


def _mean_kappa(essays: pd.DataFrame) -> float:
    by_prompt = essays.groupby("prompt_id", sort=False)
    return fmean(float(quadratic_weighted_kappa(rows["reference"], rows["score"])) for _, rows in by_prompt)


def _report(trials: Sequence[Trial], winner: Trial, folder: Path) -> Report:
    """Figures of the scores that the search itself would have given, with their files."""
    own = read_report(folder / TRIALS / winner.name / REPORT)
    if _ALL in winner.qwk:
        return own
    best = {part: max(trials, key=lambda trial: trial.qwk[part]) for part in winner.qwk}
    # As text: pandas itself would not read every version's numbers to the last digit.
    tables = {
        name: with_scale_ids(read_cells(folder / TRIALS / name / PREDICTIONS_TEST).reset_index(drop=True), name)
        for name in {trial.name for trial in best.values()}
    }
    chosen = pd.concat(table[table[PART] == part] for part, trial in best.items() for table in [tables[trial.name]])
    own = by_scale(own)
    ranges = {prompt: entry.range for prompt, entry in own.prompts.items()}
    floors = {name: floor.to_dict() for name, floor in own.floors.items()} or None
    report = build_report(chosen.reset_index(drop=True), ranges=ranges, floors=floors, out_of_fold=True)
    named = ", ".join(f"part {part} {trial.name}" for part, trial in best.items())
    note = f"Each part's scores are of the setting that is best on the essays of the others: {named}."
    report.notes.append(note)
    write_predictions(chosen, folder / PREDICTIONS_TEST)
    write_report_files(report, folder, title="Agreement of tuned scores with human scores")
    return report


def _table(trials: Sequence[Trial]) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "trial": [trial.name for trial in trials],
            "qwk": [round(trial.mean, 6) if trial.qwk else None for trial in trials],
            "minutes": [round(trial.minutes, 3) for trial in trials],
            "changes": [json.dumps(trial.changes) for trial in trials],
            "note": [trial.note for trial in trials],
        }
    )
