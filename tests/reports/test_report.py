from __future__ import annotations

import json
import math

import numpy as np
import pandas as pd
import pytest
from facts import facts
from sklearn.metrics import cohen_kappa_score

from aes_dynloss.errors import ConfigError, DataError
from aes_dynloss.measures.agreement import pearson, quadratic_weighted_kappa
from aes_dynloss.measures.bootstrap import Paired, bootstrap_draws, percentile_interval, prompt_generator
from aes_dynloss.measures.calibration import fit_cut_points, fit_rescaling
from aes_dynloss.measures.intervals import fit_intervals
from aes_dynloss.reports.predictions import check_predictions
from aes_dynloss.reports.prompts import build_report, read_report, report_json, write_report
from aes_dynloss.tables.score_range import ScoreRange

RANGES = {"2": ScoreRange(1, 6), "10": ScoreRange(0, 12), "b": ScoreRange(0, 3, 0.5)}


def predictions(n=60, seed=0, prefix="t", prompts=tuple(RANGES)):
    """Human scores and shrunk predictions of some prompts."""
    random = np.random.default_rng(seed)
    parts = []
    for prompt in prompts:
        score_range = RANGES[prompt]
        human = random.choice(score_range.points, n)
        middle = (score_range.low + score_range.high) / 2
        raw = middle + 0.5 * (human - middle) + random.normal(0, 0.1 * score_range.count * score_range.step, n)
        parts.append(pd.DataFrame({"prompt_id": prompt, "reference": human, "raw": raw}))
    table = pd.concat(parts, ignore_index=True)
    table["essay_id"] = [f"{prefix}{row}" for row in range(len(table))]
    return table


TEST, DEV = predictions(), predictions(seed=1, prefix="d")
REPORT = build_report(TEST, dev=DEV, ranges=RANGES, resamples=200)


def sklearn_kappa(human, score, score_range):
    to_index = score_range.to_index
    return cohen_kappa_score(to_index(human), to_index(score), labels=range(score_range.count), weights="quadratic")


def test_prompts_come_in_natural_order():
    assert list(REPORT["prompts"]) == ["2", "10", "b"]
    assert list(REPORT) == ["prompts", "mean", "floors", "flags", "worst", "notes", "settings"]


@pytest.mark.parametrize("prompt", RANGES)
def test_kappas_of_a_prompt(prompt):
    test, dev = TEST[TEST["prompt_id"] == prompt], DEV[DEV["prompt_id"] == prompt]
    entry, score_range, raw = REPORT["prompts"][prompt], RANGES[prompt], test["raw"].to_numpy()
    line = fit_rescaling(dev["raw"], dev["reference"])
    scores = {
        "qwk": score_range.to_point(raw),
        "qwk_rescaled": score_range.to_point(line.apply(raw)),
        "qwk_cut_points": fit_cut_points(dev["raw"], dev["reference"], score_range).apply(raw),
    }
    for name, score in scores.items():
        assert entry[name] == pytest.approx(sklearn_kappa(test["reference"], score, score_range))
        low, high = entry[f"{name}_interval"]
        assert low < entry[name] < high
    assert entry["qwk"] + 0.05 < entry["qwk_rescaled"]
    assert entry["pearson"] == pytest.approx(np.corrcoef(test["reference"], raw)[0, 1])
    assert entry["pearson_interval"][0] < entry["pearson"] < entry["pearson_interval"][1]
    assert entry["mean_reference"] == pytest.approx(test["reference"].mean())
    assert entry["mean_raw"] == pytest.approx(raw.mean())
    assert entry["n"] == 60
    assert ScoreRange(**entry["range"]) == score_range
    steps = np.abs(scores["qwk"] - test["reference"]) / score_range.step
    assert entry["exact_agreement"] == pytest.approx((steps < 0.5).mean())
    assert entry["adjacent_agreement"] == pytest.approx((steps < 1.5).mean())


def test_intervals_are_those_of_the_bootstrap():
    test = TEST[TEST["prompt_id"] == "2"]
    human, raw = test["reference"].to_numpy(), test["raw"].to_numpy()
    pairs = {
        "qwk": Paired(quadratic_weighted_kappa, human, RANGES["2"].to_point(raw)),
        "pearson": Paired(pearson, human, raw),
    }
    draws = bootstrap_draws(pairs, 200, prompt_generator(0, "2"))
    for name, values in draws.items():
        assert REPORT["prompts"]["2"][f"{name}_interval"] == pytest.approx(percentile_interval(values, 0.95), abs=1e-12)


