"""Fairness by subgroups: agreement within each group of essays, and tests of differences between groups.

``score_differences`` has the overall and conditional score differences (OSA, OSD, CSD); ``subgroup_fairness`` reports
them, corrected for the number of tests, with each group's measures.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from scipy.stats import f as f_distribution

from aes_dynloss.errors import DataError
from aes_dynloss.measures.agreement import (
    checked_columns,
    divided,
    none_if_nan,
    pearson,
    quadratic_weighted_kappa,
    sample_sd,
    score_point_numbers,
)
from aes_dynloss.measures.bootstrap import IntervalSettings, agreement_draws, percentile_interval, prompt_generator
from aes_dynloss.measures.differences import fill_holm
from aes_dynloss.tables.score_range import ScoreRange

# Errors that differ by less, as a share of the largest score, are equal up to float noise.
FLOAT_NOISE = 1e-12


class Explained(NamedTuple):
    """The share of a variance that groups explain, with its test.

    Args:
        r_squared_adjusted: Adjusted R^2, at most 1, below 0 where groups explain less than as many random ones would;
            of CSD its increment, which passes 1 where human scores explain nothing and groups everything. None where
            undefined.
        p: p value of the F test that groups explain nothing; None where undefined.
    """

    r_squared_adjusted: float | None
    p: float | None


def score_differences(reference: ArrayLike, raw: ArrayLike, groups: ArrayLike) -> dict[str, Explained]:
    """Overall score accuracy (OSA), overall and conditional score difference (OSD, CSD) of one way to group essays.

        osa: adjusted R^2 of  (m - h)^2 ~ group
        osd: adjusted R^2 of   m - h    ~ group
        csd: adjusted R^2 of   m - h    ~ group + human score,  less that of  m - h ~ human score

    Group and human score are categories. p is that of the F test of the group, in CSD of the larger model against the
    smaller. A fair machine has all three near 0: it errs as much on every group (osa), is not lenient to any (osd), nor
    to essays of one human score that come from different groups (csd).

    Undefined, hence None: all three where there is one group or no more essays than coefficients; and p where all
    errors are equal, or, in csd, follow from the human score alone (R^2 is then 0: there is nothing to explain). CSD is
    undefined too where groups and human scores are confounded, no two groups being linked by a shared human score.

    Args:
        reference: Human scores, shape (n,), n >= 1, finite, all on one prompt's scale.
        raw: Machine scores on that scale, shape (n,). RSMTool takes trimmed, unrounded ones.
        groups: Each essay's group, shape (n,), labels of any kind, none missing.

    Returns:
        ``osa``, ``osd`` and ``csd``.

    Raises:
        DataError: The shapes differ or are not (n,), there is no essay, a value is not finite, or a group is missing.

    References:
        Loukina, Madnani and Zechner (2019), The many dimensions of algorithmic fairness in educational applications,
        BEA 2019, 1-10. RSMTool's ``get_fairness_analyses``, which reports the adjusted R^2.

    Examples:
        >>> differences = score_differences([1, 2, 3, 4], [1.5, 2.6, 3.0, 4.1], ["a", "a", "b", "b"])
        >>> round(differences["osd"].r_squared_adjusted, 3), round(differences["osd"].p, 3)
        (0.942, 0.019)
    """
    human, machine = checked_columns(reference=reference, raw=raw)
    labels = np.asarray(groups)
    if human.ndim != 1 or labels.shape != human.shape:
        raise DataError(f"Groups need one label for each of (n,) scores, found {labels.shape} and {human.shape}.")
    codes = pd.factorize(labels)[0]
    if (codes < 0).any():
        raise DataError(f"Every essay needs a group, found {int((codes < 0).sum())} without. Name one for them.")
    points = pd.factorize(human)[0]
    errors = machine - human
    scale = float(max(np.abs(human).max(), np.abs(machine).max()))
    noise = FLOAT_NOISE * scale
    return {
        "osa": explained_by_groups(np.square(errors), codes, np.zeros_like(points), noise * scale),
        "osd": explained_by_groups(errors, codes, np.zeros_like(points), noise),
        "csd": explained_by_groups(errors, codes, points, noise),
    }


def explained_by_groups(
    values: NDArray[np.float64], codes: NDArray[np.intp], strata: NDArray[np.intp], noise: float = 0.0
) -> Explained:
    """Increment of the adjusted R^2 by groups, given strata; the whole R^2 where there is one stratum.

    By the theorem of Frisch, Waugh and Lovell, the groups' effects solve the normal equations that are left when group
    indicators and values are centred within strata: a matrix of groups by groups, however many essays there are.

    Args:
        values: What is to be explained, shape (n,), finite.
        codes: Number of each essay's group, shape (n,), counted from 0 without a gap.
        strata: Number of its stratum, such as its human score or prompt, likewise.
        noise: Values within a stratum that differ by no more are equal.

    Returns:
        The increment and the F test's p value, of the larger model against the smaller.

    Examples:
        >>> words = np.array([100.0, 120, 300, 310, 110, 90, 320, 290])
        >>> rater, prompt = np.array([0, 1, 0, 1, 0, 1, 0, 1]), np.array([0, 0, 1, 1, 0, 0, 1, 1])
        >>> round(explained_by_groups(words, rater, prompt).p, 2)
        0.63
    """
    groups, levels = int(codes.max()) + 1, int(strata.max()) + 1
    table = np.bincount(codes * levels + strata, minlength=groups * levels).reshape(groups, levels).astype(np.float64)
    # Effects that are identified: each set of groups that shared strata link lacks one. The graph links each group
    # to the strata that it has.
    group, level = np.nonzero(table)
    links = coo_array((np.ones(len(group)), (group, groups + level)), shape=(groups + levels, groups + levels))
    linked = connected_components(links, directed=False)[0]
    effects = groups - linked
    essays = len(values)
    residual_dof_before = essays - levels
    residual_dof = residual_dof_before - effects
    if effects < 1 or residual_dof < 1:
        return Explained(None, None)
    within = _centred(values, strata, levels)
    if np.abs(within).max() <= noise:
        return Explained(0.0, None)
    total = float(np.square(values - values.mean()).sum())
    before = float(np.square(within).sum())
    matrix = np.diag(table.sum(axis=1)) - (table / table.sum(axis=0)) @ table.T
    sums = np.bincount(codes, weights=within, minlength=groups)
    effect = np.linalg.pinv(matrix, rcond=1e-12, hermitian=True) @ sums
    left = float(np.square(_centred(values - effect[codes], strata, levels)).sum())
    increment = (before / residual_dof_before - left / residual_dof) / (total / (essays - 1))
    return Explained(increment, _f_test(before - left, effects, left, residual_dof))


def _centred(values: NDArray[np.float64], codes: NDArray[np.intp], count: int) -> NDArray[np.float64]:
    """Deviations from the mean of each value's own category."""
    means = np.bincount(codes, weights=values, minlength=count) / np.bincount(codes, minlength=count)
    return np.asarray(values - means[codes])


