from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from benchmark_figures import MEASURES, build, by_seed, half_up, of_prompt, sklearn_kappa
from scored_runs import RANGES, grid

from aes_dynloss.errors import ConfigError, DataError
from aes_dynloss.measures.bootstrap import IntervalSettings
from aes_dynloss.reports.arms import split_by_prompt
from aes_dynloss.reports.benchmark import ScoredRun
from aes_dynloss.reports.comparison import VERSIONS, compare_arms
from aes_dynloss.reports.predictions import check_predictions
from aes_dynloss.reports.prompts import report_json
from aes_dynloss.tables.score_range import ScoreRange

ARMS = {"mse": grid("mse"), "stde": grid("stde", noise=0.1)}
REPORT = build(ARMS)


@pytest.mark.parametrize("name", MEASURES)
@pytest.mark.parametrize("arm", ARMS)
def test_figures_are_those_of_independent_code(arm, name):
    entry = REPORT["arms"][arm]
    seeds = {prompt: by_seed(ARMS[arm], prompt, MEASURES[name](prompt)) for prompt in RANGES}
    for prompt, values in seeds.items():
        assert entry["prompts"][prompt][name] == pytest.approx(np.mean(list(values.values())), abs=1e-12)
    means = [np.mean([seeds[prompt][seed] for prompt in RANGES]) for seed in ("1", "2")]
    assert entry["mean"][name] == pytest.approx(np.mean(means), abs=1e-12)
    if name in VERSIONS:
        found = entry["mean"]["over_seeds"][name]
        assert found["by_seed"] == pytest.approx(dict(zip("12", means, strict=True)), abs=1e-12)
        # Of two values the sd is their distance over the root of two.
        expected = (2, np.mean(means), abs(means[0] - means[1]) / np.sqrt(2))
        assert (found["n"], found["mean"], found["sd"]) == pytest.approx(expected, abs=1e-12)
        prompt = entry["prompts"]["10"]["over_seeds"][name]
        assert prompt["by_seed"] == pytest.approx(seeds["10"], abs=1e-12)
        low, high = entry["mean"][f"{name}_interval"]
        assert low < entry["mean"][name] < high


@pytest.mark.parametrize("arm", ARMS)
def test_an_ensemble_is_the_mean_of_the_seeds_predictions(arm):
    entry = REPORT["arms"][f"{arm}, mean of 2 seeds"]
    for prompt in RANGES:
        kappas = []
        for stratum in ("fold_0", "fold_1"):
            runs = [of_prompt(run.test, prompt) for run in ARMS[arm] if run.stratum == stratum]
            raw = (runs[0]["raw"].to_numpy() + runs[1]["raw"].to_numpy()) / 2
            kappas.append(sklearn_kappa(prompt, runs[0]["reference"], half_up(prompt, raw)))
        assert entry["prompts"][prompt]["qwk"] == pytest.approx(np.mean(kappas), abs=1e-12)
    assert entry["mean"]["qwk_interval"][0] < entry["mean"]["qwk"] < entry["mean"]["qwk_interval"][1]
    assert entry["mean"]["qwk_rescaled"] > REPORT["arms"][arm]["mean"]["qwk_rescaled"]
    assert entry["mean"]["over_seeds"]["qwk"]["sd"] is None
    assert (entry["ensemble_of"], entry["members"], entry["seeds"]) == ([arm], 2, ["1", "2"])
    own = REPORT["arms"][arm]
    assert (own["ensemble_of"], own["members"], own["seeds"]) == (None, 1, ["1", "2"])


def test_ensembles_are_in_the_same_comparison_and_change_nothing_else():
    alone = build(ARMS, ensembles=False)
    assert list(alone["arms"]) == ["mse", "stde"]
    assert list(REPORT["arms"]) == ["mse", "stde", "mse, mean of 2 seeds", "stde, mean of 2 seeds"]
    assert alone["arms"] == {arm: REPORT["arms"][arm] for arm in ARMS}
    for kind, answers in REPORT["differences"].items():
        found, before = (one["arms"]["stde"]["mean"] for one in (answers, alone["differences"][kind]))
        assert {**found, "p_holm": None} == {**before, "p_holm": None}
    kind = REPORT["differences"]["qwk"]
    assert kind["comparisons"] == {"mean": 3, "prompts": 6}
    assert list(kind["arms"]) == ["stde", "mse, mean of 2 seeds", "stde, mean of 2 seeds"]
    entry = kind["arms"]["mse, mean of 2 seeds"]["mean"]
    own = {arm: found["mean"]["qwk"] for arm, found in REPORT["arms"].items()}
    assert entry["difference"] == pytest.approx(own["mse, mean of 2 seeds"] - own["mse"])
    assert entry["interval"][0] < entry["difference"] < entry["interval"][1]
    assert REPORT["notes"] == []  # above all none on ensembles that have not the seeds of the others


