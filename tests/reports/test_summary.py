from __future__ import annotations

from dataclasses import replace

import pytest
from sample_report import bare_report, full_report

from aes_dynloss.reports.criteria import CRITERIA, Criterion, Rules
from aes_dynloss.reports.flags import judge
from aes_dynloss.reports.page import summary_sentences
from aes_dynloss.reports.report_tables import MOST_ACROSS, light_table, light_words, prompt_light_table, worst_verdict
from aes_dynloss.tables.score_range import ScoreRange

TWO = {"1": ScoreRange(1, 4), "2": ScoreRange(0, 30)}


def flag(criterion, value, prompt, group=None):
    return replace(judge(criterion, value), prompt=prompt, group=group)


def report_of(flags, prompts=("1", "2")):
    return replace(bare_report(), flags=flags, prompts=dict.fromkeys(prompts))


def lights(flags, prompts=("1", "2")):
    return [list(row) for row in light_table(report_of(flags, prompts)).rows]


@pytest.mark.parametrize(
    ("verdicts", "worst"),
    [
        (["pass", "unknown", "flag"], "flag"),
        (["pass", "unknown"], "unknown"),
        (["unknown"], "unknown"),
        (["pass", "pass"], "pass"),
    ],
)
def test_one_that_misses_is_not_outweighed_and_unknown_is_not_passed(verdicts, worst):
    assert worst_verdict(verdicts) == worst


def test_what_is_unknown_is_no_pass():
    ((_, mean, first, second),) = lights([flag("qwk", None, None), flag("qwk", 0.8, "1"), flag("qwk", None, "2")])
    assert [mean.mark, first.mark, second.mark] == ["unknown", "pass", "unknown"]
    assert (second.text, second.note) == ("? unknown", "")


def test_a_criterion_that_is_not_judged_somewhere_has_no_light_there():
    ((_, mean, first, second),) = lights([flag("smd", 0.2, "2")])
    assert (mean.text, first.text, second.text) == ("", "", "▲ flag")


def test_groups_of_a_column_share_a_light_that_names_the_farthest():
    groups = {"a": 0.01, "b": -0.3, "c": 0.2, "d": None}
    found = [flag("subgroup_smd", value, "1", ["L1", group]) for group, value in groups.items()]
    ((name, light),) = lights(found, ["1"])
    assert name.text == "SMD of a subgroup: L1"
    assert (light.mark, light.note) == ("flag", "2 of 4 groups; b \u22120.300")


LEAST = Criterion("QWK of a subgroup", "at least", 0.7, "our board")
MOST = Criterion("SMD of a subgroup", "at most", 0.1, "our board")


@pytest.mark.parametrize(
    ("name", "criterion", "values", "note"),
    [
        ("subgroup_qwk", LEAST, {"a": 0.65, "b": 0.3, "c": 0.9}, "2 of 3 groups; b 0.300"),
        ("subgroup_qwk", LEAST, {"a": 0.9, "b": 0.75, "c": 0.8}, "3 of 3 groups; b 0.750"),
        ("subgroup_smd", MOST, {"a": 0.2, "b": 0.3, "c": -0.9}, "2 of 3 groups; b 0.300"),
        ("subgroup_smd", MOST, {"a": -0.9, "b": 0.05, "c": -0.2}, "3 of 3 groups; b 0.050"),
    ],
)
def test_groups_of_a_column_share_a_light_that_names_the_worst(name, criterion, values, note):
    found = [
        replace(judge(name, value, criteria={name: criterion}), prompt="1", group=["L1", group])
        for group, value in values.items()
    ]
    report = replace(report_of(found, ["1"]), rules=Rules({name: criterion}))
    (((_, light),)) = light_table(report).rows
    assert light.note == note


@pytest.mark.parametrize(
    ("criteria", "words"),
    [
        ({"subgroup_qwk": LEAST}, "Of subgroups, the lowest is named."),
        ({"subgroup_smd": MOST}, "Of subgroups, the highest is named."),
        ({"subgroup_smd": CRITERIA["subgroup_smd"]}, "Of subgroups, the farthest from 0 is named."),
        (
            {"subgroup_qwk": LEAST, "subgroup_dsm": CRITERIA["subgroup_dsm"]},
            "Of subgroups, the lowest (QWK of a subgroup) or the farthest from 0 (DSM of a subgroup) is named.",
        ),
    ],
)
def test_which_subgroup_is_named_is_told(criteria, words):
    found = [replace(judge(name, 0.0, criteria=criteria), prompt="1", group=["L1", "a"]) for name in criteria]
    assert words in light_words(replace(report_of(found, ["1"]), rules=Rules(criteria)))


