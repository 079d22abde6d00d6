from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from benchmark_figures import MEASURES, build, by_seed, of_prompt, sklearn_kappa
from scored_runs import RANGES, grid, scored_run

from aes_dynloss.errors import ConfigError
from aes_dynloss.measures.bootstrap import IntervalSettings
from aes_dynloss.reports import published_systems
from aes_dynloss.reports.arms import dev_halves
from aes_dynloss.reports.benchmark import DEV_NOTE, RunCost
from aes_dynloss.reports.predictions import check_predictions
from aes_dynloss.reports.published_systems import ASAP_SYSTEMS

H100, CPU = "NVIDIA H100 80GB HBM3", "CPU, 2 threads"
ARMS = {"mse": grid("mse"), "stde": grid("stde", noise=0.1)}
REPORT = build(ARMS)


def test_costs():
    costs = {
        "mse": [RunCost(100, H100, 1), RunCost(120, H100, 1), RunCost(80, H100, 1), RunCost(60, H100, 2)],
        "stde": [RunCost(10, CPU, 1)] * 4,
    }
    report = build(ARMS, costs=costs)
    expected = {"runs": 4, "seconds_per_run": 105, "total_seconds": 420, "unit": "GPU-seconds", "devices": [H100]}
    assert report["arms"]["mse"]["cost"] == expected
    assert report["arms"]["mse, mean of 2 seeds"]["cost"] == expected
    assert report["arms"]["stde"]["cost"]["unit"] == "CPU-seconds"
    (note,) = report["notes"]
    assert note.startswith("Arms ran on different devices")
    assert REPORT["arms"]["mse"]["cost"] is None
    with pytest.raises(ConfigError, match="costs of arm 'sgd', which is none of the arms: mse, stde"):
        build(ARMS, costs={"sgd": []})


def test_floors_are_means_over_strata_and_prompts():
    floors = {
        "fold_0": {"length": {"2": 0.5, "10": 0.7}, "mean_score": {"2": 0.0, "10": 0.0}, "ridge": {"2": 0.6}},
        "fold_1": {"length": {"2": 0.6, "10": 0.9}, "mean_score": {"2": 0.0}},
    }
    report = build(ARMS, floors=floors)
    assert list(report["floors"]) == ["length"]
    assert report["floors"]["length"]["prompts"] == pytest.approx({"2": 0.55, "10": 0.8})
    assert report["floors"]["length"]["mean"] == pytest.approx(0.675)
    assert report["notes"] == [
        "The floor mean_score is left out: it has no figure for prompt 10 of stratum 'fold_1' (1 such in all).",
        "The floor ridge is left out: it has no figure for prompt 10 of stratum 'fold_0' (3 such in all).",
    ]


def test_floors_of_strata_that_have_one_prompt_each():
    runs = {
        arm: [scored_run(arm, f"target_{prompt}", "1", prompts={prompt: span}) for prompt, span in RANGES.items()]
        for arm in ("mse", "stde")
    }
    floors = {"target_2": {"length": {"2": 0.5}}, "target_10": {"length": {"10": 0.7}}}
    report = build(runs, floors=floors)
    assert report["floors"]["length"] == {"prompts": {"2": 0.5, "10": 0.7}, "mean": pytest.approx(0.6)}
    assert report["essays"] == {"2": 40, "10": 40}


def raters(table, seed=3):
    """Two raters' scores, on some essays alone."""
    random = np.random.default_rng(seed)
    second = [
        np.clip(score + random.integers(-1, 2), RANGES[prompt].low, RANGES[prompt].high)
        for prompt, score in zip(table["prompt_id"], table["reference"], strict=True)
    ]
    twice = np.arange(len(table)) % 3 > 0
    return {"rater1": np.where(twice, table["reference"], np.nan), "rater2": np.where(twice, second, np.nan)}


def with_columns(run, **columns):
    return replace(run, test=check_predictions(run.test.table.assign(**columns), ranges=RANGES))


