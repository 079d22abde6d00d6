"""Plots of a run: loss coefficients over training, losses, and learning curves on dev, as self-contained svg files."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from functools import singledispatch
from io import StringIO
from itertools import cycle
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from aes_dynloss.errors import CheckpointError
from aes_dynloss.plot_style import INK, WIDTH, empty_figure, explain, legend_columns, plain_log_scale, plot_style
from aes_dynloss.tables.atomic import write_text
from aes_dynloss.teaching.losses.bilinear_loss import BilinearLogLoss
from aes_dynloss.teaching.losses.dynamic_loss import DynamicLoss, Mixture
from aes_dynloss.teaching.losses.forward_correction import ForwardCorrection
from aes_dynloss.teaching.losses.loss_network import LossNetwork
from aes_dynloss.teaching.losses.meta_weight import MetaWeightLoss
from aes_dynloss.teaching.losses.rater_weights import RaterWeights
from aes_dynloss.teaching.policies import LossPolicy, StudentState
from aes_dynloss.teaching.student import Elements

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


# Progress in [0, 1], and the coefficients there, (K,).
History = list[tuple[float, Tensor]]

MOST_PLACES = 60
_Item = TypeVar("_Item")


def answers_over(policy: LossPolicy, log: Path) -> History:
    """What a policy without memory answered over a run, asked again with the states in its metrics.jsonl.

    Args:
        policy: A schedule, a frozen teacher, or one whose episodes are over.
        log: The run's metrics.jsonl.
    """
    lines = [json.loads(line) for line in log.read_text(encoding="utf-8").splitlines()]
    states = [StudentState(**line["state"]) for line in lines if "state" in line]
    return [(state.progress, policy.coefficients(state).detach().cpu()) for state in thinned(states)]


def thinned(items: Sequence[_Item], most: int = MOST_PLACES) -> list[_Item]:
    """At most so many of them, evenly, with the first and the last."""
    if len(items) <= most:
        return list(items)
    return [items[round(index * (len(items) - 1) / (most - 1))] for index in range(most)]


Numbers = NDArray[np.float64]
Row = tuple[int, Mapping[str, float | None]]

MOST_POINTS = 400
# Up to so many points each has a dot; more would hide the line.
MOST_DOTS = 20
# More curves than this in one panel are one grey bundle, whatever their colours.
MOST_CURVES = 12
MOST_RATERS = 40
# Each group has a panel of its own up to so many.
MOST_GROUPS = 8
# Before and after differ little: the one stays visible between the other's dashes.
_LINE_STYLES = {"measure_after": "--"}


class Plot(NamedTuple):
    """A figure, with its title and what it shows, for those who do not see it."""

    figure: Figure
    title: str
    description: str


def _curves_plot(rows: Sequence[Row]) -> Plot:
    """A panel a measure; those of parts, such as qwk_3 of prompt 3, stand in the panel of their whole."""
    columns = _columns(rows)
    whole = [name for name in columns if not any(name.startswith(f"{other}_") for other in columns if other != name)]
    title = "Learning curves"
    parts_of = {name: [one for one in columns if one.startswith(f"{name}_")][:MOST_CURVES] for name in whole}
    figure, below = _stacked([[*parts, "mean"] if parts else [] for parts in parts_of.values()])
    for axes, (name, parts) in zip(below, parts_of.items(), strict=True):
        for other in parts:
            axes.plot(*columns[other], label=other.removeprefix(f"{name}_"), lw=1.0, marker=".", alpha=0.75)
        axes.plot(*columns[name], label="mean" if parts else name, lw=2.0, marker="o", ms=3, color=INK, ls="-")
        axes.set_ylabel(f"{name.replace('qwk', 'QWK')} on dev")
        if name == "sd_ratio":  # what a learnt or scheduled spread is for
            axes.set_ylabel("SD of predictions /\nSD of human scores")
            axes.axhline(1.0, color="grey", lw=1.0, ls="--")
        if parts:  # a curve alone is named by its axis
            explain(axes)
    below[-1].set_xlabel("Optimiser step")
    below[-1].locator_params(axis="x", integer=True)
    return Plot(figure, title, f"What was measured on dev during the training: {', '.join(whole)}, by optimiser step.")


def _terms_plot(rows: Mapping[str, list[Row]]) -> Plot:
    panels = {
        "Component loss\n(each in its unit)": _columns(rows["terms"]),
        "Error (1 = always\nanswering the mean)": _columns(rows["error"]),
    }
    if rows["teacher"]:
        panels["Teacher's measure\n(lower is better)"] = _columns(rows["teacher"], ["measure_before", "measure_after"])
        panels["Hypergradient\n(norm, no unit)"] = _columns(rows["teacher"], ["hypergradient_norm"])
    title = "Losses over the training"
    # The axis names what a panel always has alone.
    named = [position in {0, 2} for position in range(len(panels))]
    legends = zip(panels.values(), named, strict=True)
    figure, below = _stacked([list(columns) if legend else [] for columns, legend in legends])
    for axes, (label, columns), legend in zip(below, panels.items(), named, strict=True):
        _draw_columns(axes, columns, named=legend)
        axes.set_ylabel(label)
    mean = -(-len(rows["terms"]) // MOST_POINTS)
    thinned = f" (a point is the mean of up to {mean} steps)" if mean > 1 else ""
    below[-1].set_xlabel(f"Optimiser step{thinned}")
    below[-1].locator_params(axis="x", integer=True)
    return Plot(figure, title, "Component losses, training error and, where a teacher learnt, its measure, by step.")


def _stacked(legends: Sequence[Sequence[str]]) -> tuple[Figure, list[Axes]]:
    """Panels below one another that share steps, with room above each for a legend of such labels."""
    rows = sum(-(-len(labels) // legend_columns(labels, WIDTH)) for labels in legends)
    figure = empty_figure("", WIDTH, 0.4 + 1.55 * len(legends) + 0.18 * rows)
    return figure, list(figure.subplots(len(legends), 1, sharex=True, squeeze=False)[:, 0])


def _draw_columns(axes: Axes, columns: Mapping[str, tuple[Numbers, Numbers]], *, named: bool) -> None:
    """Curves, with their names unless the axis says what there is."""
    for name, (steps, values) in columns.items():
        style, marked = _LINE_STYLES.get(name), _marked(values)
        axes.plot(steps, values, label=name, ls=style, lw=1.2, marker="o" if marked else "", ms=3, markevery=marked)
    seen = [value for _, values in columns.values() for value in values if np.isfinite(value)]
    if not seen:
        axes.text(0.5, 0.5, "no numbers in the log", ha="center", va="center", transform=axes.transAxes)
    elif min(seen) > 0 and max(seen) > 30 * min(seen):
        plain_log_scale(axes)
    if named and columns:
        explain(axes)


def _rows(log: Path) -> dict[str, list[Row]]:
    """Terms, error, teacher's and dev's numbers of the log's steps; null is a number that was not finite."""
    rows: dict[str, list[Row]] = {"terms": [], "error": [], "teacher": [], "dev": []}
    with log.open(encoding="utf-8") as lines:
        for number, line in enumerate(lines, start=1):
            try:
                record = json.loads(line)
                parts = {**record, "error": {"error": record["error"]}} if "terms" in record else record
                for kind in rows.keys() & parts.keys():
                    rows[kind].append((int(parts["step"]), dict(parts[kind])))
            except (ValueError, TypeError, KeyError) as error:
                raise CheckpointError(
                    f"Line {number} of {log} is no record of a run. Remove the line, or train again with --force."
                ) from error
    return rows


