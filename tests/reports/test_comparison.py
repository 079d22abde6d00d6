from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from scored_runs import RANGES, grid, scored_run
from sklearn.metrics import cohen_kappa_score

from aes_dynloss.errors import ConfigError
from aes_dynloss.measures.agreement import fisher_mean
from aes_dynloss.reports.arms import split_by_prompt
from aes_dynloss.reports.comparison import COVERS, VERSIONS, ScoredRun, compare_arms
from aes_dynloss.reports.predictions import check_predictions
from aes_dynloss.reports.prompts import build_report, report_json
from aes_dynloss.tables.score_range import ScoreRange

ARMS = {"mse": grid("mse"), "stde": grid("stde", noise=0.1), "wild": grid("wild", noise=0.4)}
RESULT = compare_arms(ARMS, "mse", resamples=400)
KINDS = ("qwk", "qwk_rescaled", "qwk_minus_rescaled")


def reported(arm, version, prompt, runs=ARMS):
    """The mean over strata of the mean over seeds of the reports' kappas."""
    kappas = {}
    for run in runs[arm]:
        report = build_report(run.test, dev=run.dev, resamples=0)
        kappas.setdefault(run.stratum, []).append(report["prompts"][prompt][version])
    return np.mean([np.mean(values) for values in kappas.values()])


@pytest.mark.parametrize("version", VERSIONS)
def test_an_arms_kappas_are_means_of_its_runs_reports(version):
    for arm, entry in RESULT["arms"].items():
        prompts = {prompt: reported(arm, version, prompt) for prompt in RANGES}
        for prompt, expected in prompts.items():
            assert entry["prompts"][prompt][version] == pytest.approx(expected, abs=1e-12)
            low, high = entry["prompts"][prompt][f"{version}_interval"]
            assert low < expected < high
        assert entry["mean"][version] == pytest.approx(np.mean(list(prompts.values())), abs=1e-12)


def test_fishers_mean_is_that_of_the_kappas_by_prompt():
    for entry in RESULT["arms"].values():
        kappas = [figures["qwk"] for figures in entry["prompts"].values()]
        low, high = entry["fisher"]["qwk_interval"]
        assert entry["fisher"]["qwk"] == pytest.approx(fisher_mean(kappas))
        assert low < entry["fisher"]["qwk"] < high
    prompt = next(iter(RANGES))
    alone = {
        arm: [one for run in runs for one in split_by_prompt(run) if prompt in one.test.ranges]
        for arm, runs in ARMS.items()
    }
    assert all("fisher" not in entry for entry in compare_arms(alone, "mse", resamples=10)["arms"].values())


def test_differences_are_those_of_the_kappas():
    own = {arm: entry["mean"] for arm, entry in RESULT["arms"].items()}
    for arm in ("stde", "wild"):
        found = {kind: RESULT["differences"][kind]["arms"][arm]["mean"] for kind in KINDS}
        gaps = {
            "qwk": own[arm]["qwk"] - own["mse"]["qwk"],
            "qwk_rescaled": own[arm]["qwk_rescaled"] - own["mse"]["qwk_rescaled"],
            "qwk_minus_rescaled": own[arm]["qwk"] - own["mse"]["qwk_rescaled"],
        }
        for kind, gap in gaps.items():
            assert found[kind]["difference"] == pytest.approx(gap)
            assert found[kind]["interval"][0] < gap < found[kind]["interval"][1]
            assert np.mean(list(found[kind]["by_seed"].values())) == pytest.approx(gap)
    alone = RESULT["differences"]["qwk_minus_rescaled"]["arms"]["mse"]["mean"]
    assert alone["difference"] == pytest.approx(own["mse"]["qwk"] - own["mse"]["qwk_rescaled"])
    assert "mse" not in RESULT["differences"]["qwk"]["arms"]


def test_clear_differences_are_found():
    kind = RESULT["differences"]["qwk"]
    better, worse = kind["arms"]["stde"]["mean"], kind["arms"]["wild"]["mean"]
    assert better["interval"][0] > 0
    assert worse["interval"][1] < 0
    assert worse["p"] == pytest.approx(2 / 401)
    assert kind["comparisons"] == {"mean": 2, "prompts": 4}
    assert RESULT["differences"]["qwk_minus_rescaled"]["comparisons"] == {"mean": 3, "prompts": 6}


