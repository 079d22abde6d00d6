from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scored_runs import RANGES, essay_table, grid, predicted, put, scored_run

from aes_dynloss.errors import ConfigError, DataError
from aes_dynloss.measures.agreement import quadratic_weighted_kappa
from aes_dynloss.measures.calibration import fit_cut_points, fit_rescaling
from aes_dynloss.reports.arms import ScoredRun, build_cells
from aes_dynloss.reports.predictions import check_predictions
from aes_dynloss.tables.score_range import ScoreRange


def changed(run: ScoredRun, change, ranges=RANGES) -> ScoredRun:
    """A run whose table of test predictions was changed."""
    return replace(run, test=check_predictions(change(run.test.table.copy()), ranges=ranges))


def pair(change, ranges=RANGES) -> dict[str, list[ScoredRun]]:
    return {"mse": [scored_run("mse")], "stde": [changed(scored_run("stde"), change, ranges)]}


def refused(arms, message, control="mse", error=DataError):
    with pytest.raises(error, match=message):
        build_cells(arms, control)


def test_versions_of_the_scores_are_fitted_on_the_runs_own_dev():
    arms = {"mse": grid("mse"), "stde": grid("stde")}
    cells, notes = build_cells(arms, "mse")
    assert notes == []
    assert list(cells) == ["2", "10"]
    assert [cell.stratum for cell in cells["10"]] == ["fold_0", "fold_1"]
    run = arms["stde"][3]
    dev = run.dev.table[run.dev.table["prompt_id"] == "10"]
    test = run.test.table[run.test.table["prompt_id"] == "10"].sort_values("essay_id")
    cell, score_range = cells["10"][1], RANGES["10"]
    assert (run.stratum, run.seed) == ("fold_1", "2")
    points = {
        "qwk": score_range.to_point(test["raw"]),
        "qwk_rescaled": score_range.to_point(fit_rescaling(dev["raw"], dev["reference"]).apply(test["raw"])),
        "qwk_cut_points": fit_cut_points(dev["raw"], dev["reference"], score_range).apply(test["raw"]),
    }
    np.testing.assert_array_equal(cell.human, score_range.to_index(test["reference"]))
    for version, expected in points.items():
        np.testing.assert_array_equal(cell.machines["stde", version]["2"], score_range.to_index(expected))


def test_prompts_of_one_stratum_may_come_from_several_runs():
    """A model for all prompts against a model for each."""
    each = [scored_run("each", "fold_0", "1", prompts={prompt: span}) for prompt, span in RANGES.items()]
    cells, _ = build_cells({"all": [scored_run("all", "fold_0", "1")], "each": each}, "all")
    assert {prompt: len(strata) for prompt, strata in cells.items()} == {"2": 1, "10": 1}


def test_arms_that_cannot_be():
    refused({"mse": grid("mse")}, "needs two arms or more, each with a run; found mse", error=ConfigError)
    refused({}, "found none", error=ConfigError)
    refused({"mse": grid("mse"), "stde": []}, "each with a run", error=ConfigError)
    message = "control 'sgd' is none of the arms: mse, stde"
    refused({"mse": grid("mse"), "stde": grid("stde")}, message, control="sgd", error=ConfigError)


def test_strata_and_prompts_that_one_arm_lacks():
    arms = {"mse": grid("mse"), "stde": grid("stde", strata=("fold_0",))}
    refused(arms, r"Arm 'mse' has scored prompt '10' of stratum 'fold_1', arm 'stde' has not \(2 such in all\)")
    refused(arms, r"Arm 'mse' has scored prompt '10' of stratum 'fold_1', arm 'stde' has not", control="stde")
    one = {"10": RANGES["10"]}
    arms = {"mse": [scored_run("mse")], "stde": [scored_run("stde", prompts=one)]}
    refused(arms, r"Arm 'mse' has scored prompt '2', arm 'stde' has not \(1 such in all\)")


def test_a_run_that_is_there_twice():
    arms = {"mse": grid("mse"), "stde": [*grid("stde"), scored_run("stde", "fold_1", "2")]}
    refused(arms, r"arm 'stde', stratum 'fold_1', seed '2' has prompt '2' twice|has prompt '10' twice")


def test_essays_that_one_run_lacks_are_named():
    message = r"arm 'mse' and arm 'stde' have not scored the same essays: essay 't--2-13' of prompt '2' is in arm '{}' "
    without = pair(lambda table: table.drop(index=13))
    refused(without, message.format("mse") + r"alone \(1 essays differ\)")
    refused(without, "is in arm 'mse' alone", control="stde")
    refused(pair(put("essay_id", 13, "zz")), message.format("mse") + r"alone \(2 essays differ\)")


def test_essays_that_another_seed_of_the_same_arm_lacks():
    runs = grid("stde")
    runs[1] = changed(runs[1], lambda table: table.drop(index=3))
    message = (
        "arm 'mse', stratum 'fold_0', seed '1' and arm 'stde', stratum 'fold_0', seed '2' have not scored the same"
    )
    refused({"mse": grid("mse"), "stde": runs}, message)


def test_human_scores_that_differ_are_named():
    table = essay_table("")
    before = table.loc[5, "reference"]
    after = 1.0 if before != 1.0 else 2.0
    message = (
        rf"arm 'mse' and arm 'stde' have different human scores for essay 't--2-5' of prompt '2': {before:g} and "
        rf"{after:g} \(1 essays differ\)"
    )
    refused(pair(put("reference", 5, after)), message)


