from __future__ import annotations

import json
import math
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aes_dynloss.errors import ConfigError, DataError
from aes_dynloss.reports.criteria import CRITERIA, Criterion
from aes_dynloss.reports.flags import judge, judge_all, read_criteria, report_flags
from aes_dynloss.reports.model import MeanEntry, PromptEntry, Report, ScorePoint
from aes_dynloss.reports.page import report_page
from aes_dynloss.reports.prompts import build_report, report_json
from aes_dynloss.tables.score_range import ScoreRange

RANGE = ScoreRange(1, 6)


def test_the_thresholds():
    """Williamson, Xi and Breyer (2012), table of criteria; shares by convention."""
    found = {name: (criterion.direction, criterion.threshold) for name, criterion in CRITERIA.items()}
    assert found == {
        "qwk": ("at least", 0.7),
        "pearson": ("at least", 0.7),
        "qwk_degradation": ("at most", 0.1),
        "pearson_degradation": ("at most", 0.1),
        "smd": ("within", 0.15),
        "subgroup_smd": ("within", 0.1),
        "subgroup_dsm": ("within", 0.1),
        "score_share": ("within", 0.05),
        "score_level_gap": ("at most", 0.15),
    }


@pytest.mark.parametrize(
    ("name", "value", "verdict"),
    [
        ("qwk", 0.7, "pass"),
        ("qwk", 0.3 + 0.4, "pass"),
        ("qwk", 0.6999, "flag"),
        ("pearson", 0.71, "pass"),
        ("pearson", -0.9, "flag"),
        ("qwk_degradation", 0.8 - 0.7, "pass"),
        ("qwk_degradation", 0.101, "flag"),
        ("qwk_degradation", -0.3, "pass"),
        ("pearson_degradation", 0.11, "flag"),
        ("smd", -0.15, "pass"),
        ("smd", -0.16, "flag"),
        ("smd", 0.16, "flag"),
        ("subgroup_smd", 0.11, "flag"),
        ("subgroup_dsm", -0.11, "flag"),
        ("subgroup_dsm", 0.1, "pass"),
        ("score_share", -0.051, "flag"),
        ("score_share", 0.05, "pass"),
        ("qwk", None, "unknown"),
        ("smd", math.nan, "unknown"),
        ("smd", np.float64(0.1), "pass"),
    ],
)
def test_verdicts(name, value, verdict):
    flag = judge(name, value)
    assert flag.verdict == verdict
    assert (flag.value is None) == (verdict == "unknown")
    json.dumps(flag.to_dict(), allow_nan=False)


@given(st.sampled_from(list(CRITERIA)), st.floats(-2, 2))
def test_moving_away_from_the_threshold_never_turns_a_verdict(name, value):
    criterion = CRITERIA[name]
    better = {"at least": value + 0.1, "at most": value - 0.1, "within": 0.9 * value}[criterion.direction]
    if judge(name, value).verdict == "pass":
        assert judge(name, better).verdict == "pass"


@given(st.sampled_from(list(CRITERIA)), st.floats(-2, 2))
def test_the_figure_in_the_words_is_on_the_same_side_as_the_verdict(name, value):
    flag = judge(name, value)
    figure = float(flag.words.split(" is ")[1].split(" ")[0]) / (100 if CRITERIA[name].percent else 1)
    assert judge(name, figure).verdict == flag.verdict


@pytest.mark.parametrize(
    ("name", "value", "where", "words"),
    [
        ("qwk", 0.7456, "", "QWK is 0.746 and meets the criterion (at least 0.70)."),
        ("qwk", 0.69999, "prompt 3", "QWK (prompt 3) is 0.69999 and misses the criterion (at least 0.70)."),
        ("smd", -0.2, "", "SMD is -0.200 and misses the criterion (from -0.15 to 0.15)."),
        ("smd", -0.0001, "", "SMD is 0.000 and meets the criterion (from -0.15 to 0.15)."),
        (
            "score_share", 0.0712, "",
            "Largest gap of a score point's share is 7.1 percentage points and misses the criterion (within 5 "
            "percentage points).",
        ),
        (
            "qwk_degradation", None, "",
            "QWK lost against human-human agreement is unknown (criterion: at most 0.10).",
        ),
    ],
)  # fmt: skip
def test_words_for_a_reader(name, value, where, words):
    assert judge(name, value, where).words == words


