from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from facts import facts
from scored_runs import RANGES, grid, scored_run

from aes_dynloss.errors import DataError
from aes_dynloss.measures.calibration import fit_rescaling
from aes_dynloss.reports.arms import are_dev_halves, build_cells, dev_halves
from aes_dynloss.reports.comparison import compare_arms
from aes_dynloss.reports.predictions import check_predictions


def keys(table):
    return set(zip(table.table["prompt_id"], table.table["essay_id"], strict=True))


def dev_of(counts):
    """A run with so many dev essays of each prompt."""
    run = scored_run("mse", "fold_0", "1")
    parts = [run.dev.table[run.dev.table["prompt_id"] == prompt].head(count) for prompt, count in counts.items()]
    return replace(run, dev=check_predictions(pd.concat(parts, ignore_index=True), ranges=RANGES))


def test_each_half_is_test_once_and_dev_once():
    run = scored_run("mse", "fold_0", "1")
    first, second = dev_halves(run)
    assert [(half.stratum, half.seed) for half in (first, second)] == [("fold_0/a", "1"), ("fold_0/b", "1")]
    assert keys(first.test) == keys(second.dev)
    assert keys(first.dev) == keys(second.test)
    assert keys(first.test).isdisjoint(keys(first.dev))
    assert keys(first.test) | keys(first.dev) == keys(run.dev)
    assert keys(run.test).isdisjoint(keys(first.test) | keys(first.dev))
    rows = run.dev.table.set_index(["prompt_id", "essay_id"]).sort_index()
    together = pd.concat([first.test.table, second.test.table]).set_index(["prompt_id", "essay_id"]).sort_index()
    pd.testing.assert_frame_equal(together, rows)


@pytest.mark.parametrize("count", [2, 3, 7, 40])
def test_halves_are_balanced_within_each_prompt(count):
    first, second = dev_halves(dev_of({"2": count, "10": 40}))
    for prompt, essays in (("2", count), ("10", 40)):
        sizes = [int((half.test.table["prompt_id"] == prompt).sum()) for half in (first, second)]
        assert sizes == [-(-essays // 2), essays // 2]


def test_halves_are_the_same_for_all_arms_seeds_and_orders_of_rows():
    run = scored_run("mse", "fold_0", "1")
    expected = [keys(half.test) for half in dev_halves(run)]
    for other in (scored_run("stde", "fold_0", "1"), scored_run("mse", "fold_0", "2")):
        assert [keys(half.test) for half in dev_halves(other)] == expected
    shuffled = replace(run.dev, table=run.dev.table.sample(frac=1, random_state=0))
    assert [keys(half.test) for half in dev_halves(replace(run, dev=shuffled))] == expected
    each = [replace(run, dev=dev_of({prompt: 40}).dev) for prompt in RANGES]
    apart = [set().union(*(keys(dev_halves(one)[half].test) for one in each)) for half in (0, 1)]
    assert apart == expected


def test_halves_do_not_follow_the_order_of_ids():
    """Of the essays that come first in the file, about as many are in one half as in the other, yet not by turns."""
    first, _ = dev_halves(scored_run("mse", "fold_0", "1"))
    numbers = sorted(int(essay.rsplit("-", 1)[1]) for prompt, essay in keys(first.test) if prompt == "10")
    assert numbers != list(range(0, 40, 2))
    assert 4 <= sum(number < 20 for number in numbers) <= 16


def test_halves_stay_what_they_are():
    """By sha256sum of the shell, prompt 2's essays are in the order 5 2 1 3 0 4, and prompt 10's in that of 0 1."""
    first, _ = dev_halves(dev_of({"2": 6, "10": 2}))
    found = sorted(essay for _, essay in keys(first.test))
    assert found == ["d-fold_0-10-0", "d-fold_0-2-0", "d-fold_0-2-1", "d-fold_0-2-5"]


def test_calibrations_are_fitted_on_the_other_half():
    runs = {arm: [half for run in grid(arm, seeds=("1",)) for half in dev_halves(run)] for arm in ("mse", "stde")}
    cells, notes = build_cells(runs, "mse")
    assert notes == []
    assert [cell.stratum for cell in cells["2"]] == ["fold_0/a", "fold_0/b", "fold_1/a", "fold_1/b"]
    half = runs["stde"][1]
    own, other = (part.table[part.table["prompt_id"] == "2"].sort_values("essay_id") for part in (half.test, half.dev))
    line = fit_rescaling(other["raw"], other["reference"])
    expected = RANGES["2"].to_index(line.apply(own["raw"]))
    np.testing.assert_array_equal(cells["2"][1].machines["stde", "qwk_rescaled"]["1"], expected)
    result = compare_arms(runs, "mse", resamples=100)
    assert result["essays"] == {"2": 80, "10": 80}


def test_notes_are_told_once():
    run = scored_run("mse")
    noted = replace(run, dev=replace(run.dev, notes=("A note.",)))
    assert [(half.test.notes, half.dev.notes) for half in dev_halves(noted)] == [(("A note.",), ())] * 2


def test_runs_that_cannot_be_halved():
    with pytest.raises(DataError, match=facts("dev predictions", "'fold_0'", "'1'")):
        dev_halves(scored_run("mse", "fold_0", "1", dev=False))
    with pytest.raises(DataError, match="Prompt '10' has a single dev essay in the run of stratum 'fold_0'"):
        dev_halves(dev_of({"2": 5, "10": 1}))


def test_names_of_halves():
    assert are_dev_halves(half.stratum for run in grid("mse") for half in dev_halves(run))
    assert are_dev_halves(half.stratum for half in dev_halves(scored_run("mse")))
    assert not are_dev_halves([])
    assert not are_dev_halves(["fold_0", "fold_1"])
    assert not are_dev_halves(["fold_0/a", "fold_0/b", "fold_1/a"])
    assert not are_dev_halves(["fold_0/a", "fold_0/b", "fold_1"])
