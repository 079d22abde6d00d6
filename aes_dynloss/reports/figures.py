"""Figures of a report, drawn from the report alone.

For each prompt: confusion, score distribution, residuals by score and by length, reliability. Over prompts: agreement
beside its limits. Over groups of writers: differences with intervals.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from itertools import islice
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from aes_dynloss.reports.blocks import Gallery
from aes_dynloss.reports.criteria import CRITERIA, Criterion
from aes_dynloss.reports.drawing import (
    FAINT,
    HUMAN,
    MACHINE,
    Picture,
    draw_intervals,
    draw_marks,
    drawing,
    drawn_name,
    panel,
    rows_panel,
    saved,
    with_legend,
)
from aes_dynloss.reports.entry import Entry
from aes_dynloss.reports.human_entries import RaterReport
from aes_dynloss.reports.model import GroupAgreement, MeanEntry, PromptEntry, Report
from aes_dynloss.tables.score_range import ScoreRange

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.path import Path

Numbers = NDArray[np.float64]
# Columns of the legend of agreement.
_LEGEND = 2


def agreement_figure(report: Report, measure: str = "qwk") -> Figure:
    """The figure of :func:`agreement_picture`, of the prompts with the most essays where there are very many.

    Args:
        report: What ``build_report`` returned.
        measure: ``qwk`` or ``pearson``.
    """
    rows, _ = _largest(report.prompts, MOST_DRAWN_ROWS, report.rows.plural)
    shown = replace(report, prompts={prompt: report.prompts[prompt] for prompt in rows})
    with drawing():
        rule = report.judged_by.criteria.get(measure)
        return with_legend(_agreement_axes(_agreement_rows(shown), measure, rule), _LEGEND)


def agreement_picture(report: Report, measure: str) -> Picture:
    """QWK or r by prompt with intervals, human-human agreement and the ceiling, and the criterion."""
    rule, rows = report.judged_by.criteria.get(measure), _agreement_rows(report)
    name = CRITERIA[measure].title
    words = "; ".join(f"{drawn_name(name)} {_rounded(entry.get(measure))}" for name, entry in rows.items())
    line = f" The dotted line is the criterion of {rule.threshold:.2f}." if rule else ""
    description = f"Dots with intervals. {name}: {words}.{line}"
    title = f"{name} by {report.rows.noun}"
    return saved(_agreement_axes(rows, measure, rule), title, description, legend_columns=_LEGEND)


def _agreement_rows(report: Report) -> dict[str, PromptEntry | MeanEntry]:
    """Prompts by title, and their mean."""
    rows: dict[str, PromptEntry | MeanEntry] = {report.rows.title(row): entry for row, entry in report.prompts.items()}
    return rows if len(rows) == 1 else rows | {"Mean": report.mean}


def _agreement_axes(rows: Mapping[str, PromptEntry | MeanEntry], measure: str, rule: Criterion | None) -> Axes:
    (axes,) = rows_panel(list(rows), [CRITERIA[measure].title])
    if rule is not None:
        axes.axvline(rule.threshold, color=FAINT, linewidth=1, linestyle=":", label="Criterion")
    humans = [entry.human_human[measure] if entry.human_human else None for entry in rows.values()]
    draw_marks(axes, humans, label="Human-human", colour=HUMAN, marker="D")
    ceilings = [entry.get(f"{measure}_ceiling") for entry in rows.values()]
    draw_marks(axes, ceilings, label="Ceiling", colour=FAINT, marker="|")
    values = [(entry.get(measure), entry.get(f"{measure}_interval")) for entry in rows.values()]
    draw_intervals(axes, values, colour=MACHINE, label="Human-machine")
    return axes


def group_picture(
    column: str, where: str, groups: Mapping[str, GroupAgreement], reach: float, criteria: Mapping[str, Criterion]
) -> Picture:
    """DSM and SMD of each group with intervals, and the band within which they should lie, from -reach to reach."""
    panels = rows_panel(list(groups), ["DSM", "SMD"])
    for axes, measure in zip(panels, ("dsm", "smd"), strict=True):
        rule = criteria.get(f"subgroup_{measure}")
        if rule is not None:
            axes.axvspan(-rule.threshold, rule.threshold, color=FAINT, alpha=0.18, linewidth=0)
        axes.axvline(0, color=FAINT, linewidth=1)
        values = [(entry[measure], entry[f"{measure}_interval"]) for entry in groups.values()]
        hollow = [row for row, entry in enumerate(groups.values()) if entry.small]
        draw_intervals(axes, values, colour=HUMAN, label="Group", hollow=hollow)
        axes.set_xlim(-reach, reach)
    words = "; ".join(
        f"{drawn_name(name)}: DSM {_rounded(entry.dsm)}, SMD {_rounded(entry.smd)}" for name, entry in groups.items()
    )
    description = f"Dots with intervals, and the band of the criterion. {words}."
    return saved(panels[0], f"Groups of {column}, {where}", description)


def rater_picture(raters: RaterReport) -> Picture:
    """Severity and consistency of raters with intervals, the machine last; of very many those with the most ratings."""
    most = {one.rater for one in sorted(raters.raters, key=lambda one: -one.n)[: MOST_DRAWN_ROWS - 1]}
    shown = [one for one in raters.raters if one.rater in most]
    entries = [*shown, raters.machine]
    with drawing():
        panels = rows_panel([one.rater for one in entries], ["Severity (SDs)", "Consistency"])
        for axes, measure in zip(panels, ("severity", "consistency"), strict=True):
            values = [(one[measure], one[f"{measure}_interval"]) for one in entries]
            draw_intervals(axes, [*values[:-1], (None, None)], colour=HUMAN, label="Rater")
            draw_intervals(axes, [*[(None, None)] * len(shown), values[-1]], colour=MACHINE, label="Machine")
        panels[0].axvline(0, color=FAINT, linewidth=1)
        words = "; ".join(
            f"{drawn_name(one.rater)}: severity {_rounded(one.severity)}, consistency {_rounded(one.consistency)}"
            for one in entries
        )
        return saved(panels[0], "Severity and consistency", f"Dots with intervals. {words}.", legend_columns=_LEGEND)


def _rounded(value: float | None) -> str:
    return "unknown" if value is None else f"{value:.3f}"


# Up to so many cells a confusion matrix has across, so that their counts can be read; more score points share cells.
MOST_CELLS = 11
# Up to so many score points bars stand side by side; beyond, outlines are easier to tell apart.
MOST_BARS = 13
_SHADES = 8


def confusion_picture(where: str, entry: PromptEntry) -> Picture:
    """How often each human score met each machine score."""
    return _confusion(f"Confusion matrix, {where}", entry.confusion, entry.range, ("human", "machine"))


def human_confusion_picture(where: str, entry: PromptEntry) -> Picture:
    """How often each score of one rater met each of another, on their own scale."""
    span = (entry.human_human and entry.human_human.range) or entry.range
    return _confusion(f"Two raters, {where}", entry.human_confusion, span, ("first rater's", "second rater's"))


def _confusion(title: str, cells: Sequence[Sequence[float]], span: ScoreRange, whose: tuple[str, str]) -> Picture:
    """Counts upwards by the first score, to the right by the second; the diagonal is outlined, cells that occur tinted.

    Where there are more score points than MOST_CELLS, neighbours share a cell; a tick is at the first of them.
    """
    from matplotlib.patches import PathPatch

    low, step = span.low, span.step
    shared = -(-span.count // MOST_CELLS)
    across, width = -(-span.count // shared), shared * step
    centres = low - step / 2 + width * (np.arange(across) + 0.5)
    counts: Counter[tuple[float, float]] = Counter()
    for first, second, count in cells:
        row, column = (round((score - low) / step) // shared for score in (first, second))
        counts[centres[column], centres[row]] += int(count)
    axes = panel(square=True)
    _draw_cells(axes, counts, width)
    axes.add_patch(PathPatch(_squares([(one, one) for one in centres], width), fill=False, edgecolor=FAINT, lw=0.9))
    for (x, y), count in counts.items():
        axes.text(x, y, f"{count:,}", ha="center", va="center", fontsize=8.5 if across <= 7 else 7.0)
    edges, ticks = (centres[0] - width / 2, centres[-1] + width / 2), low + width * np.arange(across)
    upwards, across_label = (f"{one.capitalize()} score" for one in whose)
    axes.set(xlim=edges, ylim=edges, xlabel=across_label, ylabel=upwards)
    axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    axes.set_yticks(ticks, [f"{tick:g}" for tick in ticks])
    axes.grid(visible=False)
    description = _confusion_words(cells, step, whose)
    if shared == 1:
        return saved(axes, title, description)
    grouped = f" A cell holds {shared} neighbouring score points; a tick is at the first."
    return saved(axes, f"{title}, {shared} points a cell", description + grouped)


def _confusion_words(cells: Sequence[Sequence[float]], step: float, whose: tuple[str, str]) -> str:
    essays = int(max(1, sum(count for *_, count in cells)))
    same, near = (
        100 * sum(count for first, second, count in cells if abs(first - second) < most) / essays
        for most in (step / 2, 1.5 * step)
    )
    return (
        f"Heat map of counts, {whose[0]} score upwards and {whose[1]} score to the right, the diagonal outlined. "
        f"{same:.0f} % of {essays:,} essays have the same score from both, {near:.0f} % that or a neighbouring one."
    )


def _draw_cells(axes: Axes, counts: Mapping[tuple[float, float], int], width: float) -> None:
    """Squares of the same shade are one path; under a count they stay pale enough for the page's ink, dark or light."""
    from matplotlib.patches import PathPatch

    most = max(counts.values())
    shades: dict[int, list[tuple[float, float]]] = {}
    for centre, count in counts.items():
        # The root, lest all but the most frequent cells be pale.
        shades.setdefault(int(np.ceil(_SHADES * np.sqrt(count / most))), []).append(centre)
    for shade, centres in sorted(shades.items()):
        squares = _squares(centres, width)
        axes.add_patch(PathPatch(squares, facecolor=HUMAN, alpha=0.5 * shade / _SHADES, linewidth=0))


