"""Pictures of one prompt's scores: who gets which, where machine and humans differ, and by how much."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from aes_dynloss.reporting.drawing import FAINT, HUMAN, MACHINE, panel, saved
from aes_dynloss.reporting.pictures import Picture

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Entry = Mapping[str, Any]

WIDTH, HEIGHT = 3.5, 2.5
# Up to so many score points a cell's count is written; more would not be legible.
MOST_WRITTEN_POINTS = 7
# Up to so many score points bars stand side by side; beyond, outlines are easier to tell apart.
MOST_BARS = 13
_SHADES = 8


def confusion_picture(prompt: str, entry: Entry) -> Picture:
    """How often each human score met each machine score; only cells that occur are drawn."""
    span, cells = entry["range"], entry["confusion"]
    low, high, step = span["low"], span["high"], span["step"]
    axes = panel(WIDTH, WIDTH)
    written = round((high - low) / step) < MOST_WRITTEN_POINTS
    # Under a written count a cell stays pale enough for the page's ink, on a light ground and on a dark one.
    _draw_cells(axes, cells, step, strongest=0.5 if written else 1.0)
    edges = (low - step / 2, high + step / 2)
    axes.set(xlim=edges, ylim=edges, xlabel="Machine score", ylabel="Human score")
    axes.grid(visible=False)
    if written:
        ticks = np.arange(round((high - low) / step) + 1) * step + low
        axes.set(xticks=ticks, yticks=ticks)
        for human, machine, count in cells:
            axes.text(machine, human, f"{count:,}", ha="center", va="center", fontsize=8)
    else:
        axes.plot(edges, edges, color=FAINT, linewidth=0.8)
    essays = max(1, sum(count for *_, count in cells))
    same = sum(count for human, machine, count in cells if abs(human - machine) < step / 2)
    near = sum(count for human, machine, count in cells if abs(human - machine) < 1.5 * step)
    words = (
        f"Heat map of counts, human score upwards and machine score to the right. {100 * same / essays:.0f} % of "
        f"{essays:,} essays lie on the diagonal, {100 * near / essays:.0f} % at most one score point from it."
    )
    return saved(axes, f"Confusion matrix, prompt {prompt}", words)


def _draw_cells(axes: Axes, cells: Sequence[Sequence[float]], step: float, strongest: float) -> None:
    """Squares of the same shade are one path, so that 51 score points stay small."""
    from matplotlib.patches import PathPatch
    from matplotlib.path import Path

    corners = np.array([(-1, -1), (1, -1), (1, 1), (-1, 1), (-1, -1)]) * step / 2
    codes = [Path.MOVETO, Path.LINETO, Path.LINETO, Path.LINETO, Path.CLOSEPOLY]
    most = max(count for *_, count in cells)
    shades: dict[int, list[tuple[float, float]]] = {}
    for human, machine, count in cells:
        # The root, lest all but the most frequent cells be pale.
        shades.setdefault(int(np.ceil(_SHADES * np.sqrt(count / most))), []).append((machine, human))
    for shade, centres in sorted(shades.items()):
        squares = (np.array(centres)[:, None] + corners).reshape(-1, 2)
        path = Path(squares, codes * len(centres))
        axes.add_patch(PathPatch(path, facecolor=HUMAN, alpha=strongest * shade / _SHADES, linewidth=0))


def distribution_picture(prompt: str, entry: Entry) -> Picture:
    """Shares of essays at each score point, human and machine."""
    points = entry["score_points"]
    places = np.array([one["point"] for one in points])
    step, essays = entry["range"]["step"], max(1, entry["n"])
    axes = panel(WIDTH, HEIGHT, top=0.3)
    for rater, colour, side in (("human", HUMAN, -1), ("machine", MACHINE, 1)):
        shares = np.array([100 * one[rater] / essays for one in points])
        name = rater.capitalize()
        if len(points) <= MOST_BARS:
            axes.bar(places + side * 0.2 * step, shares, width=0.38 * step, color=colour, label=name)
        else:
            edges = np.append(places - step / 2, places[-1] + step / 2)
            style = "-" if rater == "human" else "--"
            axes.stairs(shares, edges, color=colour, label=name, linewidth=1.4, linestyle=style, baseline=None)
    axes.set(xlabel="Score point", ylabel="Essays (%)", ylim=(0, None))
    axes.grid(visible=False, axis="x")
    if len(points) <= MOST_BARS:
        axes.set_xticks(places)
    axes.legend(loc="lower left", bbox_to_anchor=(0.0, 1.0), ncols=2, frameon=False, borderaxespad=0.1)
    widest = max(points, key=lambda one: abs(one["gap"]))
    words = (
        f"Shares of essays by score point, human and machine. The largest gap is {100 * widest['gap']:+.1f} percentage "
        f"points at score {widest['point']:g}."
    )
    return saved(axes, f"Scores given, prompt {prompt}", words)


def residual_by_score_picture(prompt: str, entry: Entry) -> Picture:
    """Mean and spread of machine less human, by human score."""
    rows = entry["residuals_by_score"]
    axes = _residual_panel(_column(rows, "reference"), rows, "Human score")
    first, last = rows[0], rows[-1]
    words = (
        f"Mean of prediction less human score, with one sd, by human score: {first['mean']:+.2f} at "
        f"{first['reference']:g} and {last['mean']:+.2f} at {last['reference']:g}."
    )
    return saved(axes, f"Residuals by score, prompt {prompt}", words)


def residual_by_length_picture(prompt: str, entry: Entry) -> Picture:
    """Mean and spread of machine less human, by length."""
    rows = entry["residuals_by_length"]
    middles = (_column(rows, "words_from") + _column(rows, "words_to")) / 2
    axes = _residual_panel(middles, rows, "Length (words, middle of the bin)")
    first, last = rows[0], rows[-1]
    words = (
        f"Mean of prediction less human score, with one sd, by length: {first['mean']:+.2f} for the shortest essays "
        f"and {last['mean']:+.2f} for the longest."
    )
    return saved(axes, f"Residuals by length, prompt {prompt}", words)


def _residual_panel(places: NDArray[np.float64], rows: Sequence[Entry], along: str) -> Axes:
    axes = panel(WIDTH, HEIGHT)
    axes.axhline(0, color=FAINT, linewidth=1)
    means, sds = (_column(rows, key) for key in ("mean", "sd"))
    _draw_spread(axes, places, means, sds)
    axes.set(xlabel=along, ylabel="Machine \u2212 human (points)")
    return axes


def _draw_spread(axes: Axes, places: NDArray[np.float64], means: NDArray[np.float64], sds: NDArray[np.float64]) -> None:
    """Means with one sd on both sides: arms where they are few, a band where they would be a thicket."""
    if len(places) <= MOST_BARS:
        axes.errorbar(places, means, yerr=sds, fmt="o-", color=HUMAN, markersize=4, linewidth=1.2, elinewidth=0.8)
    else:
        axes.fill_between(places, means - sds, means + sds, color=HUMAN, alpha=0.2, linewidth=0)
        axes.plot(places, means, color=HUMAN, linewidth=1.3)


def _column(rows: Sequence[Entry], key: str) -> NDArray[np.float64]:
    """Values of all rows; the sd of one essay is unknown, and drawn as none."""
    return np.array([row[key] or 0.0 for row in rows], dtype=np.float64)


def reliability_picture(prompt: str, entry: Entry) -> Picture:
    """Mean human score against the mean prediction, in bins of equal count."""
    rows = entry["reliability"]
    raw, human, sds = (_column(rows, key) for key in ("mean_raw", "mean_reference", "sd_reference"))
    axes = panel(WIDTH, HEIGHT)
    both = [float(min(raw.min(), human.min())), float(max(raw.max(), human.max()))]
    axes.plot(both, both, color=FAINT, linewidth=1, linestyle="-")
    _draw_spread(axes, raw, human, sds)
    axes.set(xlabel="Mean prediction in the bin", ylabel="Mean human score")
    farthest = int(np.abs(human - raw).argmax())
    words = (
        f"Mean human score, with one sd, against the mean prediction in {len(rows)} bins of equal count, beside the "
        f"diagonal. Farthest from it: humans {human[farthest]:.2f} where the machine predicts {raw[farthest]:.2f}."
    )
    return saved(axes, f"Reliability, prompt {prompt}", words)
