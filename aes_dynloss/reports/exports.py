"""Export to ETS RSMTool's ``rsmeval``: for each prompt a folder with a configuration and the csv files that it names.

RSMTool knows one range of whole scores an experiment, hence a folder a prompt, and a range in other steps counted in
whole ones. Three of its habits shape the files. It looks for a csv file in the working directory before it looks beside
the configuration, so that ``predictions.csv`` could be somebody else's: the files' names carry a digest of their
content. It leaves out human scores of 0 unless told not to. It shows the description as Markdown, after taking out what
looks like a comment: other people's words in it are escaped, and names are reduced to what file names can hold.

The folder appears whole or not at all, and replaces nothing but an earlier export.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
import logging
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, count
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from aes_dynloss.errors import DataError
from aes_dynloss.measures.calibration import TRIM_TOLERANCE, fit_rescaling, trim
from aes_dynloss.measures.fairness import group_labels
from aes_dynloss.reports.predictions import PredictionTable
from aes_dynloss.tables.atomic import atomic_folder
from aes_dynloss.tables.columns import RATER_COLUMNS
from aes_dynloss.tables.provenance import PROVENANCE
from aes_dynloss.tables.score_range import ScoreRange, widened

CONFIG = "config.json"
EXPERIMENT = "prompt_"
_EXPORTED = re.compile(r"config\.json|(predictions|scaling)_[0-9a-f]{8}\.csv")


def _check_replaceable(folder: Path, *, force: bool) -> None:
    """Refuse a path that is taken by anything but an earlier export, or by one without ``force``."""
    if folder.exists() and not folder.is_dir():
        raise DataError(f"{folder} is a file; expected a folder to export to. Choose another one.")
    entries = sorted(folder.iterdir()) if folder.exists() else []
    if entries and not force:
        raise DataError(f"{folder} is there already. Choose another folder, or give --force to replace the export.")
    for entry in (entry for entry in entries if entry.name != PROVENANCE):
        exported = entry.is_dir() and entry.name.startswith(EXPERIMENT)
        for path in sorted(entry.iterdir()) if exported else [entry]:
            if not exported or not path.is_file() or not _EXPORTED.fullmatch(path.name):
                raise DataError(
                    f"{path} is no part of an export, and --force replaces nothing else. Move it, or choose another "
                    f"folder than {folder}."
                )


# The row that RSMTool adds to the groups of a column.
ALL_DATA = "All data"
LONGEST_NAME = 60


def plain_names(names: Iterable[str], taken: Collection[str] = ()) -> list[str]:
    """Names of ASCII letters, digits, - and _, distinct in any case of letters, as near as can be to the given ones.

    Args:
        names: Names of any kind, distinct.
        taken: Further names, in lower case, that the result must not have.

    Returns:
        A name for each.
    """
    used, plain = set(taken), []
    for name in names:
        stem = re.sub(r"[^0-9A-Za-z_-]", "_", name)[:LONGEST_NAME] or "_"
        candidates = chain([stem], (f"{stem}_{number}" for number in count(2)))
        plain.append(next(candidate for candidate in candidates if candidate.lower() not in used))
        used.add(plain[-1].lower())
    return plain


def plain_labels(labels: Sequence[str]) -> list[str]:
    """Labels of groups that survive RSMTool's report, which reads them from a csv file and guesses their type.

    It would take ``NA`` and ``None`` for blanks and ``01`` for ``1``. Where it would confuse a column's labels, all of
    them are put in brackets.

    Args:
        labels: Each essay's group, none blank.

    Returns:
        The labels, or the labels in brackets.
    """
    distinct = sorted(set(labels))
    file = io.StringIO("".join('"{}"\n'.format(label.replace('"', '""')) for label in distinct))
    guessed = pd.read_csv(file, header=None, skip_blank_lines=False)[0]
    numbers = pd.to_numeric(pd.Series(distinct), errors="coerce").notna()
    # Of numbers beside words it makes numbers in one stretch of a long file and words in another.
    told_apart = guessed.nunique() == len(distinct) and (numbers.all() or not numbers.any())
    return list(labels) if told_apart else [f"[{label}]" for label in labels]


def escaped(words: str) -> str:
    """Words that Markdown, HTML and RSMTool's search for comments leave alone; ``html.unescape`` gives them back."""
    return "".join(
        sign if sign.isalnum() or sign in " -_.," else f"&#{ord(sign)};"  # a space's neighbours mean nothing here
        for sign in words
    )