def _squares(centres: Sequence[tuple[float, float]], width: float) -> Path:
    from matplotlib.path import Path

    corners = np.array([(-1, -1), (1, -1), (1, 1), (-1, 1), (-1, -1)]) * width / 2
    codes = [Path.MOVETO, Path.LINETO, Path.LINETO, Path.LINETO, Path.CLOSEPOLY]
    return Path((np.array(centres)[:, None] + corners).reshape(-1, 2), codes * len(centres))


def distribution_picture(where: str, entry: PromptEntry) -> Picture:
    """Shares of essays at each score point, human and machine."""
    points = entry.score_points
    positions = np.array([one.point for one in points])
    step, essays = entry.range.step, max(1, entry.n)
    axes = panel(top=0.3)
    for rater, colour, side in (("human", HUMAN, -1), ("machine", MACHINE, 1)):
        shares = np.array([100 * one[rater] / essays for one in points])
        name = rater.capitalize()
        if len(points) <= MOST_BARS:
            axes.bar(positions + side * 0.2 * step, shares, width=0.38 * step, color=colour, label=name)
        else:
            edges = np.append(positions - step / 2, positions[-1] + step / 2)
            style = "-" if rater == "human" else "--"
            axes.stairs(shares, edges, color=colour, label=name, linewidth=1.4, linestyle=style, baseline=None)
    axes.set(xlabel="Score point", ylabel="Essays (%)", ylim=(0, None))
    axes.grid(visible=False, axis="x")
    if len(points) <= MOST_BARS:
        axes.set_xticks(positions)
    axes.legend(loc="lower left", bbox_to_anchor=(0.0, 1.0), ncols=2, borderaxespad=0.1)
    widest = max(points, key=lambda one: abs(one.gap))
    words = (
        f"Shares of essays by score point, human and machine. The largest gap is {100 * widest.gap:+.1f} percentage "
        f"points at score {widest.point:g}."
    )
    return saved(axes, f"Scores given, {where}", words)


