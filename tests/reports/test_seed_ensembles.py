from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from scored_runs import RANGES, grid, put, scored_run

from aes_dynloss.errors import ConfigError, DataError
from aes_dynloss.reports.arms import ScoredRun, seed_ensemble, shared_seeds
from aes_dynloss.reports.predictions import check_predictions
from aes_dynloss.tables.score_range import ScoreRange

HALVES = ScoreRange(0, 3, 0.5)


def table(raw, ids="abcd", ranges=None, **columns):
    essays = pd.DataFrame({"essay_id": list(ids), "prompt_id": "1", "reference": [0.0, 1.0, 2.0, 3.0], "raw": raw})
    return check_predictions(essays.assign(**columns), ranges={"1": ScoreRange(0, 3)} if ranges is None else ranges)


def run(seed, test, dev=None, stratum="fold_0"):
    return ScoredRun(stratum, seed, test, dev)


def refused(runs, message, error=DataError):
    with pytest.raises(error, match=message):
        seed_ensemble(runs)


def changed(one, change, part="test"):
    found = getattr(one, part)
    return replace(one, **{part: check_predictions(change(found.table.copy()), ranges=found.ranges)})


def test_means_by_hand():
    """Raw 1.4 and 1.6 have the mean 1.5, which is 2; below and above the range it is trimmed as always."""
    first = run("0", table([-1.0, 1.4, 0.2, 9.0]), table([0, 1, 2, 3], "wxyz"))
    second = run("1", table([-2.0, 1.6, 0.6, 2.0]), table([1, 1, 1, 2], "wxyz"))
    (mean,) = seed_ensemble([first, second])
    assert (mean.stratum, mean.seed) == ("fold_0", "mean of 2")
    assert list(mean.test.table["raw"]) == [-1.5, 1.5, 0.4, 5.5]
    assert list(mean.test.table["score"]) == [0, 2, 0, 3]
    assert list(mean.dev.table["raw"]) == [0.5, 1, 1.5, 2.5]
    assert list(mean.dev.table["score"]) == [1, 1, 2, 3]
    assert mean.test.ranges == first.test.ranges
    assert mean.test.inferred == frozenset()


def test_the_score_is_a_point_of_the_prompts_own_range():
    (mean,) = seed_ensemble([run(seed, table([raw] * 4, ranges={"1": HALVES})) for seed, raw in (("0", 1), ("1", 1.5))])
    assert list(mean.test.table["score"]) == [1.5] * 4


def test_the_score_is_a_half_point_where_a_seed_has_half_points_and_no_range_is_given():
    seeds = {"0": [0.0, 1.0, 2.0, 3.0], "1": [1.0, 1.0, 2.0, 2.5]}
    runs = [
        run(seed, table(score, ranges={}, score=score, second_reference=second))
        for (seed, score), second in zip(seeds.items(), (3.0, 2.5), strict=True)
    ]
    (mean,) = seed_ensemble(runs)
    assert list(mean.test.table["score"]) == [0.5, 1, 2, 3]
    assert (mean.test.ranges, mean.test.inferred) == ({"1": HALVES}, {"1"})


def test_essays_meet_by_prompt_and_id_and_keep_their_raters():
    raters = {"rater1": [0.0, 1, 1, np.nan], "rater2": [1.0, 1, 2, np.nan]}
    first = table([0.0, 1, 2, 3], **raters)
    turned = replace(first, table=first.table.iloc[::-1].assign(raw=[30.0, 20, 10, 0]))
    (mean,) = seed_ensemble([run("0", first), run("1", turned)])
    assert list(mean.test.table["essay_id"]) == list("abcd")
    assert list(mean.test.table["raw"]) == [0, 5.5, 11, 16.5]
    pd.testing.assert_frame_equal(mean.test.table[[*raters]], pd.DataFrame(raters))
    assert list(first.table["raw"]) == [0, 1, 2, 3]


def test_one_run_a_stratum_of_all_prompts():
    runs = grid("mse", seeds=("1", "2", "3"))
    means = seed_ensemble(runs)
    assert [mean.stratum for mean in means] == ["fold_0", "fold_1"]
    for mean in means:
        for part in ("test", "dev"):
            own = [
                getattr(one, part).table.set_index(["prompt_id", "essay_id"])["raw"]
                for one in runs
                if one.stratum == mean.stratum
            ]
            expected = sum(own) / 3
            found = getattr(mean, part).table.set_index(["prompt_id", "essay_id"])["raw"]
            pd.testing.assert_series_equal(found.sort_index(), expected.sort_index())
            for prompt, essays in getattr(mean, part).table.groupby("prompt_id"):
                np.testing.assert_array_equal(essays["score"], RANGES[prompt].to_point(essays["raw"]))


def test_a_model_for_each_prompt_gives_a_run_for_each():
    runs = [
        scored_run("each", stratum, seed, prompts={prompt: span})
        for stratum in ("fold_0", "fold_1")
        for seed in ("1", "2")
        for prompt, span in RANGES.items()
    ]
    assert shared_seeds(runs) == ["1", "2"]
    means = seed_ensemble(runs)
    assert [(mean.stratum, *mean.test.ranges) for mean in means] == [
        (stratum, prompt) for stratum in ("fold_0", "fold_1") for prompt in RANGES
    ]
    own = [one.test.table["raw"].to_numpy() for one in runs[:4:2]]
    found = means[0].test.table.set_index("essay_id").loc[runs[0].test.table["essay_id"], "raw"]
    np.testing.assert_allclose(found, np.mean(own, axis=0))