def test_several_values_are_judged_in_the_criterias_order():
    flags = judge_all({"smd": 0.2, "qwk": 0.8, "pearson": None}, "prompt 1")
    assert [(flag.criterion, flag.verdict) for flag in flags] == [
        ("qwk", "pass"), ("pearson", "unknown"), ("smd", "flag"),
    ]  # fmt: skip
    assert {flag.where for flag in flags} == {"prompt 1"}
    assert flags[0].source == "Williamson, Xi and Breyer (2012)"


def test_what_cannot_be_judged():
    with pytest.raises(DataError, match=r"no criterion 'kappa'\. Choose from qwk, pearson"):
        judge("kappa", 0.5)
    with pytest.raises(DataError, match="no criterion 'kappa'"):
        judge_all({"qwk": 0.8, "kappa": 0.5})
    with pytest.raises(DataError, match="finite value or None, found inf"):
        judge("smd", math.inf)


@pytest.mark.parametrize(("gaps", "largest"), [([0.1, -0.3, 0.2], -0.3), ([-0.25, 0.25], -0.25)])
def test_the_largest_gap_keeps_its_sign(gaps, largest):
    points = [ScorePoint(point, 1, 1, gap) for point, gap in enumerate(gaps)]
    flags = report_flags({"1": PromptEntry(2, RANGE, 0.5, score_points=points)}, MeanEntry(1, 0.5))
    assert [flag.value for flag in flags if flag.criterion == "score_share"] == [largest]


def own(tmp_path, text):
    (tmp_path / "criteria.yaml").write_text(text, encoding="utf-8")
    return read_criteria(tmp_path / "criteria.yaml")


def test_criteria_of_ones_own(tmp_path):
    text = "qwk: 0.8\nsmd: null\nsubgroup_qwk: {at_least: 0.6}\nsd_ratio: {within: 1.1, title: Spread, source: board}\n"
    criteria = own(tmp_path, text)
    assert [*criteria] == [*(name for name in CRITERIA if name != "smd"), "subgroup_qwk", "sd_ratio"]
    assert criteria["qwk"] == replace(CRITERIA["qwk"], threshold=0.8, source="criteria.yaml")
    assert criteria["score_share"] == CRITERIA["score_share"]
    table = pd.DataFrame({"essay_id": range(40), "prompt_id": "1", "reference": np.resize([1, 2, 3, 4], 40)})
    table["raw"], table["group"] = table["reference"] + 0.3, np.repeat(["a", "b"], 20)
    report = build_report(table, ranges={"1": RANGE}, subgroups=["group"], criteria=criteria, resamples=0)
    found = {(flag.criterion, tuple(flag.group or ())): flag for flag in report.flags if flag.prompt}
    assert ("smd", ()) not in found
    assert found["sd_ratio", ()].words.startswith("Spread (prompt 1) is 1.000 and meets the criterion (from -1.1")
    assert found["subgroup_qwk", ("group", "b")].threshold == 0.6
    assert Report.from_dict(json.loads(report_json(report))) == report
    html = report_page(report, title="Own")
    assert "Spread" in html
    assert "at least 0.80" in html


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("qwl: 0.8", "there is no criterion 'qwl'; did you mean 'qwk'?"),
        ("kappa: 0.5", "kappa: expected one of at_least, at_most and within with a number"),
        ("qwk: {at_least: 0.8, at_most: 0.9}", "qwk: expected one of"),
        ("qwk: {at_least: high}", "qwk: expected one of"),
        ("qwk: .nan", "qwk: expected one of"),
        ("qwk: {atleast: 0.8}\nsmd: true", "has 2 faults"),
        ("smd: -0.15", "smd: within -0.15 holds for no value"),
        ("qwk: 70", "qwk: 70 is beyond 1, the most that it can be. Write 0.7 for 70 %."),
        ("subgroup_qwk: {at_least: 60}", "subgroup_qwk: 60 is beyond 1"),
        ("score_share: 5", "score_share: 5 is beyond 1"),
        ("kappa: {at_least: 0.5, title: null}", "title: expected words, found nothing"),
        ("kappa: {at_least: 0.5, source: 2026}", "source: expected words, found 2026"),
    ],
)
def test_faults_of_criteria_are_named(tmp_path, text, words):
    with pytest.raises(ConfigError) as caught:
        own(tmp_path, text)
    assert words in str(caught.value)


def level(low, n, agreement):
    return {"low": low, "high": low, "n": n, "agreement": agreement, "adjacent": 1.0}


