"""The typed report holds what report.json holds, under the same names, there and back."""

from __future__ import annotations

import json
from dataclasses import FrozenInstanceError, replace

import pytest
from sample_report import bare_report, full_report

from aes_dynloss.errors import DataError
from aes_dynloss.reports.human_entries import Adjudication, ReviewedMean, ReviewedPrompt, ReviewFigures
from aes_dynloss.reports.model import (
    Feature,
    FeatureFigures,
    FeatureReport,
    Floor,
    MeanEntry,
    Report,
)
from aes_dynloss.reports.prompts import read_report, report_json, write_report
from aes_dynloss.reports.robustness_entry import Robustness, RobustnessSettings
from aes_dynloss.tables.score_range import ScoreRange

TWO = {"1": ScoreRange(1, 4), "2": ScoreRange(0, 1, 0.5)}
REVIEW = Adjudication(
    decided=2,
    undecided=1,
    without_score=0,
    prompts={"1": ReviewedPrompt(2, None, ReviewFigures(3, 0.5, None, 1.0))},
    mean=ReviewedMean(ReviewFigures(), ReviewFigures(qwk=0.5)),
)
ROBUSTNESS = Robustness(RobustnessSettings(0, None, 0.95, "Wilson", 1e-9), {"1": 60}, {}, {}, [])

FEATURES = FeatureReport(
    4.0, "the training essays", {"commas": Feature("marks", "", {"1": FeatureFigures(60, 2.0, 0.5, 0.0, -0.5, None)})}
)


@pytest.fixture(scope="module", params=["bare", "full"])
def report(request):
    made = bare_report() if request.param == "bare" else full_report(TWO, essays=60, resamples=10)
    return (
        made if request.param == "bare" else replace(made, adjudicated=REVIEW, robustness=ROBUSTNESS, features=FEATURES)
    )


def test_a_report_comes_back_from_its_file(report, tmp_path):
    write_report(report, tmp_path / "report.json")
    found = read_report(tmp_path / "report.json")
    assert found == report
    assert report_json(found) == report_json(report)
    entry, other = found.prompts["1"], report.prompts["1"]
    assert type(entry) is type(other)
    assert (entry.range, entry.score_points[0].point) == (other.range, other.score_points[0].point)


def test_keys_are_those_of_the_json_and_attributes_the_same(report):
    values = json.loads(report_json(report))
    assert values == report.to_dict()
    assert list(values) == list(report)
    assert report["prompts"]["1"]["range"] == values["prompts"]["1"]["range"]
    assert report["mean"]["qwk"] == report.mean.qwk == values["mean"]["qwk"]
    assert ("human_human" in report.prompts["1"]) == (report.prompts["1"].human_human is not None)
    for absent in {"adjudicated", "robustness", "features"} - values.keys():
        with pytest.raises(KeyError, match=absent):
            report[absent]


# What programs read: keys in their order; the last ones only where they were measured.
KEYS = {
    "report": "prompts mean floors flags worst notes settings",
    "prompt": (
        "n range qwk qwk_interval qwk_rescaled qwk_rescaled_interval qwk_cut_points qwk_cut_points_interval "
        "exact_agreement adjacent_agreement pearson pearson_interval spearman rmse smd sd_ratio mean_reference "
        "mean_raw kappa gwet_ac1 gwet_ac2 qwk_variance_matched pearson_without_length pearson_disattenuated prmse "
        "qwk_ceiling qwk_of_true_score score_points confusion score_levels score_versions residuals_by_score "
        "residuals_by_length reliability prediction_interval"
    ),
    "mean": (
        "n_prompts qwk qwk_interval qwk_fisher qwk_rescaled qwk_rescaled_interval qwk_cut_points "
        "qwk_cut_points_interval exact_agreement adjacent_agreement pearson pearson_interval spearman kappa gwet_ac1 "
        "gwet_ac2 qwk_variance_matched pearson_without_length pearson_disattenuated prmse qwk_ceiling qwk_of_true_score"
    ),
    "flag": "criterion where value threshold direction verdict words source prompt group",
    "worst": "essay_id prompt_id reference raw score",
}


def keys_of(report):
    values = json.loads(report_json(report))
    parts = values["prompts"]["1"], values["mean"], values["flags"][0], values["worst"][0]
    return {name: " ".join(part) for name, part in zip(KEYS, (values, *parts), strict=True)}


def test_the_keys_of_report_json_stay():
    assert keys_of(bare_report()) == KEYS
    parts = {"adjudicated": REVIEW, "robustness": ROBUSTNESS, "features": FEATURES}
    full = replace(full_report(TWO, essays=60, resamples=10), **parts)
    feature = json.loads(report_json(full))["features"]
    assert list(feature) == ["most_sd", "compared_with", "by_name"]
    assert list(feature["by_name"]["commas"]) == ["group", "unit", "prompts"]
    assert list(feature["by_name"]["commas"]["prompts"]["1"]) == ["n", "mean", "sd", "clamped", "r", "partial_r"]
    full = keys_of(full)
    assert full["report"] == f"{KEYS['report']} adjudicated robustness features"
    assert (
        full["prompt"]
        == f"{KEYS['prompt'].replace(' score_points', ' human_human human_ratings score_points')} fairness"
    )
    assert full["mean"] == f"{KEYS['mean']} human_human"
    assert full["worst"] == f"{KEYS['worst']} words"


def test_reports_differ_in_a_single_number(report):
    assert replace(report, mean=replace(report.mean, qwk=-1.0)) != report


def test_a_report_stays_as_it_is():
    with pytest.raises(FrozenInstanceError):
        Floor({}, 0.0).mean = 1.0


def test_a_report_of_another_version_is_read_by_what_it_has(tmp_path):
    values = bare_report().to_dict()
    values["mean"] = {"n_prompts": 1, "qwk": 0.5, "of_a_later_version": 1}
    del values["flags"], values["worst"], values["prompts"]["1"]["reliability"]
    (tmp_path / "report.json").write_text(json.dumps(values), encoding="utf-8")
    found = read_report(tmp_path / "report.json")
    assert found.mean == MeanEntry(1, 0.5)
    assert (found.flags, found.worst, found.prompts["1"].reliability) == ([], [], [])
    values["mean"] = {}
    (tmp_path / "report.json").write_text(json.dumps(values), encoding="utf-8")
    with pytest.raises(DataError, match=r"report\.json is no whole report: .*n_prompts"):
        read_report(tmp_path / "report.json")


def test_from_dict_takes_what_is_typed_already(report):
    assert Report.from_dict({**report}) == report
    assert Report.from_dict({**report}).mean is report.mean