def _f_test(explained: float, effects: int, left: float, residual_dof: int) -> float:
    """The p value of F = (explained / effects) / (left / residual_dof); 0 where nothing is left."""
    if left <= 0:
        return 0.0
    return float(f_distribution.sf(explained / effects / (left / residual_dof), effects, residual_dof))


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
    least: int = 1,
) -> Entry:
    """Measures of each group of each column, and tests of differences between groups, on one prompt.

    Groups of fewer essays than ``least`` are merged into one; where that has fewer too, it and the smallest other group
    have no figures and take no part in the tests. All essays count in the units of DSM and SMD.

    The p values of all columns' OSA, OSD and CSD are one family of comparisons, to which Holm's procedure is applied.

    Args:
        essays: At least one essay of one prompt, with ``reference``, ``raw``, ``score`` and the columns.
        columns: Names of the columns of groups.
        score_range: The prompt's score points.
        settings: How intervals are drawn.
        small: Groups of fewer essays are marked.
        least: Essays of a group of which figures are told, at least.

    Returns:
        ``columns`` by name, each with ``groups`` (``group_entries``) and ``osa``, ``osd`` and ``csd`` (each
        ``r_squared_adjusted``, ``p`` and ``p_holm``, None where undefined); ``comparisons``, the number of p values;
        ``small_group``; and ``notes``.

    Raises:
        DataError: A column is not there or holds more than MOST_GROUPS groups, there is no essay, a value is not finite
            or a score is no score point.

    Examples:
        >>> essays = pd.DataFrame({"reference": [1, 2, 3, 4, 2, 3], "raw": [1.2, 2.1, 2.8, 3.6, 2.4, 3.1]})
        >>> essays["score"] = essays["raw"].round()
        >>> essays["language"] = list("aaabbb")
        >>> settings = IntervalSettings(resamples=0, confidence=0.95, seed=0)
        >>> fairness = subgroup_fairness(essays, ["language"], ScoreRange(1, 4), settings)
        >>> sorted(fairness["columns"]["language"]), fairness["comparisons"]
        (['csd', 'groups', 'osa', 'osd'], 3)
    """
    missing = [name for name in ("reference", "raw", "score", *columns) if name not in essays]
    if missing:
        have = ", ".join(repr(str(name)) for name in essays.columns)
        raise DataError(f"The essays have no column {missing[0]!r} (columns: {have}). Name the column that holds it.")
    by_column: dict[str, Entry] = {}
    notes = []
    for name in dict.fromkeys(columns):
        labels, merged_notes = merged_groups(name, group_labels(essays[name]), least)
        told = labels != UNTOLD
        groups = group_entries(essays, labels, score_range, settings, small)
        groups.pop(UNTOLD, None)
        notes += merged_notes
        tests = dict.fromkeys(("osa", "osd", "csd"), Explained(None, None))
        if told.any():
            tests = score_differences(essays.loc[told, "reference"], essays.loc[told, "raw"], labels[told])
        by_column[name] = {"groups": groups, **{test: {**one._asdict(), "p_holm": None} for test, one in tests.items()}}
        notes += _notes(name, groups, small, whole=bool(told.all()))
    entries = [column[test] for column in by_column.values() for test in ("osa", "osd", "csd")]
    comparisons = fill_holm([entry for entry in entries if entry["p"] is not None])
    return {"columns": by_column, "comparisons": comparisons, "small_group": small, "notes": notes}


