from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rated_essays import sample
from scipy import stats

from aes_dynloss.errors import DataError
from aes_dynloss.measures.fairness import score_differences

MEASURES = ("osa", "osd", "csd")

# Adjusted R^2 and p by RSMTool 12.0.0 (statsmodels 0.15.0) on the seeded sample.
RSMTOOL = {
    "osa": (-0.006661219763565374, 0.7014970400369063),
    "osd": (-0.006102242984936224, 0.6710984570546544),
    "csd": (0.007688515629481696, 0.0725018978137425),
}


def dummies(values):
    return (np.asarray(values)[:, None] == np.unique(values)[None, :]).astype(float)


def by_least_squares(errors, smaller, larger):
    """Adjusted R^2 of the larger model less that of the smaller, and the F test's p, by plain least squares."""
    essays = len(errors)
    total = np.square(errors - errors.mean()).sum() / (essays - 1)
    left, spare = [], []
    for design in (smaller, larger):
        fitted = design @ np.linalg.lstsq(design, errors, rcond=None)[0]
        left.append(np.square(errors - fitted).sum())
        spare.append(essays - np.linalg.matrix_rank(design))
    effects = spare[0] - spare[1]
    ratio = (left[0] - left[1]) / effects / (left[1] / spare[1])
    return (left[0] / spare[0] - left[1] / spare[1]) / total, stats.f.sf(ratio, effects, spare[1])


def test_values_of_rsmtool():
    ratings, raw, _, groups = sample()
    found = score_differences(ratings[:, 0], raw, groups)
    for name in MEASURES:
        assert found[name] == pytest.approx(RSMTOOL[name], abs=1e-6), name


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("lenience", [0, 0.8])
def test_they_are_those_of_rsmtool(rsmtool, seed, lenience):
    ratings, raw, _, groups = sample(150, seed)
    raw = raw + lenience * (groups == "b")
    table = pd.DataFrame({"raw": raw, "sc1": ratings[:, 0], "L1": groups})
    theirs = rsmtool("fairness_utils.get_fairness_analyses", table, "L1", "raw")[1]["fairness_metrics_by_L1"]
    found = score_differences(ratings[:, 0], raw, groups)
    for measure, title in zip(MEASURES, theirs.columns[:3], strict=True):
        assert title.endswith({"osa": "accuracy", "osd": "score difference", "csd": "score difference"}[measure])
        assert found[measure] == pytest.approx(tuple(theirs[title].loc[["R2", "sig"]]), abs=1e-9), measure


@given(
    st.integers(14, 40).flatmap(
        lambda n: st.tuples(
            st.lists(st.integers(1, 4), min_size=n, max_size=n),
            st.lists(st.integers(-300, 300), min_size=n, max_size=n),
            st.lists(st.sampled_from("abcd"), min_size=n, max_size=n),
        )
    )
)
def test_they_are_those_of_least_squares(columns):
    human, noise, groups = map(np.array, columns)
    raw = human + noise / 100 + 0.003 * np.arange(len(human)) ** 2
    found = score_differences(human, raw, groups)
    if len(set(groups)) == 1:
        assert set(found.values()) == {(None, None)}
        return
    errors, ones = raw - human, np.ones((len(human), 1))
    assert found["osa"] == pytest.approx(by_least_squares(errors**2, ones, dummies(groups)), abs=1e-7)
    assert found["osd"] == pytest.approx(by_least_squares(errors, ones, dummies(groups)), abs=1e-7)
    points = dummies(human)
    both = np.hstack([points, dummies(groups)])
    if np.linalg.matrix_rank(both) == points.shape[1]:
        assert found["csd"] == (None, None)
    else:
        assert found["csd"] == pytest.approx(by_least_squares(errors, points, both), abs=1e-7)


@settings(max_examples=30)
@given(st.randoms(), st.sampled_from([-2.0, 0.5, 10.0]), st.floats(-5, 5))
def test_order_names_and_scale_do_not_matter(random, slope, shift):
    ratings, raw, _, groups = sample(90, 3)
    human = ratings[:, 0]
    found = score_differences(human, raw, groups)
    order = random.sample(range(len(raw)), len(raw))
    renamed = np.array([{"a": 4, "b": 2, "c": 9, "d": 1}[group] for group in groups])
    again = score_differences((slope * human + shift)[order], (slope * raw + shift)[order], renamed[order])
    for measure in MEASURES:
        assert again[measure] == pytest.approx(found[measure], abs=1e-9)
        assert -1 < found[measure].r_squared_adjusted <= 1
        assert 0 <= found[measure].p <= 1


