"""Human raters in a report on predictions: their severity, consistency and drift, and the machine as one more rater."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from aes_dynloss.errors import DataError
from aes_dynloss.measures.agreement import none_if_nan, pearson, quadratic_weighted_kappa, rmse
from aes_dynloss.measures.raters import ALARM, SEVERE, assignment_tests, pooled_correlation, rater_effects
from aes_dynloss.measures.severity import Drift, Severities, rater_drifts, rater_severities
from aes_dynloss.reports.human_entries import AdjustedAgreement, RaterAssignment, RaterEntry, RaterReport
from aes_dynloss.reports.raters import rater_entry
from aes_dynloss.reports.table import p_words, percent
from aes_dynloss.tables.columns import LENGTH_COLUMN, RATINGS_COLUMN, TRAIT_COLUMN
from aes_dynloss.tables.scale_ids import prompt_and_trait
from aes_dynloss.tables.score_range import ScoreRange

MACHINE = "machine"
OTHERS = "other raters"
# Essays with two ratings or more from which raters' consistency is told by each other's, not by the machine's scores.
LEAST_RATED_TWICE = 30
_MOST_NAMED = 8


def measure_raters(
    essays: pd.DataFrame, ranges: Mapping[str, ScoreRange], min_group: int, confidence: float = 0.95
) -> RaterReport | None:
    """Severity, consistency and drift of the raters of a table, and the machine beside them.

    Args:
        essays: Checked predictions with ``ratings_by_rater``.
        ranges: Score range by prompt.
        min_group: Essays rated by a rater of whom figures are told, at least.
        confidence: Of the intervals, between 0 and 1.

    Returns:
        None where ratings are not told by rater, there are fewer than two raters, or all ratings of each prompt are
        equal.

    Raises:
        DataError: A rater is called as the machine is.
    """
    rows = _rating_rows(essays)
    if rows is None:
        return None
    if MACHINE in set(rows["rater"]):
        raise DataError(
            f"A rater is called {MACHINE!r}, the name of the machine beside the raters. Leave these ratings out if "
            "they are a machine's, or give the rater another name."
        )
    found = _severities(rows, confidence)
    others = _others(rows, found.adjusted)
    twice = rows.loc[np.isfinite(others), "essay"].nunique()
    compared = OTHERS if twice >= LEAST_RATED_TWICE else MACHINE
    others = others if compared == OTHERS else np.full(len(others), np.nan)
    reference = others if compared == OTHERS else rows["raw"]
    effects = rater_effects(
        rows["rater"], rows["scale"], rows["rating"], reference, confidence, found.effects, rows["essay"]
    )
    once = _row_an_essay(rows, found.residuals)
    drifts = rater_drifts(once["rater"], once["residual"], once["day"], confidence)
    raters = [_with_drift(rater_entry(one), drifts.get(one.rater)) for one in effects.raters]
    essays_of = once["rater"].value_counts()
    told = [one for one in raters if essays_of[one.rater] >= min_group]
    covariates = {"the machine's score": once["raw"]}
    if LENGTH_COLUMN in once:
        covariates["length"] = np.log1p(once[LENGTH_COLUMN])
    tests = assignment_tests(once["rater"], once["prompt"], covariates)
    report = RaterReport(
        raters=told,
        untold=len(raters) - len(told),
        machine=_machine(rows, found, others, effects.within, confidence),
        compared_with=compared,
        severity_sd=found.effects.differences.sd,
        severity_p=found.effects.differences.p,
        assignment={name: RaterAssignment(**one._asdict()) for name, one in tests.items()},
        adjusted=_adjusted_agreement(rows, found.adjusted, ranges),
        conclusions=[],
    )
    few = f"{twice} essay{'s' * (twice != 1)} have two ratings or more" if twice else ""
    return replace(report, conclusions=_conclusions(report, min_group, few if compared == MACHINE else ""))


def adjusted_scores(essays: pd.DataFrame) -> pd.DataFrame | None:
    """Each essay's mean rating, as given and adjusted for its raters' severity.

    Args:
        essays: Checked predictions with ``ratings_by_rater``.

    Returns:
        Columns essay_id, prompt_id, trait (if there), ratings, mean_rating and adjusted; None where severity is not
        known, as of :func:`measure_raters`.
    """
    rows = _rating_rows(essays)
    if rows is None:
        return None
    means = rows.assign(adjusted=_severities(rows, 0.95).adjusted).groupby("scored", sort=False)
    first = means.first()
    scale = first["scale"].tolist()
    names: dict[str, Any] = {"essay_id": first["essay_id"].tolist(), "prompt_id": scale}
    if TRAIT_COLUMN in essays:
        prompts, traits = zip(*map(prompt_and_trait, scale), strict=True)
        names |= {"prompt_id": prompts, TRAIT_COLUMN: traits}
    return pd.DataFrame(names).assign(
        ratings=means.size().to_numpy(),
        mean_rating=means["rating"].mean().to_numpy(),
        adjusted=means["adjusted"].mean().to_numpy(),
    )


def _rating_rows(essays: pd.DataFrame) -> pd.DataFrame | None:
    """A row a rating: rater, rating, day, essay (its number), essay_id, prompt, raw, score and maybe words.

    With several traits, ``scale`` is the id of the prompt and trait, and ``scored`` numbers what a row of the table is:
    an essay on a trait. Without, they say what ``prompt`` and ``essay`` say.
    """
    if RATINGS_COLUMN not in essays:
        return None
    counts = essays[RATINGS_COLUMN].map(len).to_numpy()
    number = np.repeat(np.arange(len(essays)), counts)
    ratings = [(one.rater, one.score, one.day) for own in essays[RATINGS_COLUMN] for one in own]
    rows = pd.DataFrame(ratings, columns=["rater", "rating", "day"])
    for name in ("essay_id", "prompt_id", "raw", "score", LENGTH_COLUMN):
        if name in essays:
            rows[name] = essays[name].to_numpy()[number]
    rows = rows.rename(columns={"prompt_id": "scale"}).assign(scored=number)
    rows["prompt"] = (
        [prompt_and_trait(scale)[0] for scale in rows["scale"]] if TRAIT_COLUMN in essays else rows["scale"]
    )
    rows["essay"] = rows.groupby(["prompt", "essay_id"], sort=False).ngroup()
    varied = (rows.groupby("scale")["rating"].transform("max") != rows["rating"]).any()
    return rows if varied and (rows["rater"] != rows["rater"].iloc[0]).any() else None


def _row_an_essay(rows: pd.DataFrame, residuals: NDArray[np.float64]) -> pd.DataFrame:
    """A row a rater and essay: prompt, day, residual and raw, in SDs and means over traits, and maybe words."""
    raw = rows.groupby("scale")["raw"]
    units = (rows["raw"] - raw.transform("mean")) / raw.transform("std").replace(0.0, np.nan)
    how = {"prompt": "first", "day": "mean", "residual": "mean", "raw": "mean", LENGTH_COLUMN: "first"}
    once = rows.assign(residual=residuals, raw=units).groupby(["rater", "essay"], sort=False, as_index=False)
    return once.agg({name: by for name, by in how.items() if name in rows or name == "residual"})


def _severities(rows: pd.DataFrame, confidence: float) -> Severities:
    return rater_severities(rows["rater"], rows["essay"], rows["scale"], rows["rating"], rows["raw"], confidence)


def _others(rows: pd.DataFrame, adjusted: NDArray[np.float64]) -> NDArray[np.float64]:
    """Mean adjusted score of the essay's other raters, for each rating; NaN where there is none."""
    of_scored = pd.Series(adjusted).groupby(rows["scored"].to_numpy())
    counts = of_scored.transform("size").to_numpy() - 1.0
    return (of_scored.transform("sum").to_numpy() - adjusted) / np.where(counts > 0, counts, np.nan)


