"""Tables: choice of columns, the reasons of missing values, and the four renderers."""

from __future__ import annotations

import math

import pandas as pd
import pytest
from read_page import read_page
from sample_report import bare_report, full_report

from aes_dynloss.reports.blocks import Section, render_page
from aes_dynloss.reports.measure_list import Missing
from aes_dynloss.reports.prompts import build_report
from aes_dynloss.reports.report_tables import agreement_table
from aes_dynloss.reports.table import (
    NOTHING,
    Cell,
    Column,
    Table,
    count,
    markdown_table,
    number,
    p_value,
    percent,
    point,
    share,
    signed,
    table_records,
    text_table,
    words,
    words_column,
)
from aes_dynloss.tables.score_range import ScoreRange

COLUMNS = (
    words_column("arm", "Arm", "arm"),
    Column("qwk", "QWK", explanation="Agreement.", ends=("low", "high")),
    Column("n", "Essays", "n"),
    Column("lost", "Lost"),
)
TABLE = Table(
    "arms",
    "Arms",
    COLUMNS,
    [
        [words("a|b"), number(-0.25, (-0.5, 0.12345)), count(1200), number(None, why=Missing.NO_DEV)],
        [words("c", short="see"), number(0.5), NOTHING, NOTHING],
    ],
    [[words("mean"), number(None), count(7), NOTHING]],
    "95 %",
)


def test_plain_text_has_a_column_for_what_is_chosen():
    assert text_table(TABLE.chosen("arm", "n", "qwk", "qwk_interval")) == [
        "arm       n     QWK             95 %",
        "a|b   1,200  -0.250  -0.500 to 0.123",
        "see           0.500                -",
        "mean      7       -                -",
    ]


def test_a_table_on_its_side_has_its_columns_as_rows():
    turned = TABLE.chosen("arm", "qwk", "n").turned(words_column("what", "What", "what"))
    assert markdown_table(turned).splitlines() == [
        "| what | a\\|b | see | mean |",
        "| --- | ---: | ---: | ---: |",
        "| QWK | -0.250 | 0.500 | - |",
        "| n | 1,200 |  | 7 |",
    ]
    assert [row[0].plain for row in turned.foot] == ["n"]


def test_markdown_keeps_a_cell_whole_and_numbers_flush_right():
    assert markdown_table(TABLE.chosen("arm", "qwk")).splitlines() == [
        "| arm | QWK |",
        "| --- | ---: |",
        "| a\\|b | -0.250 |",
        "| see | 0.500 |",
        "| mean | - |",
    ]


def test_records_have_all_digits_and_ends():
    first, second, mean = table_records(TABLE)
    assert first == {"arm": "a|b", "qwk": -0.25, "low": -0.5, "high": 0.12345, "n": 1200, "lost": None}
    assert second == {"arm": "c", "qwk": 0.5, "low": None, "high": None, "n": None, "lost": None}
    assert mean["qwk"] is None


def test_a_page_shows_intervals_below_and_says_why_a_value_is_missing():
    document = read_page(render_page("A", [], [Section("one", "One", [TABLE])], None))
    (table,) = document.all("table")
    first, second, mean = [[cell.text for cell in row.all("th", "td")] for row in table.all("tr")[1:]]
    assert first[:3] == ["a|b", "\u22120.250\u22120.500 to 0.123", "1,200"]
    assert first[3] == f"\u2013undefined: {Missing.NO_DEV.value}"
    assert second == ["c", "0.500", "", ""]
    assert mean[1] == f"\u2013undefined: {Missing.UNDEFINED.value}"
    assert [cell.attributes.get("data-v") for cell in table.all("td")][:3] == ["-0.25", "1200", None]
    assert table.all("button")[1].attributes["title"] == "Agreement."


def test_points_stand_below_points():
    values = [point(value) for value in (1, 2.5, -10, None)]
    table = Table("t", "T", [words_column("a", "A"), Column("b", "B")], [[words("x_y/z"), one] for one in values])
    document = read_page(render_page("A", [], [Section("one", "One", [table])], None))
    cells = document.all("td")
    assert [cell.text.partition("undef")[0] for cell in cells] == ["1", "2.5", "\u221210", "\u2013"]
    pads = [[one.attributes["data-pad"] for one in cell.all("span") if "data-pad" in one.attributes] for cell in cells]
    assert pads == [[".5"], [], [".5"], []]
    # A long name may break after its parts, and nowhere else.
    name = document.all("th")[2]
    assert (name.text, len(name.all("wbr"))) == ("x_y/z", 2)