# How far predictions may lie beyond the range, in score points.
FARTHEST = 2000

logger = logging.getLogger(__name__)


def export_rsmeval(
    test: PredictionTable,
    dev: PredictionTable | None,
    folder: Path,
    *,
    subgroups: Sequence[str] = (),
    force: bool = False,
) -> list[Path]:
    """Write what ``rsmeval`` runs on: ``rsmeval FOLDER/prompt_1/config.json OUTPUT_FOLDER``.

    The machine's scores are the raw predictions: RSMTool trims, rounds and rescales them itself, as ``score_versions``
    does but for exact halves, which it rounds to the even score. It rescales by the moments of dev's essays; a prompt
    for which dev determines no rescaling is exported without. Where score points are not whole numbers, all scores of
    the prompt are counted in steps, on which agreement, correlations and standardised differences do not depend.
    Whatever a reader of RSMTool's report must know is said in the configuration's description, and logged.

    Args:
        test: Predictions with human scores.
        dev: Predictions of the same scorer on dev essays, with human scores, none of the essays of ``test``.
        folder: Where to; it appears whole or not at all. Missing folders are made.
        subgroups: Columns of ``test.table`` that say which group of writers an essay comes from.
        force: Replace an earlier export that is there, and nothing else.

    Returns:
        Each prompt's configuration, in the order of the prompts' first essays.

    Raises:
        DataError: Human scores or a column are missing, a column cannot be told apart from RSMTool's own rows, the
            folder is there without ``force``, holds something else, or cannot be written.
    """
    subgroups = list(dict.fromkeys(subgroups))
    _check_exportable(test, dev, subgroups)
    scored = set(test.table["prompt_id"])  # of other prompts, all scores were withheld
    spans = {prompt: span for prompt, span in test.ranges.items() if prompt in scored}
    if dev is not None:
        spans |= widened({prompt: spans[prompt] for prompt in spans.keys() & test.inferred}, dev.ranges)
    columns = dict(zip(subgroups, plain_names(subgroups, taken=_COLUMNS), strict=True))
    names = {prompt: EXPERIMENT + name for prompt, name in zip(spans, plain_names(spans), strict=True)}
    files: dict[Path, bytes] = {}
    for prompt, name in names.items():
        essays = test.table[test.table["prompt_id"] == prompt]
        dev_essays = None if dev is None else dev.table[dev.table["prompt_id"] == prompt]
        experiment, notes = _experiment(name, prompt, essays, dev_essays, spans[prompt], columns)
        for note in notes:
            logger.info("Prompt %s in %s: %s", prompt, folder / name, note)
        files |= {Path(name) / file: content for file, content in experiment.items()}
    _check_replaceable(folder, force=force)
    try:
        with atomic_folder(folder) as new:
            for file, content in files.items():
                (new / file).parent.mkdir(exist_ok=True)
                (new / file).write_bytes(content)
    except OSError as error:
        raise DataError(f"Cannot write {folder}: {error.strerror or error}.") from error
    return [folder / name / CONFIG for name in names.values()]


_ROLES = {
    "id_column": "essay_id",
    "human_score_column": "reference",
    "second_human_score_column": "second_reference",
    "system_score_column": "raw",
}
# RSMTool's own columns and those of the file, of which no subgroup may have the name.
_COLUMNS = frozenset(
    {*_ROLES.values(), "spkitemid", "sc1", "sc2", "length", "candidate", "raw_trim", "raw_trim_round", "scale"}
    | {"scale_trim", "scale_trim_round", "sc1_round", "sc1_cat", "error", "se", "group", "set"}
)


