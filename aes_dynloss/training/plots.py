"""How a loss changed over one training, drawn as svg files that need nothing beside them."""

from __future__ import annotations

from collections.abc import Sequence
from functools import singledispatch
from io import StringIO
from itertools import cycle
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from aes_dynloss.plot_style import empty_figure, explain, plot_style
from aes_dynloss.teaching.bilinear_loss import BilinearLogLoss
from aes_dynloss.teaching.dynamic_loss import DynamicLoss, Mixture
from aes_dynloss.teaching.elements import Elements
from aes_dynloss.teaching.loss_network import LossNetwork
from aes_dynloss.training.log_plots import Numbers, Plot, log_plots, numbers, thinned_points
from aes_dynloss.training.run_folder import write_text

if TYPE_CHECKING:  # matplotlib takes half a second, and most who import this module draw nothing
    from matplotlib.axes import Axes

Snapshots = Sequence[tuple[float, Tensor]]

# Up to this many bins a cell's value is written; more would neither be legible nor small.
MOST_WRITTEN_BINS = 12
_MARKERS = "os^DvPX"


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
        ConfigError: A file cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    plots = {folder / f"{name}.svg": plot for name, plot in loss_plots(loss, snapshots, log).items()}
    for path, plot in plots.items():
        said, drawn = {"Title": plot.title, "Description": plot.description, "Date": None}, StringIO()
        with plot_style():
            plot.figure.savefig(drawn, format="svg", metadata=said)
        write_text(path, drawn.getvalue())
    return list(plots)


def loss_plots(loss: DynamicLoss, snapshots: Snapshots, log: Path) -> dict[str, Plot]:
    """The plots that :func:`write_loss_plots` writes, by the stem of their file."""
    with plot_style():
        known = [(progress, coefficients.detach().cpu().double()) for progress, coefficients in snapshots]
        own = plots_of_loss(loss, known) if known else {}
        return {**own, **log_plots(log)}


@singledispatch
def plots_of_loss(loss: object, snapshots: Snapshots) -> dict[str, Plot]:  # noqa: ARG001 - the signature of all
    """Plots of the coefficients, by the loss's class; none for a class that is not registered."""
    return {}


@plots_of_loss.register(Mixture)
def _(loss: Mixture, snapshots: Snapshots) -> dict[str, Plot]:
    title = "Weights of the component losses"
    axes = (figure := empty_figure(title, 8.0, 4.2)).add_subplot()
    progress = numbers(part for part, _ in snapshots)
    weights = np.stack([numbers(loss.watched(coefficients).values()) for _, coefficients in snapshots], axis=1)
    # Later lines are thinner, so that equal weights stay visible.
    widths, every = np.linspace(3.5, 1.2, len(weights)), 1 + len(snapshots) // 60
    for name, row, marker, width in zip(loss.coefficient_names, weights, cycle(_MARKERS), widths, strict=False):
        axes.plot(*thinned_points(progress, row), label=name, lw=width, marker=marker, ms=3 + width, markevery=every)
    axes.set(xlabel="Progress of the training (part of all steps)", ylabel="Weight (no unit)", xlim=(-0.02, 1.02))
    explain(axes, "Component")
    return {"loss_coefficients": Plot(figure, title, "Weight of each component loss against the training's progress.")}


@plots_of_loss.register(BilinearLogLoss)
def _(loss: BilinearLogLoss, snapshots: Snapshots) -> dict[str, Plot]:
    title = "Bilinear log loss: -sigmoid(W[y] · log p + b[y])"
    parts = {name: loss.unpacked(coefficients) for name, coefficients in _moments(snapshots).items()}
    largest = max(1e-6, *(float(np.nan_to_num(np.abs(numbers(matrix))).max()) for matrix, _ in parts.values()))
    figure = empty_figure(title, 2.2 + 4.0 * len(parts), 7.0)
    mosaic = figure.subplot_mosaic([list(parts), ["b"] * len(parts)], height_ratios=[4.2, 1.7])
    *panels, below = (mosaic[name] for name in [*parts, "b"])
    for axes, (name, (matrix, bias)), marker in zip(panels, parts.items(), _MARKERS, strict=False):
        _draw_matrix(axes, numbers(matrix), largest)
        axes.set(title=name, xlabel="Answered class or score point j (bin)")
        below.plot(numbers(bias), label=name, marker=marker, markersize=4)
    panels[0].set_ylabel("True class or score point y (bin)")
    figure.colorbar(panels[0].images[0], ax=panels, label="W[y, j] (no unit)")
    below.set(xlabel="True class or score point y (bin)", ylabel="b[y] (no unit)")
    below.locator_params(axis="x", integer=True, nbins=12)
    figure.legend(handles=below.lines, title="b at the", loc="outside lower center", ncols=3, frameon=False)
    return {"loss_matrix": Plot(figure, title, "Heat maps of W, on one colour scale, and curves of b, early to late.")}


@plots_of_loss.register(LossNetwork)
def _(loss: LossNetwork, snapshots: Snapshots) -> dict[str, Plot]:
    draw, title, up, legend = _FORMS[loss.form]
    moments = _moments(snapshots)
    figure = empty_figure(title, 1.8 + 3.4 * len(moments), 4.2)
    panels = figure.subplots(1, len(moments), sharey=True, squeeze=False)[0]
    for axes, (name, coefficients) in zip(panels, moments.items(), strict=True):
        draw(axes, loss, coefficients)
        axes.set_title(name)
    panels[0].set_ylabel(up)
    explain(panels[-1], legend)
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
    dot = int((places - fixed).abs().argmin())
    axes.plot(numbers(places), numbers(values), label=f"{fixed:g}", marker="o", markevery=[dot])


def _draw_matrix(axes: Axes, matrix: Numbers, largest: float) -> None:
    axes.imshow(matrix, cmap="PuOr", vmin=-largest, vmax=largest, interpolation="nearest")
    axes.locator_params(integer=True, nbins=12)
    axes.grid(visible=False)
    if len(matrix) > MOST_WRITTEN_BINS:
        return
    for (row, column), value in np.ndenumerate(matrix):
        colour = "white" if abs(value) > 0.7 * largest else "black"
        words = f"{value:z.{2 if largest < 10 else 0}f}" if value else "0"
        axes.text(column, row, words, ha="center", va="center", color=colour, fontsize=min(9.0, 82 / len(matrix)))


def _moments(snapshots: Snapshots) -> dict[str, Tensor]:
    """Coefficients at the start, nearest to the middle, and at the end; fewer where there are fewer snapshots."""
    progress = numbers(part for part, _ in snapshots)
    middle = int(np.abs(progress - (progress[0] + progress[-1]) / 2).argmin())
    last = len(snapshots) - 1
    names = {middle: "middle", last: "end", 0: "start" if last else "only snapshot"}
    return {f"{names[place]} (progress {progress[place]:.2f})": snapshots[place][1] for place in sorted(names)}
