"""Verdicts of a monitor: an alarm needs size and evidence; a page that stands alone."""

from __future__ import annotations

from dataclasses import replace

import pytest
from drifting_scores import TRAITS, administration, trait_administration
from read_page import cells_by_row, read_lone_page

from aes_dynloss.programme.monitor import build_monitor
from aes_dynloss.reports.drawing import HUMAN, draw_intervals, drawing, rows_panel
from aes_dynloss.reports.monitor import (
    DRIFT_CRITERIA,
    Administration,
    Drifted,
    DriftFigure,
    Monitor,
    judged,
    monitored_traits,
)
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


def test_the_page_of_traits_has_a_row_a_trait_and_details_below():
    then, now = trait_administration("then", 0, human=True), trait_administration("now", 1, 300, shifts={"style": -0.9})
    monitor = build_monitor(then, [now, now], subgroups=["group"])
    page = monitor_page(monitor, title="Monitor")
    document = read_lone_page(page, EVIL)
    assert page.count("3 traits") == 1
    rows = cells_by_row(document, "traits-table")
    assert [*rows] == [*TRAITS]
    style = next(one for one in monitor.last.compared if one.trait == "style" and one.group is None)
    assert rows["style"][0].startswith("alarm")
    assert f"{style.measures['shift'].value:.3f}".lstrip("-") in rows["style"][1]
    assert "prompt a" in rows["style"][1]
    assert set(cells_by_row(document, "scores-table-traits")) == {*TRAITS}
    assert set(cells_by_row(document, "scores-table")) == {"length in words"}
    # A chart of each trait's scores, and one of lengths.
    assert len(document.all("figure")) == len(TRAITS) + 1


def trait_rows(*figures):
    """Rows of a trait on prompts a, b, ...: shift, its p, and QWK."""
    return [
        Drifted(
            prompt=prompt,
            trait="style",
            kind="score",
            n_then=9,
            n_now=9,
            measures={"shift": DriftFigure(value=shift, p=p), "qwk": DriftFigure(value=qwk, p=1.0)},
        )
        for prompt, (shift, p, qwk) in zip("abc", figures, strict=False)
    ]


@pytest.mark.parametrize(
    ("figures", "furthest"),
    [
        ([(0.1, 0.5, 0.9), (-0.12, 0.5, 0.8), (0.05, 0.5, 0.95)], [("prompt b", -0.12), ("prompt b", 0.8)]),
        ([(0.3, 0.5, 0.9), (-0.2, 1e-9, 0.95)], [("prompt b", -0.2), ("prompt a", 0.9)]),
        ([(None, None, 0.9), (0.0, 0.5, None)], [("prompt b", 0.0), ("prompt a", 0.9)]),
    ],
)
def test_a_trait_shows_the_prompt_furthest_from_its_criterion_an_alarm_first(figures, furthest):
    compared, tests = judged(trait_rows(*figures), DRIFT_CRITERIA)
    last = Administration("now", 9, compared)
    monitor = Monitor(baseline="then", baseline_essays=9, administrations=[last], criteria=DRIFT_CRITERIA, tests=tests)
    table = monitored_traits(monitor).chosen("trait", "shift", "qwk")
    ((name, *cells),) = table.rows
    assert name.value == "style"
    assert [(cell.note, cell.value) for cell in cells] == furthest


@pytest.mark.parametrize(
    ("criteria", "furthest"),
    [
        ({"qwk": replace(DRIFT_CRITERIA["qwk"], direction="at most")}, [("prompt b", -0.12), ("prompt c", 0.95)]),
        ({}, [("prompt b", -0.12), ("prompt b", 0.8)]),
    ],
)
def test_a_trait_is_held_against_the_criteria_of_its_own_monitor(criteria, furthest):
    """As of a monitor.json whose criteria have another direction, or of measures that were not judged."""
    compared, tests = judged(trait_rows((0.1, 0.5, 0.9), (-0.12, 0.5, 0.8), (0.05, 0.5, 0.95)), criteria)
    last = Administration("now", 9, compared)
    monitor = Monitor(baseline="then", baseline_essays=9, administrations=[last], criteria=criteria, tests=tests)
    ((_, *cells),) = monitored_traits(monitor).chosen("trait", "shift", "qwk").rows
    assert [(cell.note, cell.value) for cell in cells] == furthest


def test_many_alarms_are_folded_after_the_first():
    measures = {"shift": DriftFigure(value=1.0, p=1e-9)}
    rows = [Drifted(prompt=f"p{n}", kind="score", n_then=9, n_now=9, measures=measures) for n in range(20)]
    compared, tests = judged(rows, DRIFT_CRITERIA)
    last = Administration("now", 9, compared)
    monitor = Monitor(baseline="then", baseline_essays=9, administrations=[last], criteria=DRIFT_CRITERIA, tests=tests)
    document = read_lone_page(monitor_page(monitor, title="Monitor"), EVIL)
    assert [len(one.all("li")) for one in document.all("details")][:1] == [8]
    assert "8 more" in document.all("details")[0].text


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
