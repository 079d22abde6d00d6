"""How a loss changed over one training, drawn as svg files that need nothing beside them."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from functools import singledispatch
from itertools import cycle
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from aes_dynloss.errors import CheckpointError
from aes_dynloss.teaching.bilinear_loss import BilinearLogLoss
from aes_dynloss.teaching.dynamic_loss import DynamicLoss, Mixture
from aes_dynloss.teaching.elements import Elements
from aes_dynloss.teaching.loss_network import LossNetwork

if TYPE_CHECKING:  # matplotlib takes half a second, and most who import this module draw nothing
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Numbers = NDArray[np.float64]
Row = tuple[int, Mapping[str, float | None]]
Snapshots = Sequence[tuple[float, Tensor]]

MOST_POINTS = 400
# A cell's value is written up to this many bins: three matrices of more would neither be legible nor small.
MOST_WRITTEN_BINS = 12
# Okabe and Ito 2008, Color universal design, without the yellow, which is faint on white.
COLOURS = ["#0072B2", "#D55E00", "#009E73", "#CC79A7", "#000000", "#E69F00", "#56B4E9"]
_MARKERS = "os^DvPX"
# Before and after differ little: the one stays visible between the other's dashes.
_LINE_STYLES = {"measure_after": "--"}


class Plot(NamedTuple):
    """A figure, with its title and what it shows, for those who do not see it."""

    figure: Figure
    title: str
    description: str


def write_loss_plots(folder: Path, loss: DynamicLoss, snapshots: Snapshots, log: Path) -> list[Path]:
    """Draw how a loss changed over one training; equal input gives equal bytes.

    Args:
        folder: Where the svg files go; made if absent.
        loss: The loss. Of a class that has no plot of its own, only the log is drawn.
        snapshots: Progress in [0, 1], ascending, and the coefficients there, (K,).
        log: The run's metrics.jsonl.

    Returns:
        Paths of the files: the log's, and before it the loss's own.

    Raises:
        CheckpointError: A line of the log is no record.
        ShapeError: The coefficients are not this loss's.
    """
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for name, plot in loss_plots(loss, snapshots, log).items():
        paths.append(folder / f"{name}.svg")
        with _style():
            said = {"Title": plot.title, "Description": plot.description, "Date": None}
            plot.figure.savefig(paths[-1], format="svg", metadata=said)
    return paths


def loss_plots(loss: DynamicLoss, snapshots: Snapshots, log: Path) -> dict[str, Plot]:
    """The plots that :func:`write_loss_plots` writes, by the stem of their file."""
    with _style():
        known = [(progress, coefficients.detach().cpu().double()) for progress, coefficients in snapshots]
        own = plots_of_loss(loss, known) if known else {}
        return {**own, "loss_terms": _terms_plot(log)}


@singledispatch
def plots_of_loss(loss: object, snapshots: Snapshots) -> dict[str, Plot]:  # noqa: ARG001 - the signature of all
    """Plots of the coefficients, by the loss's class; none for a class that is not registered."""
    return {}


@plots_of_loss.register(Mixture)
def _(loss: Mixture, snapshots: Snapshots) -> dict[str, Plot]:
    title = "Weights of the component losses"
    figure = _figure(title, 8.0, 4.2)
    axes = figure.add_subplot()
    progress = _numbers(part for part, _ in snapshots)
    weights = np.stack([_numbers(loss.watched(coefficients).values()) for _, coefficients in snapshots], axis=1)
    # Later lines are thinner, so that equal weights stay visible.
    widths = np.linspace(3.5, 1.2, len(weights))
    for name, row, marker, width in zip(loss.coefficient_names, weights, cycle(_MARKERS), widths, strict=False):
        axes.plot(*_thinned(progress, row), label=name, marker=marker, markersize=3 + width, linewidth=width)
    axes.set(xlabel="Progress of the training (part of all steps)", ylabel="Weight (no unit)", xlim=(-0.02, 1.02))
    _explain(axes, "Component")
    return {"loss_coefficients": Plot(figure, title, "Weight of each component loss against the training's progress.")}


@plots_of_loss.register(BilinearLogLoss)
def _(loss: BilinearLogLoss, snapshots: Snapshots) -> dict[str, Plot]:
    title = "Bilinear log loss: -sigmoid(W[y] · log p + b[y])"
    parts = {name: loss.unpacked(coefficients) for name, coefficients in _moments(snapshots).items()}
    largest = max(1e-6, *(float(np.nan_to_num(np.abs(_numbers(matrix))).max()) for matrix, _ in parts.values()))
    figure = _figure(title, 2.2 + 4.0 * len(parts), 7.0)
    grid = figure.add_gridspec(2, len(parts), height_ratios=[4.2, 1.7])
    panels = [figure.add_subplot(grid[0, place]) for place in range(len(parts))]
    below = figure.add_subplot(grid[1, :])
    for axes, (name, (matrix, bias)), marker in zip(panels, parts.items(), _MARKERS, strict=False):
        _draw_matrix(axes, _numbers(matrix), largest)
        axes.set(title=name, xlabel="Answered score point j (bin, 0 = lowest)")
        below.plot(_numbers(bias), label=name, marker=marker, markersize=4)
    panels[0].set_ylabel("True score point y (bin, 0 = lowest)")
    figure.colorbar(panels[0].images[0], ax=panels, label="W[y, j] (no unit)")
    below.set(xlabel="True score point y (bin, 0 = lowest)", ylabel="b[y] (no unit)", xticks=_ticks(loss.bins))
    figure.legend(handles=below.lines, title="b at the", loc="outside lower center", ncols=3, frameon=False)
    words = "Heat maps of the matrix W, on one colour scale, and curves of the vector b, early to late in the training."
    return {"loss_matrix": Plot(figure, title, words)}


