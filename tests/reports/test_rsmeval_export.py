from __future__ import annotations

import csv
import html

import numpy as np
import pandas as pd
import pytest
from exported_essays import (
    RANGES,
    SUBGROUPS,
    WHOLE,
    checked,
    config_of,
    csv_of,
    dev_of_one,
    essays_of,
    one,
    two_prompts,
)

from aes_dynloss.errors import DataError
from aes_dynloss.reports.exports import export_rsmeval
from aes_dynloss.reports.predictions import check_predictions
from aes_dynloss.tables.score_range import ScoreRange


def text_of(path):
    """The exported predictions' cells, header first."""
    with (path.parent / config_of(path)["predictions_file"]).open(encoding="utf-8", newline="") as file:
        return list(csv.reader(file))


def test_the_files(tmp_path):
    test, dev = two_prompts(), dev_of_one()
    first, second = export_rsmeval(test, dev, tmp_path / "new" / "rsm", subgroups=SUBGROUPS)
    assert first == tmp_path / "new" / "rsm" / "prompt_1" / "config.json"
    assert second.parent.name == "prompt_halves__"
    config = config_of(first)
    assert {**config, "description": "", "predictions_file": "", "scale_with": ""} == {
        "experiment_id": "prompt_1", "description": "", "predictions_file": "", "scale_with": "",
        "id_column": "essay_id", "human_score_column": "reference", "second_human_score_column": "second_reference",
        "system_score_column": "raw", "exclude_zero_scores": False, "subgroups": ["L1", "first_language"],
        "trim_min": 1, "trim_max": 6, "trim_tolerance": 0.4998,
    }  # fmt: skip
    named = {"config.json", config["predictions_file"], config["scale_with"]}
    assert {path.name for path in first.parent.iterdir()} == named
    table, essays = csv_of(first, converters={"essay_id": str}), test.table[test.table["prompt_id"] == "1"]
    assert list(table) == ["essay_id", "reference", "second_reference", "raw", "L1", "first_language"]
    assert list(table["essay_id"]) == list(essays["essay_id"])
    for column in ("reference", "second_reference", "raw"):
        np.testing.assert_allclose(table[column], essays[column], rtol=1e-15)
    scaling = csv_of(first, "scale_with")
    np.testing.assert_allclose(scaling, dev.table[["reference", "raw"]], rtol=1e-15)
    assert list(scaling) == ["sc1", "prediction"]
    assert "scale_with" not in config_of(second)


def test_the_description_says_what_differs(tmp_path):
    first, second = export_rsmeval(two_prompts(), dev_of_one(), tmp_path / "rsm", subgroups=SUBGROUPS)
    said = html.unescape(config_of(first)["description"])
    assert said == (
        "Predictions for prompt 1: 240 essays, exported by aes-dynloss. The column first language is called "
        "first_language here. The groups of first_language are in brackets, lest RSMTool take one for a blank or for "
        "another."
    )
    said = html.unescape(config_of(second)["description"])
    assert "prompt halves/ä: 150 essays" in said
    assert "counted in steps of 0.5: 0 to 9 stand for 0 to 4.5." in said
    assert "This prompt has no dev essays, so its scores are not rescaled." in said


@pytest.mark.parametrize(
    ("span", "low", "high"),
    [(ScoreRange(1, 3, 0.5), 2, 6), (ScoreRange(1.7, 3.7), 0, 2), (ScoreRange(-2, 2, 2), -1, 1),
     (ScoreRange(0.1, 0.5, 0.1), 1, 5), (ScoreRange(-3, 4), -3, 4)],
)  # fmt: skip
def test_scores_of_other_steps_are_counted_in_steps(tmp_path, span, low, high):
    points = np.resize(span.points, 20)
    table = pd.DataFrame(
        {"essay_id": range(20), "prompt_id": "p", "reference": points, "raw": points + 0.2 * span.step}
    )
    (path,) = export_rsmeval(check_predictions(table, ranges={"p": span}), None, tmp_path / "rsm")
    config, written = config_of(path), csv_of(path)
    assert (config["trim_min"], config["trim_max"]) == (low, high)
    assert all(isinstance(config[key], int) for key in ("trim_min", "trim_max"))
    np.testing.assert_array_equal(written["reference"], np.resize(np.arange(low, high + 1), 20))
    np.testing.assert_allclose(written["raw"], written["reference"] + 0.2)
    assert ("counted in steps" in config["description"]) == (span != ScoreRange(-3, 4))