def test_human_scores_must_be_there():
    def blank(table):
        return table.assign(reference=np.nan)

    refused(pair(blank), "arm 'stde' has no human scores in its predictions")
    run = scored_run("stde")
    unscored = replace(run, dev=check_predictions(run.dev.table.assign(reference=np.nan), ranges=RANGES))
    arms = {"mse": [scored_run("mse")], "stde": [unscored]}
    refused(arms, "arm 'stde' has no human scores in its dev predictions of prompt '(2|10)'")


def test_essays_of_dev_may_not_be_in_test():
    run = scored_run("stde")
    arms = {"mse": [scored_run("mse")], "stde": [replace(run, dev=run.test)]}
    refused(arms, "arm 'stde': 40 essays are in dev and in the predictions, such as 't--2-0' of prompt '2'")


def test_ranges_that_differ():
    message = "Prompt '2' has the range 1 to 6 in arm 'mse' and 1 to 7 in arm 'stde'"
    refused(pair(lambda table: table, {**RANGES, "2": ScoreRange(1, 7)}), message)


def inferred(arm, change=lambda table: table) -> ScoredRun:
    """A run without given ranges, of whole scores."""
    table = change(predicted(essay_table(""), arm, 0.1).drop(columns="score"))
    table["score"] = table["raw"].round().clip(1, 12) if "score" not in table else table["score"]
    return ScoredRun("", "", check_predictions(table, source=f"{arm}.csv"), None)


def test_inferred_ranges_span_the_scores_of_all_arms():
    low = inferred("a", lambda table: put("score", 0, -3)(table.assign(score=table["raw"].round())))
    cells, notes = build_cells({"a": [low], "b": [inferred("b")]}, "a")
    human = essay_table("").query("prompt_id == '2'").sort_values("essay_id")["reference"]
    np.testing.assert_array_equal(cells["2"][0].human, human + 3)
    assert any(note.startswith("a: No score range was given for a.csv") for note in notes)


def halved(arm) -> ScoredRun:
    """A run without given ranges, of half points but for arm whole, whose scores are whole."""
    table = predicted(essay_table(""), arm, 0.1)
    table[["reference", "raw"]] /= 2
    step = 1.0 if arm == "whole" else 0.5
    table["score"] = step * np.floor(table["raw"] / step + 0.5)
    return ScoredRun("", "", check_predictions(table, source=f"{arm}.csv"), None)


@pytest.mark.parametrize("other", ["b", "whole"])
def test_inferred_ranges_keep_their_half_points(other):
    runs = {arm: halved(arm) for arm in ("a", other)}
    cells, _ = build_cells({arm: [run] for arm, run in runs.items()}, "a")
    for prompt, (cell,) in cells.items():
        for arm, run in runs.items():
            own = run.test.table.query(f"prompt_id == '{prompt}'").sort_values("essay_id")
            kappa = quadratic_weighted_kappa(2 * own["reference"], 2 * own["score"])
            assert quadratic_weighted_kappa(cell.human, cell.machines[arm, "qwk"][""]) == pytest.approx(kappa)


def test_a_range_that_nobody_gave_must_hold_all_scores():
    run = halved("a")
    whole = {prompt: replace(span, low=0.0, high=6.0, step=1.0) for prompt, span in run.test.ranges.items()}
    arms = {arm: [replace(run, test=replace(run.test, ranges=whole))] for arm in "ab"}
    refused(
        arms,
        r"arm 'a' has the score \d.5 on prompt '2', which is no score point of the range 0 to 6 that was seen",
        "a",
    )


def test_a_given_range_must_hold_the_scores_of_runs_without_one():
    arms = {"mse": [scored_run("mse")], "bare": [inferred("bare", put("raw", 0, 7.2))]}
    message = "arm 'bare' has the score 7 on prompt '2', which is no score point of its range 1 to 6 in arm 'mse'"
    refused(arms, message)
    arms["bare"] = [inferred("bare", lambda table: table.assign(score=table["reference"]))]
    cells, _ = build_cells(arms, "mse")
    np.testing.assert_array_equal(cells["2"][0].machines["bare", "qwk"][""], cells["2"][0].human)


def test_a_version_that_one_seed_lacks_is_left_out():
    runs = [scored_run("stde", "", "1"), scored_run("stde", "", "2", dev=False)]
    cells, _ = build_cells({"mse": [scored_run("mse")], "stde": runs}, "mse")
    assert list(cells["2"][0].machines) == [
        ("mse", version) for version in ("qwk", "qwk_rescaled", "qwk_cut_points")
    ] + [("stde", "qwk")]


def test_notes_say_which_arms_and_how_often():
    def constant(run):
        return replace(run, dev=check_predictions(run.dev.table.assign(raw=3.0, score=3.0), ranges=RANGES))

    arms = {"mse": grid("mse"), "stde": [constant(run) for run in grid("stde")]}
    _, notes = build_cells(arms, "mse")
    expected = "stde: Prompt 2: all predictions on dev are equal, so predictions are not rescaled. (4 times)"
    assert expected in notes
    same = {"mse": [inferred("mse")], "stde": [inferred("stde")]}
    for arm in same.values():
        arm[0] = changed(arm[0], lambda table: table.assign(reference=2.0))
    _, notes = build_cells(same, "mse")
    assert "All arms: Prompt 2: all human scores are equal, so that kappa says nothing." in notes