def residual_by_score_picture(where: str, entry: PromptEntry) -> Picture:
    """Mean and spread of machine less human, by human score."""
    rows = entry.residuals_by_score
    ends = [f"at {row.reference:g}" for row in (rows[0], rows[-1])]
    return _residual_picture(where, rows, _column(rows, "reference"), ("score", "human score", "Human score"), ends)


def residual_by_length_picture(where: str, entry: PromptEntry) -> Picture:
    """Mean and spread of machine less human, by length."""
    rows = entry.residuals_by_length or []
    middles = (_column(rows, "words_from") + _column(rows, "words_to")) / 2
    names = ("length", "length", "Length (words, middle of the bin)")
    return _residual_picture(where, rows, middles, names, ["for the shortest essays", "for the longest"])


def _residual_picture(
    where: str, rows: Sequence[Entry], positions: Numbers, names: tuple[str, str, str], ends: Sequence[str]
) -> Picture:
    """Residuals along what has these names in the title, in the description and at the axis."""
    axes = panel()
    axes.axhline(0, color=FAINT, linewidth=1)
    _draw_spread(axes, positions, _column(rows, "mean"), _column(rows, "sd"))
    axes.set(xlabel=names[2], ylabel="Machine \u2212 human (points)")
    first, last = (f"{row['mean']:+.2f} {end}" for row, end in zip((rows[0], rows[-1]), ends, strict=True))
    description = f"Mean of prediction less human score, with one sd, by {names[1]}: {first} and {last}."
    return saved(axes, f"Residuals by {names[0]}, {where}", description)


