from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pandas as pd
import pytest
from read_page import cells_by_row, read_lone_page, read_page
from sample_report import bare_report, renamed
from sample_robustness import sample_robustness

from aes_dynloss.reports.page import report_page
from aes_dynloss.reports.report_files import COLUMNS, report_rows
from aes_dynloss.reports.report_tables import report_text
from aes_dynloss.reports.robustness import headline_words, rises_picture, robustness_page
from aes_dynloss.reports.table import percent

EVIL = "<script>alert(1)</script>"


@pytest.fixture(scope="module")
def document(measured):
    return read_page(robustness_page(measured, title="Robustness of a model"))


def test_the_page_stands_alone(measured):
    html = robustness_page(renamed(measured, {"a": EVIL}), title=EVIL, about={EVIL: EVIL})
    document = read_lone_page(html, EVIL)
    assert [one.text for one in document.all("h2")] == ["Summary", "Changes", "Notes", "Settings", "Measures"]


def test_every_kind_has_a_row_with_its_shares(measured, document):
    rows = cells_by_row(document, "robustness-table")
    for kind in measured["kinds"].values():
        total = kind["total"]
        row = rows[kind["title"]]
        assert row[1] == str(total["n"])
        for cell, share in zip(row[2:7], ("rises", "falls", "stays", "to_lowest", "raw_rises"), strict=True):
            found = total[share]
            ends = f"{percent(found['low'])} to {percent(found['high'])}" if "rises" in share else ""
            assert cell == f"{percent(found['share'])}{ends}"
        assert row[8] == str(total["unchanged"])
    together = rows["Together, where a score must not rise"]
    assert together[2].startswith(percent(measured["expected"]["must_not_rise"]["rises"]["share"]))
    by_prompt = cells_by_row(document, "robustness-prompts")
    title = measured["kinds"]["copy_prompt"]["title"]
    assert by_prompt[title][1].startswith("\u2013")
    repeated = measured["kinds"]["repeat_essay"]
    cells = by_prompt[repeated["title"]]
    shares = [percent(repeated["prompts"][prompt]["rises"]["share"]) for prompt in "ab"]
    assert [cell.split(" %")[0] + " %" for cell in cells] == shares == ["100.0 %", "25.0 %"]


def test_the_summary_says_how_often_and_after_what(measured, document):
    words = document.all("main")[0].text.replace("\u00a0", " ")
    assert headline_words(measured) in words
    assert "8 essays to 2 prompts were scored as they are and after changes of 21 kinds" in words
    assert "It does so most often after: " in words


def test_the_picture_has_what_must_not_rise(measured):
    picture = rises_picture(measured)
    assert "the essay twice 62.5 %" in picture.description
    assert "synonyms" not in picture.description
    only = sample_robustness(kinds=["capitals"])
    assert rises_picture(only) is None
    page = read_page(robustness_page(only, title="A"))
    assert not page.all("figure")
    assert "Together, where it should stay" in page.all("main")[0].text


def test_one_prompt_has_no_table_of_prompts():
    document = read_page(robustness_page(sample_robustness(("a",)), title="A"))
    assert "robustness-prompts" not in {table.attributes["id"] for table in document.all("table")}
    assert "8 essays" not in document.all("header")[0].text
    assert "4 essays · 1 prompt · " in document.all("header")[0].text


@pytest.fixture(scope="module")
def report(measured):
    return replace(bare_report(), robustness=measured)


def test_a_report_has_a_section_of_it(report, measured):
    document = read_page(report_page(report, title="A"))
    titles = [one.text for one in document.all("h2")]
    assert titles.index("Robustness") == titles.index("Pictures") - 1
    assert cells_by_row(document, "robustness-table")
    assert headline_words(measured) in document.all("main")[0].text.replace("\u00a0", " ")
    ids = [one.attributes["id"] for one in document.walk() if "id" in one.attributes]
    assert len(ids) == len(set(ids))
    assert "Robustness" not in {one.text for one in read_page(report_page(bare_report(), title="A")).all("h2")}


def test_the_terminal_tells_the_headline(report, measured):
    assert headline_words(measured) in report_text(report).split("\n")
    assert report_text(report).replace(f"{headline_words(measured)}\n", "") == report_text(bare_report())


def numbers(value):
    if isinstance(value, dict):
        return [number for one in value.values() for number in numbers(one)]
    return [] if value is None or isinstance(value, str | list) else [float(value)]


def test_the_rows_hold_every_number_of_it(report, measured):
    rows = report_rows(report)
    own = [row for row in rows if row["table"] == "robustness"]
    assert all(tuple(row) == COLUMNS for row in rows)
    flat = Counter(float(row[key]) for row in own for key in ("value", "low", "high") if row[key] is not None)
    assert not Counter(numbers(measured)) - flat
    table = pd.DataFrame(own)
    assert not table.duplicated(["prompt", "column", "group", "table", "item", "measure"]).any()
    assert len(rows) - len(own) == len(report_rows(bare_report()))