def _columns(rows: Sequence[Row], names: Sequence[str] = ()) -> dict[str, tuple[Numbers, Numbers]]:
    """Thinned steps and values of each name, by default of all that occur; null becomes NaN."""
    steps = numbers(step for step, _ in rows)
    names = names or list(dict.fromkeys(name for _, row in rows for name in row))
    return {name: thinned_points(steps, numbers(row.get(name) for _, row in rows)) for name in names}


def numbers(values: Tensor | Iterable[float | Tensor | None]) -> Numbers:
    """As float64, with NaN for all that is no finite number."""
    array = np.array(values.numpy() if isinstance(values, Tensor) else list(values), dtype=np.float64)
    return np.where(np.isfinite(array), array, np.nan)


def thinned_points(steps: Numbers, values: Numbers) -> tuple[Numbers, Numbers]:
    """At most MOST_POINTS points, each the mean of the finite ones of its neighbours; NaN where none is."""
    if len(values) <= MOST_POINTS:
        return steps, values
    parts = (part[np.isfinite(part)] for part in np.array_split(values, MOST_POINTS))
    means = numbers(part.mean() if len(part) else None for part in parts)
    return numbers(part.mean() for part in np.array_split(steps, MOST_POINTS)), means


def _marked(values: Numbers) -> list[int]:
    """Points that get a dot: all where they are few, else those without a neighbour, which no line shows."""
    finite, few = np.pad(np.isfinite(values), 1), len(values) <= MOST_DOTS
    return [int(index) for index in np.flatnonzero(finite[1:-1] & (few | ~(finite[:-2] | finite[2:])))]


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
    paths = []
    for name, plot in loss_plots(loss, snapshots, log).items():
        metadata, text = {"Title": plot.title, "Description": plot.description, "Date": None}, StringIO()
        with plot_style():
            plot.figure.savefig(text, format="svg", metadata=metadata)
        paths.append(folder / f"{name}.svg")
        write_text(paths[-1], text.getvalue())
    return paths


