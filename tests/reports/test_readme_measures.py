"""The README lists each measure of a report with its reference, as the pages do."""

from __future__ import annotations

import re
from pathlib import Path

from aes_dynloss.reports.measure_list import MEASURES
from aes_dynloss.reports.report_tables import measures_markdown

README = Path(__file__).parents[2] / "README.md"


def test_the_readme_holds_the_table_of_measures_and_nothing_else_in_it():
    text = README.read_text(encoding="utf-8")
    (table,) = re.findall(r"^\| measure \|.*\n(?:\|.*\n)+", text, flags=re.MULTILINE)
    assert table.replace("|---|---|---|", "| --- | --- | --- |") == measures_markdown()


def test_a_measure_takes_one_line_of_three_cells():
    lines = measures_markdown().splitlines()
    assert len(lines) == 2 + len(MEASURES)
    assert {line.count("|") for line in lines} == {4}
    assert all(measure.definition and measure.reference for measure in MEASURES.values())