def test_prediction_intervals_are_those_fitted_on_dev():
    test, dev = TEST[TEST["prompt_id"] == "2"], DEV[DEV["prompt_id"] == "2"]
    low, high = fit_intervals(["2"] * 60, dev["raw"], dev["reference"]).bounds("2", test["raw"], RANGES["2"])
    inside = ((low <= test["reference"]) & (test["reference"] <= high)).mean()
    found = REPORT["prompts"]["2"]["prediction_interval"]
    assert found == {"stated": 0.9, "measured": pytest.approx(inside), "mean_width": pytest.approx((high - low).mean())}
    without = build_report(TEST, ranges=RANGES, resamples=0)["prompts"]["2"]["prediction_interval"]
    assert without == {"stated": 0.9, "measured": None, "mean_width": None}


def test_means_count_every_prompt_the_same():
    unequal = pd.concat([TEST, predictions(200, 5, "u", ("2",))])
    report = build_report(unequal, ranges=RANGES, resamples=0)
    for name in ("qwk", "exact_agreement", "adjacent_agreement", "pearson", "spearman"):
        each = [entry[name] for entry in report["prompts"].values()]
        assert report["mean"][name] == pytest.approx(sum(each) / 3)
    kappas = [entry["qwk"] for entry in report["prompts"].values()]
    assert report["mean"]["qwk_fisher"] == pytest.approx(np.tanh(np.arctanh(kappas).mean()))
    assert report["mean"]["n_prompts"] == 3


def test_the_interval_of_the_mean_is_narrower_than_a_prompts():
    low, high = REPORT["mean"]["qwk_interval"]
    assert low < REPORT["mean"]["qwk"] < high
    widths = [np.ptp(entry["qwk_interval"]) for entry in REPORT["prompts"].values()]
    assert high - low < np.mean(widths)
    assert REPORT["mean"]["qwk_rescaled_interval"][0] < REPORT["mean"]["qwk_rescaled"]


def test_a_prompts_figures_do_not_hang_on_the_other_prompts():
    alone = build_report(TEST[TEST["prompt_id"] == "10"], dev=DEV, ranges=RANGES, resamples=200)
    assert alone["prompts"]["10"] == REPORT["prompts"]["10"]


def test_the_same_seed_gives_the_same_report_and_another_one_other_intervals():
    assert build_report(TEST, dev=DEV, ranges=RANGES, resamples=200) == REPORT
    other = build_report(TEST, dev=DEV, ranges=RANGES, resamples=200, seed=1)
    assert other["prompts"]["2"]["qwk"] == REPORT["prompts"]["2"]["qwk"]
    assert other["prompts"]["2"]["qwk_interval"] != REPORT["prompts"]["2"]["qwk_interval"]
    wide = build_report(TEST, ranges=RANGES, resamples=200, confidence=0.99)["prompts"]["2"]["qwk_interval"]
    assert np.ptp(wide) > np.ptp(REPORT["prompts"]["2"]["qwk_interval"])


def test_test_scores_do_not_reach_the_calibration():
    other = TEST.assign(reference=TEST["reference"].to_numpy())
    swap = other["prompt_id"] == "2"
    other.loc[swap, "reference"] = other.loc[swap, "reference"].to_numpy()[::-1]
    entry = build_report(other, dev=DEV, ranges=RANGES, resamples=0)["prompts"]["2"]
    dev = DEV[DEV["prompt_id"] == "2"]
    score = RANGES["2"].to_point(fit_rescaling(dev["raw"], dev["reference"]).apply(other.loc[swap, "raw"]))
    assert entry["qwk_rescaled"] == pytest.approx(sklearn_kappa(other.loc[swap, "reference"], score, RANGES["2"]))


def test_without_dev_the_calibrated_kappas_are_null_and_a_note_says_how_to_get_them():
    report = build_report(TEST, ranges=RANGES, resamples=10)
    for entry in (*report["prompts"].values(), report["mean"]):
        assert entry["qwk_rescaled"] is None
        assert entry["qwk_rescaled_interval"] is None
        assert entry["qwk_cut_points"] is None
    assert any("qwk_rescaled and qwk_cut_points are null" in note and "--dev FILE" in note for note in report["notes"])


def test_a_prompt_without_dev_essays():
    report = build_report(TEST, dev=DEV[DEV["prompt_id"] != "b"], ranges=RANGES, resamples=10)
    assert report["prompts"]["b"]["qwk_rescaled"] is None
    assert report["prompts"]["2"]["qwk_rescaled"] is not None
    assert report["mean"]["qwk_rescaled"] is None
    assert report["mean"]["qwk_rescaled_interval"] is None
    assert "Prompt b has no dev essays: its qwk_rescaled and qwk_cut_points are null." in report["notes"]
    assert "The mean qwk_rescaled is null: prompts b have none." in report["notes"]


