"""A Word document of a page's blocks: every kind that has a form, odd characters, and kinds that have none."""

from __future__ import annotations

import pytest

from aes_dynloss.errors import DataError
from aes_dynloss.reports.blocks import Blank, Bullets, MarkedText, Pairs, Section, Words
from aes_dynloss.reports.table import Column, Table, number, words, words_column
from aes_dynloss.reports.word_document import write_document

docx = pytest.importorskip("docx")


def written(path, *blocks):
    write_document(path, "Title", ["one", "two"], [Section("a", "Part", [*blocks, None])], {"Made": "today"})
    return docx.Document(path)


def test_each_block_has_its_form(tmp_path):
    columns = [words_column("name", "Name"), Column("value", "Value")]
    rows = [[words("a"), number(-0.5, (-0.7, -0.3))], [words("b"), number(None)]]
    inner = Section("b", "Inner", [Table("t", "Caption", columns, rows), Pairs([("key", "meaning")])])
    document = written(tmp_path / "a.docx", Words("Words."), Blank("somebody", "a name"), Bullets(["item"]), inner)
    styles = {paragraph.text: paragraph.style.name for paragraph in document.paragraphs}
    assert styles["Title"] == "Title"
    assert (styles["Part"], styles["Inner"]) == ("Heading 1", "Heading 2")
    assert styles["item"] == "List Bullet"
    assert {"one · two", "Words.", "Caption", "key meaning", "Made today"} <= set(styles)
    (blank,) = [one for one in document.paragraphs if one.text == "To be filled in by somebody: a name"]
    assert "w:shd" in blank._p.xml
    assert "w:shd" not in document.paragraphs[3]._p.xml
    (table,) = document.tables
    assert [[cell.text for cell in row.cells] for row in table.rows] == [
        ["Name", "Value"],
        ["a", "\u22120.500\n\u22120.700 to \u22120.300"],
        ["b", "\u2013"],
    ]
    assert "w:tblHeader" in table.rows[0]._tr.xml
    assert all("w:cantSplit" in row._tr.xml for row in table.rows)


def test_intervals_are_on_one_line_beside_long_titles(tmp_path):
    columns = [words_column("name", "Name"), *(Column(str(n), "Adjacent agreement") for n in range(8))]
    rows = [[words("Mean over prompts"), *[number(0.5, (0.4, 0.6))] * 3, *[number(0.5)] * 5]]
    (table,) = written(tmp_path / "a.docx", Table("t", "Caption", columns, rows)).tables
    widths = [cell.width.cm for cell in table.rows[0].cells]
    assert sum(widths) == pytest.approx(17, abs=0.1)
    size = table.rows[1].cells[1].paragraphs[0].runs[0].font.size.cm
    # A digit of Arial is 0.556 of its size wide; cells have 1 mm on both sides.
    assert min(widths[1:4]) > len("0.400 to 0.600") * 0.5 * size + 0.2 > max(widths[4:])


def test_characters_that_xml_does_not_know_are_replaced(tmp_path):
    document = written(tmp_path / "a.docx", Words("bell \x07, half \ud800, whole \U0001f600"))
    assert "bell \ufffd, half \ufffd, whole \U0001f600" in [one.text for one in document.paragraphs]


def test_a_block_without_a_form_and_a_place_that_is_none_leave_nothing(tmp_path):
    with pytest.raises(TypeError, match="A MarkedText has no form"):
        written(tmp_path / "a.docx", MarkedText([]))
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="Cannot write"):
        written(tmp_path / "file/a.docx", Words("a"))
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