@dataclass(frozen=True)
class _WholeScores:
    """The way from a prompt's score points to whole numbers; from whole numbers they stay as they are."""

    span: ScoreRange

    @property
    def low(self) -> int:
        """The lowest whole score: that number of steps from 0, or 0 where 0 is no whole number of steps away."""
        steps = self.span.low / self.span.step
        return round(steps) if abs(steps - round(steps)) < 1e-9 else 0

    @property
    def high(self) -> int:
        """The highest whole score."""
        return self.low + self.span.count - 1

    @property
    def note(self) -> str:
        """What the whole scores stand for, empty where they stand for themselves."""
        if (self.low, self.span.step) == (self.span.low, 1):
            return ""
        return (
            f"RSMTool knows whole scores alone, so scores are counted in steps of {self.span.step:g}: {self.low} to "
            f"{self.high} stand for {self.span.low:g} to {self.span.high:g}. RMSE, means and sds are in such steps."
        )

    def apply(self, scores: pd.Series[float]) -> NDArray[np.float64]:
        """Scores or predictions in whole scores; blanks stay blank."""
        values = np.asarray(scores, dtype=np.float64)
        if not self.note:
            return values
        steps = (values - self.span.low) / self.span.step
        # Score points become whole numbers to the last digit.
        near = np.rint(steps)
        return np.asarray(np.where(np.abs(steps - near) < 1e-9, near, steps) + self.low, dtype=np.float64)


def _check_exportable(test: PredictionTable, dev: PredictionTable | None, subgroups: Sequence[str]) -> None:
    """Refuse what cannot be exported."""
    for checked, words in ((test, "the predictions"), (dev, "the dev predictions")):
        if checked is not None and checked.table["reference"].isna().any():
            raise DataError(
                f"There are no human scores in {words}, and rsmeval compares with them: fill in the column reference, "
                "or give a file of references (--references FILE)."
            )
    for column in subgroups:
        if column not in test.table:
            have = ", ".join(map(str, test.table.columns))
            raise DataError(f"The predictions have no column {column!r} of subgroups (columns: {have}). Name one.")


def _experiment(
    name: str,
    prompt: str,
    essays: pd.DataFrame,
    dev: pd.DataFrame | None,
    span: ScoreRange,
    columns: Mapping[str, str],
) -> tuple[dict[str, bytes], list[str]]:
    """Content of one prompt's files by name, and what a reader of RSMTool's report must know.

    ``columns`` are the subgroups' names in RSMTool by their own.
    """
    whole = _WholeScores(span)
    notes = [whole.note] if whole.note else []
    predictions = pd.DataFrame({"essay_id": essays["essay_id"], "reference": whole.apply(essays["reference"])})
    config: dict[str, Any] = dict(_ROLES)
    if "second_reference" in essays and essays["second_reference"].notna().any():
        predictions["second_reference"] = whole.apply(essays["second_reference"])
    else:
        del config["second_human_score_column"]
    if set(RATER_COLUMNS) <= set(essays):
        notes.append(
            "The two raters of whom the report speaks are left out: RSMTool would hold one of them against the score "
            "that was resolved from both."
        )
    predictions["raw"] = whole.apply(essays["raw"])
    if len(essays) == 1 and columns:
        notes.append("RSMTool compares no groups in a single essay: the subgroups are left out.")
        columns = {}
    for column, plain in columns.items():
        predictions[plain], label_notes = _labels(prompt, plain, essays[column])
        notes += label_notes
    scaling, why = _scaling(dev, whole)
    _refuse_far(prompt, predictions, scaling, whole)
    notes += [*why, *_rounding_notes(essays, whole)]
    config |= {"exclude_zero_scores": False, "subgroups": list(columns.values())}
    config |= {"trim_min": whole.low, "trim_max": whole.high, "trim_tolerance": TRIM_TOLERANCE}
    title = f"Predictions for prompt {escaped(prompt)}: {len(essays)} essays, exported by aes-dynloss."
    return _files(
        {"experiment_id": name, "description": " ".join([title, *notes])}, config, predictions, scaling
    ), notes