def test_ids_survive(tmp_path):
    ids = ["007", "7", "NA", "0", "1.0", "1e5", "a,b", 'q"x', " sp", "x ", "ä\tb", "None", "'", "-1", "+1", "#1"]
    table = pd.DataFrame({"essay_id": ids, "prompt_id": "p", "reference": np.resize([1, 2, 3], 16), "raw": 2.2})
    (path,) = export_rsmeval(check_predictions(table), None, tmp_path / "rsm")
    assert [row[0] for row in text_of(path)] == ["essay_id", *ids]


@pytest.mark.parametrize(
    ("prompts", "folders"),
    [
        (["1", "2"], ["1", "2"]),
        (["a b", "a/b", "a_b", "A_B"], ["a_b", "a_b_2", "a_b_3", "A_B_4"]),
        (["a_b_2", "a b", "a/b"], ["a_b_2", "a_b", "a_b_3"]),
        (["../x", ".", "作文", "<script>"], ["___x", "_", "__", "_script_"]),
        (["x" * 300, "x" * 299], ["x" * 60, "x" * 60 + "_2"]),
    ],
)
def test_folders_of_prompts_are_plain_and_distinct(tmp_path, prompts, folders):
    table = pd.DataFrame({"essay_id": "e", "prompt_id": prompts, "reference": 1.0, "raw": 1.1})
    test = check_predictions(table, ranges=dict.fromkeys(prompts, WHOLE))
    paths = export_rsmeval(test, None, tmp_path / "rsm")
    assert [path.parent.name for path in paths] == [f"prompt_{folder}" for folder in folders]
    for path, prompt in zip(paths, prompts, strict=True):
        config = config_of(path)
        assert config["experiment_id"] == path.parent.name
        assert f"prompt {prompt}:" in html.unescape(config["description"])
        assert not {"<", "/", "*", '"', "'", "$", "`"} & set(config["description"])


def test_subgroups_get_names_of_their_own(tmp_path):
    names = ["scale", "raw trim", "RAW", "L/1", "SC1", "group"]
    cells = [np.resize(["x", "y"], 30)] * len(names)
    test = checked(essays_of("1", WHOLE, 30, 6).assign(**dict(zip(names, cells, strict=True))), RANGES, names)
    (path,) = export_rsmeval(test, None, tmp_path / "rsm", subgroups=[*names, *names])
    config = config_of(path)
    assert config["subgroups"] == ["scale_2", "raw_trim_2", "RAW_2", "L_1", "SC1_2", "group_2"]
    assert "The column L/1 is called L_1 here." in html.unescape(config["description"])
    assert list(csv_of(path))[-6:] == config["subgroups"]


@pytest.mark.parametrize(
    ("labels", "written"),
    [
        (["a", None, " ", "b"], ["a", "No info", "No info", "b"]),
        (["1", "2", "10"], ["1", "2", "10"]),
        (["1", "01"], ["[1]", "[01]"]),
        (["None", "deaf"], ["[None]", "[deaf]"]),
        (["1", "two"], ["[1]", "[two]"]),
        (["NA"], ["[NA]"]),
        (['say "x", y', "z"], ['say "x", y', "z"]),
        ([True, False], ["True", "False"]),
        ([1.5, np.nan], ["[1.5]", "[No info]"]),
    ],
)
def test_groups_that_rsmtool_would_confuse_are_in_brackets(tmp_path, labels, written):
    cells = np.resize(np.array(labels, dtype=object), 30)
    (path,) = export_rsmeval(one(L1=cells), None, tmp_path / "rsm", subgroups=["L1"])
    assert [row[-1] for row in text_of(path)][1:] == list(np.resize(np.array(written, dtype=object), 30))
    assert ("in brackets" in config_of(path)["description"]) == any(label.startswith("[") for label in written)


def test_a_single_essay_has_no_subgroups(tmp_path):
    test = checked(essays_of("1", WHOLE, 1, 6), {"1": WHOLE})
    (path,) = export_rsmeval(test, None, tmp_path / "rsm", subgroups=SUBGROUPS)
    config = config_of(path)
    assert config["subgroups"] == []
    assert "no groups in a single essay: the subgroups are left out." in config["description"]


@pytest.mark.parametrize(
    ("columns", "reason"),
    [({"raw": 3.3}, "All predictions on dev are equal"), ({"reference": 2.0}, "All human scores on dev are equal")],
)
def test_dev_that_determines_no_rescaling_is_left_out(tmp_path, columns, reason):
    dev = checked(essays_of("1", WHOLE, 20, 7, "d").assign(**columns), {"1": WHOLE})
    (path,) = export_rsmeval(one(), dev, tmp_path / "rsm")
    config = config_of(path)
    assert "scale_with" not in config
    assert f"{reason}, so predictions are not rescaled." in config["description"]
    assert len(list(path.parent.iterdir())) == 2


