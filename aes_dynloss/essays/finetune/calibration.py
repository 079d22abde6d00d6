"""The way from a done run's raw predictions to scores, fitted anew on essays that its model has not learned from.

Everything here is done on predictions that lie in the folder of a run, or of an ensemble of cross-fitted runs: no essay
is read or scored again.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from aes_dynloss.configfile import clipped_repr, read_mapping
from aes_dynloss.errors import DataError
from aes_dynloss.essays.data.essay_table import Prompt
from aes_dynloss.essays.finetune.held_out import (
    FITTED_ON,
    INNER,
    OUT_OF_FOLD,
    PART,
    check_held_out,
    predictions_hashes,
)
from aes_dynloss.essays.finetune.predicted import PROBABILITIES, Predicted, learn_from_dev
from aes_dynloss.essays.finetune.products import POST_PROCESSING, post_processing_notes
from aes_dynloss.essays.model.prompt_scales import AskedRule, Postprocessing, Rule, fit_postprocessing
from aes_dynloss.essays.model.protocol import point_names, probability_rows
from aes_dynloss.measures.intervals import Certainty, Intervals
from aes_dynloss.reports.model import Report
from aes_dynloss.reports.predictions import (
    check_predictions,
    predictions_file,
    read_predictions,
    write_predictions,
)
from aes_dynloss.reports.prompts import build_report, read_report, refuse_shared_essays
from aes_dynloss.reports.report_files import REPORT
from aes_dynloss.reports.trait_forms import with_scale_ids
from aes_dynloss.reports.traits import by_scale
from aes_dynloss.tables.atomic import file_sha256
from aes_dynloss.tables.cells import parse_ids, parse_numbers
from aes_dynloss.tables.columns import ColumnNames, missing_columns
from aes_dynloss.tables.formats import read_cells
from aes_dynloss.training.run_folder import MANIFEST, write_json
from aes_dynloss.versions import package_version

logger = logging.getLogger(__name__)

FEWEST_ESSAYS = 2  # of a prompt: one essay has no spread to fit to


@dataclass(frozen=True)
class Judged:
    """A scorer's predictions of N essays that it has not learned from, beside humans' scores.

    Args:
        prompt_ids: The essays' prompts, N ids.
        reference: Human scores, (N,).
        raw: Raw predictions, (N,).
        probabilities: Of each prompt's score points, (N, P), where they are known.
    """

    prompt_ids: list[str]
    reference: NDArray[np.float64]
    raw: NDArray[np.float64]
    probabilities: NDArray[np.float64] | None = None

    @classmethod
    def of(cls, table: pd.DataFrame, chances_of: Mapping[str, Prompt] | None = None) -> Judged:
        """From a checked table of predictions.

        Args:
            table: The table.
            chances_of: Prompts by id, where its column of probabilities is to be read.

        Raises:
            DataError: There are no such probabilities in it.
        """
        known = None if chances_of is None else _probabilities(table, chances_of)
        reference, raw = (table[name].to_numpy(dtype=np.float64) for name in ("reference", "raw"))
        return cls(table["prompt_id"].tolist(), reference, raw, known)


def _probabilities(table: pd.DataFrame, prompts: Mapping[str, Prompt]) -> NDArray[np.float64]:
    """The column of probabilities as numbers, (N, P)."""
    rows = []
    for essay, prompt, cell in zip(table["essay_id"], table["prompt_id"], table[PROBABILITIES], strict=True):
        points = point_names(prompts[prompt])
        try:
            found = {str(point): float(value) for point, value in dict(_from_json(cell)).items()}
        except (TypeError, ValueError):
            found = {}
        if list(found) != points:
            raise DataError(
                f"Essay {essay}: its {PROBABILITIES} are {clipped_repr(cell)}; expected those of the score points "
                f"{', '.join(points)} of prompt {prompt}, as `aes-dynloss score --probabilities` writes them."
            )
        rows.append(found)
    return probability_rows(rows)


def _from_json(cell: Any) -> Any:  # noqa: ANN401 - csv has text, other tables have values
    return json.loads(cell) if isinstance(cell, str) else cell


@dataclass
class Calibration:
    """What is set by essays that a scorer has not learned from.

    Args:
        prompts: The scorer's prompts by id.
        postprocessing: From raw to score.
        intervals: Prediction intervals.
        certainty: Sets chances right.
    """

    prompts: dict[str, Prompt]
    postprocessing: Postprocessing
    intervals: Intervals = field(default_factory=lambda: Intervals({}))
    certainty: Certainty = field(default_factory=lambda: Certainty({}))

    @classmethod
    def fit(cls, rule: AskedRule, prompts: dict[str, Prompt], fitted_on: Judged, known: Judged) -> Calibration:
        """Fit post-processing to some essays, and intervals and certainty to those of dev, maybe the same."""
        made = cls(prompts, _fitted(rule, prompts, fitted_on))
        learn_from_dev(made, known.prompt_ids, known.reference, Predicted(known.raw, known.probabilities))
        return made


def scores_by_part(
    rule: AskedRule, prompts: Mapping[str, Prompt], test: pd.DataFrame, inner: pd.DataFrame
) -> NDArray[np.float64]:
    """Score points of a cross-fitted run's essays: no essay of a part has a say in how that part is post-processed.

    Args:
        rule: none, rescale, cut_points or auto.
        prompts: Prompts by id.
        test: N essays with ``prompt_id``, ``raw`` and ``part``.
        inner: What each part's scorer predicted of the other parts' essays, with their ``reference`` beside.

    Returns:
        (N,), in the order of ``test``.
    """
    scores = np.empty(len(test))
    parts, raw = test[PART].to_numpy(), test["raw"].to_numpy(dtype=np.float64)
    for part in dict.fromkeys(parts.tolist()):
        rows = np.flatnonzero(parts == part)
        way = _fitted(rule, prompts, Judged.of(inner[(inner[PART] == part).to_numpy()]))
        scores[rows] = way.points(prompts, test["prompt_id"].to_numpy(dtype=object)[rows].tolist(), raw[rows])
    return scores


def _fitted(rule: AskedRule, prompts: Mapping[str, Prompt], essays: Judged) -> Postprocessing:
    ranges = {prompt.id: prompt.range for prompt in prompts.values()}
    return fit_postprocessing(rule, ranges, np.array(essays.prompt_ids, dtype=object), essays.raw, essays.reference)


@dataclass(frozen=True)
class KeptPredictions:
    """The predictions that lie in a run's folder.

    Args:
        cells: By part, the cells of its file.
        tables: The same, checked.
        inner: Of a cross-fitted run, what each part's scorer predicted of the others' essays.
    """

    cells: dict[str, pd.DataFrame]
    tables: dict[str, pd.DataFrame]
    inner: pd.DataFrame | None

    @classmethod
    def read(cls, folder: Path, prompts: Mapping[str, Prompt]) -> KeptPredictions:
        """Read and check them.

        Args:
            folder: The run's.
            prompts: Its model's prompts.

        Raises:
            DataError: A file is missing, damaged, or not what the run wrote.
        """
        ranges = {prompt.id: prompt.range for prompt in prompts.values()}
        written = read_mapping(folder / MANIFEST).get("predictions", {})
        gone = [predictions_file(part) for part in written if not (folder / predictions_file(part)).is_file()]
        if gone:
            raise DataError(f"{folder} lacks {', '.join(gone)}, which the run wrote. Bring back what was removed.")
        cells, tables = {}, {}
        for part in ("dev", "test", OUT_OF_FOLD):
            path = folder / predictions_file(part)
            if path.is_file():
                cells[part] = with_scale_ids(read_cells(path).reset_index(drop=True), str(path))
                kept = [name for name in (PART, PROBABILITIES) if name in cells[part]]
                tables[part] = check_predictions(cells[part], ranges=ranges, source=str(path), kept=kept).table
                check_held_out(folder, part, tables[part]["essay_id"])
        inner = read_inner(folder) if PART in tables.get("test", ()) else None
        return cls(cells, tables, inner)

    @property
    def fitted_on(self) -> str:
        """The part on which the run itself fitted the model's post-processing."""
        if self.inner is not None:
            return "test"
        return OUT_OF_FOLD if OUT_OF_FOLD in self.tables else "dev"

    @property
    def dev(self) -> str:
        """The part from which the run's model learned its intervals and certainty."""
        return "dev" if self.inner is None else "test"

    def judged(self, part: str, prompts: Mapping[str, Prompt], *, probabilities: bool = False) -> Judged:
        """A part's predictions.

        Args:
            part: dev, test or OUT_OF_FOLD.
            prompts: Prompts by id.
            probabilities: Whether they are to be with probabilities.

        Raises:
            DataError: There are none, or there should be probabilities.
        """
        if part not in self.tables:
            raise DataError(
                f"The run has no {predictions_file(part)} to fit on. Name a table of predictions with --on."
            )
        if probabilities and PROBABILITIES not in self.tables[part]:
            raise DataError(
                f"{predictions_file(part)} lacks the column {PROBABILITIES}, by which the model knows how sure it is: "
                "the run is of an earlier version. Name predictions with that column with --on (aes-dynloss score "
                "--probabilities), or repeat the run."
            )
        return Judged.of(self.tables[part], prompts if probabilities else None)

    def scored(self, calibration: Calibration, by_part: AskedRule | None) -> dict[str, pd.DataFrame]:
        """The tables of predictions, as their files hold them, with scores by a calibration.

        Args:
            calibration: The model's.
            by_part: The rule by which a cross-fitted run's post-processing was fitted on its own essays: then a part's
                scores are by one that was fitted without it. None: it was fitted on other essays.
        """
        way, prompts = calibration.postprocessing, calibration.prompts
        scored = {}
        for part, table in self.tables.items():
            if part == "test" and self.inner is not None and by_part is not None:
                scores = scores_by_part(by_part, prompts, table, self.inner)
            else:
                scores = way.points(prompts, table["prompt_id"].tolist(), table["raw"].to_numpy(dtype=np.float64))
            scored[part] = self.cells[part].assign(score=scores)
        return scored