@plots_of_loss.register(LossNetwork)
def _(loss: LossNetwork, snapshots: Snapshots) -> dict[str, Plot]:
    draw, title, up, legend = _FORMS[loss.form]
    moments = _moments(snapshots)
    figure = _figure(title, 1.8 + 3.4 * len(moments), 4.2)
    panels = figure.subplots(1, len(moments), sharey=True, squeeze=False)[0]
    for axes, (name, coefficients) in zip(panels, moments.items(), strict=True):
        with torch.no_grad():
            draw(axes, loss, coefficients)
        axes.set_title(name)
    panels[0].set_ylabel(up)
    _explain(panels[-1], legend)
    return {"loss_network": Plot(figure, title, f"Curves of {title}, early to late in the training.")}


def _draw_score_losses(axes: Axes, loss: LossNetwork, coefficients: Tensor) -> None:
    """The loss itself, of elements whose group has mean 0 and standard deviation 1."""
    for target in (-2.0, -1.0, 0.0, 1.0, 2.0):
        scores = torch.linspace(-3, 3, 121, dtype=torch.float64)
        zeros = torch.zeros_like(scores)
        elements = Elements(scores, zeros + target, zeros.long(), centre=zeros, spread=zeros + 1)
        _draw_curve(axes, scores, loss(coefficients, elements), target)
    axes.set_xlabel("Prediction p (sd of the group)")


def _draw_rival_costs(axes: Axes, loss: LossNetwork, coefficients: Tensor) -> None:
    for true in (0.1, 0.3, 0.5, 0.7, 0.9):
        rivals = torch.linspace(0, 1, 101, dtype=torch.float64)
        ones = torch.ones_like(rivals)
        rows = torch.stack([true * ones, rivals, ones, 0 * ones], dim=1)
        _draw_curve(axes, rivals, loss.network(coefficients, rows), true)
    axes.set_xlabel("Rival's signal s_j (sigmoid, no unit)")


_FORMS = {
    "scores": (_draw_score_losses, "Learnt loss of a score", "D + plain loss (no unit)", "Target y (sd)\nDot: p = y"),
    "distribution": (
        _draw_rival_costs,
        "Learnt cost of a rival, D(s_y, s_j)",
        "D (no unit)",
        "True s_y\nDot: s_j = s_y",
    ),
}


def _draw_curve(axes: Axes, places: Tensor, values: Tensor, fixed: float) -> None:
    """A curve with a dot at the place that it is about, which lies on the grid."""
    dot = [int((places - fixed).abs().argmin())]
    axes.plot(_numbers(places), _numbers(values), label=f"{fixed:g}", marker="o", markevery=dot)


def _draw_matrix(axes: Axes, matrix: Numbers, largest: float) -> None:
    axes.imshow(matrix, cmap="PuOr", vmin=-largest, vmax=largest, interpolation="nearest")
    axes.set(xticks=_ticks(len(matrix)), yticks=_ticks(len(matrix)))
    axes.grid(visible=False)
    if len(matrix) > MOST_WRITTEN_BINS:
        return
    for (row, column), value in np.ndenumerate(matrix):
        colour = "white" if abs(value) > 0.6 * largest else "black"
        words = f"{value:z.{2 if largest < 10 else 0}f}" if value else "0"
        axes.text(column, row, words, ha="center", va="center", color=colour, fontsize=min(9.0, 82 / len(matrix)))