def test_a_degenerate_dev_is_noted():
    dev = DEV[DEV["prompt_id"] == "2"].head(1)
    report = build_report(TEST[TEST["prompt_id"] == "2"], dev=dev, ranges=RANGES, resamples=0)
    entry = report["prompts"]["2"]
    assert entry["qwk_rescaled"] == entry["qwk_cut_points"] == entry["qwk"]
    assert "Prompt 2: dev has a single essay, so predictions are not rescaled." in report["notes"]
    assert "Prompt 2: dev has a single essay, so cut points are those of rounding." in report["notes"]


def test_dev_widens_an_inferred_range():
    test = pd.DataFrame({"essay_id": ["a", "b"], "prompt_id": "1", "reference": [2, 3], "raw": [2.2, 3.1]})
    dev = pd.DataFrame({"essay_id": ["c", "d"], "prompt_id": "1", "reference": [1, 5], "raw": [2.0, 3.0]})
    report = build_report(test, dev=dev, resamples=0)
    assert report["prompts"]["1"]["range"] == {"low": 1, "high": 5, "step": 1}
    assert sum("No score range was given" in note for note in report["notes"]) == 2


@pytest.mark.parametrize(("test_scores", "dev_scores"), [([1, 5.5], [1, 6]), ([1, 6], [1.5, 5.5])])
def test_an_inferred_range_keeps_the_half_points_of_test_and_dev(test_scores, dev_scores):
    test = pd.DataFrame({"essay_id": ["a", "b"], "prompt_id": "1", "reference": test_scores, "score": test_scores})
    dev = pd.DataFrame({"essay_id": ["c", "d"], "prompt_id": "1", "reference": dev_scores, "score": dev_scores})
    report = build_report(test, dev=dev, resamples=0)
    assert report["prompts"]["1"]["range"] == {"low": 1, "high": 6, "step": 0.5}
    assert report["prompts"]["1"]["qwk"] == 1


def test_no_resamples_no_intervals():
    report = build_report(TEST, dev=DEV, ranges=RANGES, resamples=0)
    for entry in (*report["prompts"].values(), report["mean"]):
        assert entry["qwk_interval"] is entry["pearson_interval"] is None
    assert report["settings"]["resamples"] == 0


def test_human_human_kappa_and_degradation():
    random = np.random.default_rng(0)
    second = np.clip(TEST["reference"] + 0.5 * random.integers(-1, 2, len(TEST)) * 2, 0, 12)
    table = TEST[TEST["prompt_id"] == "10"].assign(second_reference=second)
    table.loc[table.index[:20], "second_reference"] = math.nan
    report = build_report(table, ranges=RANGES, resamples=0)
    entry, twice = report["prompts"]["10"]["human_human"], table[20:]
    score = RANGES["10"].to_point(twice["raw"])
    assert entry["n"] == 40
    assert entry["qwk"] == pytest.approx(sklearn_kappa(twice["reference"], twice["second_reference"], RANGES["10"]))
    assert entry["human_machine_qwk"] == pytest.approx(sklearn_kappa(twice["reference"], score, RANGES["10"]))
    assert entry["human_machine_qwk"] != report["prompts"]["10"]["qwk"]
    assert entry["degradation"] == pytest.approx(entry["qwk"] - entry["human_machine_qwk"])
    assert entry["degradation"] > 0
    r = np.corrcoef(twice["reference"], twice["second_reference"])[0, 1]
    assert entry["pearson"] == pytest.approx(r)
    assert entry["pearson_degradation"] == pytest.approx(r - np.corrcoef(twice["reference"], twice["raw"])[0, 1])
    names = ("qwk", "degradation", "pearson", "pearson_degradation")
    assert report["mean"]["human_human"] == {name: entry[name] for name in names}


def test_a_prompt_that_nobody_scored_twice():
    table = TEST.assign(second_reference=TEST["reference"].where(TEST["prompt_id"] == "2"))
    report = build_report(table, ranges=RANGES, resamples=0)
    assert report["prompts"]["2"]["human_human"]["qwk"] == 1
    unknown = dict(report["prompts"]["b"]["human_human"])
    assert (unknown.pop("n"), unknown.pop("confusion")) == (0, [])
    assert set(unknown) > {"qwk", "degradation", "pearson_degradation", "kappa", "smd"}
    assert set(unknown.values()) == {None}
    assert "human_human" not in report["mean"]


