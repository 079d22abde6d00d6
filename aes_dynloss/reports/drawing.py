"""Drawing: small panels of one size, saved as svg that is cleaned to stand in html beside others."""

from __future__ import annotations

import re
import warnings
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast
from xml.etree import ElementTree as Xml

from aes_dynloss.errors import DataError
from aes_dynloss.plot_style import INK, WIDTH, plot_style

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


_WORK = "{http://creativecommons.org/ns#}Work"
_DUBLIN_CORE = "{http://purl.org/dc/elements/1.1/}"
_SHAPES = {"g", "defs", "path", "rect", "circle", "ellipse", "line", "polyline", "polygon", "use", "clipPath", "image"}
_KEPT = {"svg", "text", "tspan", *_SHAPES}
_ATTRIBUTES = {
    *("id", "d", "points", "x", "y", "x1", "y1", "x2", "y2", "cx", "cy", "r", "rx", "ry", "width", "height", "viewBox"),
    *("transform", "style", "clip-path", "href", "preserveAspectRatio", "fill", "stroke", "opacity", "text-anchor"),
}
_HREF, _REFERENCE = re.compile(r"#[\w.-]+|data:image/png;base64,[\w+/=\s]*"), re.compile(r"url\(#([\w.-]+)\)")
_DECIMALS = re.compile(r"(-?\d+\.\d\d)\d+")
_FONT, _WHITE = re.compile(r"font-family:[^;]*;?\s*"), re.compile(r"fill: ?#ffffff", re.IGNORECASE)
# The page says what these colours are, on a light ground and on a dark one.
_PAGE_COLOURS = {
    INK: "currentColor",
    "#000000": "currentColor",
    "#b0b0b0": "var(--grid)",
    "#0072b2": "var(--blue)",
    "#d55e00": "var(--orange)",
    "#009e73": "var(--green)",
    "#cc79a7": "var(--pink)",
    "#e69f00": "var(--amber)",
    "#56b4e9": "var(--sky)",
}
_VIEW_BOX = re.compile(r"<svg\b[^>]*?\bviewBox=[\"']\S+ \S+ ([\d.]+)")
_COLOUR = re.compile("|".join(_PAGE_COLOURS), re.IGNORECASE)


@dataclass(frozen=True)
class Picture:
    """A picture, with what it shows for those who do not see it.

    Args:
        title: Its title.
        description: What it shows.
        svg: The svg file's text, as matplotlib wrote it.
    """

    title: str
    description: str
    svg: str

    @property
    def inches(self) -> float:
        """Its width; that of a column where it is not told."""
        match = _VIEW_BOX.search(self.svg)
        return float(match[1]) / 72 if match else WIDTH

    @property
    def wide(self) -> bool:
        """Whether it is wider than a column of figures."""
        return self.inches > 1.1 * WIDTH


def picture_from_svg(path: str | Path) -> Picture:
    """Read a picture whose title and description stand in its metadata.

    Args:
        path: An svg file that matplotlib wrote with ``metadata={"Title": ..., "Description": ...}``.

    Returns:
        The picture; without a title in the file, the file's stem is one.

    Raises:
        DataError: The file cannot be read, or is no svg.
    """
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        raise DataError(f"{path} cannot be read as a picture: {error}. Make it again.") from error
    root = _parsed(text, path.name)
    # Of the work itself: its creator has a title too.
    title, description = (
        root.findtext(f".//{_WORK}/{_DUBLIN_CORE}{part}", default="").strip() for part in ("title", "description")
    )
    return Picture(title or path.stem, description or title or path.stem, text)


def inline_svg(picture: Picture, name: str) -> str:
    """A picture as an svg element of an html page.

    Identifiers start with ``name``, so that pictures do not take each other's. Text and axes have the page's colour,
    and the ground is left to the page; a picture that is not in our style keeps its colours, on white. Only drawing is
    kept: no script, style sheet, link or foreign content.

    Args:
        picture: The picture.
        name: A word that no other picture of the page has.

    Returns:
        ``<svg role="img" ...>`` with title and description.

    Raises:
        DataError: The picture is no svg.
    """
    source = _parsed(picture.svg, repr(picture.title))
    texts = [text for element in source.iter() for text in element.attrib.values()]
    referenced = {match for text in texts for match in _REFERENCE.findall(text)}
    referenced |= {text[1:] for text in texts if text.startswith("#")}
    ours = INK in picture.svg
    root = _converted(source, name, referenced, ours=ours)
    width, height = (root.attrib.pop(side, "").removesuffix("pt") for side in ("width", "height"))
    svg = Xml.Element("svg", {"role": "img", "aria-labelledby": f"{name}-title {name}-desc", **root.attrib})
    if not ours:
        svg.set("class", "on-white")
    if width and height:
        svg.attrib |= {"width": width, "height": height}
    for part, text in (("title", picture.title), ("desc", picture.description)):
        Xml.SubElement(svg, part, {"id": f"{name}-{part}"}).text = text
    svg.extend(list(root))
    return Xml.tostring(svg, encoding="unicode")


