"""A monitor: no false alarms without drift, and planted drift found where it is."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from drifting_scores import RANGES, TRAITS, administration, trait_administration

from aes_dynloss.errors import ConfigError, DataError
from aes_dynloss.measures.agreement import quadratic_weighted_kappa
from aes_dynloss.programme.administrations import Scores
from aes_dynloss.programme.monitor import build_monitor
from aes_dynloss.programme.sheets import DESIGN_WEIGHT
from aes_dynloss.reports.monitor import DRIFT_CRITERIA, Monitor, monitor_rows, monitor_text

# Every difference is beyond these, so that evidence alone decides.
NO_SIZE = {name: replace(criterion, threshold=0.0) for name, criterion in DRIFT_CRITERIA.items()}


def alarms(monitor):
    return {(one.prompt, one.kind, one.group) for one in monitor.alarms}


def test_pages_without_drift_have_an_alarm_in_one_of_twenty_at_most():
    pages = [
        build_monitor(
            administration("then", 2 * page, 90),
            [administration("now", 2 * page + 1, 70)],
            subgroups=["group"],
            criteria=NO_SIZE,
        )
        for page in range(60)
    ]
    assert all(page.tests > 35 for page in pages)
    assert sum(bool(page.alarms) for page in pages) <= 5
    beyond_single = [one.p < 0.05 for page in pages for row in page.last.compared for one in row.measures.values()]
    assert 0.02 < np.mean(beyond_single) < 0.06, "p values hold, without being far too high"


@pytest.mark.parametrize(
    ("name", "direction", "usual"),
    [("qwk", "at most", "at least"), ("shift", "at least", "within"), ("psi", "within", "at most")],
)
def test_a_criterion_on_the_other_side_of_its_test_is_refused(name, direction, usual):
    """Its p value would be that of the usual side."""
    criteria = {**DRIFT_CRITERIA, name: replace(DRIFT_CRITERIA[name], direction=direction, source="criteria.yaml")}
    key = usual.replace(" ", "_")
    message = rf"criterion {name} of drift is .* \(criteria\.yaml\); expected {key} .* Write {name}: {{{key}: 0"
    with pytest.raises(ConfigError, match=message):
        build_monitor(administration("then", 0, 60), [administration("now", 1, 60)], criteria=criteria)


def test_longer_essays_are_found_where_they_are():
    monitor = build_monitor(
        administration("then", 0, 400), [administration("now", 1, 400, lengths=0.6)], subgroups=["group"]
    )
    assert {(prompt, kind) for prompt, kind, _ in alarms(monitor)} == {("a", "length")}


def test_a_group_with_other_scores_is_found_where_it_is():
    earlier = administration("between", 2, 600)
    monitor = build_monitor(
        administration("then", 0, 600), [earlier, administration("now", 1, 600, group_y=-0.5)], subgroups=["group"]
    )
    assert (
        {("a", "score", "y"), ("b", "score", "y")}
        <= alarms(monitor)
        <= {(prompt, "score", group) for prompt in "ab" for group in ("y", None)}
    )
    first, last = monitor.administrations
    assert all(one.verdict is None for row in first.compared for one in row.measures.values())
    assert [one.name for one in monitor.administrations] == ["between", "now"]
    assert last.essays == 1200


def test_more_advisories_are_found_beside_an_administration_and_beside_training():
    then, now = administration("then", 3, 400), administration("now", 4, 400, too_long=0.08)
    training = replace(then, table=then.table.drop(columns=["advisories", "withheld"]))
    for baseline, share in ((then, 0.01), (training, 0.002)):
        monitor = build_monitor(baseline, [now])
        assert alarms(monitor) == {("a", "advisory", None), ("b", "advisory", None)}
        assert monitor.alarms[0].then == pytest.approx(share, abs=0.008)


def test_agreement_that_fell_is_found_and_its_levels_get_smaller():
    then = administration("then", 0, 300, human=True)
    good, bad = administration("one", 1, 300, human=True), administration("two", 2, 300, machine_error=1.3, human=True)
    monitor = build_monitor(then, [good, bad])
    found = {one.prompt: one for one in monitor.alarms if one.kind == "agreement"}
    assert set(found) == {"a", "b"}
    assert found["a"].alarms == ["qwk", "qwk_fall"]
    first, second = (
        next(row.measures["qwk"] for row in one.compared if row.kind == "agreement")
        for one in build_monitor(then, [good, good]).administrations
    )
    assert first.value == second.value
    assert second.interval[0] < first.interval[0] < first.value < first.interval[1] < second.interval[1]
    assert second.p == pytest.approx(min(1, 3 * first.p))


def test_design_weights_stand_for_essays_that_were_not_read():
    every = administration("now", 1, 400, human=True).table
    certain = (every["raw"] - every["reference"]).abs().rank(pct=True) > 0.8
    drawn = certain | (np.random.default_rng(0).random(len(every)) < 0.5)
    read = every[drawn].assign(**{DESIGN_WEIGHT: np.where(certain[drawn], 1.0, 2.0)})
    values = {}
    for name, human in (("weighted", read), ("plain", read.drop(columns=DESIGN_WEIGHT))):
        scores = Scores("now", every, RANGES, [], human)
        rows = build_monitor(administration("then", 0, 400), [scores]).last.compared
        values[name] = next(row.now for row in rows if row.kind == "agreement" and row.prompt == "b")
    own = every[every["prompt_id"] == "b"]
    truth = float(quadratic_weighted_kappa(own["reference"], own["score"]))
    assert abs(values["weighted"] - truth) < abs(values["plain"] - truth)


def test_small_prompts_and_groups_are_told_and_not_compared():
    then, now = administration("then", 0, 60), administration("now", 1, 60)
    few = replace(now, table=now.table[(now.table["prompt_id"] == "a") | (now.table.index % 6 == 0)])
    monitor = build_monitor(then, [few], subgroups=["group"])
    assert {one.prompt for one in monitor.last.compared} == {"a"}
    assert any("Prompt b is not compared" in note for note in monitor.notes)
    assert any("fewer than 30 essays of" in note for note in monitor.notes)
    with pytest.raises(DataError, match="too few scores to compare: 30 or more of a prompt are needed"):
        build_monitor(then, [replace(now, table=now.table[::6])])
    with pytest.raises(DataError, match="there is no common prompt"):
        build_monitor(then, [replace(now, table=now.table.assign(prompt_id="c"))])


def test_features_that_one_side_lacks_are_told():
    then, now = administration("then", 0), administration("now", 1)
    monitor = build_monitor(replace(then, features=[]), [now])
    assert not [one for one in monitor.last.compared if one.kind == "feature"]
    assert "Features that are not known of then are not compared: spelling." in monitor.notes
    monitor = build_monitor(then, [replace(now, features=[])])
    assert not [one for one in monitor.last.compared if one.kind == "feature"]
    assert "Features that are not known of now are not compared: spelling." in monitor.notes


@pytest.mark.parametrize("lacking", [("then", "now"), ("then",), ("now",)])
def test_withheld_scores_are_compared_where_both_sides_know_them(lacking):
    def side(name, seed, share=0.0):
        scores = administration(name, seed, 300)
        table = scores.table.assign(withheld=np.arange(len(scores.table)) % 100 < 100 * share)
        return replace(scores, table=table.drop(columns="advisories") if name in lacking else table)

    def withheld(monitor):
        return {one.prompt: (one.then, one.now) for one in monitor.last.compared if one.name == "withheld"}

    then, now = side("then", 0, 0.02), side("now", 1, 0.3)
    monitor = build_monitor(then, [now])
    assert withheld(monitor) == dict.fromkeys("ab", (pytest.approx(0.02), pytest.approx(0.3)))
    assert {one.prompt for one in monitor.alarms if one.name == "withheld"} == {"a", "b"}
    for one, other in ((then, now), (now, then)):
        unknown = replace(one, table=one.table.drop(columns="withheld"))
        assert withheld(build_monitor(unknown, [other])) == {}
        assert withheld(build_monitor(other, [unknown])) == {}


def test_a_higher_sd_beside_cross_fitted_scores_is_granted_up_to_a_factor():
    def p_values(factor, spread):
        then, now = (administration(name, seed, 4000) for seed, name in enumerate(("then", "now")))
        table = now.table.copy()
        for prompt, span in RANGES.items():
            own = table["prompt_id"] == prompt
            raw = table.loc[own, "raw"]
            table.loc[own, "score"] = span.to_point(raw.mean() + (raw - raw.mean()) * factor)
        monitor = build_monitor(replace(then, spread=spread), [replace(now, table=table)])
        rows = [one for one in monitor.last.compared if one.kind == "score"]
        return [one.measures[name].p for one in rows for name in ("psi", "ks")], monitor.notes

    (plain, none), (granted, notes) = p_values(1.06, 1.0), p_values(1.06, 1.06)
    assert min(plain) < 0.05 < min(granted)
    assert none == []
    assert "up to 6 % higher" in notes[0]
    assert max(p_values(1.3, 1.06)[0][::2]) < 0.001, "more is drift"


def test_features_that_essays_lack_are_told():
    then, now = administration("then", 0), administration("now", 1)
    some, none = then.table.copy(), now.table.copy()
    some.loc[:4, "spelling"] = np.nan
    none.loc[none["prompt_id"] == "b", "spelling"] = np.nan
    monitor = build_monitor(replace(then, table=some), [replace(now, table=none)])
    assert monitor.notes == [
        "Prompt a: feature spelling is blank in 5 of 150 essays of then; those that have it are compared.",
        "Prompt b: feature spelling is blank in 150 of 150 essays of now, and is not compared.",
    ]
    assert [(one.prompt, one.n_then) for one in monitor.last.compared if one.kind == "feature"] == [("a", 145)]


def test_few_human_scores_and_other_models_are_told():
    then, now = administration("then", 0), administration("now", 1, human=True)
    few = replace(now, human=now.human[(now.human["prompt_id"] == "a") | (now.human.index % 10 == 0)], model="one")
    monitor = build_monitor(then, [replace(then, model="other"), few])
    assert [one.prompt for one in monitor.last.compared if one.kind == "agreement"] == ["a"]
    assert monitor.notes == [
        "Scored by another model, or by this one before it was calibrated anew: then. Drift may be the model's.",
        "Fewer than 30 human scores, so that no QWK is told: prompts b (15).",
    ]


def test_scores_of_another_model_than_is_monitored_are_told():
    then, now = (replace(administration(name, seed), model="old") for seed, name in enumerate(("then", "now")))
    told = [build_monitor(then, [now], model=model).notes for model in (None, "old", "new")]
    assert [bool(notes) for notes in told] == [False, False, True]
    assert "calibrated anew: then, now." in told[2][0]
    assert "calibrated anew: then." in build_monitor(then, [replace(now, model="new")]).notes[0]


def test_qwk_of_essays_that_were_all_read_is_judged_as_without_weights():
    now = administration("now", 1, 300, human=True)
    every = replace(now, human=now.human.assign(**{DESIGN_WEIGHT: 1.0}))
    plain, weighted = (build_monitor(administration("then", 0), [one]).last.compared for one in (now, every))
    assert plain == weighted
    assert sum(one.kind == "agreement" for one in weighted) == 2


def test_perfect_agreement_is_told_in_a_note():
    now = administration("now", 1, 300, human=True)
    same = replace(now, human=now.human.assign(reference=now.human["score"]))
    monitor = build_monitor(administration("then", 0), [same])
    assert not [one for one in monitor.last.compared if one.kind == "agreement"]
    assert monitor.notes == ["QWK is 1, or the same in every resample, so that none is told or judged: prompts a, b."]


def test_rows_text_and_json_tell_the_same():
    monitor = build_monitor(administration("then", 0), [administration("now", 1, lengths=1.0)], subgroups=["group"])
    assert Monitor.from_dict(monitor.to_dict()) == monitor
    rows = monitor_rows(monitor)
    flagged = [row for row in rows if row["verdict"] == "flag"]
    assert len(flagged) == sum(len(one.alarms) for one in monitor.alarms) > 0
    assert sum(row["p_holm"] is not None for row in rows) == monitor.tests
    assert monitor_text(monitor).startswith("now (300 essays) beside then (300): alarm")


def trait_alarms(monitor):
    return {(one.scale, one.kind, one.group) for one in monitor.alarms}


def test_pages_of_traits_without_drift_have_an_alarm_in_one_of_twenty_at_most():
    pages = [
        build_monitor(
            trait_administration("then", 2 * page, 90),
            [trait_administration("now", 2 * page + 1, 70)],
            subgroups=["group"],
            criteria=NO_SIZE,
        )
        for page in range(40)
    ]
    assert all(page.tests > 50 for page in pages)
    assert sum(bool(page.alarms) for page in pages) <= 4


def test_drift_of_one_trait_is_found_there_and_only_there():
    then, quiet = (trait_administration(name, seed, 600, human=True) for seed, name in enumerate(("then", "quiet")))
    assert build_monitor(then, [quiet], subgroups=["group"]).alarms == []
    now = trait_administration("now", 2, 600, shifts={"organization": -0.9}, human=True)
    monitor = build_monitor(then, [quiet, now], subgroups=["group"])
    found = trait_alarms(monitor)
    assert {(f"{prompt}/organization", "score", None) for prompt in "ab"} <= found
    assert {(f"{prompt}/organization", "agreement", None) for prompt in "ab"} <= found
    assert {scale.rpartition("/")[2] for scale, _, _ in found} == {"organization"}
    assert monitor.traits == [*TRAITS]
    assert monitor_text(monitor).count(" organization ") == len(found)


def test_what_is_of_the_essay_is_counted_once_an_essay():
    then, now = (trait_administration(name, seed, human=True) for seed, name in enumerate(("then", "now")))
    monitor = build_monitor(then, [now], subgroups=["group"])
    last = monitor.last
    assert (last.essays, monitor.baseline_essays) == (300, 300)
    whole = [(one.kind, one.scale) for one in last.compared if one.group is None]
    assert len(set(whole)) == len(whole)
    assert {scale for kind, scale in whole if kind in ("score", "agreement")} == {*now.ranges}
    for kind in ("length", "feature", "groups"):
        assert [scale for one, scale in whole if one == kind] == ["a", "b"]
    plain = build_monitor(administration("then", 0), [administration("now", 1)], subgroups=["group"]).last.compared
    essays = [[one for one in rows if one.kind not in ("score", "agreement")] for rows in (last.compared, plain)]
    figures = [[{name: one.p for name, one in row.measures.items()} for row in rows] for rows in essays]
    assert figures[0] == figures[1]
    assert monitor.notes == []


def test_a_trait_that_one_side_lacks_is_told():
    then, now = (trait_administration(name, seed, human=True) for seed, name in enumerate(("then", "now")))
    without = replace(now, table=now.table.drop(columns="score/content"), traits=["organization", "style"], human=None)
    without.table.loc[20:149, "score/style"] = np.nan
    monitor = build_monitor(then, [without])
    assert monitor.traits == ["organization"]
    assert monitor.notes == [
        "Scores of prompt a/content are not compared: 150 essays have one then and 0 now, of which 30 are needed.",
        "Scores of prompt a/style are not compared: 150 essays have one then and 20 now, of which 30 are needed.",
        "Scores of prompt b/content are not compared: 150 essays have one then and 0 now, of which 30 are needed.",
    ]
    with pytest.raises(DataError, match="now has one score an essay, and then scores of content, organization, style"):
        build_monitor(then, [administration("now", 1)])


def test_rows_and_json_of_traits_and_older_monitors():
    then, now = (trait_administration(name, seed, human=True) for seed, name in enumerate(("then", "now")))
    monitor = build_monitor(then, [now])
    assert Monitor.from_dict(monitor.to_dict()) == monitor
    rows = monitor_rows(monitor)
    assert list(rows[0])[:3] == ["administration", "prompt", "trait"]
    assert {(row["prompt"], row["trait"]) for row in rows if row["kind"] == "score"} == {
        tuple(scale.split("/")) for scale in now.ranges
    }
    older = build_monitor(administration("then", 0), [administration("now", 1)])
    assert "trait" not in str(older.to_dict())
    assert Monitor.from_dict(older.to_dict()) == older
    assert "trait" not in monitor_rows(older)[0]