def test_a_second_human_who_never_scored_is_left_out(tmp_path):
    (path,) = export_rsmeval(one(second_reference=np.nan), None, tmp_path / "rsm")
    assert "second_human_score_column" not in config_of(path)
    assert "second_reference" not in csv_of(path)
    gaps = np.where(np.arange(30) % 3, np.nan, 4.0)
    (path,) = export_rsmeval(one(second_reference=gaps), None, tmp_path / "gaps")
    np.testing.assert_array_equal(csv_of(path)["second_reference"], gaps)


def test_raters_of_a_resolved_score_are_left_out(tmp_path):
    (path,) = export_rsmeval(one(rater1=2.0, rater2=3.0, second_reference=np.nan), None, tmp_path / "rsm")
    assert list(csv_of(path)) == ["essay_id", "reference", "raw"]
    assert "The two raters of whom the report speaks are left out" in config_of(path)["description"]


def test_scores_that_are_not_raw_rounded_are_counted(tmp_path):
    raw = np.resize([2.5, 3.2], 30)  # 2.5 is 3 here and 2 in RSMTool
    (path,) = export_rsmeval(one(raw=raw), None, tmp_path / "rsm")
    assert "On 15 of 30 essays the score of the table is not raw rounded" in config_of(path)["description"]
    (path,) = export_rsmeval(one(raw=raw + 0.01, score=3.0), None, tmp_path / "other")
    assert "On 0 of" not in config_of(path)["description"]
    (path,) = export_rsmeval(one(raw=raw + 0.01, score=4.0), None, tmp_path / "cuts")
    assert "On 30 of 30 essays" in config_of(path)["description"]


def test_an_inferred_range_spans_dev_too(tmp_path):
    test = checked(
        essays_of("1", WHOLE, 30, 6).assign(reference=np.resize([2, 4], 30), second_reference=3.0, raw=3.1), {}
    )
    dev = checked(essays_of("1", WHOLE, 20, 7, "d").assign(reference=np.resize([1, 5], 20), second_reference=3.0), {})
    (path,) = export_rsmeval(test, dev, tmp_path / "rsm")
    assert (config_of(path)["trim_min"], config_of(path)["trim_max"]) == (1, 5)


def test_an_inferred_range_keeps_the_half_points_of_dev(tmp_path):
    """From 1 to 5.5 there are nine half points, which are counted in steps from 2 to 11."""
    test = checked(essays_of("1", WHOLE, 30, 6).assign(reference=np.resize([2, 4], 30), second_reference=3.0), {})
    dev = essays_of("1", WHOLE, 20, 7, "d").assign(reference=np.resize([1, 5.5], 20), second_reference=3.0)
    (path,) = export_rsmeval(test, checked(dev, {}), tmp_path / "rsm")
    assert (config_of(path)["trim_min"], config_of(path)["trim_max"]) == (2, 11)


@pytest.mark.parametrize(
    ("columns", "subgroups", "message"),
    [
        ({"reference": np.nan}, (), "no human scores in the predictions"),
        ({}, ["L2"], r"no column 'L2' of subgroups \(columns: essay_id, .*\)\. Name one"),
        ({"L1": "All data"}, ["L1"], "group 'All data', which is what rsmeval calls all essays"),
        ({"raw": 1e5}, (), r"Essay '0000' of prompt 1 has a prediction of 100000, .* far beyond 1 to 6"),
    ],
)
def test_what_cannot_be_exported(tmp_path, columns, subgroups, message):
    with pytest.raises(DataError, match=message):
        export_rsmeval(one(**columns), None, tmp_path / "rsm", subgroups=subgroups)
    assert not list(tmp_path.iterdir())


def test_more_groups_than_can_be_told_apart(tmp_path):
    test = checked(essays_of("1", WHOLE, 120, 6).assign(L1=[f"g{number}" for number in range(120)]))
    with pytest.raises(DataError, match="at most 100 can be compared"):
        export_rsmeval(test, None, tmp_path / "rsm", subgroups=["L1"])


def test_dev_needs_human_scores_and_no_wild_rescaling(tmp_path):
    dev = essays_of("1", WHOLE, 20, 7, "d")
    with pytest.raises(DataError, match="no human scores in the dev predictions"):
        export_rsmeval(one(), checked(dev.assign(reference=np.nan), {"1": WHOLE}), tmp_path / "rsm")
    narrow = checked(dev.assign(raw=3 + 1e-5 * (dev["raw"] - 3)), {"1": WHOLE})
    with pytest.raises(DataError, match="raw or rescaled, far beyond 1 to 6"):
        export_rsmeval(one(), narrow, tmp_path / "rsm")
