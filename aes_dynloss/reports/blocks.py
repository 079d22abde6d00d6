"""Blocks of a page: sections with text, lists, tables and figures, and the page as one html file."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aes_dynloss.reports.drawing import Picture, inline_svg
from aes_dynloss.reports.table import Table, markdown_table, minus
from aes_dynloss.tables.atomic import atomic_file

if TYPE_CHECKING:
    from jinja2 import Template
    from markupsafe import Markup


@dataclass(frozen=True)
class Words:
    """A paragraph.

    Args:
        text: Its words.
        lead: Whether it is set larger, as those that open a page are.
    """

    text: str
    lead: bool = False


@dataclass(frozen=True)
class Blank:
    """What a person has yet to write, set off from the rest.

    Args:
        who: Who is to write it.
        what: What.

    Examples:
        >>> Blank("the provider", "name and address").text
        'To be filled in by the provider: name and address'
    """

    who: str
    what: str

    @property
    def text(self) -> str:
        """The blank in words."""
        return f"To be filled in by {self.who}: {self.what}"


@dataclass(frozen=True)
class Bullets:
    """A list.

    Args:
        items: Its items.
    """

    items: Sequence[str]


@dataclass(frozen=True)
class Pairs:
    """Names with what they mean or are.

    Args:
        items: Name and words.
        essays: Whether the words are essays, whose line breaks are kept.
    """

    items: Sequence[tuple[str, str]]
    essays: bool = False


@dataclass(frozen=True)
class Gallery:
    """Pictures of one kind, one a prompt, or one of all.

    Args:
        name: Its name in the page's address.
        title: Its heading.
        words: How to read the pictures.
        pictures: The pictures.
    """

    name: str
    title: str
    words: str
    pictures: Sequence[Picture]


@dataclass(frozen=True)
class Mark:
    """A part of a text.

    Args:
        text: The part.
        value: What it adds, in words, such as ``+0.12``; empty for none.
        level: How much, from -3 to 3; 0 is not marked.
    """

    text: str
    value: str = ""
    level: int = 0

    @property
    def words(self) -> str:
        """The part without the blanks at its end, which are not marked."""
        return self.text.rstrip()

    @property
    def blanks(self) -> str:
        """These blanks."""
        return self.text[len(self.words) :]

    @property
    def kind(self) -> str:
        """The class of its mark."""
        return f"{'adds' if self.level > 0 else 'takes'}-{abs(self.level)}" if self.level else ""


@dataclass(frozen=True)
class MarkedText:
    """A text whose parts are tinted and underlined by what they add, line breaks kept.

    Args:
        marks: Its parts, in their order.
        key: What marks of a level mean, in words; none where nothing is marked.
    """

    marks: Sequence[Mark]
    key: Sequence[Mark] = ()


@dataclass(frozen=True)
class Tabs:
    """Blocks of which one is shown at a time, and in print all.

    Args:
        name: Their name in the page's address.
        tabs: Title and blocks of each.
    """

    name: str
    tabs: Sequence[tuple[str, Sequence[Block | None]]]


class _Container:
    """Blocks below a title; without any it is false, and a page leaves it out."""

    blocks: Sequence[Block | None]

    def __bool__(self) -> bool:
        return any(self.blocks)


@dataclass(frozen=True)
class Folded(_Container):
    """Blocks that are shown when asked for, and in print unless that is refused.

    Args:
        title: What is folded away.
        blocks: What; None is left out.
        printed: Whether print shows it.
    """

    title: str
    blocks: Sequence[Block | None]
    printed: bool = True


@dataclass(frozen=True)
class Section(_Container):
    """A section of a page, or a part of a section under a heading of its own.

    Args:
        name: Its name in the page's address.
        title: Its heading, of a page's section also in the contents.
        blocks: What it holds; None is left out.
    """

    name: str
    title: str
    blocks: Sequence[Block | None]


Block = Words | Blank | Bullets | Pairs | Gallery | MarkedText | Tabs | Folded | Section | Table


def closing_sections(notes: Sequence[str], settings: Mapping[str, object], measures: Sequence[Block]) -> list[Section]:
    """The end of every page.

    Args:
        notes: What a reader must know.
        settings: How it was measured; None is told as "all".
        measures: What the measures are.
    """
    pairs = Pairs([(name.replace("_", " "), _setting(value)) for name, value in settings.items()])
    return [
        Section("notes", "Notes", [Bullets(notes)] if notes else []),
        Section("settings", "Settings", [pairs]),
        Section("measures", "Measures", measures),
    ]


def _setting(value: object) -> str:
    if isinstance(value, int) and value >= 10_000:
        return f"{value:,}"
    return "all" if value is None else minus(str(value)) if isinstance(value, float) else str(value)


def render_page(
    title: str,
    facts: Sequence[str],
    sections: Sequence[Section | None],
    about: Mapping[str, Any] | None,
    up: tuple[str, str] | None = None,
) -> str:
    """The page.

    Args:
        title: Its title.
        facts: What stands below it, such as the number of essays.
        sections: What it holds; None and sections without blocks are left out.
        about: Words for its foot by name, such as the model and the date.
        up: Name and file of the page that leads to it and others.

    Returns:
        Html. Whatever is not written by this package's templates is escaped.
    """
    from markupsafe import Markup

    templates = files("aes_dynloss.reports") / "templates"
    script, style = ((templates / name).read_text(encoding="utf-8") for name in ("page.js", "page.css"))
    return template("page.html").render(
        title=title,
        facts=facts,
        up=up,
        sections=[section for section in sections if section],
        about=Pairs([(name, str(words)) for name, words in (about or {}).items()]),
        style=Markup(style),  # noqa: S704 - our own file
        script=Markup(script),  # noqa: S704 - our own file
        digest=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
    )


def template(name: str) -> Template:
    """A template of this package; one of html escapes whatever it is given."""
    from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape
    from markupsafe import Markup

    environment = Environment(
        loader=PackageLoader("aes_dynloss.reports"),
        autoescape=select_autoescape(["html"]),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["markdown"] = markdown_table
    environment.filters["svg"] = lambda picture, name: Markup(inline_svg(picture, name))  # noqa: S704 - made of elements
    environment.filters |= {"breakable": _breakable, "typeset": typeset, "css_text": _css_text}
    return environment.get_template(name)


def _breakable(text: str) -> Markup:
    """Words that a narrow cell may break after an underscore or a slash, but not in the middle nor in "n-grams"."""
    from markupsafe import Markup, escape

    parts = re.sub(r"(?<=\w)([_/])(?=\w)", r"\1<wbr>", str(escape(text)))
    return Markup(re.sub(r"\b[a-z]-[a-z]+", r'<span class="whole">\g<0></span>', parts))  # noqa: S704 - escaped


def typeset(text: str) -> str:
    """A sentence in which no line begins with the sign of per cent, and a negative number has a minus."""
    return re.sub(r"(?<![\w.-])-(?=\.?\d)", "\u2212", text.replace(" %", "\u00a0%"))


def _css_text(text: str) -> Markup:
    """Words as a string of a style sheet, in which all but letters, digits and blanks stand by their number."""
    from markupsafe import Markup

    letters = (letter if letter.isalnum() or letter == " " else f"\\{ord(letter):x} " for letter in text)
    return Markup(f'"{"".join(letters)}"')  # noqa: S704 - nothing in it ends the string


def write_page(html: str, path: str | Path) -> None:
    """Write a page; the file appears whole or not at all.

    Args:
        html: The page.
        path: Where to; missing folders are made, an existing file is replaced.

    Raises:
        DataError: The file cannot be written.
    """
    with atomic_file(Path(path)) as temporary:
        # An id may hold half a surrogate pair, which UTF-8 knows not.
        temporary.write_text(html, encoding="utf-8", errors="replace", newline="\n")