def test_a_machine_lenient_to_one_group_is_found_and_groups_of_other_quality_alone_are_not():
    random = np.random.default_rng(2)
    groups = random.integers(0, 2, 4000)
    human = np.clip(np.rint(random.normal(3 + groups, 1)), 1, 6)
    fair = human + random.normal(0, 0.5, 4000)
    assert min(one.p for one in score_differences(human, fair, groups).values()) > 0.01
    lenient = score_differences(human, fair + 0.3 * groups, groups)
    assert lenient["osd"].p < 1e-9
    assert lenient["csd"].p < 1e-9
    careless = score_differences(human, human + (fair - human) * (1 + groups), groups)
    assert careless["osa"].p < 1e-9
    assert careless["osd"].p > 0.01
    # A machine that shrinks to the mean errs by group only because groups differ in quality.
    shrunk = score_differences(human, 0.5 * fair + 1.7, groups)
    assert shrunk["osd"].p < 1e-9
    assert shrunk["csd"].p > 0.01


def test_errors_that_are_all_equal_have_nothing_to_explain():
    human = np.array([1, 5, 9, 1, 5, 9, 5])
    raw = human + 0.3
    assert len(set(raw - human)) > 1  # the trap: equal up to float noise
    found = score_differences(human, raw, list("aabbaba"))
    assert set(found.values()) == {(0.0, None)}


def test_errors_that_follow_from_the_human_score_leave_nothing_to_the_groups():
    human = np.array([1, 2, 3, 1, 2, 3, 2])
    found = score_differences(human, np.full(7, 2.3), list("aabbaba"))
    assert found["csd"] == (0.0, None)
    assert found["osd"].p is not None


def test_errors_that_follow_from_the_group_are_explained_in_full():
    human, groups = np.array([1, 2, 1, 2, 1, 2.0]), np.array([0, 0, 1, 1, 1, 0])
    found = score_differences(human, human + groups, groups)
    assert found["osa"].r_squared_adjusted == pytest.approx(1)
    assert found["osd"].r_squared_adjusted == pytest.approx(1)
    # From an adjusted R^2 below 0, that of human scores which explain nothing, up to 1.
    assert found["csd"].r_squared_adjusted > 1
    for measure in MEASURES:
        assert found[measure].p == pytest.approx(0, abs=1e-12)


def test_groups_that_share_no_human_score_cannot_be_compared_given_it():
    human = [1, 1, 2, 2, 5, 5, 6, 6]
    found = score_differences(human, [1, 1.5, 2, 2.5, 5, 5.2, 6, 5.5], list("aaaabbbb"))
    assert found["csd"] == (None, None)
    assert found["osd"].p is not None


@pytest.mark.parametrize(("human", "groups"), [([1, 2], "ab"), ([1, 2, 3], "aaa"), ([4], "a")])
def test_too_few_essays_or_groups(human, groups):
    found = score_differences(human, np.array(human) * 1.1, list(groups))
    assert set(found.values()) == {(None, None)}


@pytest.mark.parametrize(
    ("reference", "raw", "groups", "message"),
    [
        ([1, 2], [1, 2], ["a"], r"one label for each of \(n,\) scores, found \(1,\) and \(2,\)"),
        ([[1, 2]], [[1, 2]], [["a", "b"]], "one label for each"),
        ([1, 2], [1], ["a", "b"], "one shape"),
        ([1, math.nan], [1, 2], ["a", "b"], "infinity in reference"),
        ([], [], [], "at least one essay"),
        ([1, 2], [1, 2], np.array(["a", None]), "Every essay needs a group, found 1 without"),
        ([1, 2], [1, 2], [1.0, math.nan], "found 1 without"),
    ],
)
def test_what_cannot_be_analysed(reference, raw, groups, message):
    with pytest.raises(DataError, match=message):
        score_differences(reference, raw, groups)