def _parsed(text: str, source: str) -> Xml.Element:
    """The root of an svg."""
    if "<!ENTITY" in text:
        raise DataError(f"{source} defines entities, which no picture of ours does. Draw it again.")
    try:
        root = Xml.fromstring(text)  # noqa: S314 - no entities, and nothing is fetched
    except Xml.ParseError as error:
        raise DataError(f"{source} is no svg: {error}. Draw it again.") from error
    if _local(root.tag) != "svg":
        raise DataError(f"{source} is no svg: its root is {_local(root.tag)!r}. Draw it again.")
    return root


def _local(name: str) -> str:
    """A name without its namespace."""
    return name.rpartition("}")[2]


def _converted(
    element: Xml.Element, name: str, referenced: set[str], *, ours: bool, ground: bool = False
) -> Xml.Element:
    """An element with what is kept of it; the ground of a figure or of axes lies in a patch, and ours is cleared."""
    result = Xml.Element(_local(element.tag))
    for key, text in element.attrib.items():
        kept = _attribute(_local(key), text, name, referenced, ours=ours)
        if kept is not None:
            result.set(_local(key), _WHITE.sub("fill: none", kept) if ours and ground else kept)
    inline = result.tag in {"text", "tspan"}
    result.text = element.text if inline else None
    for child in element:
        if isinstance(child.tag, str) and _local(child.tag) in _KEPT:
            below = ground or child.get("id", "").startswith("patch_")
            result.append(_converted(child, name, referenced, ours=ours, ground=below))
            result[-1].tail = child.tail if inline else None
    return result


def _attribute(key: str, text: str, name: str, referenced: set[str], *, ours: bool) -> str | None:
    """An attribute as the page takes it; None for one that it does not take."""
    if key == "id":
        return f"{name}-{text}" if text in referenced else None
    if key == "href":
        text = re.sub("^#", f"#{name}-", text)
        return text if _HREF.fullmatch(text) else None
    if key not in _ATTRIBUTES or "url(" in _REFERENCE.sub("", text):
        return None
    text = _REFERENCE.sub(rf"url(#{name}-\1)", text)
    if key != "style":
        return _DECIMALS.sub(r"\1", text)
    text = _FONT.sub("", text)
    return _COLOUR.sub(lambda match: _PAGE_COLOURS[match.group().lower()], text) if ours else text


HUMAN, MACHINE, FAINT = "#0072B2", "#D55E00", "#8a8a8a"
# Up to so many letters names stand beside their rows; longer ones above them, up to where a figure ends.
NAMES_BESIDE, LONGEST_NAME = 14, 42


@contextmanager
def drawing() -> Iterator[None]:
    """The style of a report's figures; a name in a script that the font lacks is no cause for a warning.

    The browser draws the letters, with its own fonts.
    """
    with plot_style(), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from", category=UserWarning)
        yield


def panel(top: float = 0.12, *, square: bool = False) -> Axes:
    """Axes alone on a figure, margins in inches too: a layout engine would cost more than all else."""
    from matplotlib.figure import Figure

    left, right, bottom = 0.62, 0.12, 0.5
    across = WIDTH - left - right
    up = across if square else 1.95
    height = bottom + up + top
    axes = Figure(figsize=(WIDTH, height)).add_axes((left / WIDTH, bottom / height, across / WIDTH, up / height))
    axes.xaxis.set_label_coords(0.5, -0.36 / up)
    axes.yaxis.set_label_coords(-(left - 0.17) / across, 0.5)
    return axes