def _labels(prompt: str, name: str, cells: pd.Series[Any]) -> tuple[list[str], list[str]]:
    """Each essay's group as RSMTool can read it, and what of the column has another name in the export."""
    labels = group_labels(cells).tolist()
    if ALL_DATA in labels:
        raise DataError(
            f"Column {cells.name!r} of prompt {prompt} has a group {ALL_DATA!r}, which is what rsmeval calls all "
            "essays: it would count the group's essays twice. Rename the group."
        )
    plain = plain_labels(labels)
    notes = [] if name == cells.name else [f"The column {escaped(str(cells.name))} is called {name} here."]
    if plain != labels:
        notes.append(f"The groups of {name} are in brackets, lest RSMTool take one for a blank or for another.")
    return plain, notes


def _scaling(dev: pd.DataFrame | None, whole: _WholeScores) -> tuple[pd.DataFrame | None, list[str]]:
    """Dev's human scores and predictions under RSMTool's names, or None and why."""
    if dev is None:
        return None, []
    if dev.empty:
        return None, ["This prompt has no dev essays, so its scores are not rescaled."]
    table = pd.DataFrame({"sc1": whole.apply(dev["reference"]), "prediction": whole.apply(dev["raw"])})
    note = fit_rescaling(table["prediction"], table["sc1"]).note
    return (None, [f"{note[0].upper()}{note[1:]}."]) if note else (table, [])


def _refuse_far(prompt: str, predictions: pd.DataFrame, scaling: pd.DataFrame | None, whole: _WholeScores) -> None:
    """Refuse predictions so far from the range that RSMTool's table of all whole scores between them fills memory."""
    raw = predictions["raw"].to_numpy(dtype=np.float64)
    versions = [raw] if scaling is None else [raw, fit_rescaling(scaling["prediction"], scaling["sc1"]).apply(raw)]
    for values in versions:
        beyond = np.maximum(values - whole.high, whole.low - values)
        row = int(beyond.argmax())
        if beyond[row] > FARTHEST:
            raise DataError(
                f"Essay {predictions['essay_id'].iloc[row]!r} of prompt {prompt} has a prediction of {values[row]:g}, "
                f"raw or rescaled, far beyond {whole.low} to {whole.high}: rsmeval makes a table of all whole scores "
                "up to it, which memory does not hold. Fix the prediction or drop the essay."
            )


def _rounding_notes(essays: pd.DataFrame, whole: _WholeScores) -> list[str]:
    """On how many essays RSMTool's rounding of raw is not the table's score."""
    raw = trim(whole.apply(essays["raw"]), ScoreRange(whole.low, whole.high), TRIM_TOLERANCE)
    other = int((np.rint(raw) != whole.apply(essays["score"])).sum())
    if not other:
        return []
    return [
        f"On {other} of {len(essays)} essays the score of the table is not raw rounded by RSMTool, which rounds exact "
        "halves to the even score and knows no cut points: raw_trim_round differs there."
    ]


def _files(
    head: Mapping[str, str], settings: Mapping[str, Any], predictions: pd.DataFrame, scaling: pd.DataFrame | None
) -> dict[str, bytes]:
    """Content of the experiment's files by name: the tables, and the configuration that names them."""
    config: dict[str, Any] = dict(head)
    files: dict[str, bytes] = {}
    for key, stem, table in (("predictions_file", "predictions", predictions), ("scale_with", "scaling", scaling)):
        if table is not None:
            content = table.to_csv(index=False, lineterminator="\n", quoting=csv.QUOTE_NONNUMERIC).encode()
            config[key] = f"{stem}_{hashlib.sha256(content).hexdigest()[:8]}.csv"
            files[config[key]] = content
    return {**files, CONFIG: (json.dumps({**config, **settings}, indent=2) + "\n").encode()}
