from __future__ import annotations

import json
import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rated_essays import sample

from aes_dynloss.errors import DataError
from aes_dynloss.measures import bootstrap, fairness
from aes_dynloss.measures.agreement import pearson, quadratic_weighted_kappa, standardized_mean_difference
from aes_dynloss.measures.bootstrap import (
    IntervalSettings,
    Paired,
    bootstrap_draws,
    percentile_interval,
    prompt_generator,
)
from aes_dynloss.measures.differences import holm_adjusted
from aes_dynloss.measures.fairness import (
    NO_GROUP,
    UNTOLD,
    group_entries,
    group_labels,
    merged_groups,
    subgroup_fairness,
)
from aes_dynloss.tables.score_range import ScoreRange

RANGE = ScoreRange(1, 6)
NONE = IntervalSettings(0, 0.95, 0)
SOME = IntervalSettings(60, 0.9, 3)

# DSM and SMD ("williamson", with the sds of all essays) by RSMTool 12.0.0 on the seeded sample.
RSMTOOL = {
    "a": (0.079688761836443, 0.17847046729059957),
    "b": (-0.04725746364624925, 0.04886596475165199),
    "c": (-0.15715958622308487, 0.04518485819201722),
    "d": (0.20127156053450376, -0.06431113511729482),
}


def table(essays=240, seed=6):
    ratings, raw, words, groups = sample(essays, seed)
    columns = {"reference": ratings[:, 0], "raw": raw, "score": RANGE.to_point(raw), "L1": groups}
    return pd.DataFrame({**columns, "long": words > np.median(words)})


def entries(essays, settings=NONE, **options):
    return group_entries(essays, group_labels(essays["L1"]), RANGE, settings, **options)


def test_values_of_rsmtool():
    found = entries(table())
    assert list(found) == ["a", "b", "c", "d"]
    for name, (dsm, smd) in RSMTOOL.items():
        assert (found[name]["dsm"], found[name]["smd"]) == pytest.approx((dsm, smd), abs=1e-6)


@pytest.mark.parametrize("seed", range(3))
def test_they_are_those_of_rsmtool(rsmtool, seed):
    essays = table(150, seed)
    means = essays["reference"].mean(), essays["raw"].mean()
    sds = essays["reference"].std(), essays["raw"].std()
    for name, entry in entries(essays).items():
        own = essays[essays["L1"] == name]
        human, raw = own["reference"].to_numpy(), own["raw"].to_numpy()
        dsm = rsmtool("utils.metrics.difference_of_standardized_means", human, raw, *means, *sds)
        smd = rsmtool("utils.metrics.standardized_mean_difference", human, raw, *sds, method="williamson")
        assert (entry["dsm"], entry["smd"]) == pytest.approx((dsm, smd), abs=1e-9)
        if np.ptp([human, own["score"]]) > 0:  # RSMTool has NaN for identical constants, this package 1
            qwk = rsmtool("utils.metrics.quadratic_weighted_kappa", human, own["score"].to_numpy())
            assert entry["qwk"] == pytest.approx(qwk, abs=1e-9)


def test_a_groups_entry():
    essays = table()
    found = entries(essays)["b"]
    own = essays[essays["L1"] == "b"]
    assert list(found) == [
        "n", "small", "mean_reference", "mean_raw", "dsm", "dsm_interval", "smd", "smd_interval",
        "qwk", "qwk_interval", "pearson", "pearson_interval",
    ]  # fmt: skip
    assert (found["n"], found["small"]) == (len(own), True)
    assert found["mean_reference"] == pytest.approx(own["reference"].mean())
    assert found["mean_raw"] == pytest.approx(own["raw"].mean())
    assert found["qwk"] == pytest.approx(float(quadratic_weighted_kappa(own["reference"], own["score"])))
    assert found["pearson"] == pytest.approx(float(pearson(own["reference"], own["raw"])))
    assert found["qwk_interval"] is None


def test_the_group_of_all_essays_has_the_overall_measures():
    essays = table().assign(L1="all")
    found = entries(essays)["all"]
    assert found["dsm"] == pytest.approx(0, abs=1e-12)
    assert found["smd"] == pytest.approx(float(standardized_mean_difference(essays["reference"], essays["raw"])))


def test_intervals_are_those_of_the_bootstrap_that_draws_essays():
    essays = table()
    human_sd, raw_sd = essays["reference"].std(), essays["raw"].std()
    pooled = math.sqrt((human_sd**2 + raw_sd**2) / 2)
    found = entries(essays, SOME)
    for name, entry in found.items():
        own = essays[essays["L1"] == name]
        human, raw = own["reference"], own["raw"]

        def gap(one, other):
            return (other - one).mean(axis=-1)

        pairs = {
            "dsm": Paired(gap, (human - essays["reference"].mean()) / human_sd, (raw - essays["raw"].mean()) / raw_sd),
            "smd": Paired(gap, human / pooled, raw / pooled),
            "qwk": Paired(quadratic_weighted_kappa, human, own["score"]),
            "pearson": Paired(pearson, human, raw),
        }
        draws = bootstrap_draws(pairs, SOME.resamples, prompt_generator(SOME.seed, name))
        for measure, values in draws.items():
            assert entry[f"{measure}_interval"] == pytest.approx(percentile_interval(values, 0.9), abs=1e-9), measure