def read_inner(folder: Path) -> pd.DataFrame:
    """What each part's scorer of a cross-fitted run predicted of the others' essays.

    Args:
        folder: The run's.

    Returns:
        Columns part, prompt_id and essay_id (text), reference and raw.

    Raises:
        DataError: The file is missing, damaged, or not what the run wrote.
    """
    path = folder / predictions_file(INNER)
    if not path.is_file():
        raise DataError(f"There is no {path}, on which parts' scores are fitted. Bring it back, or repeat the run.")
    cells, name = read_cells(path), path.name
    missing = [column for column in (PART, "essay_id", "prompt_id", "reference", "raw") if column not in cells]
    if missing:
        raise DataError(f"{path} lacks the column {missing[0]}. Bring back the file of the run.")
    cells = with_scale_ids(cells, name)
    table = pd.DataFrame({column: parse_ids(cells[column], column, name) for column in (PART, "prompt_id", "essay_id")})
    for column in ("reference", "raw"):
        table[column] = parse_numbers(cells[column], column, table["essay_id"], name)
    check_held_out(folder, INNER, table["essay_id"])
    return table


@dataclass(frozen=True)
class Fit:
    """A new calibration, and on what it was fitted.

    Args:
        calibration: The model's.
        fitted_on: On what it was fitted, in words.
        record: The same, and when, for the manifest.
    """

    calibration: Calibration
    fitted_on: str
    record: dict[str, Any]

    @property
    def rule(self) -> Rule:
        """none, rescale or cut_points."""
        return self.calibration.postprocessing.kind