UNTOLD = ""  # no group is called so


def merged_groups(name: str, labels: NDArray[np.object_], least: int) -> tuple[NDArray[np.object_], list[str]]:
    """Labels with small groups merged into one, or UNTOLD where that is small too, and what a reader must know of them.

    Where UNTOLD is small too, the smallest other group joins it: from the figures of all essays and of all other groups
    those of the small ones could be computed.

    Args:
        name: The column's name, for notes.
        labels: Each essay's group, shape (n,), as ``group_labels`` gives them.
        least: Groups of fewer essays are small.

    Examples:
        >>> labels, notes = merged_groups("class", np.array(list("aaabcc"), dtype=object), least=2)
        >>> labels.tolist(), notes[0][:40]
        (['a', 'a', 'a', '', '', ''], 'Column class: fewer than 2 essays in b; ')
    """
    names, counts = np.unique(labels.astype(str), return_counts=True)
    few = names[counts < least].tolist()
    if not few:
        return labels, []
    members, listed = np.isin(labels, few), ", ".join(few)
    merged = f"{len(few)} merged groups"
    rest = f"Column {name}: fewer than {least} essays in {listed};"
    if members.sum() >= least and len(few) > 1 and merged not in names:
        return np.where(members, merged, labels), [f"{rest} they count as one, {merged!r}."]
    rest += " no figure of them is told, and no flag rests on them."
    larger = counts >= least
    if members.sum() < least and larger.any():
        # One is enough, for it is not small itself.
        beside = names[larger][counts[larger].argmin()]
        members |= labels == beside
        rest += f" {beside} is withheld too, though it is larger: else theirs follow from the others'."
    return np.where(members, UNTOLD, labels), [rest]