def test_resamples_without_spread_are_left_out_of_rs_interval():
    """Two essays: half of the resamples are one essay twice, whose r is undefined; the others have 1."""
    essays = table(6).assign(L1=list("aabbbb"))
    essays["reference"] = [2, 3, 4, 4, 4, 4]
    essays["raw"] = [0.1, 0.7, 0.1, 0.2, 0.1, 0.1]
    found = entries(essays, IntervalSettings(1000, 0.9, 0))
    assert found["a"]["pearson"] == pytest.approx(1)
    assert found["a"]["pearson_interval"] in (None, pytest.approx([1, 1]))
    assert found["b"]["pearson"] is None
    assert found["b"]["pearson_interval"] is None


@settings(max_examples=25)
@given(st.randoms(), st.sampled_from([0.5, 2.0]), st.integers(-3, 3))
def test_order_and_scale_do_not_matter(random, slope, shift):
    essays = table(80, 1)
    found = entries(essays, SOME)
    moved = essays.iloc[random.sample(range(80), 80)].reset_index(drop=True)
    scaled = moved.assign(**{name: slope * moved[name] + shift for name in ("reference", "raw", "score")})
    span = ScoreRange(slope + shift, 6 * slope + shift, slope)
    again = group_entries(scaled, group_labels(scaled["L1"]), span, NONE)
    assert list(again) == list(found)
    for name, entry in found.items():
        assert -1 <= entry["qwk"] <= 1
        for measure in ("dsm", "smd", "qwk", "pearson"):
            assert again[name][measure] == pytest.approx(entry[measure], abs=1e-9)


@given(st.integers(1, 5), st.floats(0.2, 3), st.floats(-2, 2))
def test_dsm_is_blind_to_a_line_on_all_predictions_and_of_weighted_mean_zero(seed, slope, shift):
    essays = table(60, seed)
    found = entries(essays)
    moved = entries(essays.assign(raw=slope * essays["raw"] + shift))
    for name, entry in found.items():
        assert moved[name]["dsm"] == pytest.approx(entry["dsm"], abs=1e-9)
    assert sum(entry["n"] * entry["dsm"] for entry in found.values()) == pytest.approx(0, abs=1e-9)


def test_a_group_that_is_scored_too_low_is_told():
    essays = table(4000)
    essays["raw"] -= 0.5 * (essays["L1"] == "b")
    found = subgroup_fairness(essays, ["L1"], RANGE, SOME)["columns"]["L1"]
    assert found["groups"]["b"]["dsm"] < -0.3
    assert found["groups"]["b"]["dsm_interval"][1] < 0 < found["groups"]["a"]["dsm_interval"][0]
    assert found["osd"]["p_holm"] < 1e-6
    assert found["csd"]["p_holm"] < 1e-6


def test_what_is_undefined_is_none():
    essays = table(8)
    for column, undefined in (("reference", {"dsm", "pearson"}), ("raw", {"dsm", "pearson"})):
        found = entries(essays.assign(**{column: 2.0}, L1="one"))["one"]
        assert {name for name in ("dsm", "smd", "qwk", "pearson") if found[name] is None} == undefined
    both = entries(essays.assign(reference=2, raw=2, score=2, L1="one"), SOME)["one"]
    assert both["dsm"] is both["smd"] is both["dsm_interval"] is None
    assert (both["qwk"], both["qwk_interval"]) == (1, [1, 1])
    single = entries(essays.iloc[:1])
    assert {entry["pearson"] for entry in single.values()} == {None}


@pytest.mark.parametrize("column", ["reference", "raw"])
def test_dsm_of_a_large_group_without_spread_has_no_interval(monkeypatch, column):
    monkeypatch.setattr(bootstrap, "MOST_DRAWN_ESSAYS", 50)
    found = entries(table(60).assign(**{column: 2.0}, L1="one"), SOME)["one"]
    assert found["dsm"] is found["dsm_interval"] is None
    assert found["smd_interval"][0] < found["smd"] < found["smd_interval"][1]


def test_all_columns_are_one_family_of_comparisons():
    found = subgroup_fairness(table(), ["L1", "long", "L1"], RANGE, SOME)
    assert list(found["columns"]) == ["L1", "long"]
    assert len(found["notes"]) == 1
    tests = [found["columns"][name][test] for name in ("L1", "long") for test in ("osa", "osd", "csd")]
    assert found["comparisons"] == 6
    np.testing.assert_allclose([one["p_holm"] for one in tests], holm_adjusted([one["p"] for one in tests]))
    assert set(found["columns"]["long"]["groups"]) == {"True", "False"}
    json.dumps(found, allow_nan=False)


