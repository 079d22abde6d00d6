"""The best arm by dev in each stratum and seed, as one scorer."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from benchmark_figures import build, of_prompt, sklearn_kappa
from scored_runs import RANGES, grid

from aes_dynloss.errors import ConfigError, DataError
from aes_dynloss.reports.arms import split_by_prompt
from aes_dynloss.reports.chosen import chosen_runs
from aes_dynloss.reports.comparison import Benchmark
from aes_dynloss.reports.comparison_tables import benchmark_markdown

# Alike, so that now one and now another is the best.
ARMS = {arm: grid(arm, seeds=("1", "2", "3")) for arm in ("mse", "mae", "huber")}


def dev_kappa(run):
    """An independent mean over prompts of the dev scores' kappa."""
    tables = {prompt: of_prompt(run.dev, prompt) for prompt in RANGES}
    return np.mean([sklearn_kappa(prompt, table["reference"], table["score"]) for prompt, table in tables.items()])


def best_by_hand(arms):
    return [max(together, key=dev_kappa) for together in zip(*arms.values(), strict=True)]


def test_it_is_the_best_arm_of_each_stratum_and_seed():
    runs, counts = chosen_runs(ARMS)
    assert all(run is expected for run, expected in zip(runs, best_by_hand(ARMS), strict=True))
    assert counts == {arm: sum(any(run is own for own in ARMS[arm]) for run in runs) for arm in ARMS}
    assert sum(counts.values()) == 6
    assert sum(count > 0 for count in counts.values()) > 1


def test_it_does_not_look_at_test():
    best = {id(run) for run in best_by_hand(ARMS)}

    def spoiled(run):
        """On test, the arm that is the best on dev gives all essays one score."""
        table = run.test.table.assign(score=1.0) if id(run) in best else run.test.table
        return replace(run, test=replace(run.test, table=table))

    assert chosen_runs({arm: [spoiled(run) for run in ARMS[arm]] for arm in ARMS})[1] == chosen_runs(ARMS)[1]


def test_the_first_of_equal_arms_is_taken():
    same = dict.fromkeys(("b", "a", "c"), ARMS["mse"])
    assert chosen_runs(same)[1] == {"b": 6, "a": 0, "c": 0}


def test_a_run_for_each_prompt_is_as_one_for_all():
    each = ARMS | {"mae": [part for run in ARMS["mae"] for part in split_by_prompt(run)]}
    runs, counts = chosen_runs(each)
    assert counts == chosen_runs(ARMS)[1]
    assert len(runs) == 6 + counts["mae"]


def test_a_prompt_whose_dev_scores_are_all_equal_counts_in_no_arm():
    def flat(run, arm):
        """On prompt 10, all human scores are 3, and so are those of one arm, whose kappa is not defined."""
        table, rows = run.dev.table, run.dev.table["prompt_id"] == "10"
        table = table.assign(reference=table["reference"].mask(rows, 3.0))
        table = table.assign(score=table["score"].mask(rows & (arm == "mse"), 3.0))
        return replace(run, dev=replace(run.dev, table=table))

    runs, _ = chosen_runs({arm: [flat(run, arm) for run in own] for arm, own in ARMS.items()})
    expected = [
        max(together, key=lambda run: sklearn_kappa("2", *of_prompt(run.dev, "2")[["reference", "score"]].T.to_numpy()))
        for together in zip(*ARMS.values(), strict=True)
    ]
    assert [run.test.table["raw"].tolist() for run in runs] == [run.test.table["raw"].tolist() for run in expected]


def test_its_figures_are_those_of_its_runs():
    report = build(ARMS, chosen={"best": list(ARMS)})
    entry, alone = report.arms["best"], build({"mse": best_by_hand(ARMS)}).arms["mse"]
    assert entry.mean == alone.mean
    assert (entry.ensemble_of, entry.members, entry.seeds, entry.cost) == (None, 1, ["1", "2", "3"], None)
    assert entry.chosen == chosen_runs(ARMS)[1]
    assert report.differences["qwk"].arms["best"].mean.by_seed is not None
    assert Benchmark.from_dict(report.to_dict()) == report
    assert "chosen" not in report.to_dict()["arms"]["mse"]
    counts = ", ".join(f"{arm} {count}" for arm, count in entry.chosen.items())
    assert f"best: the arm with the best QWK on dev, by stratum and seed; times chosen: {counts}." in (
        benchmark_markdown(report)
    )


def test_what_cannot_be_chosen_among_is_refused():
    with pytest.raises(DataError, match=r"Arm 'mae' has no run of stratum 'fold_1' and seed '3', to choose"):
        chosen_runs({"mse": ARMS["mse"], "mae": ARMS["mae"][:-1]})
    with pytest.raises(DataError, match=r"no dev predictions of prompt '2' to choose by \(arm 'mae', stratum 'fold_0'"):
        chosen_runs({"mse": ARMS["mse"], "mae": [replace(run, dev=None) for run in ARMS["mae"]]})
    fewer = [replace(run, dev=replace(run.dev, table=run.dev.table.iloc[1:])) for run in ARMS["mae"]]
    with pytest.raises(DataError, match=r"Arms 'mse' and 'mae' have different dev essays in stratum 'fold_0'"):
        chosen_runs({"mse": ARMS["mse"], "mae": fewer})
    with pytest.raises(ConfigError, match="choice 'mae' of mse, huber must be of arms"):
        build(ARMS, chosen={"mae": ["mse", "huber"]})