def test_the_order_of_runs_does_not_matter():
    runs = grid("mse", seeds=("1", "2", "3"))
    for mean, other in zip(seed_ensemble(runs), reversed(seed_ensemble(runs[::-1])), strict=True):
        pd.testing.assert_frame_equal(mean.test.table, other.test.table, check_exact=True)


def test_one_seed_is_itself():
    (mean,) = seed_ensemble([run("7", table([0.5, 1.5, 2.5, 2.4]))])
    assert (mean.seed, list(mean.test.table["score"])) == ("mean of 1", [1, 2, 3, 2])


def test_seeds_that_are_not_the_same_everywhere_are_not_shared():
    runs = grid("mse")
    assert shared_seeds(runs) == ["1", "2"]
    assert shared_seeds(runs[:3]) == []
    assert shared_seeds([]) == []
    refused(runs[:3], r"Seed '2' has no run of stratum 'fold_1' \(prompts 10, 2\), seed '1' has")
    each = scored_run("mse", "fold_1", "2", prompts={"2": RANGES["2"]})
    refused([*runs[:3], each], "Seed '2' has no run of stratum 'fold_1'")


def test_runs_that_cannot_be():
    refused([], "needs runs, found none", ConfigError)
    refused([*grid("mse"), scored_run("mse", "fold_1", "2")], "Seed '2' is there twice in stratum 'fold_1'")


@pytest.mark.parametrize(("part", "mark"), [("test", "t"), ("dev", "d")])
def test_seeds_that_scored_other_essays_are_refused(part, mark):
    runs = grid("mse")
    lacking = changed(runs[3], lambda essays: essays.drop(index=13), part)
    message = (
        rf"seed '1' \({part} essays of stratum 'fold_1'\) and seed '2' \(.*\) have not scored the same essays: essay "
        rf"'{mark}-fold_1-2-13' of prompt '2' is in seed '1' \(.*\) alone \(1 essays differ\)"
    )
    refused([*runs[:3], lacking], message)
    refused([lacking, replace(runs[2], seed="3")], r"seed '2' .* and seed '3' .* have not scored the same")


def test_human_scores_that_differ_are_refused():
    message = (
        r"seed '0' \(test essays of stratum 'fold_0'\) and seed '1' \(.*\) have different human scores for essay 'c' "
        r"of prompt '1': 2 and 1 \(1 essays differ\)"
    )
    runs = [run("0", table([0, 1, 2, 3])), run("1", table([0, 1, 2, 3]))]
    refused([runs[0], changed(runs[1], put("reference", 2, 1.0))], message)


def test_given_ranges_that_differ_are_refused_and_inferred_ones_are_spanned():
    given = [table([0, 1, 2, 3], ranges={"1": ScoreRange(0, high)}) for high in (3, 4)]
    message = r"Prompt '1' has the range 0 to 3 in seed '0' \(test essays of stratum 'fold_0'\) and 0 to 4 in seed '1'"
    refused([run("0", given[0]), run("1", given[1])], message)
    inferred = [table([low, 1, 2, 3], ranges={}, score=[low, 1, 2, 3]) for low in (0, -2)]
    (mean,) = seed_ensemble([run("0", inferred[0]), run("1", inferred[1])])
    assert (mean.test.ranges, mean.test.inferred) == ({"1": ScoreRange(-2, 3)}, {"1"})
    assert list(mean.test.table["score"]) == [-1, 1, 2, 3]
    assert len(mean.test.notes) == 2
    for pair in ((inferred[1], given[0]), (given[0], inferred[1])):
        (mean,) = seed_ensemble([run("0", pair[0]), run("1", pair[1])])
        assert (mean.test.ranges, mean.test.inferred) == ({"1": ScoreRange(0, 3)}, frozenset())
        assert list(mean.test.table["score"]) == [0, 1, 2, 3]


def test_a_seed_without_dev_leaves_the_mean_without():
    runs = [scored_run("mse", "", "1"), scored_run("mse", "", "2", dev=False)]
    assert seed_ensemble(runs)[0].dev is None
    assert seed_ensemble([replace(one, dev=None) for one in runs])[0].dev is None


def test_a_rescaled_mean_has_the_moments_of_dev():
    """On dev the mean is 1, 1.5, 2, 2.5 and the human scores 0 to 3: twice the raw mean, less 2."""
    first = run("0", table([1.1, 1.4, 2.2, 9.0]), table([0.5, 1, 1.5, 2], "wxyz"))
    second = run("1", table([1.1, 1.4, 2.2, 9.0]), table([1.5, 2, 2.5, 3], "wxyz"))
    (mean,) = seed_ensemble([first, second], rescale=True)
    assert list(mean.test.table["raw"]) == [1.1, 1.4, 2.2, 9.0]
    assert list(mean.test.table["score"]) == [0, 1, 2, 3]
    assert list(mean.dev.table["score"]) == [0, 1, 2, 3]
    (rounded,) = seed_ensemble([first, second])
    assert list(rounded.test.table["score"]) == [1, 1, 2, 3]
    (without,) = seed_ensemble([replace(one, dev=None) for one in (first, second)], rescale=True)
    assert list(without.test.table["score"]) == [1, 1, 2, 3]