def test_the_rest_of_the_result():
    assert json.loads(report_json(RESULT)) == RESULT
    assert list(RESULT["essays"].items()) == [("2", 80), ("10", 80)]
    assert RESULT["strata"] == ["fold_0", "fold_1"]
    assert RESULT["notes"] == []
    assert RESULT["control"] == "mse"
    assert (RESULT["arms"]["wild"]["runs"], RESULT["arms"]["wild"]["seeds"]) == (4, ["1", "2"])
    assert RESULT["settings"]["covers"] == COVERS


def test_the_order_of_rows_and_runs_does_not_matter():
    def shuffled(table, seed):
        return replace(table, table=table.table.sample(frac=1, random_state=seed))

    runs = [
        replace(run, test=shuffled(run.test, number), dev=shuffled(run.dev, number))
        for number, run in enumerate(reversed(ARMS["wild"]))
    ]
    again = compare_arms({**ARMS, "wild": runs}, "mse", resamples=400)
    flat, before = (pd.json_normalize(result.to_dict()["differences"]).iloc[0] for result in (again, RESULT))
    for name, value in flat.items():
        assert value == (before[name] if isinstance(value, str) else pytest.approx(before[name], abs=1e-12)), name


def test_other_arms_change_nothing_but_the_correction():
    alone = compare_arms({arm: ARMS[arm] for arm in ("mse", "wild")}, "mse", resamples=400)
    for kind in KINDS:
        found, before = (one["differences"][kind]["arms"]["wild"]["mean"] for one in (alone, RESULT))
        assert {**found, "p_holm": None} == {**before, "p_holm": None}
    assert alone["arms"]["wild"] == RESULT["arms"]["wild"]
    other = compare_arms(ARMS, "mse", resamples=400, seed=1)
    assert other["arms"]["wild"]["mean"]["qwk_interval"] != RESULT["arms"]["wild"]["mean"]["qwk_interval"]
    assert other["arms"]["wild"]["mean"]["qwk"] == RESULT["arms"]["wild"]["mean"]["qwk"]


def one_prompt(human, machine):
    table = pd.DataFrame({"essay_id": [f"e{i:04}" for i in range(len(human))], "prompt_id": "1", "reference": human})
    return [ScoredRun("", "", check_predictions(table.assign(score=machine), ranges={"1": ScoreRange(0, 4)}), None)]


def test_a_difference_by_hand():
    """Human 0 0 1 1; the control has kappa 0, the other arm 1, on every resample that holds both points."""
    arms = {"control": one_prompt([0, 0, 1, 1], [1, 1, 1, 1]), "arm": one_prompt([0, 0, 1, 1], [0, 0, 1, 1])}
    result = compare_arms(arms, "control", resamples=2000)
    entry = result["differences"]["qwk"]["arms"]["arm"]["mean"]
    assert entry["difference"] == 1.0
    assert cohen_kappa_score([0, 0, 1, 1], [1, 1, 1, 1], labels=range(5), weights="quadratic") == 0
    # Essays of score 1 alone (chance 1/16) make both columns of both arms equal constants: kappa 1 - 1 = 0.
    zeros = (entry["p"] * 2001 / 2 - 1) / 2000
    assert zeros == pytest.approx(1 / 16, abs=0.02)
    assert entry["interval"] == [0.0, 1.0]


def test_interval_and_p_hold_their_level_where_there_is_no_difference():
    """Two machines with the same chances of error on every essay: about 5 % of 300 samples may look different."""
    random = np.random.default_rng(8)
    inside = rejected = 0
    for _ in range(300):
        human = random.integers(0, 5, 150)
        arms = {
            name: one_prompt(human, np.clip(human + random.choice([-1, 0, 0, 1], 150), 0, 4)) for name in ("a", "b")
        }
        entry = compare_arms(arms, "a", resamples=300)["differences"]["qwk"]["arms"]["b"]["mean"]
        inside += entry["interval"][0] <= 0 <= entry["interval"][1]
        rejected += entry["p"] < 0.05
    assert 273 <= inside <= 296
    assert 4 <= rejected <= 27


