"""Style of plots: figures, legends and colours; matplotlib is loaded when the first is drawn."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Okabe and Ito 2008, Color universal design, without the yellow, which is faint on white.
COLOURS = ["#0072B2", "#D55E00", "#009E73", "#CC79A7", "#000000", "#E69F00", "#56B4E9"]
# Text, axes and ticks, and nothing else: a page on a dark ground can tell them from the data and draw them light.
INK = "#1a1a1a"


def explain(axes: Axes, title: str) -> None:
    """A legend beside the axes, where it hides no curve."""
    axes.legend(title=title, loc="upper left", bbox_to_anchor=(1.01, 1.0), borderaxespad=0.0, frameon=False)


def empty_figure(title: str, width: float, height: float) -> Figure:
    """A figure of so many inches with nothing but its title."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    figure.suptitle(title)
    return figure


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
        "grid.alpha": 0.3,
    }
    return style.context(["default", settings])
