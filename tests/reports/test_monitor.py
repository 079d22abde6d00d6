"""Verdicts of a monitor: an alarm needs size and evidence; a page that stands alone."""

from __future__ import annotations

import pytest
from drifting_scores import administration
from read_page import cells_by_row, read_lone_page

from aes_dynloss.programme.monitor import build_monitor
from aes_dynloss.reports.drawing import HUMAN, draw_intervals, drawing, rows_panel
from aes_dynloss.reports.monitor import DRIFT_CRITERIA, Administration, Drifted, DriftFigure, Monitor, judged
from aes_dynloss.reports.monitor_page import monitor_page

EVIL = "<script>alert(1)</script>"


def verdicts(*figures, criteria=DRIFT_CRITERIA):
    compared = [
        Drifted(prompt="1", kind="score", n_then=9, n_now=9, measures={"shift": DriftFigure(value=value, p=p)})
        for value, p in figures
    ]
    found, tests = judged(compared, criteria)
    return [one.measures["shift"].verdict for one in found], tests


@pytest.mark.parametrize(
    ("figure", "verdict"),
    [
        ((0.4, 0.001), "flag"),
        ((-0.4, 0.001), "flag"),
        ((0.14, 1e-9), "pass"),
        ((0.4, 0.2), "unknown"),
        ((None, None), "unknown"),
    ],
)
def test_an_alarm_needs_size_and_evidence(figure, verdict):
    assert verdicts(figure)[0] == [verdict]


def test_evidence_is_corrected_for_all_tests_of_the_page():
    assert verdicts((0.4, 0.03)) == (["flag"], 1)
    assert verdicts((0.4, 0.03), (0.0, 0.9)) == (["unknown", "pass"], 2)
    assert verdicts((0.4, 0.03), criteria={}) == ([None], 0)
    assert judged([], DRIFT_CRITERIA) == ([], 0)


def test_what_chance_may_explain_is_not_called_quiet():
    rows = [
        Drifted(
            prompt="1", kind=kind, n_then=9, n_now=9, then=0.01, now=0.2, measures={name: DriftFigure(value=1.0, p=p)}
        )
        for kind, name, p in (("score", "shift", 0.3), ("advisory", "rise", 1e-9))
    ]
    compared, tests = judged(rows, DRIFT_CRITERIA)
    monitor = Monitor(
        baseline="then",
        baseline_essays=9,
        administrations=[Administration("now", 9, compared)],
        criteria=DRIFT_CRITERIA,
        tests=tests,
    )
    document = read_lone_page(monitor_page(monitor, title="Monitor"), EVIL)
    text = document.all("main")[0].text.replace("\u00a0", " ")
    assert "1 more change may be chance, and may be real: too few essays tell." in text
    assert text.index("Advisory, prompt 1") < text.index("An alarm is a change that is both large")
    for title in ("Shift (change of the mean", "QWK (agreement with humans, 0 as by chance"):
        assert title in text, "a reader needs no glossary"
    assert cells_by_row(document, "scores-table")["score"][1] == "may be chance"
    assert "Advisory, prompt 1: 1.0 % then, 20.0 % now; Rise" in text


def test_the_page_tells_alarms_and_every_comparison():
    then, now = administration("then", 0, human=True), administration(EVIL, 1, lengths=1.0, human=True)
    monitor = build_monitor(then, [now, now], subgroups=["group"])
    document = read_lone_page(monitor_page(monitor, title=EVIL), EVIL)
    assert len(document.all("figure")) == 3
    assert "Length in words, prompt a" in document.all("main")[0].text
    assert [cells[0] for cells in cells_by_row(document, "scores-alarming").values()] == ["a"]
    assert set(cells_by_row(document, "humans-table")) == {"agreement with humans"}
    assert cells_by_row(document, "features-table")["feature spelling"][0] == "b"


def test_long_names_are_clear_of_the_intervals_below_them():
    with drawing():
        (axes,) = rows_panel(["phones: 2024/scores_2024.csv", "river: 2025/scores_(y)_2025.csv"], ["QWK"])
        draw_intervals(axes, [(0.7, [0.1, 0.9]), (0.8, [0.1, 0.9])], colour=HUMAN, label="QWK")
        axes.figure.draw_without_rendering()
        for row, text in enumerate(axes.texts):
            line = axes.transData.transform((0.5, row))[1]
            above = axes.transData.transform((0.5, row - 1))[1]
            box, dot = text.get_window_extent(), 5.5 / 2 * axes.figure.dpi / 72
            assert line + dot < box.y0 < box.y1 < above - dot