def test_pairing_is_what_makes_small_differences_clear():
    """Two arms that differ on one essay in ten: unpaired intervals would be about as wide as those of each arm."""
    random = np.random.default_rng(0)
    human = random.integers(0, 5, 400)
    first = np.clip(human + random.choice([-1, 0, 0, 1], 400), 0, 4)
    second = np.where(np.arange(400) % 10 == 0, human, first)
    result = compare_arms({"a": one_prompt(human, first), "b": one_prompt(human, second)}, "a", resamples=500)
    low, high = result["differences"]["qwk"]["arms"]["b"]["mean"]["interval"]
    own_low, own_high = result["arms"]["a"]["mean"]["qwk_interval"]
    assert 0 < low < high
    assert high - low < 0.6 * (own_high - own_low)


def test_an_arm_against_its_twin():
    result = compare_arms({"a": ARMS["mse"], "b": ARMS["mse"]}, "a", resamples=50)
    entry = result["differences"]["qwk"]["arms"]["b"]["mean"]
    assert (entry["difference"], entry["interval"], entry["p"], entry["p_holm"]) == (0.0, [0.0, 0.0], 1.0, 1.0)


def test_seeds_may_differ_and_that_is_said():
    arms = {"mse": ARMS["mse"], "stde": grid("stde", seeds=("1", "2", "3"))}
    result = compare_arms(arms, "mse", resamples=200)
    assert result["arms"]["stde"]["seeds"] == ["1", "2", "3"]
    assert result["differences"]["qwk"]["arms"]["stde"]["mean"]["by_seed"] is None
    assert result["differences"]["qwk_minus_rescaled"]["arms"]["mse"]["mean"]["by_seed"].keys() == {"1", "2"}
    (note,) = result["notes"]
    assert note.startswith("Arms differ in their seeds (mse: '1', '2'; stde: '1', '2', '3')")
    assert result["arms"]["stde"]["mean"]["qwk"] == pytest.approx(
        np.mean([reported("stde", "qwk", prompt, arms) for prompt in RANGES])
    )


def test_a_seed_that_one_stratum_lacks_is_said():
    result = compare_arms({"mse": ARMS["mse"], "stde": ARMS["stde"][:-1]}, "mse", resamples=200)
    assert result["notes"] == [
        "stde: not every stratum and prompt has every seed; each has the mean over the seeds it has."
    ]
    assert result["differences"]["qwk"]["arms"]["stde"]["mean"]["by_seed"] is None


def test_without_dev_the_calibrated_kappas_are_null_and_that_is_said():
    arms = {"mse": [scored_run("mse")], "stde": [scored_run("stde", dev=False)]}
    result = compare_arms(arms, "mse", resamples=100)
    assert result["arms"]["stde"]["mean"]["qwk_rescaled"] is None
    assert result["arms"]["stde"]["prompts"]["2"]["qwk_cut_points_interval"] is None
    differences = result["differences"]
    assert differences["qwk_rescaled"]["arms"]["stde"]["mean"] is None
    assert differences["qwk_rescaled"]["comparisons"] == {"mean": 0, "prompts": 0}
    assert differences["qwk_minus_rescaled"]["arms"]["stde"]["mean"]["difference"] is not None
    assert any(note.startswith("stde: qwk_rescaled and qwk_cut_points, and what is") for note in result["notes"])
    turned = compare_arms(arms, "stde", resamples=100)["differences"]["qwk_minus_rescaled"]
    assert turned["comparisons"] == {"mean": 0, "prompts": 0}


def test_a_warning_where_resamples_are_too_few_for_the_correction():
    few = compare_arms(ARMS, "mse", resamples=100)["notes"]
    (note,) = few
    assert "With 100 resamples the smallest p is 0.02, and the smallest Holm p among 6 comparisons 0.12" in note
    assert note.endswith("Take 240 resamples or more.")
    assert compare_arms(ARMS, "mse", resamples=240)["notes"] == []


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"resamples": 0}, "at least 1 resample, found 0"),
        ({"resamples": -1}, "resamples >= 0"),
        ({"confidence": 95}, "0 < confidence < 1"),
        ({"seed": -1}, "seed >= 0"),
    ],
)
def test_settings_that_cannot_be(settings, message):
    with pytest.raises(ConfigError, match=message):
        compare_arms(ARMS, "mse", **settings)