def test_a_value_close_to_its_threshold_shows_its_side():
    ((_, first, second),) = [row[:1] + row[2:] for row in lights([flag("qwk", 0.69996, "1"), flag("qwk", 0.7, "2")])]
    assert (first.mark, first.note) == ("flag", "0.69996")
    assert (second.mark, second.note) == ("pass", "0.700")
    ((_, share),) = lights([flag("score_share", -0.0731, "1")], ["1"])
    assert share.note == "\u22127.3 pp"
    ((_, share),) = lights([flag("score_share", -0.05004, "1")], ["1"])
    assert (share.mark, share.note) == ("flag", "\u22125.004 pp")


def test_one_prompt_has_one_light_a_criterion():
    table = light_table(report_of([flag("qwk", 0.8, "1"), flag("qwk", 0.8, None)], ["1"]))
    assert [column.title for column in table.columns] == ["Criterion", "Prompt 1"]


def test_very_many_prompts_are_counted_and_told_one_below_the_other():
    prompts = [str(number) for number in range(MOST_ACROSS + 1)]
    found = [flag("qwk", 0.8, None), *(flag("qwk", 0.8, prompt) for prompt in prompts[:-3])]
    found += [flag("qwk", 0.5, prompts[-3]), flag("qwk", None, prompts[-2]), flag("smd", 0.5, prompts[-1])]
    report = report_of(found, prompts)
    table = light_table(report)
    titles = ["Criterion", "Mean", "Prompts: pass", "Prompts: flag", "Prompts: unknown"]
    assert [column.title for column in table.columns] == titles
    assert [[cell.text for cell in row] for row in table.rows] == [
        ["QWK", "✓ pass", "14", "1", "1"],
        ["SMD", "", "0", "1", "0"],
    ]
    each = prompt_light_table(report)
    assert [column.title for column in each.columns] == ["Prompt", "QWK", "SMD"]
    assert [[cell.text for cell in row] for row in each.rows[-4:]] == [
        ["13", "✓ pass", ""],
        ["14", "▲ flag", ""],
        ["15", "? unknown", ""],
        ["16", "", "▲ flag"],
    ]
    assert prompt_light_table(report_of(found, prompts[:-1])) is None


def test_sources_are_told():
    words = light_words(report_of([flag("qwk", 0.8, "1"), flag("subgroup_dsm", 0.0, "1", ["L1", "a"])]))
    assert "QWK: Williamson, Xi and Breyer (2012); DSM of a subgroup: RSMTool." in words


def test_three_sentences_about_everything():
    report = full_report(TWO, essays=100, resamples=10)
    measured, humans, watch = summary_sentences(report)
    mean = report["mean"]
    assert (
        "scores of 200 essays on 2 prompts were held against human scores: in the mean over prompts, QWK is "
        in measured
    )
    assert f"{mean['qwk']:.3f} (95 % interval {mean['qwk_interval'][0]:.3f} to" in measured
    assert f"QWK of {mean['human_human']['qwk']:.3f} (200 essays scored twice)" in humans
    assert f"{mean['human_human']['degradation']:.3f} lower" in humans
    assert f"no machine is expected to exceed {mean['qwk_ceiling']:.3f}" in humans
    assert watch.startswith("Watch what misses its criterion: ")


def test_three_sentences_about_little():
    report = bare_report()
    measured, humans, watch = summary_sentences(report)
    assert "prompts" not in measured
    assert "interval" not in measured
    assert humans.startswith("How well human raters agree with each other is unknown")
    assert "unknown: QWK lost against human-human agreement" in watch


def test_what_is_watched_is_told_by_its_places():
    flags = [
        *(flag("qwk", 0.5, prompt) for prompt in (None, "1", "2")),
        *(flag("pearson", value, prompt) for prompt, value in ((None, 0.6), ("1", 0.5), ("2", 0.9))),
        *(flag("smd", 0.5, str(number)) for number in range(9)),
        flag("smd", 0.0, "9"),
    ]
    report = bare_report()
    *_, watch = summary_sentences(replace(report, flags=flags))
    assert watch == ("Watch what misses its criterion: QWK (everywhere); r (the mean and prompt 1); SMD (9 prompts).")
    met = replace(report, flags=[flag("qwk", 0.9, "1")])
    assert summary_sentences(met)[2] == "No criterion that could be judged is missed."
    assert summary_sentences(replace(report, flags=[]))[2] == "No criterion was judged."


def test_humans_of_some_prompts_speak_for_these():
    report = full_report(TWO, essays=60, resamples=0)
    report.prompts["2"] = replace(report.prompts["2"], human_human=None)
    assert "on the prompt where that is known (60 essays scored twice)" in summary_sentences(report)[1]
