"""A page as a test reads it: parsed with the standard library, faults of nesting found."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from html.parser import HTMLParser

VOID = {"meta", "link", "br", "hr", "img", "input", "wbr"}


@dataclass
class Element:
    tag: str
    attributes: dict[str, str | None]
    children: list[Element | str] = field(default_factory=list)

    def walk(self):
        yield self
        for child in self.children:
            if isinstance(child, Element):
                yield from child.walk()

    def all(self, *tags):
        return [one for one in self.walk() if one.tag in tags]

    @property
    def text(self):
        return "".join(child if isinstance(child, str) else child.text for child in self.children)


class PageParser(HTMLParser):
    def __init__(self):
        super().__init__()
        self.stack = [Element("document", {})]

    def handle_starttag(self, tag, attrs):
        element = Element(tag, dict(attrs))
        assert len(element.attributes) == len(attrs), f"An attribute comes twice in {tag}: {attrs}."
        self.stack[-1].children.append(element)
        if tag not in VOID:
            self.stack.append(element)

    def handle_startendtag(self, tag, attrs):
        self.stack[-1].children.append(Element(tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.stack[-1].tag == tag, f"</{tag}> closes <{self.stack[-1].tag}>."
        self.stack.pop()

    def handle_data(self, data):
        self.stack[-1].children.append(data)


def read_page(html):
    """The document; AssertionError where elements are not nested."""
    parser = PageParser()
    parser.feed(html)
    parser.close()
    assert len(parser.stack) == 1, f"<{parser.stack[-1].tag}> is not closed."
    return parser.stack[0]


def cells_by_row(document, table_id):
    """A table's cells as texts, by the first heading of their row; the heading row is left out."""
    (table,) = [one for one in document.all("table") if one.attributes["id"] == table_id]
    return {row.all("th")[0].text: [cell.text for cell in row.all("td")] for row in table.all("tr")[1:]}


def read_lone_page(html, evil):
    """The document of a page that loads nothing, names each id once, shows no undefined figure and escapes a script."""
    assert evil not in html
    assert html.count("<script") == 1
    assert "http" not in html.replace("http-equiv", "")
    document = read_page(html)
    ids = [one.attributes["id"] for one in document.walk() if "id" in one.attributes]
    assert len(ids) == len(set(ids))
    assert not re.search(r"\b(nan|None|inf)\b", document.all("main")[0].text)
    return document