def test_differences_are_those_of_the_comparison():
    compared = compare_arms(ARMS, "mse", resamples=480)
    alone = build(ARMS, ensembles=False)
    assert alone["differences"] == compared["differences"]
    assert alone["settings"] == compared["settings"]
    turned = build(ARMS, "stde", settings=IntervalSettings(100, 0.9, 7), ensembles=False)
    expected = compare_arms(ARMS, "stde", resamples=100, confidence=0.9, seed=7)
    assert turned["differences"] == expected["differences"]
    assert turned["control"] == "stde"


def test_the_rest_of_the_report():
    assert json.loads(report_json(REPORT)) == REPORT
    expected = {"measured_on": "test", "protocol": "two folds", "control": "mse", "strata": ["fold_0", "fold_1"]}
    assert {key: REPORT[key] for key in expected} == expected
    assert list(REPORT["essays"].items()) == [("2", 80), ("10", 80)]
    assert REPORT["distinct_essays"] == 160
    assert (REPORT["published"], REPORT["floors"]) == ([], {})
    assert REPORT["human_human"] == {"prompts": {}, "mean": None}
    text = report_json(REPORT)
    assert not [essay for run in ARMS["mse"] for essay in run.test.table["essay_id"] if essay in text]


def test_the_keys_of_benchmark_json_stay():
    arm = REPORT["arms"]["mse"]
    assert " ".join(REPORT) == (
        "measured_on protocol control strata essays distinct_essays arms differences human_human floors published "
        "notes settings"
    )
    assert " ".join(arm) == "ensemble_of members seeds prompts mean cost fisher"
    assert " ".join(arm["mean"]) == (
        "qwk qwk_interval qwk_rescaled qwk_rescaled_interval qwk_cut_points qwk_cut_points_interval pearson sd_ratio "
        "over_seeds"
    )


def test_essays_of_several_strata_are_counted_once_beside_their_sum():
    """Left-out prompts have dev essays in common, for one."""
    arms = {arm: [*runs, *(replace(run, stratum="again") for run in runs[:2])] for arm, runs in ARMS.items()}
    report = build(arms, ensembles=False)
    assert (report["essays"], report["distinct_essays"]) == ({"2": 120, "10": 120}, 160)


def flat(report):
    """Numbers and words by their path."""
    return pd.json_normalize(json.loads(report_json(report))).iloc[0].to_dict()


def assert_same(report, expected, without=()):
    found, before = flat(report), flat(expected)
    assert found.keys() == before.keys()
    for name, value in found.items():
        if name not in without:
            close = pytest.approx(before[name], abs=1e-12) if isinstance(value, float | list) else before[name]
            assert value == close, name


def test_the_order_of_rows_and_runs_does_not_matter():
    def shuffled(table, seed):
        return replace(table, table=table.table.sample(frac=1, random_state=seed))

    arms = {
        arm: [
            replace(run, test=shuffled(run.test, number), dev=shuffled(run.dev, number))
            for number, run in enumerate(reversed(runs))
        ]
        for arm, runs in ARMS.items()
    }
    assert_same(build(arms), REPORT)


def split(run):
    """A run for all prompts as if each prompt had a model of its own."""
    for prompt, span in RANGES.items():
        parts = [of_prompt(part, prompt).reset_index(drop=True) for part in (run.test, run.dev)]
        test, dev = (check_predictions(part, ranges={prompt: span}) for part in parts)
        yield replace(run, test=test, dev=dev)


def test_models_for_each_prompt_are_measured_like_one_for_all():
    each = {arm: [part for run in runs for part in split(run)] for arm, runs in ARMS.items()}
    assert_same(build(each), REPORT)
    assert_same(build({**ARMS, "stde": each["stde"]}), REPORT)


