"""What a learned loss made of raters, in a report: figures, words, table and rows."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from sample_report import bare_report

from aes_dynloss.measures.raters import MOST_RATERS
from aes_dynloss.reports.model import Report
from aes_dynloss.reports.page import report_page
from aes_dynloss.reports.ratings import measure_ratings
from aes_dynloss.reports.report_files import report_rows


def believed(trusted: int = 30) -> pd.DataFrame:
    """Of 300 essays r1 and r2 are as good as the trusted, but r2's lowest scores say nothing; r8 is reversed."""
    random = np.random.default_rng(0)
    truth = random.integers(1, 6, 300).astype(float)
    table = pd.DataFrame({"prompt_id": "1", "rater": np.array(["r1", "r2", "r8"])[np.arange(300) % 3], "score": truth})
    table["trusted"] = (np.arange(300) < trusted).astype(int)
    table["raw"] = truth + random.normal(0, 0.3, 300)
    table["score"] = np.where(table["rater"] == "r8", 6 - truth, truth)
    table["weight"] = np.select([table["trusted"] == 1, table["rater"] == "r8"], [1.0, 0.05], 0.9)
    return table.assign(weight=table["weight"].where((table["rater"] != "r2") | (table["score"] > 1), 0.01))


def test_raters_and_words():
    found = measure_ratings(believed())
    by_name = {one.rater: one for one in found.raters}
    assert list(by_name) == ["trusted", "r1", "r2", "r8"]
    assert [one.n for one in found.raters] == [30, 90, 90, 90]
    assert by_name["trusted"].weight > 0.9
    assert by_name["trusted"].severity is by_name["trusted"].consistency is None
    assert (by_name["r1"].weight, by_name["r8"].weight) == pytest.approx((0.9, 0.05))
    assert (by_name["r2"].weight_lowest, by_name["r2"].weight_highest) == pytest.approx((0.01, 0.9))
    assert by_name["r8"].remarks == "reversed"
    assert by_name["r8"].consistency < 0 < by_name["r1"].consistency
    low, high = by_name["r1"].consistency_interval
    assert low < by_name["r1"].consistency < high
    assert found.conclusions == [
        "r8's scores count a twentieth of the trusted ones.",
        "A lowest score from r2 says nothing.",
    ]


def test_where_all_are_believed():
    found = measure_ratings(believed().assign(weight=0.8))
    assert found.conclusions == ["No rater's scores count less than half of the trusted ones."]
    alone = measure_ratings(believed(trusted=0).assign(rater=None, weight=0.02))
    assert [one.rater for one in alone.raters] == ["untrusted"]
    assert alone.conclusions == ["untrusted's scores count 1/50 of the most believed ones."]


def test_of_a_rater_that_counts_next_to_nothing_no_more_is_said():
    table = believed()
    worthless = table["rater"].eq("r8") & table["trusted"].eq(0)
    table["weight"] = np.where(worthless, np.where(table["score"] == 1, 0.0, 0.02), 0.9)
    found = measure_ratings(table.assign(weight=table["weight"] / 2))
    assert found.conclusions[0] == "r8's scores count next to nothing beside the trusted ones."
    assert not any("score from r8" in words for words in found.conclusions)


def test_nothing_to_tell():
    assert measure_ratings(believed(trusted=300)) is None
    many = pd.concat([believed(trusted=0)] * 4, ignore_index=True)
    assert measure_ratings(many.assign(rater=[f"r{row}" for row in range(len(many))])) is None
    assert len(many) > MOST_RATERS


def test_the_report_has_them(tmp_path):
    report = replace(bare_report(), ratings=measure_ratings(believed()))
    assert Report.from_dict(report.to_dict()) == report
    assert "ratings" not in bare_report().to_dict()
    page = report_page(report, title="x")
    assert "A lowest score from r2 says nothing." in page
    assert 'id="ratings"' in page
    assert 'id="ratings"' not in report_page(bare_report(), title="x")
    rows = {(row["item"], row["measure"]): row for row in report_rows(report) if row["table"] == "ratings"}
    assert rows["r8", "weight"]["value"] == pytest.approx(0.05)
    assert rows["r1", "severity"]["low"] < rows["r1", "severity"]["value"] < rows["r1", "severity"]["high"]