def test_small_groups_are_marked_and_told():
    found = subgroup_fairness(table(), ["L1"], RANGE, NONE)
    marked = {name for name, entry in found["columns"]["L1"]["groups"].items() if entry["small"]}
    assert marked == {"b", "c", "d"}
    assert found["small_group"] == fairness.SMALL_GROUP == 100
    assert found["notes"] == ["Column L1: fewer than 100 essays in b, c, d; read their intervals."]
    other = subgroup_fairness(table(), ["L1"], RANGE, NONE, small=42)
    assert [name for name, entry in other["columns"]["L1"]["groups"].items() if entry["small"]] == ["d"]


@pytest.mark.parametrize(
    ("sizes", "untold", "beside"),
    [
        ({"f": 60, "m": 58, "x": 1}, "mx", "m"),
        ({"f": 58, "m": 60, "x": 4, "y": 5}, "fxy", "f"),
        ({"b": 20, "a": 20, "x": 9}, "ax", "a"),  # of equal ones the first by name
        ({"a": 60, "x": 1}, "ax", "a"),  # else what is left of the prompt is x
        ({"x": 4, "y": 5}, "xy", None),
        ({"2 merged groups": 30, "x": 9, "y": 8}, "xy", None),  # together they are enough
    ],
)
def test_a_group_that_is_not_told_cannot_be_computed_from_the_others(sizes, untold, beside):
    labels = np.repeat(np.array([*sizes], dtype=object), [*sizes.values()])
    found, notes = merged_groups("sex", labels, least=10)
    assert set(labels[found == UNTOLD]) == {*untold}
    assert (found[found != UNTOLD] == labels[found != UNTOLD]).all()
    (note,) = notes
    plain = "no figure of them is told, and no flag rests on them."
    assert plain in note
    assert note.endswith(
        f" {beside} is withheld too, though it is larger: else theirs follow from the others'." if beside else plain
    )


def test_groups_that_are_not_told_have_no_entry_and_no_part_in_the_tests():
    essays = table(119).assign(L1=np.repeat(["f", "m", "x"], [60, 58, 1]))
    found = subgroup_fairness(essays, ["L1"], RANGE, NONE, least=10)
    assert list(found["columns"]["L1"]["groups"]) == ["f"]
    assert found["comparisons"] == 0
    assert found["notes"][0].startswith("Column L1: fewer than 10 essays in x;")
    assert "Column L1 tells of one group: there is nothing to compare." in found["notes"]


def test_a_column_of_one_group():
    found = subgroup_fairness(table().assign(L1="a"), ["L1"], RANGE, NONE)
    assert found["comparisons"] == 0
    assert found["columns"]["L1"]["osa"] == {"r_squared_adjusted": None, "p": None, "p_holm": None}
    assert found["notes"] == ["Column L1 holds one group: there is nothing to compare."]


def test_essays_without_a_group_are_a_group():
    labels = group_labels(pd.Series(["x", None, " ", math.nan, 3, "x "], dtype=object))
    assert list(labels) == ["x", NO_GROUP, NO_GROUP, NO_GROUP, "3", "x"]
    assert list(group_labels(pd.Series([1, 2]))) == ["1", "2"]


def test_equal_groups_are_in_the_order_of_their_names():
    assert list(entries(table(6).assign(L1=list("zaazmm")))) == ["a", "m", "z"]


def test_the_largest_group_comes_first():
    assert list(entries(table(6).assign(L1=list("azzmmz")))) == ["z", "m", "a"]


def test_what_cannot_be_analysed():
    essays = table(120)
    with pytest.raises(DataError, match=r"no column 'age' \(columns: 'reference', "):
        subgroup_fairness(essays, ["age"], RANGE, NONE)
    with pytest.raises(DataError, match="no column 'score'"):
        subgroup_fairness(essays.drop(columns="score"), ["L1"], RANGE, NONE)
    with pytest.raises(DataError, match="Column 'id' holds 120 groups; at most 100"):
        subgroup_fairness(essays.assign(id=range(120)), ["id"], RANGE, NONE)
    with pytest.raises(DataError, match=r"The score 9 is no score point"):
        subgroup_fairness(essays.assign(score=9), ["L1"], RANGE, NONE)
    with pytest.raises(DataError, match="infinity in raw"):
        subgroup_fairness(essays.assign(raw=math.nan), ["L1"], RANGE, NONE)
    with pytest.raises(DataError, match="at least one essay"):
        subgroup_fairness(essays.iloc[:0], ["L1"], RANGE, NONE)
    with pytest.raises(DataError, match=r"one label an essay, found \(3,\) for \(120,\)"):
        group_entries(essays, np.array(["a", "b", "c"], dtype=object), RANGE, NONE)