def by_hand(stratum, seed, raw):
    table = pd.DataFrame({"essay_id": list("abcd"), "prompt_id": "1", "reference": [0, 0, 1, 1], "raw": raw})
    return ScoredRun(stratum, seed, check_predictions(table, ranges={"1": ScoreRange(0, 1)}), None)


def test_a_report_by_hand():
    """Human 0 0 1 1; scores 0 0 1 1 have kappa 1, 1 1 1 1 and 0 1 0 1 kappa 0, 1 1 0 0 kappa -1, 0 1 1 1 kappa .5."""
    right, ones, crossed, wrong = [0.0, 0, 1, 1], [1.0, 1, 1, 1], [0.0, 1, 0, 1], [1.0, 1, 0, 0]
    arms = {
        "mse": [
            by_hand("x", "0", crossed),
            by_hand("x", "1", ones),
            by_hand("y", "0", right),
            by_hand("y", "1", wrong),
        ],
        "stde": [by_hand("x", "0", right), by_hand("x", "1", [0, 0.6, 1, 1]), by_hand("y", "0", right)],
    }
    report = build(arms)
    mse, stde = (report["arms"][arm]["mean"] for arm in arms)
    assert mse["qwk"] == pytest.approx(0)
    assert mse["over_seeds"]["qwk"]["by_seed"] == pytest.approx({"0": 0.5, "1": -0.5})
    assert mse["over_seeds"]["qwk"]["sd"] == pytest.approx(np.sqrt(0.5))
    assert stde["qwk"] == pytest.approx((np.mean([1, 0.5]) + 1) / 2)
    assert stde["over_seeds"]["qwk"] is None
    # r of right is 1, that of 0 .6 1 1 is .175 / sqrt(.25 * .1675).
    assert stde["pearson"] == pytest.approx((np.mean([1, 0.175 / np.sqrt(0.25 * 0.1675)]) + 1) / 2)
    assert stde["sd_ratio"] == pytest.approx((np.mean([1, np.sqrt(0.1675 / 0.25)]) + 1) / 2)
    assert mse["pearson"] is None
    assert mse["sd_ratio"] == pytest.approx((np.mean([1, 0]) + 1) / 2)
    # Raw means: fold x .5 1 .5 1, which are 1 1 1 1 rounded; fold y .5 .5 .5 .5, which are 1 1 1 1.
    assert report["arms"]["mse, mean of 2 seeds"]["mean"]["qwk"] == 0
    assert "stde, mean of 2 seeds" not in report["arms"]
    assert report["notes"][0].startswith("stde: no mean over seeds is scored, as not every stratum and prompt has the")
    assert report["notes"][1].startswith("mse: pearson is null on 1 and in the mean: some run's predictions")
    assert not [note for note in report["notes"] if "sd_ratio is null" in note]
    assert report["arms"]["mse"]["mean"]["qwk_rescaled"] is None


def test_one_seed_has_no_sd_and_no_ensemble():
    report = build({arm: grid(arm, seeds=("1",)) for arm in ("mse", "stde")})
    assert list(report["arms"]) == ["mse", "stde"]
    found = report["arms"]["mse"]["mean"]["over_seeds"]["qwk"]
    assert found == {"n": 1, "mean": found["mean"], "sd": None, "by_seed": {"1": found["mean"]}}
    assert found["mean"] == pytest.approx(report["arms"]["mse"]["mean"]["qwk"])
    assert report["notes"] == []


def test_a_single_arm_is_reported_too():
    report = build({"mse": ARMS["mse"]}, ensembles=False)
    assert_same(report["arms"]["mse"], REPORT["arms"]["mse"])
    assert report["differences"]["qwk"]["arms"] == {}
    own = report["differences"]["qwk_minus_rescaled"]
    assert own["comparisons"] == {"mean": 1, "prompts": 2}
    assert own["arms"]["mse"]["mean"]["p_holm"] == own["arms"]["mse"]["mean"]["p"]
    with pytest.raises(ConfigError, match="needs an arm or more, each with a run; found none"):
        build({})
    with pytest.raises(ConfigError, match="an arm or more, each with a run; found mse"):
        build({"mse": []})


