"""A page's sections as one html file that needs nothing beside it and asks for nothing."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

from aes_dynloss.evaluation.table_files import replacing
from aes_dynloss.reporting.blocks import Pairs, Section
from aes_dynloss.reporting.pictures import inline_svg

_TEMPLATES = "templates"


def render_page(title: str, facts: Sequence[str], sections: Sequence[Section], about: Mapping[str, Any] | None) -> str:
    """The page.

    Args:
        title: Its title.
        facts: What stands below it, such as the number of essays.
        sections: What it holds.
        about: Words for its foot by name, such as the model and the date.

    Returns:
        Html. Whatever is not written by this package's templates is escaped.
    """
    from jinja2 import Environment, PackageLoader, StrictUndefined
    from markupsafe import Markup

    environment = Environment(
        loader=PackageLoader("aes_dynloss.reporting", _TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["svg"] = lambda picture, name: Markup(inline_svg(picture, name))  # noqa: S704 - made of elements
    script, style = (_template_text(name) for name in ("page.js", "page.css"))
    return environment.get_template("page.html").render(
        title=title,
        facts=facts,
        sections=sections,
        about=Pairs([(name, str(words)) for name, words in (about or {}).items()]),
        style=Markup(style),  # noqa: S704 - our own file
        script=Markup(script),  # noqa: S704 - our own file
        policy=_policy(script),
    )


def write_page(html: str, path: str | Path) -> None:
    """Write a page; the file appears whole or not at all.

    Args:
        html: The page.
        path: Where to; missing folders are made, an existing file is replaced.

    Raises:
        DataError: The file cannot be written.
    """
    with replacing(Path(path)) as temporary:
        # An id may hold half a surrogate pair, which UTF-8 knows not.
        temporary.write_text(html, encoding="utf-8", errors="replace", newline="\n")


def _template_text(name: str) -> str:
    return (files("aes_dynloss.reporting") / _TEMPLATES / name).read_text(encoding="utf-8")


def _policy(script: str) -> str:
    """A content security policy under which a browser runs this script alone, and fetches nothing."""
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return (
        "default-src 'none'; style-src 'unsafe-inline'; img-src data:; "
        f"script-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"
    )