def loss_plots(loss: DynamicLoss, snapshots: Snapshots, log: Path) -> dict[str, Plot]:
    """The plots that :func:`write_loss_plots` writes, by the stem of their file.

    ``learning_curves`` are there where the student was measured on dev more than once, and weights where they change.
    """
    rows = _rows(log)
    measured = {step for step, _ in rows["dev"]}
    known = [(progress, coefficients.detach().cpu().double()) for progress, coefficients in snapshots]
    with plot_style():
        plots = plots_of_loss(loss, known) if known else {}
        if len(measured) > 1:
            plots["learning_curves"] = _curves_plot(rows["dev"])
        return {**plots, "loss_terms": _terms_plot(rows)}


@singledispatch
def plots_of_loss(loss: object, snapshots: Snapshots) -> dict[str, Plot]:  # noqa: ARG001 - the signature of all
    """Plots of the coefficients, by the loss's class; none for a class that is not registered."""
    return {}


@plots_of_loss.register(Mixture)
def _(loss: Mixture, snapshots: Snapshots) -> dict[str, Plot]:
    title = "Weights of the component losses"
    what = "Weight of each component loss against the training's progress."
    figure = _weight_lines("Component", [(part, loss.logged_values(phi)) for part, phi in snapshots])
    return {"loss_coefficients": Plot(figure, title, what)} if figure else {}


