"""The blocks of a page as a Word document, for those who go on writing in it."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from aes_dynloss.errors import ConfigError
from aes_dynloss.reports.blocks import Blank, Block, Bullets, Pairs, Section, Words, typeset
from aes_dynloss.reports.table import Cell, Table
from aes_dynloss.tables.atomic import atomic_file

_NOT_XML = re.compile("[^\t\n\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_SMALL, _SMALLEST, _WASH = 8, 7, "FFF4D6"
_MARGIN_CM, _PAGE_CM = 2.0, (21.0, 29.7)
# By which columns share the width: signs of the longest line, beside the margins of a cell, in signs too.
_FEWEST_SIGNS, _MOST_SIGNS, _CELL_SIGNS = 5, 48, 2
_SIGN_CM, _CELL_CM = 0.16, 0.1  # a digit's width at _SMALL points, and a cell's margin left and right


def require_docx() -> None:
    """Refuse where python-docx is not installed.

    Raises:
        ConfigError: It is not.
    """
    try:
        import docx  # noqa: F401 - whether it is there
    except ImportError:
        raise ConfigError(
            "A .docx needs python-docx. Install the extra: pip install 'aes-dynloss[dossier]', or give --format html."
        ) from None


def write_document(
    path: Path, title: str, facts: Sequence[str], sections: Sequence[Section], about: Mapping[str, str]
) -> None:
    """Write a Word document; the file appears whole or not at all.

    Args:
        path: Where to.
        title: Its title.
        facts: What stands below it.
        sections: What it holds: words, blanks, lists, pairs, tables and sections of them. None is left out.
        about: Words for its end by name, as for the foot of a page.

    Raises:
        ConfigError: python-docx is not installed.
        DataError: The file cannot be written.
        TypeError: A section holds another kind of block.
    """
    require_docx()
    import docx
    from docx.shared import Cm, Pt

    document = docx.Document()
    page = document.sections[0]
    page.page_width, page.page_height = map(Cm, _PAGE_CM)
    page.left_margin = page.right_margin = page.top_margin = page.bottom_margin = Cm(_MARGIN_CM)
    normal = document.styles["Normal"].font
    normal.name, normal.size = "Arial", Pt(10)
    document.core_properties.title = title
    document.core_properties.author = ""
    document.add_heading(_legal(title), level=0)
    document.add_paragraph(_legal(" · ".join(facts)))
    for section in filter(None, sections):
        _add_section(document, section, level=1)
    _add_pairs(document, list(about.items()))
    with atomic_file(path) as temporary, temporary.open("wb") as file:
        document.save(file)


def _add_section(document: Any, section: Section, level: int) -> None:  # noqa: ANN401 - python-docx is untyped
    document.add_heading(_legal(section.title), level=level)
    for block in section.blocks:
        if block:
            _add_block(document, block, level)


def _add_block(document: Any, block: Block, level: int) -> None:  # noqa: ANN401 - python-docx is untyped
    match block:
        case Section():
            _add_section(document, block, level + 1)
        case Words():
            document.add_paragraph().add_run(_legal(typeset(block.text))).bold = block.lead
        case Blank():
            _tint(document.add_paragraph(_legal(typeset(block.text))))
        case Bullets():
            for item in block.items:
                document.add_paragraph(_legal(typeset(item)), style="List Bullet")
        case Pairs():
            _add_pairs(document, block.items)
        case Table():
            _add_table(document, block)
        case _:
            raise TypeError(f"A {type(block).__name__} has no form in a Word document.")


def _add_pairs(document: Any, items: Sequence[tuple[str, str]]) -> None:  # noqa: ANN401 - python-docx is untyped
    for name, words in items:
        paragraph = document.add_paragraph()
        paragraph.add_run(_legal(name)).bold = True
        paragraph.add_run(f" {_legal(words)}")


def _add_table(document: Any, table: Table) -> None:  # noqa: ANN401 - python-docx is untyped
    from docx.shared import Cm, Pt

    caption = document.add_paragraph()
    caption.add_run(_legal(table.caption)).italic = True
    caption.paragraph_format.keep_with_next = True
    caption.paragraph_format.space_after = Pt(3)
    rows = [[column.title for column in table.columns]]
    rows += [[_cell_words(cell) for cell in row] for row in (*table.rows, *table.foot)]
    signs = _signs(rows)
    width = _PAGE_CM[0] - 2 * _MARGIN_CM
    widths = [Cm(width * share / sum(signs)) for share in signs]
    size = _SMALL if sum(signs) * _SIGN_CM <= width else _SMALLEST
    grid = document.add_table(rows=len(rows), cols=len(table.columns), style="Light Shading")
    _narrow_cells(grid)
    for position, width in enumerate(widths):
        grid.columns[position].width = width
    for row, line in zip(rows, grid.rows, strict=True):
        for text, cell, width, column in zip(row, line.cells, widths, table.columns, strict=True):
            cell.width = width
            _fill(cell, text, size, bold=row is rows[0], right=column.kind == "number")
        _set_in_row(line, "w:cantSplit")
    _set_in_row(grid.rows[0], "w:tblHeader")
    document.add_paragraph()


def _signs(rows: Sequence[Sequence[str]]) -> list[int]:
    """Signs across each column, with its margins: of its longest line, or its title's longest word, within limits."""
    found = []
    for title, *texts in zip(*rows, strict=True):
        lines = [line for text in texts for line in text.split("\n")]
        longest = max(map(len, [*title.split(), *lines]), default=0)
        found.append(min(max(longest, _FEWEST_SIGNS), _MOST_SIGNS) + _CELL_SIGNS)
    return found


def _cell_words(cell: Cell) -> str:
    return f"{cell.shown}\n{cell.below}" if cell.below else cell.shown


def _fill(cell: Any, text: str, size: int, *, bold: bool, right: bool) -> None:  # noqa: ANN401 - python-docx is untyped
    from docx.enum.text import WD_ALIGN_PARAGRAPH
    from docx.shared import Pt

    (paragraph,) = cell.paragraphs
    run = paragraph.add_run(_legal(text))
    run.bold, run.font.size = bold, Pt(size)
    if right:
        paragraph.alignment = WD_ALIGN_PARAGRAPH.RIGHT


def _set_in_row(row: Any, what: str) -> None:  # noqa: ANN401 - python-docx is untyped
    """Give a row a property: that it is not parted between pages, or stands on each page."""
    from docx.oxml import OxmlElement

    row._tr.get_or_add_trPr().append(OxmlElement(what))


def _narrow_cells(grid: Any) -> None:  # noqa: ANN401 - python-docx is untyped
    from docx.oxml import OxmlElement
    from docx.oxml.ns import qn
    from docx.shared import Cm

    margins = OxmlElement("w:tblCellMar")
    for side in ("w:left", "w:right"):
        margin = OxmlElement(side)
        margin.set(qn("w:w"), str(Cm(_CELL_CM).twips))
        margin.set(qn("w:type"), "dxa")
        margins.append(margin)
    grid._tbl.tblPr.append(margins)


def _tint(paragraph: Any) -> None:  # noqa: ANN401 - python-docx is untyped
    from docx.oxml import OxmlElement
    from docx.oxml.ns import qn

    shading = OxmlElement("w:shd")
    for name, value in (("val", "clear"), ("color", "auto"), ("fill", _WASH)):
        shading.set(qn(f"w:{name}"), value)
    paragraph._p.get_or_add_pPr().append(shading)


def _legal(text: str) -> str:
    """A text without the characters that XML does not know, in whose place a mark stands."""
    return _NOT_XML.sub("\N{REPLACEMENT CHARACTER}", text)
