"""What a run's metrics.jsonl says, drawn: losses over the training, and learning curves of what was measured on dev."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from aes_dynloss.errors import CheckpointError
from aes_dynloss.plot_style import empty_figure, explain

if TYPE_CHECKING:  # matplotlib takes half a second, and most who import this module draw nothing
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Numbers = NDArray[np.float64]
Row = tuple[int, Mapping[str, float | None]]

MOST_POINTS = 400
# More curves than this in one panel are one grey bundle, whatever their colours.
MOST_CURVES = 12
# Before and after differ little: the one stays visible between the other's dashes.
_LINE_STYLES = {"measure_after": "--"}


class Plot(NamedTuple):
    """A figure, with its title and what it shows, for those who do not see it."""

    figure: Figure
    title: str
    description: str


def log_plots(log: Path) -> dict[str, Plot]:
    """Plots of a run's log, by the stem of their file.

    Args:
        log: The run's metrics.jsonl.

    Returns:
        ``learning_curves``, where the student was measured on dev, and ``loss_terms``.

    Raises:
        CheckpointError: A line of the log is no record.
    """
    rows = _rows(log)
    curves = {"learning_curves": _curves_plot(rows["dev"])} if rows["dev"] else {}
    return {**curves, "loss_terms": _terms_plot(rows)}


def _curves_plot(rows: Sequence[Row]) -> Plot:
    """A panel a measure; those of parts, such as qwk_3 of prompt 3, stand in the panel of their whole."""
    columns = _columns(rows)
    whole = [name for name in columns if not any(name.startswith(f"{other}_") for other in columns if other != name)]
    title = "Learning curves"
    figure = empty_figure(title, 8.0, 0.9 + 2.1 * len(whole))
    below = figure.subplots(len(whole), 1, sharex=True, squeeze=False)[:, 0]
    for axes, name in zip(below, whole, strict=True):
        parts = [other for other in columns if other.startswith(f"{name}_")][:MOST_CURVES]
        for other in parts:
            axes.plot(*columns[other], label=other.removeprefix(f"{name}_"), lw=1.0, marker=".", alpha=0.75)
        axes.plot(*columns[name], label="mean" if parts else name, lw=2.2, marker="o", color="black", ls="-")
        axes.set_ylabel(f"{name} on dev")
        if name == "sd_ratio":  # what a learnt or scheduled spread is for
            axes.set_ylabel("sd of predictions /\nsd of human scores")
            axes.axhline(1.0, color="grey", lw=1.0, ls="--")
        explain(axes, "")
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
    figure = empty_figure(title, 8.0, 0.9 + 2.1 * len(panels))
    below = figure.subplots(len(panels), 1, sharex=True)
    for axes, (label, columns) in zip(below, panels.items(), strict=True):
        _draw_columns(axes, columns)
        axes.set_ylabel(label)
    mean = -(-len(rows["terms"]) // MOST_POINTS)
    thinned = f" (a point is the mean of up to {mean} steps)" if mean > 1 else ""
    below[-1].set_xlabel(f"Optimiser step{thinned}")
    below[-1].locator_params(axis="x", integer=True)
    return Plot(figure, title, "Component losses, training error and, where a teacher learnt, its measure, by step.")


def _draw_columns(axes: Axes, columns: Mapping[str, tuple[Numbers, Numbers]]) -> None:
    for name, (steps, values) in columns.items():
        style, marked = _LINE_STYLES.get(name), _marked(values)
        axes.plot(steps, values, label=name, ls=style, lw=1.2, marker="o" if marked else "", ms=3, markevery=marked)
    seen = [value for _, values in columns.values() for value in values if np.isfinite(value)]
    if not seen:
        axes.text(0.5, 0.5, "no numbers in the log", ha="center", va="center", transform=axes.transAxes)
    elif min(seen) > 0 and max(seen) > 30 * min(seen):
        axes.set_yscale("log")
    if columns:
        explain(axes, "")


def _rows(log: Path) -> dict[str, list[Row]]:
    """Terms, error, teacher's and dev's numbers of the log's steps; null is a number that was not finite."""
    rows: dict[str, list[Row]] = {"terms": [], "error": [], "teacher": [], "dev": []}
    with log.open(encoding="utf-8") as lines:
        for number, line in enumerate(lines, start=1):
            try:
                record = json.loads(line)
                found = {**record, "error": {"error": record["error"]}} if "terms" in record else record
                for kind in rows.keys() & found.keys():
                    rows[kind].append((int(found["step"]), dict(found[kind])))
            except (ValueError, TypeError, KeyError) as error:
                raise CheckpointError(
                    f"Line {number} of {log} is no record of a run. Remove the line, or train again with --force."
                ) from error
    return rows


def _columns(rows: Sequence[Row], names: Sequence[str] = ()) -> dict[str, tuple[Numbers, Numbers]]:
    """Thinned steps and values of each name, by default of all that occur; null becomes NaN."""
    steps = numbers(step for step, _ in rows)
    found = names or dict.fromkeys(name for _, row in rows for name in row)
    return {name: thinned_points(steps, numbers(row.get(name) for _, row in rows)) for name in found}


def numbers(values: Tensor | Iterable[float | Tensor | None]) -> Numbers:
    """As float64, with NaN for all that is no finite number."""
    found = np.array(values.numpy() if isinstance(values, Tensor) else list(values), dtype=np.float64)
    return np.where(np.isfinite(found), found, np.nan)


def thinned_points(places: Numbers, values: Numbers) -> tuple[Numbers, Numbers]:
    """At most MOST_POINTS points, each the mean of the finite ones of its neighbours; NaN where none is."""
    if len(values) <= MOST_POINTS:
        return places, values
    parts = (part[np.isfinite(part)] for part in np.array_split(values, MOST_POINTS))
    means = numbers(part.mean() if len(part) else None for part in parts)
    return numbers(part.mean() for part in np.array_split(places, MOST_POINTS)), means


def _marked(values: Numbers) -> list[int]:
    """Points that get a dot: all where they are few, else those without a neighbour, which no line shows."""
    finite, few = np.pad(np.isfinite(values), 1), len(values) <= 60
    return [int(place) for place in np.flatnonzero(finite[1:-1] & (few | ~(finite[:-2] | finite[2:])))]