@pytest.mark.parametrize(("middle", "verdict"), [(0.66, "pass"), (0.6, "flag")])
def test_middle_scores_that_agree_far_less_than_the_ends(middle, verdict):
    levels = [level(1, 30, 0.8), level(2, 50, middle), level(3, 50, middle), level(4, 10, 0.8)]
    entry = PromptEntry.from_dict({"n": 140, "range": RANGE, "qwk": 0.5, "score_levels": levels})
    (flag,) = (one for one in report_flags({"1": entry}, MeanEntry(1, 0.5)) if one.criterion == "score_level_gap")
    assert (flag.verdict, flag.value) == (verdict, pytest.approx(0.8 - middle))


@pytest.mark.parametrize(("twice", "verdict"), [(9, "unknown"), (10, "flag")])
def test_no_degradation_is_flagged_of_few_essays(twice, verdict):
    table = pd.DataFrame({"essay_id": range(40), "prompt_id": "1", "reference": np.resize([1, 2, 3, 4], 40)})
    table["raw"] = 2.5 + 0.1 * (table["reference"] % 2)
    table["second_reference"] = table["reference"].where(table.index < twice)
    criteria = {**CRITERIA, "prmse": Criterion("PRMSE", "at least", 0.8)}
    report = build_report(table, ranges={"1": RANGE}, resamples=0, criteria=criteria)
    verdicts = {flag.verdict for flag in report.flags if flag.criterion.endswith(("_degradation", "prmse"))}
    assert verdicts == {verdict}
    noted = any("9 essays were scored twice, fewer than 10" in note for note in report.notes)
    assert noted == (verdict == "unknown")


def test_a_prompt_with_few_double_scored_essays_is_left_out_of_the_mean():
    part = pd.DataFrame({"essay_id": range(40), "reference": np.resize([1, 2, 3, 4], 40)})
    part["raw"] = 2.5 + 0.1 * (part["reference"] % 2)
    one, other = (part.assign(prompt_id=name) for name in "12")
    one["second_reference"] = one["reference"]
    other["second_reference"] = other["reference"].where(other.index < 9)
    criteria = {**CRITERIA, "prmse": Criterion("PRMSE", "at least", 0.8)}
    both = {"ranges": {"1": RANGE, "2": RANGE}, "resamples": 0, "criteria": criteria}
    report = build_report(pd.concat([one, other]), **both)
    alone = report.prompts["1"]
    assert report.mean.human_human.degradation == alone.human_human.degradation
    assert report.mean.prmse == alone.prmse
    of_mean = {flag.criterion: flag.verdict for flag in report.flags if not flag.prompt}
    assert (of_mean["qwk_degradation"], of_mean["prmse"]) == ("flag", "flag")
    note = "Prompt 2: 9 essays were scored twice, fewer than 10: nothing that rests on them is judged, and means"
    assert any(one.startswith(note) for one in report.notes)
    page = report_page(report, title="Few")
    assert "(40 essays scored twice)" in page
    few = build_report(other, ranges={"2": RANGE}, resamples=0)  # told, and not judged
    assert few.mean.human_human.degradation == report.prompts["2"].human_human.degradation
    assert {one.verdict for one in few.flags if one.criterion.endswith("_degradation")} == {"unknown"}


def test_no_flag_rests_on_a_small_group():
    rows = {"a": 40, "b": 6, "c": 5, "d": 9}
    labels = np.repeat([*rows], [*rows.values()])
    table = pd.DataFrame({"essay_id": range(60), "prompt_id": "1", "reference": np.resize([1, 2, 3, 4], 60)})
    table["raw"] = table["reference"] + np.where(labels == "a", 0.0, 1.0)
    reports = {
        least: build_report(table.assign(group=labels), subgroups=["group"], resamples=0, min_group=least)
        for least in (1, 7, 10, 12, 25)
    }
    flagged = {
        least: {flag.group[1] for flag in report.flags if flag.group and flag.verdict == "flag"}
        for least, report in reports.items()
    }
    assert flagged == {1: {*rows}, 7: {"a", "d", "2 merged groups"}, 10: {"a", "3 merged groups"},
                       12: {"a", "3 merged groups"}, 25: set()}  # fmt: skip
    assert any("fewer than 25 essays in b, c, d; no figure of them is told" in note for note in reports[25].notes)
    assert any("in b, c, d; they count as one, '3 merged groups'" in note for note in reports[10].notes)
    columns = {least: report.prompts["1"].fairness.columns["group"] for least, report in reports.items()}
    assert columns[12].groups["a"].smd == pytest.approx(columns[1].groups["a"].smd)
    assert columns[25].groups == {}, "from the figures of a those of the others would follow"
    assert columns[25].osd.p is None