@dataclass(frozen=True)
class Recalibration(Fit):
    """A new calibration, and the scores that result.

    Args:
        predictions: Tables of predictions by part, with the new scores.
        before: The report that is there.
        after: The report on the new scores.
    """

    predictions: dict[str, pd.DataFrame]
    before: Report
    after: Report

    def write(self, folder: Path) -> dict[str, Any]:
        """Write predictions and manifest into a folder, and return the manifest."""
        for part, table in self.predictions.items():
            write_predictions(table, folder / predictions_file(part))
        manifest = read_mapping(folder / MANIFEST)
        written = {*manifest.get("predictions", {}), *self.predictions}
        manifest["predictions"] = predictions_hashes(folder, sorted(written))
        manifest["calibrated"] = [*manifest.get("calibrated", []), self.record]
        write_json(folder / MANIFEST, manifest)
        return manifest


def fit_on(
    path: Path,
    rule: AskedRule,
    prompts: dict[str, Prompt],
    *,
    probabilities: bool,
    predicted: Mapping[str, pd.DataFrame] = {},
) -> Fit:
    """Fit post-processing, intervals and certainty on a table of predictions with human scores.

    Args:
        path: The table: essay_id, reference, raw, and prompt_id where the model knows several prompts.
        rule: none, rescale, cut_points or auto.
        prompts: The model's prompts.
        probabilities: Whether the model's head gives probabilities, by which it knows how sure it is.
        predicted: The model's own predictions by part: the table may hold none of the essays of test (of dev, where
            there is no test), and none of train, where these are predicted too. Where they are not, a warning says that
            they cannot be told.

    Raises:
        DataError: The table does not serve.
    """
    given = _read_given(path, prompts, predicted, probabilities=probabilities)
    number = len(given.raw)
    record = _record(rule, on=path.name, sha256=file_sha256(path), essays=number)
    return Fit(Calibration.fit(rule, prompts, given, given), f"{number} essays of {path.name}", record)


