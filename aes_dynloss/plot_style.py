"""Style of plots: figures, legends and colours; matplotlib is loaded when the first is drawn."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Text, axes, ticks and dark curves: a page on a dark ground draws them light. Black stays black, on a coloured cell.
INK = "#1a1a1a"
# Okabe and Ito 2008, Color universal design, without the yellow, which is faint on white.
COLOURS = ["#0072B2", "#D55E00", "#009E73", "#CC79A7", INK, "#E69F00", "#56B4E9"]
# Inches of a figure: what a telephone shows at its full size, and a page in several columns.
WIDTH = 3.6


def explain(axes: Axes, title: str = "") -> None:
    """A legend above the axes, where it hides no curve."""
    _, labels = axes.get_legend_handles_labels()
    layout: Any = {"alignment": "left", "columnspacing": 1.2, "handlelength": 1.6, "borderaxespad": 0.2}
    columns = legend_columns(labels, float(axes.figure.bbox.width / axes.figure.dpi))
    axes.legend(title=title, loc="lower left", bbox_to_anchor=(0.0, 1.0), ncols=columns, **layout)


def legend_columns(labels: Sequence[str], width: float) -> int:
    """So many columns of labels of a legend fit a figure of so many inches."""
    longest = 0.5 + 0.075 * max(map(len, labels), default=0)
    return max(1, min(len(labels), int((width - 0.6) / longest)))


def empty_figure(title: str, width: float, height: float) -> Figure:
    """A figure of so many inches with nothing but its title, if it has one."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    if title:
        figure.suptitle(title)
    return figure


def plain_log_scale(axes: Axes) -> None:
    """A logarithmic axis upwards whose ticks are told in plain numbers: text is not set as TeX."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    axes.set_yscale("log")
    low, high = axes.get_ylim()
    # Within two decades the powers of ten alone would be too few.
    axes.yaxis.set_major_locator(LogLocator(subs=(1.0,) if high > 100 * low else (1.0, 2.0, 5.0)))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.yaxis.set_minor_formatter(NullFormatter())


def plot_style() -> AbstractContextManager[None]:
    """Settings of our own, whatever the user's are: text stays text, and no identifier is drawn by chance."""
    from matplotlib import style
    from matplotlib.rcsetup import cycler

    settings = {
        "svg.hashsalt": "aes_dynloss",
        "svg.fonttype": "none",
        "text.parse_math": False,  # names of raters and prompts are not ours
        "font.sans-serif": ["DejaVu Sans"],
        "axes.prop_cycle": cycler(linestyle=["-", "--", ":"]) * cycler(color=COLOURS),
        "text.color": INK,
        "axes.edgecolor": INK,
        "axes.labelcolor": INK,
        "xtick.color": INK,
        "ytick.color": INK,
        "axes.grid": True,
        "axes.axisbelow": True,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.linewidth": 0.7,
        "axes.labelsize": 9.0,
        "axes.titlesize": 9.0,
        "xtick.labelsize": 8.5,
        "ytick.labelsize": 8.5,
        "xtick.major.width": 0.7,
        "ytick.major.width": 0.7,
        "legend.fontsize": 8.5,
        "legend.title_fontsize": 8.5,
        "legend.frameon": False,
        "grid.alpha": 0.35,
    }
    return style.context(["default", settings])