def _with_drift(rater: RaterEntry, drift: Drift | None) -> RaterEntry:
    if drift is None:
        return rater
    ends = [drift.change.low, drift.change.high]
    drifting = "drifting" if drift.p_holm < ALARM and abs(drift.change.value) > SEVERE else ""
    remarks = ", ".join(filter(None, [rater.remarks, drifting]))
    return replace(rater, drift=drift.change.value, drift_interval=ends, drift_p_holm=drift.p_holm, remarks=remarks)


def _machine(
    rows: pd.DataFrame, found: Severities, others: NDArray[np.float64], within: float, confidence: float
) -> RaterEntry:
    """The machine as a rater of every essay; its consistency has the same kind of reference as the raters'.

    ``within`` is the raters' variance of which an SD ratio is told, see ``RaterEffects``.
    """
    by_scale = rows.groupby("scale")["rating"]
    mean, sd, low, high = (by_scale.transform(name).to_numpy() for name in ("mean", "std", "min", "max"))
    first = ~rows.duplicated("scored").to_numpy()
    standard = ((rows["raw"].to_numpy() - mean) / np.where(sd > 0, sd, np.nan))[first]
    scored = rows[first]
    known = np.isfinite(others[first])
    r = None
    if known.any():
        told = scored[known]
        r = pooled_correlation(told["scale"], told["raw"], others[first][known], confidence, told["essay"])
    own = pd.Series(standard).groupby(scored["scale"].to_numpy())
    dof = int((own.count() - 1).clip(lower=0).sum())
    variance = float(np.nansum((standard - own.transform("mean")) ** 2)) / max(dof, 1)
    return RaterEntry(
        rater=MACHINE,
        n=scored["essay"].nunique(),
        mean=none_if_nan(np.nanmean(standard)),
        sd_ratio=float((variance / within) ** 0.5) if dof and within > 0 else None,
        severity=found.machine.value,
        severity_interval=[found.machine.low, found.machine.high],
        consistency=None if r is None else r.value,
        consistency_interval=None if r is None else [r.low, r.high],
        lowest=float((scored["score"] == low[first]).mean()),
        highest=float((scored["score"] == high[first]).mean()),
    )