def recalibrate(
    folder: Path, prompts: dict[str, Prompt], rule: AskedRule, on: Path | None, *, probabilities: bool
) -> Recalibration:
    """Fit a folder's post-processing, intervals and certainty again, and measure the scores that result.

    Args:
        folder: A run's, or that of an ensemble of cross-fitted runs.
        prompts: The model's prompts.
        rule: none, rescale, cut_points or auto.
        on: A table of predictions with human scores; None: what the run itself fitted on.
        probabilities: Whether the model's head gives probabilities, by which it knows how sure it is.

    Raises:
        DataError: Predictions are missing, damaged or other ones, or those of ``on`` do not serve.
    """
    kept = KeptPredictions.read(folder, prompts)
    if on is None:
        known = kept.judged(kept.dev, prompts, probabilities=probabilities)
        calibration = Calibration.fit(rule, prompts, kept.judged(kept.fitted_on, prompts), known)
        words = FITTED_ON[kept.fitted_on]
        fit = Fit(calibration, words, _record(rule, on=words))
    else:
        fit = fit_on(on, rule, prompts, probabilities=probabilities, predicted=kept.tables)
    before, scored = read_report(folder / REPORT), kept.scored(fit.calibration, rule if on is None else None)
    after = new_report(before, scored, fit.calibration, fit.fitted_on, cross_fitted=kept.inner is not None)
    return Recalibration(fit.calibration, fit.fitted_on, fit.record, scored, before, after)


def _record(rule: AskedRule, **on: object) -> dict[str, Any]:
    when, version = datetime.now(UTC).isoformat(timespec="seconds"), package_version("aes-dynloss")
    return {"when": when, "version": version, "postprocessing": rule, **on}


