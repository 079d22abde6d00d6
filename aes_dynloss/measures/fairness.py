"""Fairness by subgroups: how a machine scores each group of essays, and whether differences are more than chance."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from aes_dynloss.errors import DataError
from aes_dynloss.evaluation.agreement import none_if_nan, pearson, quadratic_weighted_kappa
from aes_dynloss.evaluation.agreement_draws import agreement_draws
from aes_dynloss.evaluation.checked_scores import checked_columns, score_point_numbers
from aes_dynloss.evaluation.intervals import IntervalSettings
from aes_dynloss.evaluation.paired_differences import holm_adjusted
from aes_dynloss.evaluation.resampling import percentile_interval, prompt_generator
from aes_dynloss.evaluation.score_differences import score_differences
from aes_dynloss.evaluation.score_range import ScoreRange

Entry = dict[str, Any]

# A group of fewer essays is marked: from there down, a 95 % interval of an r of .7 spans .2 or more.
SMALL_GROUP = 100
# A column of more groups holds ids or numbers rather than groups.
MOST_GROUPS = 100
# The group of essays whose group is not known, as in RSMTool: leaving them out might hide how they are scored.
NO_GROUP = "No info"
INTERVAL_MEASURES = ("dsm", "smd", "qwk", "pearson")


def subgroup_fairness(
    essays: pd.DataFrame,
    columns: Sequence[str],
    score_range: ScoreRange,
    settings: IntervalSettings,
    small: int = SMALL_GROUP,
) -> Entry:
    """How one prompt's machine scores treat each group of each column.

    The p values of all columns' OSA, OSD and CSD are one family of comparisons, to which Holm's procedure is applied.

    Args:
        essays: At least one essay of one prompt, with ``reference``, ``raw``, ``score`` and the columns.
        columns: Names of the columns of groups.
        score_range: The prompt's score points.
        settings: How intervals are drawn.
        small: Groups of fewer essays are marked.

    Returns:
        ``columns`` by name, each with ``groups`` (``group_entries``) and ``osa``, ``osd`` and ``csd`` (each
        ``r_squared_adjusted``, ``p`` and ``p_holm``, None where undefined); ``comparisons``, the number of p values;
        ``small_group``; and ``notes``.

    Raises:
        DataError: A column is not there or holds more than MOST_GROUPS groups, there is no essay, a value is not finite
            or a score is no score point.
    """
    missing = [name for name in ("reference", "raw", "score", *columns) if name not in essays]
    if missing:
        have = ", ".join(repr(str(name)) for name in essays.columns)
        raise DataError(f"The essays have no column {missing[0]!r} (columns: {have}). Name the column that holds it.")
    found: dict[str, Entry] = {}
    notes = []
    for name in dict.fromkeys(columns):
        labels = group_labels(essays[name])
        groups = group_entries(essays, labels, score_range, settings, small)
        tests = score_differences(essays["reference"], essays["raw"], labels)
        found[name] = {"groups": groups, **{test: {**one._asdict(), "p_holm": None} for test, one in tests.items()}}
        notes += _notes(name, groups, small)
    tested = [found[name][test] for name in found for test in ("osa", "osd", "csd")]
    known = [entry for entry in tested if entry["p"] is not None]
    for entry, adjusted in zip(known, holm_adjusted([entry["p"] for entry in known]), strict=True):
        entry["p_holm"] = float(adjusted)
    return {"columns": found, "comparisons": len(known), "small_group": small, "notes": notes}


def group_labels(column: pd.Series[Any]) -> NDArray[np.object_]:
    """Each essay's group as text; essays without one, or with a blank one, are the group NO_GROUP.

    Args:
        column: Values of any kind, shape (n,).

    Returns:
        Labels, shape (n,).

    Raises:
        DataError: There are more than MOST_GROUPS groups.
    """
    known = column.notna().to_numpy()
    words = np.array([str(value).strip() if is_known else "" for value, is_known in zip(column, known, strict=True)])
    labels = np.where(words == "", NO_GROUP, words).astype(object)
    count = len(set(labels))
    if count > MOST_GROUPS:
        raise DataError(
            f"Column {column.name!r} holds {count:,} groups; at most {MOST_GROUPS} can be told apart. Merge them, or "
            "leave the column out."
        )
    return labels


def group_entries(
    essays: pd.DataFrame,
    labels: NDArray[np.object_],
    score_range: ScoreRange,
    settings: IntervalSettings,
    small: int = SMALL_GROUP,
) -> dict[str, Entry]:
    """Each group's scores, held against those of all essays.

        dsm = mean over the group of (m - mean(m)) / sd(m) - (h - mean(h)) / sd(h)
        smd = (mean of the group's m - mean of its h) / sqrt((sd(h)^2 + sd(m)^2) / 2)

    The means and sds that standardise (divisor n - 1) are those of all essays, so that groups share one unit; the
    bootstrap draws the group's essays and leaves them as they are. DSM is blind to a machine that is lenient to
    everybody or has another spread, SMD is not.

    Args:
        essays: At least one essay of one prompt, with ``reference``, ``raw`` and ``score``.
        labels: Each essay's group, shape (n,).
        score_range: The prompt's score points.
        settings: How intervals are drawn.
        small: Groups of fewer essays are marked.

    Returns:
        By group, the largest first and equal ones by name: ``n``, ``small``, ``mean_reference``, ``mean_raw``, and
        ``dsm``, ``smd``, ``qwk``, ``pearson``, each with its interval; None where undefined (dsm where all human or all
        machine scores are equal, smd where both, r where a group's are; qwk of identical constants is 1.0).

    Raises:
        DataError: There is no essay, a value is not finite, a score is no score point, or there are not as many labels.

    References:
        RSMTool's ``difference_of_standardized_means``, and its ``standardized_mean_difference`` by the method
        "williamson". Williamson, Xi and Breyer (2012), Educational Measurement: Issues and Practice 31(1), 2-13.
    """
    human, raw, score = checked_columns(**{name: essays[name] for name in ("reference", "raw", "score")})
    points = np.stack(score_point_numbers(score_range, reference=human, score=score))
    if labels.shape != human.shape:
        raise DataError(f"Groups need one label an essay, found {labels.shape} for {human.shape}.")
    human_sd, raw_sd = _sample_sd(human), _sample_sd(raw)
    pooled = np.sqrt((human_sd**2 + raw_sd**2) / 2)
    with_units = {
        "dsm": (raw - raw.mean()) / _or_nan(raw_sd) - (human - human.mean()) / _or_nan(human_sd),
        "smd": (raw - human) / _or_nan(pooled),
    }
    names, counts = np.unique(labels.astype(str), return_counts=True)
    order = np.lexsort((names, -counts))
    entries = {}
    for name in names[order]:
        own = np.flatnonzero(labels == name)
        gaps = {measure: values[own] for measure, values in with_units.items()}
        values = {measure: float(gap.mean()) for measure, gap in gaps.items()}
        values["qwk"] = float(quadratic_weighted_kappa(human[own], score[own]))
        values["pearson"] = float(pearson(human[own], raw[own]))
        draws = {}
        if settings.resamples:
            generator = prompt_generator(settings.seed, str(name))
            kappa, r = {"qwk": points[1][own]}, {"pearson": (human[own], raw[own])}
            draws = agreement_draws(points[0][own], kappa, r, settings.resamples, generator, averaged=gaps)
        entry: Entry = {"n": len(own), "small": len(own) < small}
        entry |= {"mean_reference": float(human[own].mean()), "mean_raw": float(raw[own].mean())}
        for measure in INTERVAL_MEASURES:
            entry[measure] = none_if_nan(np.asarray(values[measure]))
            interval = percentile_interval(draws[measure], settings.confidence) if draws else None
            entry[f"{measure}_interval"] = interval
        entries[str(name)] = entry
    return entries


def _sample_sd(column: NDArray[np.float64]) -> float:
    """Standard deviation with divisor n - 1, 0 for a constant column."""
    return 0.0 if np.ptp(column) == 0 else float(column.std(ddof=1))


def _or_nan(unit: float) -> float:
    """A divisor, NaN for 0."""
    return unit if unit > 0 else np.nan


def _notes(name: str, groups: dict[str, Entry], small: int) -> list[str]:
    """What a reader of the column's figures must know."""
    marked = [group for group, entry in groups.items() if entry["small"]]
    notes = []
    if len(groups) == 1:
        notes.append(f"Column {name} holds one group: there is nothing to compare.")
    if marked:
        notes.append(f"Column {name}: fewer than {small} essays in {', '.join(marked)}; read their intervals.")
    return notes