def group_labels(column: pd.Series[Any]) -> NDArray[np.object_]:
    """Each essay's group as text; essays without one, or with a blank one, are the group NO_GROUP.

    Args:
        column: Values of any kind, shape (n,).

    Returns:
        Labels, shape (n,).

    Raises:
        DataError: There are more than MOST_GROUPS groups.

    Examples:
        >>> group_labels(pd.Series(["a", None, " b ", ""]))
        array(['a', 'No info', 'b', 'No info'], dtype=object)
    """
    known = column.notna().to_numpy()
    texts = np.array([str(value).strip() if is_known else "" for value, is_known in zip(column, known, strict=True)])
    labels = np.where(texts == "", NO_GROUP, texts).astype(object)
    count = len(set(labels))
    if count > MOST_GROUPS:
        raise DataError(
            f"Column {column.name!r} holds {count:,} groups; at most {MOST_GROUPS} can be compared. Merge them, or "
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

    Examples:
        >>> essays = pd.DataFrame({"reference": [1, 2, 3, 4, 2, 3], "raw": [1.2, 2.1, 2.8, 3.6, 2.4, 3.1]})
        >>> essays["score"] = essays["raw"].round()
        >>> settings = IntervalSettings(resamples=0, confidence=0.95, seed=0)
        >>> groups = group_entries(essays, np.array(list("aaabbb"), dtype=object), ScoreRange(1, 4), settings)
        >>> {name: (entry["n"], round(entry["dsm"], 3)) for name, entry in groups.items()}
        {'a': (3, -0.12), 'b': (3, 0.12)}
    """
    human, raw, score = checked_columns(**{name: essays[name] for name in ("reference", "raw", "score")})
    points = np.stack(score_point_numbers(score_range, reference=human, score=score))
    if labels.shape != human.shape:
        raise DataError(f"Groups need one label an essay, found {labels.shape} for {human.shape}.")
    human_sd, raw_sd = sample_sd(human), sample_sd(raw)
    with_units = {
        "dsm": divided(raw - raw.mean(), raw_sd) - divided(human - human.mean(), human_sd),
        "smd": divided(raw - human, np.sqrt((human_sd**2 + raw_sd**2) / 2)),
    }
    names, counts = np.unique(labels.astype(str), return_counts=True)
    order = np.lexsort((names, -counts))
    entries = {}
    for name in names[order]:
        members = np.flatnonzero(labels == name)
        gaps = {measure: values[members] for measure, values in with_units.items()}
        values = {measure: float(gap.mean()) for measure, gap in gaps.items()}
        values["qwk"] = float(quadratic_weighted_kappa(human[members], score[members]))
        values["pearson"] = float(pearson(human[members], raw[members]))
        draws = {}
        if settings.resamples:
            generator = prompt_generator(settings.seed, str(name))
            kappa, r = {"qwk": points[1][members]}, {"pearson": (human[members], raw[members])}
            draws = agreement_draws(points[0][members], kappa, r, settings.resamples, generator, averaged=gaps)
        entry: Entry = {"n": len(members), "small": len(members) < small}
        entry |= {"mean_reference": float(human[members].mean()), "mean_raw": float(raw[members].mean())}
        for measure in INTERVAL_MEASURES:
            entry[measure] = none_if_nan(np.asarray(values[measure]))
            entry[f"{measure}_interval"] = percentile_interval(draws[measure], settings.confidence) if draws else None
        entries[str(name)] = entry
    return entries


def _notes(name: str, groups: dict[str, Entry], small: int, *, whole: bool) -> list[str]:
    """Cautions for readers of the column's figures, be they of the whole column or not."""
    marked = [group for group, entry in groups.items() if entry["small"]]
    notes = []
    if len(groups) == 1:
        verb = "holds" if whole else "tells of"
        notes.append(f"Column {name} {verb} one group: there is nothing to compare.")
    if marked:
        notes.append(f"Column {name}: fewer than {small} essays in {', '.join(marked)}; read their intervals.")
    return notes