def test_without_dev_there_are_no_calibrated_kappas():
    report = build({arm: grid(arm, dev=False) for arm in ("mse", "stde")})
    for entry in report["arms"].values():
        assert entry["mean"]["qwk"] is not None
        for version in ("qwk_rescaled", "qwk_cut_points"):
            assert entry["mean"][version] is None
            assert entry["prompts"]["2"][f"{version}_interval"] is None
            assert entry["mean"]["over_seeds"][version] is None
    assert any("qwk_rescaled and qwk_cut_points, and what is held" in note for note in report["notes"])
    assert json.loads(report_json(report)) == report


def test_seeds_that_scored_other_essays_are_refused():
    runs = grid("stde")
    fewer = check_predictions(runs[1].test.table.drop(index=3), ranges=RANGES)
    with pytest.raises(DataError, match=r"seed '1' \(test essays of stratum 'fold_0'\) and seed '2' .* have not"):
        build({"mse": ARMS["mse"], "stde": [runs[0], replace(runs[1], test=fewer), *runs[2:]]})


def test_an_arm_with_the_name_of_an_ensemble_is_refused():
    arms = {"mse": ARMS["mse"], "mse, mean of 2 seeds": grid("other")}
    with pytest.raises(ConfigError, match="name of an ensemble, 'mse, mean of 2 seeds'"):
        build(arms)
    assert list(build(arms, ensembles=False)["arms"]) == list(arms)


def test_arms_may_differ_in_their_seeds():
    report = build({"mse": ARMS["mse"], "stde": grid("stde", seeds=("1", "2", "3"))})
    assert list(report["arms"])[2:] == ["mse, mean of 2 seeds", "stde, mean of 3 seeds"]
    (note,) = report["notes"]
    assert note.startswith("Arms differ in their seeds (mse: '1', '2'; stde: '1', '2', '3')")


def test_a_mixture_is_the_mean_of_several_arms():
    report = build(ARMS, mixtures={"both": ["mse", "stde"]})
    entry = report["arms"]["both"]
    assert (entry["ensemble_of"], entry["members"]) == (["mse", "stde"], 4)
    for prompt in RANGES:
        kappas = []
        for stratum in ("fold_0", "fold_1"):
            runs = [of_prompt(run.test, prompt) for arm in ARMS for run in ARMS[arm] if run.stratum == stratum]
            raw = np.mean([run["raw"].to_numpy() for run in runs], axis=0)
            kappas.append(sklearn_kappa(prompt, runs[0]["reference"], half_up(prompt, raw)))
        assert entry["prompts"][prompt]["qwk"] == pytest.approx(np.mean(kappas), abs=1e-12)


def test_a_mixture_of_a_model_for_all_prompts_and_one_for_each():
    apart = [part for run in ARMS["stde"] for part in split_by_prompt(run)]
    assert len(apart) == len(RANGES) * len(ARMS["stde"])
    report = build({**ARMS, "stde": apart}, mixtures={"both": ["mse", "stde"]})
    expected = build(ARMS, mixtures={"both": ["mse", "stde"]})
    assert report["arms"]["both"]["mean"] == expected["arms"]["both"]["mean"]


@pytest.mark.parametrize("wanted", [{"both": ["mse", "huber"]}, {"mse": ["mse", "stde"]}])
def test_a_mixture_of_what_is_not_there_is_refused(wanted):
    with pytest.raises(ConfigError, match="mixture"):
        build(ARMS, mixtures=wanted)


def test_published_arms_make_no_ensembles_and_keep_their_names():
    report = build(ARMS, against={"other": [replace(run, dev=None) for run in grid("other", seeds=("7",))]})
    assert list(report["arms"]) == ["mse", "stde", "mse, mean of 2 seeds", "stde, mean of 2 seeds", "other"]
    assert report["arms"]["other"]["members"] is None
    assert report["arms"]["other"]["mean"]["qwk_rescaled"] is None
    assert not [note for note in report["notes"] if "differ in their seeds" in note]
    with pytest.raises(ConfigError, match="A published arm has the name of an arm of the grid, 'stde'"):
        build(ARMS, against={"stde": grid("stde")})


def test_ensembles_with_a_postprocessed_arm_are_rescaled():
    report = build(ARMS, mixtures={"both": ["mse", "stde"]}, postprocessed={"mse"})
    for name, rescaled in (("both", True), ("mse, mean of 2 seeds", True), ("stde, mean of 2 seeds", False)):
        mean = report["arms"][name]["mean"]
        assert (mean["qwk"] == mean["qwk_rescaled"]) == rescaled, name