def test_a_page_says_its_title_at_the_head_of_each_printed_page():
    html = render_page('A "b\\c</style>', [], [Section("one", "One", [TABLE])], None)
    assert r':root { --running-head: "A \22 b\5c c\3c \2f style\3e "; }' in html


def test_columns_and_rows_without_a_value_can_be_left_out():
    assert [column.key for column in TABLE.known_columns().columns] == ["arm", "qwk", "n"]
    unknown = [words("d"), number(None), NOTHING, NOTHING]
    more = Table("arms", "Arms", COLUMNS, [*TABLE.rows, unknown])
    assert [row[0].text for row in more.known_rows().rows] == ["a|b", "c"]
    assert text_table(TABLE.retitled(arm=""))[0].startswith("      ")


@pytest.mark.parametrize(
    ("cell", "text"),
    [
        (number(-0.0001), "0.000"),
        (signed(0.25), "+0.250"),
        (signed(-0.0001), "0.000"),
        (p_value(3e-5), "<0.0001"),
        (p_value(0.25), "0.2500"),
        (share(0.0125), "1.2 %"),
        (count(12345), "12,345"),
        (Cell(2.50, "point"), "2.5"),
        (number(None), "-"),
        (NOTHING, ""),
    ],
)
def test_each_form_has_its_words(cell, text):
    assert cell.text == text
    assert percent(1) == "100.0 %"


def reasons(report):
    table = agreement_table(report)
    names = [column.key for column in table.columns]
    rows = zip([*report["prompts"], None], [*table.rows, *table.foot], strict=True)
    cells = {(place, name): cell for place, row in rows for name, cell in zip(names, row, strict=True)}
    return {place: cell.missing for place, cell in cells.items()}


def test_each_missing_value_carries_its_reason():
    found = reasons(bare_report())
    assert {found["1", name] for name in ("qwk", "kappa", "pearson", "n")} == {None}
    assert {found["1", name] for name in ("qwk_rescaled", "qwk_cut_points")} == {Missing.NO_DEV}
    assert {found["1", name] for name in ("human_qwk", "prmse", "qwk_ceiling")} == {Missing.NO_SECOND_SCORE}
    assert found["1", "pearson_without_length"] is Missing.NO_LENGTHS
    assert found[None, "qwk_rescaled"] is Missing.NO_DEV
    assert not any(reasons(full_report({"1": ScoreRange(1, 4)}, resamples=0)).values())


@pytest.mark.parametrize(("column", "reason"), [("reference", "EQUAL_HUMAN_SCORES"), ("raw", "EQUAL_PREDICTIONS")])
def test_a_correlation_is_undefined_where_scores_are_equal(column, reason):
    table = pd.DataFrame(
        {
            "essay_id": list("abcdefgh"),
            "prompt_id": list("11122222"),
            "reference": [1, 2, 3, 0, 1, 1, 0, 2],
            "raw": [1.2, 2.4, 2.9, 0.4, 1.0, 0.6, 0.2, 1.1],
            "words": [10, 30, 20, 10, 40, 20, 30, 25],
        }
    )
    table["score"] = table["reference"]
    table.loc[:2, column] = 2
    found = reasons(build_report(table, resamples=0))
    for name in ("pearson", "spearman", "pearson_without_length"):
        assert found["1", name] is Missing[reason]
        assert found["2", name] is None
        assert found[None, name] is Missing.SOME_PROMPTS


def test_raters_that_agree_by_chance_are_the_reason():
    table = pd.DataFrame({"essay_id": list("abcd"), "prompt_id": "1", "reference": [1, 2, 1, 2]})
    table = table.assign(score=table["reference"], second_reference=[2, 1, 2, 1])
    found = reasons(build_report(table, resamples=0))
    assert found["1", "pearson_disattenuated"] is Missing.RATERS
    assert found["1", "human_qwk"] is None
    assert math.isclose(build_report(table, resamples=0)["prompts"]["1"]["human_human"]["qwk"], -1)