def _adjusted_agreement(
    rows: pd.DataFrame, adjusted: NDArray[np.float64], ranges: Mapping[str, ScoreRange]
) -> dict[str, AdjustedAgreement]:
    entries = {}
    for prompt, own in rows.assign(adjusted=adjusted).groupby("scale", sort=False):
        means = own.groupby("essay").agg({"rating": "mean", "adjusted": "mean", "raw": "first", "score": "first"})
        figures: dict[str, Any] = {"n": len(means)}
        for column, ending in (("rating", ""), ("adjusted", "_adjusted")):
            human, raw, score = (means[name].to_numpy() for name in (column, "raw", "score"))
            points = ranges[str(prompt)].to_point(human)
            figures |= {f"pearson{ending}": none_if_nan(pearson(human, raw)), f"rmse{ending}": float(rmse(human, raw))}
            figures[f"qwk{ending}"] = none_if_nan(quadratic_weighted_kappa(points, score))
        entries[str(prompt)] = AdjustedAgreement(**figures)
    return entries


def assignment_words(report: RaterReport) -> list[str]:
    """Warnings that raters were not assigned by chance; none where nothing speaks against it.

    Args:
        report: What ``measure_raters`` returned.
    """
    return [
        f"Raters were not assigned to essays by chance: within prompts they explain {percent(one.r_squared_adjusted)} "
        f"of the variance of {name} (Holm p {p_words(one.p_holm)}). Severities allow for the machine's score; what "
        "else the essays differ in counts as severity."
        for name, one in report.assignment.items()
        if one.p_holm is not None and one.p_holm < ALARM and one.r_squared_adjusted is not None
    ]


def _conclusions(report: RaterReport, min_group: int, few: str) -> list[str]:
    """Whether raters differ, who stands out, where the machine stands among them, and warnings.

    ``few`` says how many essays have several ratings where these are too few.
    """
    differ = report.severity_p is not None and report.severity_p < ALARM
    said = [
        f"Raters differ in severity: the SD between them is {report.severity_sd:.2f} SDs of a prompt's ratings."
        if differ
        else "Raters' severities cannot be compared: no essays and no prompts connect them."
        if report.severity_p is None
        else "No difference in severity between raters is beyond chance."
    ]
    marked = [f"{one.rater}: {one.remarks}" for one in report.raters if one.remarks]
    if marked:
        more = f", and {len(marked) - _MOST_NAMED} more in the table" if len(marked) > _MOST_NAMED else ""
        said.append(f"Remarkable, beyond chance: {'; '.join(marked[:_MOST_NAMED])}{more}.")
    ends = report.machine.severity_interval
    values = [one.severity for one in report.raters if one.severity is not None]
    if ends is not None and values:
        place = "within the range of the raters' severities"
        if ends[0] > max(values):
            place = "more lenient than every rater"
        elif ends[1] < min(values):
            place = "more severe than every rater"
        said.append(f"The machine is {place}.")
    if report.untold:
        untold, have = ("1 rater", "has") if report.untold == 1 else (f"{report.untold} raters", "have")
        said.append(f"{untold} {have} rated fewer than {min_group} essays, and {have} no figures here.")
    if few:
        said.append(f"{few}, fewer than {LEAST_RATED_TWICE}: consistency is that with the machine's scores.")
    return said + assignment_words(report)
