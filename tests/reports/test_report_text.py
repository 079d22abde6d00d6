from __future__ import annotations

from dataclasses import replace

import pandas as pd

from aes_dynloss.reports.prompts import build_report
from aes_dynloss.reports.report_tables import report_text
from aes_dynloss.tables.score_range import ScoreRange

TABLE = pd.DataFrame(
    {
        "essay_id": list("abcdef"),
        "prompt_id": list("111222"),
        "reference": [1, 2, 3, 0, 1, 1],
        "raw": [1.2, 2.4, 2.9, 0.4, 1.0, 0.6],
        "score": [1, 2, 3, 0, 1, 1],
    }
)


def test_a_table_to_the_letter():
    report = build_report(TABLE, floors={"length": {"prompts": {}, "mean": -0.0001}}, resamples=0)
    assert report_text(replace(report, notes=["A note."])) == "\n".join(
        [
            "prompt  n  range    QWK  exact  adjacent      r    SMD  sd ratio",
            "1       3    1-3  1.000  1.000     1.000  0.973  0.177     0.874",
            "2       3    0-1  1.000  1.000     1.000  0.756  0.000     0.529",
            "mean              1.000  1.000     1.000  0.864",
            "r, SMD and sd ratio are those of raw predictions, QWK and agreement those of scores.",
            "QWK, Fisher mean: 0.999",
            "Floors, mean QWK: essay length 0.000",
            "Note: A note.",
            "Verdict: QWK is 1.000, above every simple scorer; the best of them, essay length, reaches 0.000.",
            "Next: Before scores are used, look into what misses its criterion: SMD 0.177 on prompt 1 (criterion: from "
            "-0.15 to 0.15).",
        ]
    )


def test_columns_appear_where_something_was_measured():
    dev = TABLE.assign(essay_id=list("uvwxyz"))
    report = build_report(TABLE.assign(second_reference=TABLE["reference"]), dev=dev, resamples=20, confidence=0.9)
    heading, first, *rest = report_text(report).splitlines()
    for title in ("90 %", "rescaled", "cut points", "human-human", "degradation"):
        assert title in heading
    assert " to " in first
    assert "human-human, and the degradation from it, are those of essays with two human scores." in rest


def test_undefined_values_are_dashes_and_steps_are_told():
    table = TABLE.assign(raw=[2, 2, 2, 0.4, 1.0, 0.6], score=[2, 2, 2, 0.5, 1, 1])
    report = build_report(table, ranges={"1": ScoreRange(1, 3), "2": ScoreRange(0, 1, 0.5)}, resamples=0)
    lines = report_text(report).splitlines()
    assert lines[1].split() == ["1", "3", "1-3", "0.000", "0.333", "1.000", "-", "0.000", "0.000"]
    assert "0-1 by 0.5" in lines[2]