def _terms_plot(log: Path) -> Plot:
    rows = _rows(log)
    panels = {
        "Component loss\n(each in its unit)": _columns(rows["terms"]),
        "Error (1 = always\nanswering the mean)": _columns(rows["error"]),
    }
    if rows["teacher"]:
        panels["Teacher's measure\n(lower is better)"] = _columns(rows["teacher"], ["measure_before", "measure_after"])
        panels["Hypergradient\n(norm, no unit)"] = _columns(rows["teacher"], ["hypergradient_norm"])
    title = "Losses over the training"
    figure = _figure(title, 8.0, 0.9 + 2.1 * len(panels))
    below = figure.subplots(len(panels), 1, sharex=True)
    for axes, (label, columns) in zip(below, panels.items(), strict=True):
        _draw_columns(axes, columns)
        axes.set_ylabel(label)
    mean = -(-len(rows["terms"]) // MOST_POINTS)
    thinned = f" (a point is the mean of up to {mean} steps)" if mean > 1 else ""
    below[-1].set_xlabel(f"Optimiser step{thinned}")
    below[-1].locator_params(axis="x", integer=True)
    words = "Component losses, training error and, of a run with a teacher, its measure and hypergradient, by step."
    return Plot(figure, title, words)


def _draw_columns(axes: Axes, columns: Mapping[str, tuple[Numbers, Numbers]]) -> None:
    curves = {name: _thinned(*points) for name, points in columns.items()}
    for name, (steps, values) in curves.items():
        label, style, marked = name.replace("_", " "), _LINE_STYLES.get(name), _marked(values)
        dot = "o" if marked else ""
        axes.plot(steps, values, label=label, ls=style, lw=1.2, marker=dot, ms=3, markevery=marked)
    seen = np.concatenate([np.zeros(0), *[values[np.isfinite(values)] for _, values in curves.values()]])
    if not len(seen):
        axes.text(0.5, 0.5, "no numbers in the log", ha="center", va="center", transform=axes.transAxes)
    elif seen.min() > 0 and seen.max() > 30 * seen.min():
        axes.set_yscale("log")
    if curves:
        _explain(axes, "")


def _rows(log: Path) -> dict[str, list[Row]]:
    """Terms, error and teacher's numbers of the log's steps; null is a number that was not finite."""
    rows: dict[str, list[Row]] = {"terms": [], "error": [], "teacher": []}
    with log.open(encoding="utf-8") as lines:
        for number, line in enumerate(lines, start=1):
            try:
                record = json.loads(line)
                if "terms" in record:
                    found = {**record, "error": {"error": record["error"]}}
                    for kind in rows.keys() & found.keys():
                        rows[kind].append((int(record["step"]), dict(found[kind])))
            except (ValueError, TypeError, KeyError) as error:
                raise CheckpointError(
                    f"Line {number} of {log} is no record of a run. Remove the line, or train again with --force."
                ) from error
    return rows


def _columns(rows: Sequence[Row], names: Sequence[str] = ()) -> dict[str, tuple[Numbers, Numbers]]:
    """Steps and values of each name, by default of all that occur; null becomes NaN."""
    steps = _numbers(step for step, _ in rows)
    names = names or list(dict.fromkeys(name for _, row in rows for name in row))
    return {name: (steps, _numbers(row.get(name) for _, row in rows)) for name in names}


def _moments(snapshots: Snapshots) -> dict[str, Tensor]:
    """Coefficients at the start, nearest to the middle, and at the end; fewer where there are fewer snapshots."""
    progress = _numbers(part for part, _ in snapshots)
    middle = int(np.abs(progress - (progress[0] + progress[-1]) / 2).argmin())
    last = len(snapshots) - 1
    names = {middle: "middle", last: "end", 0: "start" if last else "only snapshot"}
    return {f"{names[place]} (progress {progress[place]:.2f})": snapshots[place][1] for place in sorted(names)}


def _numbers(values: Tensor | Iterable[float | Tensor | None]) -> Numbers:
    """As float64, with NaN for all that is no finite number."""
    found = np.array(values.numpy() if isinstance(values, Tensor) else list(values), dtype=np.float64)
    return np.where(np.isfinite(found), found, np.nan)


def _thinned(places: Numbers, values: Numbers) -> tuple[Numbers, Numbers]:
    """At most MOST_POINTS points, each the mean of the finite ones of its neighbours; NaN where none is."""
    if len(values) <= MOST_POINTS:
        return places, values
    parts = (part[np.isfinite(part)] for part in np.array_split(values, MOST_POINTS))
    means = _numbers(part.mean() if len(part) else None for part in parts)
    return _numbers(part.mean() for part in np.array_split(places, MOST_POINTS)), means


def _marked(values: Numbers) -> list[int]:
    """Points that get a dot: all where they are few, else those without a neighbour, which no line shows."""
    finite, few = np.pad(np.isfinite(values), 1), len(values) <= 60
    return [int(place) for place in np.flatnonzero(finite[1:-1] & (few | ~(finite[:-2] | finite[2:])))]


def _ticks(count: int) -> range:
    return range(0, count, max(1, count // MOST_WRITTEN_BINS))


def _explain(axes: Axes, title: str) -> None:
    """A legend beside the axes, where it hides no curve."""
    axes.legend(title=title, loc="upper left", bbox_to_anchor=(1.01, 1.0), borderaxespad=0.0, frameon=False)


def _figure(title: str, width: float, height: float) -> Figure:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    figure.suptitle(title)
    return figure


def _style() -> AbstractContextManager[None]:
    """Settings of our own, whatever the user's are: text stays text, and no identifier is drawn by chance."""
    from matplotlib import style
    from matplotlib.rcsetup import cycler

    own = {
        "svg.hashsalt": "aes_dynloss",
        "svg.fonttype": "none",
        "font.sans-serif": ["DejaVu Sans"],
        "axes.prop_cycle": cycler(linestyle=["-", "--", ":"]) * cycler(color=COLOURS),
        "axes.grid": True,
        "grid.alpha": 0.3,
    }
    return style.context(["default", own])
