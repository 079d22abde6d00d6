from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from aes_dynloss.reports.flags import worst_disagreements
from aes_dynloss.reports.prompts import build_report
from aes_dynloss.tables.score_range import ScoreRange

RANGES = {"1": ScoreRange(1, 6), "2": ScoreRange(0, 60)}


def table(second=False, n=150):
    random = np.random.default_rng(0)
    parts = []
    for prompt, span in RANGES.items():
        human = random.choice(span.points, n)
        unit = (span.high - span.low) / 5
        raw = human + (2.0 if prompt == "2" else 0.0) * unit + random.normal(0, 0.4 * unit, n)
        parts.append(pd.DataFrame({"prompt_id": prompt, "reference": human, "raw": raw}))
    found = pd.concat(parts, ignore_index=True)
    found["essay_id"] = [f"e{row}" for row in range(len(found))]
    found["l1"] = np.where(np.arange(len(found)) % 3, "en", "xy")
    if second:
        found["second_reference"] = found["reference"]
    return found


def flags_of(report, **wanted):
    return [flag for flag in report["flags"] if all(flag[key] == value for key, value in wanted.items())]


def test_criteria_are_judged_on_the_mean_and_on_every_prompt():
    report = build_report(table(), ranges=RANGES, resamples=0)
    assert [flag["criterion"] for flag in flags_of(report, prompt=None)] == [
        "qwk", "pearson", "qwk_degradation", "pearson_degradation",
    ]  # fmt: skip
    for prompt, entry in report["prompts"].items():
        found = {flag["criterion"]: flag for flag in flags_of(report, prompt=prompt)}
        assert list(found) == [
            "qwk", "pearson", "qwk_degradation", "pearson_degradation", "smd", "score_share", "score_level_gap",
        ]  # fmt: skip
        assert found["score_level_gap"]["value"] == entry.score_level_gap
        assert found["smd"]["value"] == entry["smd"]
        gaps = [row["gap"] for row in entry["score_points"]]
        assert abs(found["score_share"]["value"]) == max(map(abs, gaps))
    assert flags_of(report, prompt="1", criterion="smd")[0]["verdict"] == "pass"
    assert flags_of(report, prompt="2", criterion="smd")[0]["verdict"] == "flag"
    assert {flag["verdict"] for flag in flags_of(report, criterion="qwk_degradation")} == {"unknown"}
    assert flags_of(report, group=["l1", "en"]) == []


def test_degradation_is_known_where_essays_were_scored_twice():
    report = build_report(table(second=True), ranges=RANGES, resamples=0)
    lost = {flag["prompt"]: flag for flag in flags_of(report, criterion="qwk_degradation")}
    assert lost["2"]["value"] == pytest.approx(1 - report["prompts"]["2"]["qwk"])
    assert lost["2"]["verdict"] == "flag"
    assert lost[None]["value"] == pytest.approx(1 - report["mean"]["qwk"])


def test_every_group_is_judged():
    report = build_report(table(), ranges=RANGES, subgroups=["l1"], resamples=0)
    for prompt in RANGES:
        for group, figures in report["prompts"][prompt]["fairness"]["columns"]["l1"]["groups"].items():
            found = {flag["criterion"]: flag for flag in flags_of(report, prompt=prompt, group=["l1", group])}
            assert found["subgroup_smd"]["value"] == figures["smd"]
            assert found["subgroup_dsm"]["value"] == figures["dsm"]
    assert {flag["verdict"] for flag in flags_of(report, prompt="2", criterion="subgroup_smd")} == {"flag"}


def test_the_worst_come_first_by_score_points():
    rows = table()[["essay_id", "prompt_id", "reference", "raw"]].assign(score=1.0, words=range(300), text="t")
    apart = (rows["raw"] - rows["reference"]).abs()
    worst = worst_disagreements(rows, RANGES, most=7)
    assert [row["essay_id"] for row in worst] == list(rows["essay_id"][apart.sort_values(ascending=False).index[:7]])
    assert list(worst[0]) == ["essay_id", "prompt_id", "reference", "raw", "score", "words", "text"]
    coarse = {"1": ScoreRange(1, 6), "2": ScoreRange(0, 60, 60)}
    assert {row["prompt_id"] for row in worst_disagreements(rows, coarse, most=7)} == {"1"}


def test_a_report_lists_them_without_text_unless_it_was_read():
    report = build_report(table(), ranges=RANGES, resamples=0)
    assert len(report["worst"]) == 20
    assert list(report["worst"][0]) == ["essay_id", "prompt_id", "reference", "raw", "score"]
    with_text = build_report(table().assign(text="<b>"), ranges=RANGES, resamples=0)
    assert with_text["worst"][0]["text"] == "<b>"
