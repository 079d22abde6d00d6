"""Ensembles of cross-fitted runs: what is fitted for a part's figures is fitted without the part's essays.

For part k of the essays each run has a scorer that was fitted without part k, and predictions by it of the other parts'
essays, none by a scorer that knew that essay's human score. On these the weights and the post-processing are fitted by
which part k is scored. Those of the ensemble itself are fitted on the out-of-fold predictions of all essays.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from aes_dynloss.configfile import read_mapping
from aes_dynloss.errors import ConfigError
from aes_dynloss.essays.ensembles.ensemble import EssayEnsemble, Member, weighted_mean
from aes_dynloss.essays.ensembles.member_predictions import MemberPredictions
from aes_dynloss.essays.finetune.calibration import Calibration, Judged, KeptPredictions, new_report, scores_by_part
from aes_dynloss.essays.finetune.held_out import (
    FITTED_ON,
    INNER,
    OUT_OF_FOLD,
    PART,
    essay_hashes,
    predictions_hashes,
)
from aes_dynloss.essays.finetune.predicted import PROBABILITIES
from aes_dynloss.essays.finetune.products import cross_fit_note
from aes_dynloss.essays.model.prompt_scales import Rule
from aes_dynloss.reports.model import Report
from aes_dynloss.reports.predictions import is_cross_fitted, predictions_file, write_inner, write_predictions
from aes_dynloss.reports.prompts import read_report
from aes_dynloss.reports.report_files import REPORT, write_report_files
from aes_dynloss.reports.traits import by_scale
from aes_dynloss.training.run_folder import MANIFEST, write_json
from aes_dynloss.versions import package_version

_KEYS = [PART, "prompt_id", "essay_id"]


@dataclass(frozen=True)
class OutOfFoldFigures:
    """An ensemble's predictions of all essays by what was fitted without them, and the report on them.

    Args:
        test: Table of predictions with the essays' parts.
        inner: For each part, the ensemble's predictions of the other parts' essays.
        report: On ``test``.
        run: A member's run, of the same essays and parts.
    """

    test: pd.DataFrame
    inner: pd.DataFrame
    report: Report
    run: Path

    def write(self, folder: Path, name: str) -> None:
        """Write files of FIGURES into the folder of an ensemble that is called ``name``."""
        write_predictions(self.test, folder / predictions_file("test"))
        write_inner(self.inner, folder / predictions_file(INNER))
        own = read_mapping(self.run / MANIFEST)
        manifest: dict[str, Any] = {
            "started": datetime.now(UTC).isoformat(timespec="seconds"),
            "versions": {"aes-dynloss": package_version("aes-dynloss")},
            **{key: own[key] for key in ("data", "essays_sha256", "split") if key in own},
            "predictions": predictions_hashes(folder, ["test", INNER]),
        }
        write_json(folder / MANIFEST, manifest)
        write_ensemble_report(self.report, folder, name)


def write_ensemble_report(report: Report, folder: Path, name: str) -> None:
    """Write the report on an ensemble's predictions.

    Args:
        report: The report.
        folder: Where to.
        name: What the ensemble is called.
    """
    write_report_files(report, folder, title=f"Agreement of {name} with human scores")


@dataclass(frozen=True)
class CrossFittedMembers:
    """What the members' runs predicted of the same essays, in the same parts.

    Args:
        runs: The members' runs.
        table: The first one's table of predictions of all essays, in the order of ``test``.
        test: All essays, each by the scorers that were fitted without its part.
        inner: For each part, the other parts' essays, or the dev essays among them.
        shrinkage: Least shrinkage of weights that are fitted on ``inner``.
    """

    runs: list[Path]
    table: pd.DataFrame
    test: MemberPredictions
    inner: MemberPredictions
    shrinkage: float

    @classmethod
    def read(cls, members: Sequence[Member], dev_shrinkage: float) -> CrossFittedMembers:
        """Read and check them.

        Args:
            members: Members, one of them that of a cross-fitted run.
            dev_shrinkage: Least shrinkage where ``inner`` are dev essays.

        Raises:
            ConfigError: A member is of other essays or parts, or of none.
            DataError: Predictions are missing, damaged, or not what a run wrote.
        """
        _check_parts(members)
        runs = [member.folder.parent for member in members]
        kept = [KeptPredictions.read(run, member.scorer.prompts) for run, member in zip(runs, members, strict=True)]
        test = MemberPredictions.of(members, [_indexed(one.tables["test"]) for one in kept])
        inner = MemberPredictions.of(members, [_indexed(one.inner) for one in kept if one.inner is not None])
        order = _indexed(kept[0].tables["test"]).index.get_indexer(test.index)
        table = kept[0].cells["test"].iloc[order].reset_index(drop=True)
        by_others = all(OUT_OF_FOLD in one.tables for one in kept)
        return cls(runs, table, test, inner, 0.0 if by_others else dev_shrinkage)

    def figures(self, ensemble: EssayEnsemble, rule: Rule, *, stacked: bool) -> OutOfFoldFigures:
        """Score each part by what is fitted without it, and give the ensemble what all out-of-fold predictions say.

        Args:
            ensemble: Of these members; its post-processing, intervals and certainty are set.
            rule: none, rescale or cut_points.
            stacked: Whether the members' weights are fitted.
        """
        raw, inner_raw = np.empty(len(self.test.raw)), np.empty(len(self.inner.raw))
        for part in dict.fromkeys(self.test.parts):
            own, others = self.test.parts == part, self.inner.parts == part
            fitted_on = self.inner.rows(others)
            weights = fitted_on.weights(ensemble.prompts, self.shrinkage) if stacked else {}
            raw[own] = weighted_mean(self.test.raw[own], self.test.rows(own).prompt_ids, weights)
            inner_raw[others] = weighted_mean(fitted_on.raw, fitted_on.prompt_ids, weights)
        inner = self.inner.index.to_frame(index=False).assign(reference=self.inner.reference, raw=inner_raw)
        known = self.test.index.to_frame(index=False).assign(reference=self.test.reference, raw=raw)
        scores = scores_by_part(rule, ensemble.prompts, known, inner)
        dropped = [name for name in ("dropped_tokens", PROBABILITIES) if name in self.table]
        test = self.table.drop(columns=dropped).assign(raw=raw, score=scores)
        judged = Judged.of(known)
        calibration = Calibration.fit(rule, ensemble.prompts, judged, judged)
        ensemble.postprocessing = calibration.postprocessing
        ensemble.intervals, ensemble.certainty = calibration.intervals, calibration.certainty
        reports = [by_scale(read_report(run / REPORT)) for run in self.runs]
        before = replace(
            reports[0],
            floors=next((report.floors for report in reports if report.floors), {}),
            features=None,
            traits=None,
            trait_means=None,
            ratings=None,
            robustness=None,
            notes=[cross_fit_note(len(set(self.test.parts)))],
        )
        report = new_report(before, {"test": test}, calibration, FITTED_ON["test"], cross_fitted=True)
        return OutOfFoldFigures(test, inner, report, self.runs[0])


def _indexed(table: pd.DataFrame) -> pd.DataFrame:
    return table.set_index(_KEYS)[["reference", "raw"]]


def _check_parts(members: Sequence[Member]) -> None:
    """Refuse members whose runs are not cross-fitted on the same parts of the same essays."""
    first = next(member for member in members if is_cross_fitted(member.folder.parent))
    expected = essay_hashes(first.folder.parent)
    for member in members:
        run = member.folder.parent
        if not is_cross_fitted(run):
            fault = "is not of a cross-fitted run, but the other is"
        elif (found := essay_hashes(run)) != expected:
            fault = "is of other essays" if found["data"] != expected["data"] else "has other parts"
        else:
            continue
        raise ConfigError(
            f"Members of cross-fitted runs must have the same essays in the same parts. Beside {first.folder}, "
            f"{member.folder} {fault}: an essay that one's scorer was fitted without, the other's may have learned "
            "from. Name runs on the same essays with the same data.split "
            "(cross_fit, group, seed)."
        )
