from __future__ import annotations

from collections import Counter

import pandas as pd
import pytest
from sample_report import bare_report, full_report

from aes_dynloss.reports.report_files import COLUMNS, report_rows
from aes_dynloss.tables.score_range import ScoreRange

TWO = {"1": ScoreRange(1, 4), "2": ScoreRange(0, 30)}


@pytest.fixture(scope="module")
def report():
    return full_report(TWO, essays=120, resamples=20)


def numbers(value):
    """Every number of a report, in no order; words and what is undefined are none."""
    if isinstance(value, dict):
        return [number for one in value.values() for number in numbers(one)]
    if isinstance(value, list):
        return [number for one in value for number in numbers(one)]
    return [] if value is None or isinstance(value, str) else [float(value)]


@pytest.mark.parametrize(
    "made", [bare_report, lambda: full_report(TWO, essays=120, resamples=20)], ids=["bare", "full"]
)
def test_the_rows_hold_every_number_of_the_report(made):
    report = made()
    rows, report = report_rows(report), report.to_dict()
    assert all(tuple(row) == COLUMNS for row in rows)
    flat = Counter(float(row[key]) for row in rows for key in ("value", "low", "high") if row[key] is not None)
    for entry in report["prompts"].values():
        # The coordinates of a cell are the item's.
        for one in (entry, entry.get("human_human") or {"confusion": []}):
            one["confusion"] = [[count] for _, _, count in one["confusion"]]
    missing = Counter(numbers(report)) - flat
    assert not missing


def test_a_row_is_named_once_and_typed_for_a_table(report):
    table = pd.DataFrame(report_rows(report), columns=list(COLUMNS))
    assert not table.duplicated(["prompt", "column", "group", "table", "item", "measure"]).any()
    for column in ("value", "low", "high"):
        assert table[column].dtype == float
    assert all(isinstance(row["item"], str | None) for row in report_rows(report))


def test_values_lie_where_they_are_looked_for(report):
    rows = report_rows(report)

    def found(**key):
        (row,) = [row for row in rows if all(row[name] == value for name, value in key.items())]
        return row

    qwk = found(prompt="2", table="agreement", measure="qwk")
    assert (qwk["value"], [qwk["low"], qwk["high"]]) == (
        report["prompts"]["2"]["qwk"],
        report["prompts"]["2"]["qwk_interval"],
    )
    assert found(prompt=None, table="agreement", measure="qwk")["value"] == report["mean"]["qwk"]
    human, machine, count = report["prompts"]["1"]["confusion"][0]
    assert found(prompt="1", table="confusion", item=f"{human:g} x {machine:g}")["value"] == count
    korean = report["prompts"]["1"]["fairness"]["columns"]["L1"]["groups"]["Korean"]
    assert found(prompt="1", table="fairness", group="Korean", measure="dsm")["value"] == korean["dsm"]
    assert found(prompt="1", table="fairness", group="Korean", measure="small")["value"] == 1
    verdicts = {"pass": 0, "flag": 1, "unknown": None}
    flag = next(flag for flag in report["flags"] if flag["criterion"] == "smd" and flag["prompt"] == "2")
    assert found(prompt="2", table="flags", item="smd", measure="flagged")["value"] == verdicts[flag["verdict"]]
    assert found(table="settings", measure="resamples")["value"] == 20