def _draw_spread(axes: Axes, positions: Numbers, means: Numbers, sds: Numbers) -> None:
    """Means with one sd on both sides: arms where they are few, a band where they would be a thicket."""
    if len(positions) <= MOST_BARS:
        axes.errorbar(positions, means, yerr=sds, fmt="o-", color=HUMAN, markersize=4, linewidth=1.2, elinewidth=0.8)
    else:
        axes.fill_between(positions, means - sds, means + sds, color=HUMAN, alpha=0.2, linewidth=0)
        axes.plot(positions, means, color=HUMAN, linewidth=1.3)


def _column(rows: Sequence[Entry], key: str) -> Numbers:
    """Values of all rows; the sd of one essay is unknown, and drawn as none."""
    return np.array([getattr(row, key) or 0.0 for row in rows], dtype=np.float64)


def reliability_picture(where: str, entry: PromptEntry) -> Picture:
    """Mean human score against the mean prediction, in bins of equal count."""
    rows = entry.reliability
    raw, human, sds = (_column(rows, key) for key in ("mean_raw", "mean_reference", "sd_reference"))
    axes = panel()
    both = [float(min(raw.min(), human.min())), float(max(raw.max(), human.max()))]
    axes.plot(both, both, color=FAINT, linewidth=1, linestyle="-")
    _draw_spread(axes, raw, human, sds)
    axes.set(xlabel="Mean prediction in the bin", ylabel="Mean human score")
    farthest = int(np.abs(human - raw).argmax())
    words = (
        f"Mean human score, with one sd, against the mean prediction in {len(rows)} bins of equal count, beside the "
        f"diagonal. Farthest from it: humans {human[farthest]:.2f} where the machine predicts {raw[farthest]:.2f}."
    )
    return saved(axes, f"Reliability, {where}", words)


# Each prompt's pictures take a quarter of a second; a page of more would be neither quick nor read.
MOST_DRAWN_PROMPTS = 16
# Rows of the picture that has all prompts in it.
MOST_DRAWN_ROWS = 40
# A picture of one group says nothing, and one of very many cannot be read.
FEWEST_GROUPS, MOST_DRAWN_GROUPS = 2, 40