def _weight_lines(legend: str, weights: Sequence[tuple[float, Mapping[str, Tensor]]]) -> Figure | None:
    """Lines of weights by name against progress; None where none of them changes."""
    progress = numbers(part for part, _ in weights)
    rows = np.stack([numbers(named.values()) for _, named in weights], axis=1)
    if np.array_equal(rows, np.broadcast_to(rows[:, :1], rows.shape), equal_nan=True):
        return None
    names = list(weights[0][1])
    figure = empty_figure("", WIDTH, 2.9 + 0.18 * -(-len(names) // legend_columns(names, WIDTH)))
    axes = figure.add_subplot()
    # Later lines are thinner, so that equal weights stay visible.
    widths, every = np.linspace(3.0, 1.2, len(rows)), 1 + len(weights) // 12
    for name, row, marker, width in zip(names, rows, cycle(_MARKERS), widths, strict=False):
        axes.plot(*thinned_points(progress, row), label=name, lw=width, marker=marker, ms=2 + width, markevery=every)
    axes.set(xlabel="Progress of the training (part of all steps)", ylabel="Weight (no unit)", xlim=(-0.02, 1.02))
    explain(axes, legend)
    return figure


@plots_of_loss.register(RaterWeights)
def _(loss: RaterWeights, snapshots: Snapshots) -> dict[str, Plot]:
    """Lines, one a rater; with levels of the score, heat maps of raters and levels."""
    by_level = loss.levels > 1
    moved = (loss.table(snapshots[-1][1]) - loss.table(snapshots[0][1])).abs().mean(1)
    most = MOST_RATERS if by_level else MOST_CURVES
    shown = sorted(moved.argsort(descending=True, stable=True)[:most].tolist())
    names = [loss.raters[rater] for rater in shown]
    who = "Rater" if len(shown) == len(loss.raters) else f"Rater ({most} of {len(loss.raters)},\nthat changed most)"
    if not by_level:
        title = "Weights of the raters"
        weights = [(part, dict(zip(names, loss.table(phi)[shown, 0], strict=True))) for part, phi in snapshots]
        what = "Weight of each rater's scores against the training's progress."
        figure = _weight_lines(who, weights)
        return {"loss_weights": Plot(figure, title, what)} if figure else {}
    title = "Weights by rater and level of the score"
    tables = {name: numbers(loss.table(phi)[shown]) for name, phi in _moments(snapshots).items()}
    panels, figure = _matrices(tables, (0.6 + 0.3 * loss.levels, 1.4 + 0.26 * len(shown)))
    for axes in panels:
        axes.set_xlabel("Level of the score, lowest first")
        axes.set_yticks(range(len(shown)), names if axes is panels[0] else [""] * len(shown))
    panels[0].set_ylabel(who)
    return {"loss_weights": Plot(figure, title, f"Heat maps of {title.lower()}, early to late in the training.")}


@plots_of_loss.register(ForwardCorrection)
def _(loss: ForwardCorrection, snapshots: Snapshots) -> dict[str, Plot]:
    """C as it was estimated, or as it ends: that of each group, or the mean of many."""
    title = "How targets come about: C[truly, called]"
    matrices = loss.matrices(snapshots[-1][1])
    named = {f"group {number}": numbers(matrix) for number, matrix in enumerate(matrices)}
    if len(named) > MOST_GROUPS:
        named = {f"mean of {len(matrices)} groups": numbers(matrices.mean(0))}
    panels, figure = _matrices(named, (2.1, 2.4))
    for axes in panels:
        axes.set_xlabel("Called (bin)")
    panels[0].set_ylabel("Truly (bin)")
    return {"loss_matrix": Plot(figure, title, "Heat maps of the probability to be called j when truly i.")}


def _matrices(named: Mapping[str, Numbers], size: tuple[float, float]) -> tuple[list[Axes], Figure]:
    """Heat maps side by side, at most four in a row, on one colour scale that is told beside them."""
    across = min(len(named), 4)
    down = -(-len(named) // across)
    figure = empty_figure("", 1.4 + size[0] * across, 0.3 + size[1] * down)
    cells = figure.subplots(down, across, squeeze=False).flatten()
    largest = max(1e-6, *(float(np.nan_to_num(np.abs(matrix)).max()) for matrix in named.values()))
    for position, (axes, (name, matrix)) in enumerate(zip(cells, named.items(), strict=False)):
        _draw_matrix(axes, matrix, largest)
        axes.set_title(name)
        axes.tick_params(labelleft=position % across == 0)
    for axes in cells[len(named) :]:
        axes.set_axis_off()
    panels = list(cells[: len(named)])
    bar = figure.colorbar(panels[0].images[0], ax=list(cells), label="Weight or probability (no unit)")
    bar.ax.set_ylim(min(0.0, *(float(np.nanmin(matrix)) for matrix in named.values())), largest)
    return panels, figure


@plots_of_loss.register(BilinearLogLoss)
def _(loss: BilinearLogLoss, snapshots: Snapshots) -> dict[str, Plot]:
    title = "Bilinear log loss: -sigmoid(W[y] · log p + b[y])"
    parts = {name: loss.unpacked(coefficients) for name, coefficients in _moments(snapshots).items()}
    largest = max(1e-6, *(float(np.nan_to_num(np.abs(numbers(matrix))).max()) for matrix, _ in parts.values()))
    figure = empty_figure("", 1.4 + 2.5 * len(parts), 5.2)
    mosaic = figure.subplot_mosaic([list(parts), ["b"] * len(parts)], height_ratios=[2.8, 1.5])
    *panels, below = (mosaic[name] for name in [*parts, "b"])
    for axes, (name, (matrix, bias)), marker in zip(panels, parts.items(), _MARKERS, strict=False):
        _draw_matrix(axes, numbers(matrix), largest)
        axes.set_title(name)
        axes.tick_params(labelleft=axes is panels[0])
        below.plot(numbers(bias), label=name, marker=marker, markersize=4)
    panels[0].set_ylabel("True class or score point y (bin)")
    panels[len(panels) // 2].set_xlabel("Answered class or score point j (bin)")
    figure.colorbar(panels[0].images[0], ax=panels, label="W[y, j] (no unit)")
    below.set(xlabel="True class or score point y (bin)", ylabel="b[y] (no unit)")
    below.locator_params(axis="x", integer=True, nbins=12)
    figure.legend(handles=below.lines, title="b at the", loc="outside lower center", ncols=3)
    return {"loss_matrix": Plot(figure, title, "Heat maps of W, on one colour scale, and curves of b, early to late.")}


@plots_of_loss.register(LossNetwork)
def _(loss: LossNetwork, snapshots: Snapshots) -> dict[str, Plot]:
    draw, title, up, legend = _FORMS[loss.form]
    moments = _moments(snapshots)
    figure = empty_figure("", WIDTH, 1.1 + 1.7 * len(moments))
    panels = figure.subplots(len(moments), 1, sharex=True, sharey=True, squeeze=False)[:, 0]
    for axes, (name, coefficients) in zip(panels, moments.items(), strict=True):
        draw(axes, loss, coefficients)
        axes.set_title(name, loc="left")
        axes.label_outer()
    figure.supylabel(up, fontsize=9.0)
    columns = legend_columns([str(line.get_label()) for line in panels[0].lines], WIDTH)
    figure.legend(handles=panels[0].lines, title=legend, loc="outside upper left", alignment="left", ncols=columns)
    return {"loss_network": Plot(figure, title, f"Curves of {title}, early to late in the training.")}


@plots_of_loss.register(MetaWeightLoss)
def _(loss: MetaWeightLoss, snapshots: Snapshots) -> dict[str, Plot]:
    title = "Weight of an example by its loss"
    axes = (figure := empty_figure("", WIDTH, 3.2)).add_subplot()
    losses = torch.linspace(0, 9, 181, dtype=torch.float64)
    for name, coefficients in _moments(snapshots).items():
        axes.plot(numbers(losses), numbers(loss.weights(coefficients, losses)), label=name)
    axes.set(xlabel="Loss as the network reads it\n(of scores: 1 = predicting the mean)", ylabel="Weight (no unit)")
    axes.set_ylim(-0.02, 1.02)
    explain(axes, "In the training")
    return {
        "loss_weights": Plot(figure, title, "Weight of an example against its loss, early to late in the training.")
    }


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


def _draw_curve(axes: Axes, inputs: Tensor, values: Tensor, fixed: float) -> None:
    """A curve with a dot at the place that it is about, which lies on the grid."""
    dot = int((inputs - fixed).abs().argmin())
    axes.plot(numbers(inputs), numbers(values), label=f"{fixed:g}", marker="o", markevery=[dot])


def _draw_matrix(axes: Axes, matrix: Numbers, largest: float) -> None:
    axes.imshow(matrix, cmap="PuOr", vmin=-largest, vmax=largest, interpolation="nearest")
    axes.locator_params(integer=True, nbins=12)
    axes.grid(visible=False)
    if max(matrix.shape) > MOST_WRITTEN_BINS:
        return
    for (row, column), value in np.ndenumerate(matrix):
        colour = "white" if abs(value) > 0.7 * largest else "black"
        words = f"{value:z.{2 if largest < 10 else 0}f}" if value else "0"
        axes.text(column, row, words, ha="center", va="center", color=colour, fontsize=min(9.0, 82 / matrix.shape[1]))


def _moments(snapshots: Snapshots) -> dict[str, Tensor]:
    """Coefficients at the start, nearest to the middle, and at the end; fewer where there are fewer snapshots."""
    progress = numbers(part for part, _ in snapshots)
    middle = int(np.abs(progress - (progress[0] + progress[-1]) / 2).argmin())
    last = len(snapshots) - 1
    names = {middle: "middle", last: "end", 0: "start" if last else "only snapshot"}
    return {f"{names[index]} (progress {progress[index]:.2f})": snapshots[index][1] for index in sorted(names)}