def rows_panel(names: Sequence[str], titles: Sequence[str]) -> list[Axes]:
    """Panels side by side with one named row for each of ``names``, the first on top.

    Short names stand beside the first panel, long ones above their rows.
    """
    from matplotlib.figure import Figure

    drawn_names = [drawn_name(name) for name in names]
    longest = max(map(len, drawn_names))
    above = longest > NAMES_BESIDE
    row, left = (0.42, 0.2) if above else (0.27, 0.3 + 0.075 * longest)
    inside, between = row * len(names), 0.25
    figure = Figure(figsize=(WIDTH, inside + 0.62))
    each = (WIDTH - left - 0.15 - between * (len(titles) - 1)) / len(titles)
    panels: list[Axes] = []
    for position, title in enumerate(titles):
        start = (left + position * (each + between)) / WIDTH
        axes = figure.add_axes((start, 0.5 / (inside + 0.62), each / WIDTH, inside / (inside + 0.62)))
        axes.set(xlabel=title, ylim=(len(names) - 0.5, -0.5))
        axes.xaxis.set_label_coords(0.5, -0.34 / inside)
        axes.set_yticks(range(len(names)), drawn_names if position == 0 and not above else [""] * len(names))
        axes.tick_params(axis="y", length=0)
        axes.locator_params(axis="x", nbins=6 if len(titles) == 1 else 3)
        axes.grid(visible=False, axis="y")
        axes.spines["left"].set_visible(False)
        panels.append(axes)
    for index, name in enumerate(drawn_names if above else []):
        panels[0].text(
            0.0, index - 0.22, name, transform=panels[0].get_yaxis_transform(), fontsize=8.5, va="bottom", ha="left"
        )
    return panels


def drawn_name(name: str) -> str:
    """A name as a figure can hold it: no line breaks or controls, which svg knows not, and not too long."""
    clean = "".join(letter if letter.isprintable() else "\ufffd" for letter in name)
    return clean if len(clean) <= LONGEST_NAME else f"{clean[: LONGEST_NAME - 1]}…"


def saved(axes: Axes, title: str, description: str, legend_columns: int = 0) -> Picture:
    """The figure of some axes as a picture; equal figures give equal bytes.

    Args:
        axes: The axes.
        title: The picture's title.
        description: What it shows.
        legend_columns: Columns of a legend above the axes, for which the figure grows; 0 for none.
    """
    figure, text = with_legend(axes, legend_columns), StringIO()
    figure.savefig(text, format="svg", metadata={"Date": None, "Creator": None})
    return Picture(title, description, text.getvalue())


def with_legend(axes: Axes, columns: int) -> Figure:
    """The figure of some axes, which grows for a legend of so many columns above them; 0 for none."""
    figure = cast("Figure", axes.get_figure(root=True))
    if columns:
        handles, labels = axes.get_legend_handles_labels()
        _heighten(figure, 0.19 * -(-len(handles) // columns))
        layout: Any = {"loc": "upper left", "ncols": columns, "borderaxespad": 0.1, "columnspacing": 1.2}
        figure.legend(handles, labels, **layout)
    return figure


def _heighten(figure: Figure, inches: float) -> None:
    """Room above the axes, which keep their size."""
    width, height = figure.get_size_inches()
    figure.set_size_inches(width, height + inches)
    for axes in figure.axes:
        x, y, across, up = axes.get_position().bounds
        axes.set_position((x, y * height / (height + inches), across, up * height / (height + inches)))


def draw_intervals(
    axes: Axes,
    values: Sequence[tuple[float | None, Sequence[float] | None]],
    *,
    colour: str,
    label: str,
    hollow: Collection[int] = (),
    lower: float = 0.0,
) -> None:
    """A dot with its interval for each row of a ``rows_panel`` that has a value.

    Args:
        axes: The panel.
        values: Value and interval of each row; None where there is none.
        colour: Of dots and intervals.
        label: What they are, for the legend.
        hollow: Rows whose dot is not filled.
        lower: How far below its row's middle each is drawn, in rows.
    """
    name: str | None = label
    for row, (value, interval) in enumerate(values):
        if value is None:
            continue
        # By chance of the bootstrap a value may lie beside its interval.
        arms = [[max(0.0, value - interval[0])], [max(0.0, interval[1] - value)]] if interval else None
        dot: Any = {"color": colour, "fillstyle": "none" if row in hollow else "full", "markersize": 5.5}
        axes.errorbar([value], [row + lower], xerr=arms, fmt="o", elinewidth=1.4, label=name, **dot)
        name = None


def draw_marks(axes: Axes, values: Sequence[float | None], *, label: str, colour: str, marker: str) -> None:
    """Marks alone, for each row of a ``rows_panel`` that has a value."""
    known = [(value, row) for row, value in enumerate(values) if value is not None]
    if known:
        size = 10 if marker == "|" else 5
        axes.plot(*zip(*known, strict=True), linestyle="", label=label, color=colour, marker=marker, markersize=size)