def test_constant_columns_are_null_with_a_note_and_never_nan():
    table = pd.DataFrame(
        {"essay_id": list("abcd"), "prompt_id": list("1122"), "reference": [2, 2, 1, 3], "raw": [2.1, 2.3, 2.2, 2.2]}
    )
    report = build_report(table, resamples=50)
    assert report["prompts"]["1"]["qwk"] == 1.0
    assert report["prompts"]["1"]["pearson"] is report["prompts"]["2"]["pearson"] is None
    assert report["prompts"]["1"]["pearson_interval"] is report["mean"]["pearson"] is None
    assert "Prompt 1: all human scores are equal: correlations are undefined and kappa says nothing." in report["notes"]
    assert "Prompt 2: all predictions are equal: correlations are undefined." in report["notes"]
    assert "NaN" not in report_json(report)


def test_resamples_without_a_correlation_are_counted():
    table = pd.DataFrame({"essay_id": list("abc"), "prompt_id": "1", "reference": [1, 2, 3], "raw": [1.1, 2.5, 2.2]})
    notes = build_report(table, resamples=300)["notes"]
    assert any(note.startswith("Prompt 1: r is undefined on ") and "of 300 resamples" in note for note in notes)


def test_floors_are_passed_on():
    floors = {"length": {"prompts": {"2": 0.5}, "mean": 0.5}}
    assert build_report(TEST, ranges=RANGES, floors=floors, resamples=0)["floors"] == floors


def test_read_predictions_bring_their_ranges_and_notes():
    checked = check_predictions(TEST, ranges=RANGES, source="t.csv")
    report = build_report(checked, dev=check_predictions(DEV, ranges=RANGES, source="d.csv"), resamples=200)
    assert report["prompts"] == REPORT["prompts"]
    assert report["notes"][0].startswith("No score column in t.csv")
    assert report["notes"][1].startswith("dev: No score column in d.csv")
    with pytest.raises(ConfigError, match="give ranges= to read_predictions instead"):
        build_report(checked, ranges=RANGES)


def test_settings_are_told():
    assert REPORT["settings"] == {
        "interval": "percentile bootstrap over essays within prompts (more than 10,000: its normal limit)",
        "resamples": 200,
        "confidence": 0.95,
        "seed": 0,
        "qwk_of_identical_constants": 1.0,
    }


@pytest.mark.parametrize("setting", [{"resamples": -1}, {"confidence": 1.0}, {"confidence": 95}, {"seed": -1}])
def test_settings_that_cannot_be(setting):
    with pytest.raises(ConfigError, match="resamples >= 0, 0 < confidence < 1 and seed >= 0"):
        build_report(TEST, ranges=RANGES, **setting)


def test_essays_of_dev_must_be_others():
    with pytest.raises(DataError, match=r"180 essays are in dev and in the predictions, such as 't0' of prompt '2'"):
        build_report(TEST, dev=TEST, ranges=RANGES)


@pytest.mark.parametrize("part", ["predictions", "dev"])
def test_without_human_scores(part):
    parts = {"predictions": TEST, "dev": DEV}
    parts[part] = parts[part].drop(columns="reference")
    with pytest.raises(DataError, match=facts("human scores", "predictions", "--references")):
        build_report(**parts, ranges=RANGES)


def test_a_fault_in_dev_is_named_as_devs():
    with pytest.raises(DataError, match=facts("Row 1", "dev predictions", "'d0'", "reference 99")):
        build_report(TEST, dev=DEV.assign(reference=99), ranges=RANGES)


def test_a_report_is_written_as_strict_json(tmp_path):
    write_report(REPORT, tmp_path / "new" / "report.json")
    text = (tmp_path / "new" / "report.json").read_text(encoding="utf-8")
    assert json.loads(text) == REPORT
    assert text == report_json(REPORT)
    with pytest.raises(ValueError, match="JSON compliant"):
        write_report({"qwk": math.nan}, tmp_path / "new" / "report.json")
    assert (tmp_path / "new" / "report.json").read_text(encoding="utf-8") == text


def test_a_report_is_read_back_or_refused(tmp_path):
    path = tmp_path / "report.json"
    write_report(REPORT, path)
    assert read_report(path) == REPORT
    for text, words in (("{", "cannot be read as a report"), ("[]", "is no report: expected floors, mean, notes")):
        path.write_text(text, encoding="utf-8")
        with pytest.raises(DataError, match=words):
            read_report(path)