def new_report(
    before: Report,
    predictions: Mapping[str, pd.DataFrame],
    calibration: Calibration,
    fitted_on: str,
    *,
    cross_fitted: bool,
) -> Report:
    """The report on new scores of the same essays; what does not hang on scores is that of the old one.

    Args:
        before: The old one.
        predictions: Tables of predictions with the new scores: test, dev.
        calibration: The model's.
        fitted_on: What that was fitted on, in words.
        cross_fitted: Whether the essays of dev are among those of test.
    """
    judged = _judged_part(predictions)
    groups = next((entry.fairness.columns for entry in by_scale(before).prompts.values() if entry.fairness), {})
    report = build_report(
        predictions[judged],
        ranges={prompt.id: prompt.range for prompt in calibration.prompts.values()},
        dev=predictions["dev"] if judged == "test" and not cross_fitted else None,
        out_of_fold=cross_fitted,
        floors=by_scale(before).floors,
        subgroups=list(groups),
        resamples=before.settings.resamples,
        confidence=before.settings.confidence,
        seed=before.settings.seed,
    )
    known = [note for note in before.notes if note not in report.notes and not note.startswith(POST_PROCESSING)]
    return replace(
        report,
        features=before.features,
        ratings=before.ratings,
        drivers=before.drivers,
        robustness=before.robustness,
        notes=[*report.notes, *known, *post_processing_notes(calibration.postprocessing, fitted_on)],
    )


def _judged_part(predictions: Collection[str]) -> str:
    """The part whose essays a run's figures are of, of those that it has predicted."""
    return "test" if "test" in predictions else "dev"


def _read_given(
    path: Path, prompts: Mapping[str, Prompt], predicted: Mapping[str, pd.DataFrame], *, probabilities: bool
) -> Judged:
    """Predictions with human scores that a user names, of essays that are new to the model and to its figures."""
    columns = read_cells(path).columns
    wanted = {
        "essay_id": "of the essays' ids: name it so",
        "reference": "of human scores: name it so",
        "raw": "of the model's raw predictions: let it score the essays first (aes-dynloss score)",
    }
    if len(prompts) > 1:
        wanted["prompt_id"] = "of the essays' prompts: name it so"
    if probabilities:
        wanted[PROBABILITIES] = "by which the model knows how sure it is: score the essays with --probabilities"
    missing = {column: f"It is the column {what}." for column, what in wanted.items() if column not in columns}
    if missing:
        raise DataError(f"--on {missing_columns(path.name, missing, list(map(str, columns)))}")
    given = read_predictions(
        path,
        columns=ColumnNames(reference="reference", raw="raw"),
        ranges={prompt.id: prompt.range for prompt in prompts.values()},
        kept=[PROBABILITIES] if probabilities else [],
    )
    if "prompt_id" not in columns:
        given = replace(given, table=given.table.assign(prompt_id=next(iter(prompts))))
    _check_given(given.table, path.name, prompts)
    judged = _judged_part(predicted)
    for part, what in ((judged, "the essays of the run's figures"), (OUT_OF_FOLD, "those that the model learned from")):
        if part in predicted:
            own = replace(given, table=predicted[part])
            refuse_shared_essays(own, given, f"--on {path.name}, {what}: ", fitted_on="it")
    if OUT_OF_FOLD not in predicted and PART not in predicted.get(judged, ()):
        logger.warning(
            "--on %s: which essays the model was trained on is not kept, so that they are not recognised by their ids. "
            "If the table holds any, leave them out: their predictions are too good, and intervals fitted on them too "
            "narrow.",
            path.name,
        )
    return Judged.of(given.table, prompts if probabilities else None)


def _check_given(table: pd.DataFrame, name: str, prompts: Mapping[str, Prompt]) -> None:
    """Refuse essays without human scores, on unknown prompts, or on some of the model's prompts alone."""
    unknown = [prompt for prompt in table["prompt_id"].unique() if prompt not in prompts]
    if unknown:
        raise DataError(
            f"--on {name} holds essays on prompt {unknown[0]!r}, which the model does not know: it knows "
            f"{', '.join(prompts)}. Leave them out, or map the ids."
        )
    if table["reference"].isna().any():
        raise DataError(f"--on {name} holds no human scores: its column reference is blank. Fill it in.")
    counts = {prompt: int((table["prompt_id"] == prompt).sum()) for prompt in prompts}
    short = [f"prompt {prompt} has {count}" for prompt, count in counts.items() if count < FEWEST_ESSAYS]
    if short:
        raise DataError(
            f"--on {name} should hold {FEWEST_ESSAYS} essays or more of each of the model's prompts; "
            f"{', '.join(short)}. Add some."
        )
