"""The report on predictions: agreement per prompt and in the mean over prompts, intervals, and what was assumed."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from aes_dynloss.errors import ConfigError, DataError
from aes_dynloss.evaluation.intervals import IntervalSettings
from aes_dynloss.evaluation.predictions import PredictionTable, check_predictions
from aes_dynloss.evaluation.prompt_report import PromptReport, mean_entry, measure_prompt
from aes_dynloss.evaluation.ranges import widened
from aes_dynloss.evaluation.score_range import ScoreRange
from aes_dynloss.evaluation.table_files import replacing
from aes_dynloss.evaluation.verdicts import report_flags, worst_disagreements

WITHOUT_DEV = (
    "qwk_rescaled and qwk_cut_points are null: they are fitted on the same scorer's predictions of dev essays "
    "(--dev FILE)."
)
_PARTS = {"prompts", "mean", "floors", "notes", "settings"}


def build_report(
    predictions: PredictionTable | pd.DataFrame,
    *,
    ranges: Mapping[str, ScoreRange] | None = None,
    dev: PredictionTable | pd.DataFrame | None = None,
    floors: Mapping[str, Mapping[str, Any]] | None = None,
    subgroups: Sequence[str] = (),
    resamples: int = 1000,
    confidence: float = 0.95,
    seed: int = 0,
) -> dict[str, Any]:
    """Measure predictions against human scores, prompt by prompt and in the mean over prompts.

    Kappa and agreement are those of the score points; Pearson, Spearman, RMSE, SMD and sd ratio those of the raw
    predictions. Kappas after rescaling and after tuned cut points are fitted prompt by prompt on ``dev`` alone.

    Args:
        predictions: What ``read_predictions`` returned, or a table with columns essay_id, prompt_id, reference, of raw
            and score at least one, and second_reference if there is one.
        ranges: Score range by prompt id, for a table; inferred from the whole scores seen where none is given.
        dev: Predictions of the same scorer on dev essays, in the same form, none of the essays of ``predictions``.
        floors: Kappas of floors, as ``measure_floors`` gives them.
        subgroups: Columns of the predictions that say which group of writers an essay comes from; of what was read,
            those that ``read_predictions`` kept.
        resamples: Bootstrap resamples for the intervals; 0 for none.
        confidence: Share of resamples inside an interval, between 0 and 1.
        seed: Seed of the resamples, >= 0.

    Returns:
        Strict JSON: ``prompts`` by id, ``mean``, ``floors``, ``flags`` (criteria, judged), ``worst`` (the largest
        disagreements), ``notes``, ``settings``; None where undefined, by a note.

    Raises:
        ConfigError: A setting is out of its bounds.
        DataError: The predictions cannot be measured: a fault in a row, no human scores, essays shared with dev.
    """
    settings = IntervalSettings(resamples, confidence, seed)
    test = _checked(predictions, ranges, "the predictions", subgroups)
    dev_table = None if dev is None else _checked(dev, ranges, "the dev predictions")
    notes = [*test.notes, *([WITHOUT_DEV] if dev_table is None else _dev_notes(test, dev_table))]
    spans = dict(test.ranges) if dev_table is None else _spanning_both(test, dev_table)
    measured: dict[str, PromptReport] = {}
    scored = set(test.table["prompt_id"])  # of other prompts, all scores were withheld
    for prompt in sorted(scored, key=_natural):
        essays, dev_essays = _essays(test, prompt), None if dev_table is None else _essays(dev_table, prompt)
        measured[prompt] = measure_prompt(prompt, essays, dev_essays, spans[prompt], settings, subgroups)
        notes += measured[prompt].notes
    mean, mean_notes = mean_entry(measured, settings)
    entries = {prompt: part.entry for prompt, part in measured.items()}
    return {
        "prompts": entries,
        "mean": mean,
        "floors": {name: dict(floor) for name, floor in (floors or {}).items()},
        "flags": report_flags(entries, mean),
        "worst": worst_disagreements(test.table, spans),
        "notes": [*notes, *mean_notes],
        "settings": settings.to_dict(),
    }


def write_report(report: Mapping[str, Any], path: str | Path) -> None:
    """Write a report as strict JSON; the file appears whole or not at all.

    Args:
        report: What ``build_report`` returned.
        path: Where to; missing folders are made, an existing file is replaced.

    Raises:
        DataError: The file cannot be written.
    """
    with replacing(Path(path)) as temporary:
        temporary.write_text(report_json(report), encoding="utf-8")


def read_report(path: str | Path) -> dict[str, Any]:
    """Read what ``write_report`` wrote.

    Args:
        path: The file.

    Raises:
        DataError: It cannot be read, or is no report.
    """
    try:
        report = json.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"{path} cannot be read as a report: {error}. Make it again.") from error
    if not isinstance(report, dict) or not report.keys() >= _PARTS:
        raise DataError(f"{path} is no report: expected {', '.join(sorted(_PARTS))} in it. Make it again.")
    return report


def report_json(report: Mapping[str, Any]) -> str:
    """A report as the text of its file; ValueError if it holds NaN or infinity, which JSON does not know."""
    return json.dumps(report, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def _checked(
    predictions: PredictionTable | pd.DataFrame,
    ranges: Mapping[str, ScoreRange] | None,
    source: str,
    kept: Sequence[str] = (),
) -> PredictionTable:
    """A checked table with human scores."""
    if isinstance(predictions, pd.DataFrame):
        checked = check_predictions(predictions, ranges=ranges, source=source, kept=kept)
    elif ranges is not None:
        raise ConfigError("Predictions that were read have their ranges: give ranges= to read_predictions instead.")
    else:
        checked = predictions
    if checked.table["reference"].isna().any():
        raise DataError(
            f"There are no human scores to compare {source} with: fill in the column reference, or give a file of "
            "references (--references FILE)."
        )
    return checked


def _dev_notes(test: PredictionTable, dev: PredictionTable) -> list[str]:
    """Dev's notes; essays that are in dev and in test are refused."""
    keys = ["prompt_id", "essay_id"]
    shared = pd.MultiIndex.from_frame(test.table[keys]).intersection(pd.MultiIndex.from_frame(dev.table[keys]))
    if len(shared):
        prompt, essay = shared[0]
        raise DataError(
            f"{len(shared)} essays are in dev and in the predictions, such as {essay!r} of prompt {prompt!r}. "
            "A calibration measured on the essays that it was fitted on flatters: give dev predictions of other essays."
        )
    return [f"dev: {note}" for note in dev.notes]


def _spanning_both(test: PredictionTable, dev: PredictionTable) -> dict[str, ScoreRange]:
    """Each test prompt's range: the given one, or an inferred one that spans the scores of both tables."""
    inferred = {prompt: test.ranges[prompt] for prompt in test.inferred}
    return {**test.ranges, **widened(inferred, dev.ranges)}


def _essays(checked: PredictionTable, prompt: str) -> pd.DataFrame:
    """One prompt's essays."""
    return checked.table[checked.table["prompt_id"] == prompt]


def _natural(prompt: str) -> tuple[bool, int, str]:
    """Order of prompts: numbers by value, then names."""
    # Python reads no number of more than 4300 digits.
    number = prompt.isascii() and prompt.isdigit() and len(prompt) < 1000
    return not number, int(prompt) if number else 0, prompt