def test_human_agreement_is_pooled_over_strata_with_each_essay_once():
    runs = [with_columns(run, **raters(run.test.table)) for run in ARMS["mse"]]
    report = build({**ARMS, "mse": runs})
    values = []
    for prompt in RANGES:
        essays = pd.concat([of_prompt(run.test, prompt) for run in runs if run.seed == "1"]).dropna()
        values.append(sklearn_kappa(prompt, essays["rater1"], essays["rater2"]))
        assert report["human_human"]["prompts"][prompt] == {"n": len(essays), "qwk": pytest.approx(values[-1])}
        assert 50 < len(essays) < 60
    assert report["human_human"]["mean"] == pytest.approx(np.mean(values))


def test_a_second_reference_is_a_second_rater():
    runs = [with_columns(run, second_reference=run.test.table["reference"]) for run in ARMS["mse"]]
    assert build({**ARMS, "mse": runs})["human_human"]["mean"] == 1.0


def test_human_agreement_that_a_prompt_lacks_has_no_mean():
    def some(table):
        known = raters(table)
        return {rater: np.where(table["prompt_id"] == "2", scores, np.nan) for rater, scores in known.items()}

    runs = [with_columns(run, **some(run.test.table)) for run in ARMS["mse"]]
    human = build({**ARMS, "mse": runs})["human_human"]
    assert human["prompts"]["10"] == {"n": 0, "qwk": None}
    assert human["prompts"]["2"]["qwk"] is not None
    assert human["mean"] is None


def test_published_rows_say_whether_they_are_of_these_essays(monkeypatch):
    report = build(ARMS, published=ASAP_SYSTEMS)
    assert {row["protocol"] for row in report["published"]} == {"own protocol"}
    assert [row["system"] for row in report["published"]] == [one.system for one in ASAP_SYSTEMS]
    essays = {
        run.stratum: set(zip(run.test.table["prompt_id"], run.test.table["essay_id"], strict=True))
        for run in ARMS["mse"]
    }
    digests = frozenset(map(published_systems.essay_digest, essays.values()))
    monkeypatch.setattr(published_systems, "_FOLD_DIGESTS", digests)
    found = [row["protocol"] for row in build(ARMS, published=ASAP_SYSTEMS)["published"]]
    assert found.count("common folds, as published") == 6
    one_fold = {arm: [run for run in runs if run.stratum == "fold_0"] for arm, runs in ARMS.items()}
    found = [row["protocol"] for row in build(one_fold, published=ASAP_SYSTEMS)["published"]]
    assert set(found) == {"own protocol"}


def test_dev_is_measured_on_its_halves_and_test_is_not_looked_at():
    arms = {arm: [half for run in runs for half in dev_halves(run)] for arm, runs in ARMS.items()}
    report = build(arms, measured_on="dev", published=ASAP_SYSTEMS)
    assert report["measured_on"] == "dev"
    assert report["strata"] == ["fold_0/a", "fold_0/b", "fold_1/a", "fold_1/b"]
    assert report["notes"] == [DEV_NOTE]
    assert {row["protocol"] for row in report["published"]} == {"own protocol"}
    spoilt = [replace(run, test=replace(run.test, table=run.test.table.assign(score=1.0))) for run in ARMS["mse"]]
    again = build({**arms, "mse": [half for run in spoilt for half in dev_halves(run)]}, measured_on="dev")
    assert again["arms"] == report["arms"]
    run = arms["mse"][0]
    seed_1 = [by for by in arms["mse"] if by.seed == run.seed]
    expected = by_seed(seed_1, "2", MEASURES["qwk_rescaled"]("2"))["1"]
    found = report["arms"]["mse"]["prompts"]["2"]["over_seeds"]["qwk_rescaled"]["by_seed"]["1"]
    assert found == pytest.approx(expected, abs=1e-12)


def test_figures_of_test_do_not_pass_for_those_of_dev():
    with pytest.raises(ConfigError, match="strata that end in /a and /b; found 'fold_0', 'fold_1'"):
        build(ARMS, measured_on="dev")
    with pytest.raises(ConfigError, match="measured on test or on dev, found 'train'"):
        build(ARMS, measured_on="train")


def test_settings_and_arms_that_cannot_be():
    with pytest.raises(ConfigError, match="at least 1 resample, found 0"):
        build(ARMS, settings=IntervalSettings(0, 0.95, 0))
    with pytest.raises(ConfigError, match="control 'sgd' is none of the arms"):
        build(ARMS, "sgd")
