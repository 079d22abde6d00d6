from __future__ import annotations

import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aes_dynloss.errors import DataError
from aes_dynloss.reports.flags import CRITERIA, judge, judge_all, report_flags
from aes_dynloss.reports.model import MeanEntry, PromptEntry, ScorePoint
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