_BY_PROMPT: tuple[tuple[str, str, str, str, Callable[[str, PromptEntry], Picture]], ...] = (
    (
        "confusion",
        "confusion",
        "Confusion matrices",
        "Essays by human score (upwards) and machine score (to the right); stronger cells hold more essays. Full "
        "agreement would fill the outlined diagonal alone.",
        confusion_picture,
    ),
    (
        "human-confusion",
        "human_confusion",
        "Two human raters",
        "Essays that were scored twice, by the first rater's score (upwards) and the second's (to the right).",
        human_confusion_picture,
    ),
    (
        "distributions",
        "score_points",
        "Scores given",
        "Shares of essays at each score point. A machine that shrinks to the mean gives too many middle scores.",
        distribution_picture,
    ),
    (
        "residuals-score",
        "residuals_by_score",
        "Residuals by score",
        "Mean of prediction less human score, with one sd, by human score. A falling line is shrinkage: low scores are "
        "predicted too high and high ones too low.",
        residual_by_score_picture,
    ),
    (
        "residuals-length",
        "residuals_by_length",
        "Residuals by length",
        "The same by the essay's length in words. A slope means that length is rewarded other than by human raters.",
        residual_by_length_picture,
    ),
    (
        "reliability",
        "reliability",
        "Reliability of predictions",
        "Mean human score, with one sd, against the mean prediction, in bins of equal count. On the diagonal, "
        "predictions mean what they say.",
        reliability_picture,
    ),
)


def report_figures(report: Report) -> list[Gallery]:
    """The pictures that need nothing but the report.

    Args:
        report: What ``build_report`` returned.

    Returns:
        Galleries in the order of a page; a kind that no prompt has data for is left out. Beyond MOST_DRAWN_PROMPTS, or
        MOST_DRAWN_ROWS in the first, the prompts with the most essays are drawn, which the gallery's words say.
    """
    prompts = report.prompts
    plural = report.rows.plural
    drawn, cut = _largest(prompts, MOST_DRAWN_PROMPTS, plural)
    rows, rows_cut = _largest(prompts, MOST_DRAWN_ROWS, plural)
    galleries = []
    with drawing():
        words = "QWK and r with intervals, beside human-human agreement and the ceiling where they are known."
        shown = replace(report, prompts={prompt: prompts[prompt] for prompt in rows})
        agreement = [agreement_picture(shown, measure) for measure in ("qwk", "pearson")]
        galleries.append(Gallery("agreement-figure", f"Agreement by {report.rows.noun}", words + rows_cut, agreement))
        for name, key, title, words, draw in _BY_PROMPT:
            made = tuple(
                draw(report.rows.within(prompt), prompts[prompt])
                for prompt in drawn
                # One point is no picture.
                if len(getattr(prompts[prompt], key) or ()) > 1
            )
            if made:
                galleries.append(Gallery(name, title, words + cut, made))
    return galleries


def _largest(prompts: Mapping[str, PromptEntry], most: int, plural: str) -> tuple[list[str], str]:
    """The prompts with the most essays in the report's order, and words for it if there are others."""
    largest = set(sorted(prompts, key=lambda prompt: -prompts[prompt].n)[:most])
    drawn = [prompt for prompt in prompts if prompt in largest]
    return drawn, f" Drawn are the {most} {plural} with the most essays." if len(drawn) < len(prompts) else ""


def fairness_figures(report: Report) -> dict[str, tuple[Picture, ...]]:
    """Pictures of subgroups, by column, one a prompt.

    Args:
        report: What ``build_report`` returned.

    Returns:
        Pictures of the prompts in which the column has from FEWEST_GROUPS to MOST_DRAWN_GROUPS groups.
    """
    columns: dict[str, dict[str, dict[str, GroupAgreement]]] = {}
    for prompt, entry in report.prompts.items():
        for column, part in (entry.fairness.columns if entry.fairness else {}).items():
            if FEWEST_GROUPS <= len(part.groups) <= MOST_DRAWN_GROUPS:
                columns.setdefault(column, {})[prompt] = part.groups
    pictures = {}
    with drawing():
        for column, prompts in columns.items():
            drawn = dict(islice(prompts.items(), MOST_DRAWN_PROMPTS))
            # How far DSM and SMD reach from 0 with their intervals, so that prompts share a scale.
            entries = [entry for groups in drawn.values() for entry in groups.values()]
            ends = [entry[f"{name}_interval"] or [entry[name] or 0.0] for entry in entries for name in ("dsm", "smd")]
            reach = 1.05 * max(1.5 * CRITERIA["subgroup_smd"].threshold, float(np.abs(np.concatenate(ends)).max()))
            pictures[column] = tuple(
                group_picture(column, report.rows.within(prompt), groups, reach, report.judged_by.criteria)
                for prompt, groups in drawn.items()
            )
    return pictures
