"""What a page is made of: sections, and in them words, lists, tables and pictures; the template knows each kind."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

from aes_dynloss.reporting.pictures import Picture
from aes_dynloss.reporting.tables import Table


@dataclass(frozen=True)
class Words:
    """A paragraph.

    Args:
        text: Its words.
        lead: Whether it is set larger, as those that open a page are.
    """

    kind: ClassVar[str] = "words"
    text: str
    lead: bool = False


@dataclass(frozen=True)
class Bullets:
    """A list.

    Args:
        items: Its items.
        numbered: Whether they are numbered.
    """

    kind: ClassVar[str] = "bullets"
    items: Sequence[str]
    numbered: bool = False


@dataclass(frozen=True)
class Pairs:
    """Names with what they mean or are.

    Args:
        items: Name and words.
        essays: Whether the words are essays, whose line breaks are kept.
    """

    kind: ClassVar[str] = "pairs"
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
        size: How much of the page's width a picture takes.
    """

    kind: ClassVar[str] = "gallery"
    name: str
    title: str
    words: str
    pictures: Sequence[Picture]
    size: Literal["small", "medium", "large"] = "small"


@dataclass(frozen=True)
class Folded:
    """Blocks that are shown when asked for, and in print.

    Args:
        title: What is folded away.
        blocks: What.
    """

    kind: ClassVar[str] = "folded"
    title: str
    blocks: Sequence[Block]


@dataclass(frozen=True)
class Part:
    """A part of a section, under a heading of its own.

    Args:
        name: Its name in the page's address.
        title: Its heading.
        blocks: What it holds.
    """

    kind: ClassVar[str] = "part"
    name: str
    title: str
    blocks: Sequence[Block]


@dataclass(frozen=True)
class Section:
    """A section of a page.

    Args:
        name: Its name in the page's address.
        title: Its heading, also in the contents.
        blocks: What it holds.
    """

    name: str
    title: str
    blocks: Sequence[Block]


Block = Words | Bullets | Pairs | Gallery | Folded | Part | Table
