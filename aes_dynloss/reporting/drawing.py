"""How a report's figures are drawn: small panels of one size, without mathematics in names, saved as pictures."""

from __future__ import annotations

import warnings
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from io import StringIO
from typing import TYPE_CHECKING, Any, cast

from aes_dynloss.plot_style import plot_style
from aes_dynloss.reporting.pictures import Picture

if TYPE_CHECKING:  # matplotlib takes half a second, and most who import this module draw nothing
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

HUMAN, MACHINE, FAINT = "#0072B2", "#D55E00", "#8a8a8a"
# Longer names would leave no room for the axes.
LONGEST_NAME = 28
_RULES: Any = {
    # A prompt may be called "$x$".
    "text.parse_math": False,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "axes.labelsize": 9,
    "xtick.labelsize": 8.5,
    "ytick.labelsize": 8.5,
    "legend.fontsize": 8.5,
    "axes.linewidth": 0.7,
    "xtick.major.width": 0.7,
    "ytick.major.width": 0.7,
    "grid.alpha": 0.35,
}


@contextmanager
def drawing() -> Iterator[None]:
    """The style of a report's figures; a name in a script that the font lacks is no cause for a warning.

    The browser draws the letters, with its own fonts.
    """
    import matplotlib as mpl

    with plot_style(), mpl.rc_context(_RULES), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from", category=UserWarning)
        yield


def panel(width: float, height: float, left: float = 0.62, right: float = 0.12, top: float = 0.12) -> Axes:
    """Axes alone on a figure of so many inches, margins too: a layout engine would cost more than all else."""
    from matplotlib.figure import Figure

    bottom = 0.5
    figure = Figure(figsize=(width, height))
    inside = (left / width, bottom / height, 1 - (left + right) / width, 1 - (bottom + top) / height)
    axes = figure.add_axes(inside)
    axes.xaxis.set_label_coords(0.5, -0.36 / (height - bottom - top))
    axes.yaxis.set_label_coords(-(left - 0.12) / (width - left - right), 0.5)
    return axes


def rows_panel(names: Sequence[str], titles: Sequence[str], width: float) -> list[Axes]:
    """Panels side by side with one named row for each of ``names``, the first on top."""
    from matplotlib.figure import Figure

    height = 0.87 + 0.29 * len(names)
    left = 0.3 + 0.075 * max(len(drawn_name(name)) for name in names)
    figure = Figure(figsize=(width, height))
    each = (width - left - 0.15 - 0.25 * (len(titles) - 1)) / len(titles)
    panels: list[Axes] = []
    for place, title in enumerate(titles):
        start = (left + place * (each + 0.25)) / width
        axes = figure.add_axes((start, 0.52 / height, each / width, 0.29 * len(names) / height))
        axes.set(xlabel=title, ylim=(len(names) - 0.5, -0.5))
        axes.xaxis.set_label_coords(0.5, -0.34 / (0.29 * len(names)))
        axes.set_yticks(range(len(names)), [drawn_name(name) for name in names] if place == 0 else [""] * len(names))
        axes.tick_params(axis="y", length=0)
        axes.grid(visible=False, axis="y")
        axes.spines["left"].set_visible(False)
        panels.append(axes)
    return panels


def explain_above(axes: Axes, columns: int) -> None:
    """A legend above the axes, in so many columns, where the rows leave it room."""
    figure = _figure(axes)
    handles, labels = axes.get_legend_handles_labels()
    figure.legend(handles, labels, loc="upper left", ncols=columns, frameon=False, borderaxespad=0.1, columnspacing=1.2)


def drawn_name(name: str) -> str:
    """A name as a figure can hold it: no line breaks or controls, which svg knows not, and not too long."""
    clean = "".join(letter if letter.isprintable() else "\ufffd" for letter in name)
    return clean if len(clean) <= LONGEST_NAME else f"{clean[: LONGEST_NAME - 1]}…"


def saved(axes: Axes, title: str, description: str) -> Picture:
    """The figure of some axes as a picture; equal figures give equal bytes."""
    text = StringIO()
    _figure(axes).savefig(text, format="svg", metadata={"Date": None, "Creator": None})
    return Picture(title, description, text.getvalue())


def _figure(axes: Axes) -> Figure:
    """The figure that holds some axes; panels always have one."""
    return cast("Figure", axes.get_figure(root=True))


def draw_intervals(
    axes: Axes,
    values: Sequence[tuple[float | None, Sequence[float] | None]],
    *,
    colour: str,
    label: str,
    hollow: Collection[int] = (),
) -> None:
    """A dot with its interval for each row of a ``rows_panel`` that has a value.

    Args:
        axes: The panel.
        values: Value and interval of each row; None where there is none.
        colour: Of dots and intervals.
        label: What they are, for the legend.
        hollow: Rows whose dot is not filled.
    """
    named = False
    for place, (value, interval) in enumerate(values):
        if value is None:
            continue
        axes.errorbar(
            [value],
            [place],
            xerr=_arms(value, interval),
            fmt="o",
            color=colour,
            fillstyle="none" if place in hollow else "full",
            markersize=5.5,
            elinewidth=1.4,
            label=None if named else label,
        )
        named = True


def draw_marks(axes: Axes, values: Sequence[float | None], *, label: str, colour: str, marker: str) -> None:
    """Marks alone, for each row of a ``rows_panel`` that has a value."""
    known = [(value, place) for place, value in enumerate(values) if value is not None]
    if known:
        size = 10 if marker == "|" else 5
        axes.plot(*zip(*known, strict=True), linestyle="", label=label, color=colour, marker=marker, markersize=size)


def _arms(value: float, interval: Sequence[float] | None) -> list[list[float]] | None:
    """Lengths of an interval below and above a value, which by chance of the bootstrap may lie beside it."""
    if interval is None:
        return None
    return [[max(0.0, value - interval[0])], [max(0.0, interval[1] - value)]]
