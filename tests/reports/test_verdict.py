"""The verdict on a report: who wins, by how much, and what to do next."""

from __future__ import annotations

from dataclasses import replace

import pytest
from sample_report import bare_report, full_report

from aes_dynloss.reports.criteria import Criterion, Rules
from aes_dynloss.reports.flags import judge
from aes_dynloss.reports.model import Floor
from aes_dynloss.reports.page import report_page
from aes_dynloss.reports.report_tables import report_text
from aes_dynloss.reports.verdict import next_step, verdict_sentence
from aes_dynloss.tables.score_range import ScoreRange


def report(qwk=0.7, interval=(0.62, 0.76), floors=(), flags=(), **mean):
    """A report with these figures."""
    bare = bare_report()
    figures = {"qwk_rescaled": None, "human_human": None, **mean}
    return replace(
        bare,
        mean=replace(bare.mean, qwk=qwk, qwk_interval=interval, **figures),
        floors={name: Floor({}, value) for name, value in floors},
        flags=list(flags),
    )


def test_a_floor_that_wins_is_said_first():
    found = report(floors=[("length", 0.3), ("words_and_ngrams", 0.781)])
    said = "A simple scorer wins: linguistic features and n-grams reaches a QWK of 0.781, this machine 0.700"
    assert verdict_sentence(found) == f"{said} (95 % interval 0.620 to 0.760)."
    assert next_step(found).startswith(
        "Do not use these scores. Have more essays scored by humans, or look for a better"
    )


def test_a_floor_that_is_higher_by_no_more_than_chance_does_as_well():
    found = report(floors=[("words_and_ngrams", 0.711)])
    said = "A simple scorer does as well: linguistic features and n-grams reaches a QWK of 0.711, this machine 0.700"
    assert verdict_sentence(found) == f"{said} (95 % interval 0.620 to 0.760)."
    assert next_step(found).startswith("This machine gains nothing on a simple scorer. Have more essays scored by")
    without = report(interval=None, floors=[("words_and_ngrams", 0.711)])
    assert verdict_sentence(without).startswith("A simple scorer wins: ")


@pytest.mark.parametrize(
    ("floor", "beside"),
    [(0.61, ""), (0.62, ", which lies within that interval"), (0.7, ", which lies within that interval")],
)
def test_the_best_floor_beside_the_machine(floor, beside):
    found = report(floors=[("mean_score", 0.0), ("length", floor)])
    assert verdict_sentence(found) == (
        "QWK is 0.700 (95 % interval 0.620 to 0.760), above every simple scorer; the best of them, essay length, "
        f"reaches {floor:.3f}{beside}."
    )


def test_without_floors_or_intervals():
    assert verdict_sentence(report(interval=None)) == "QWK is 0.700."
    assert verdict_sentence(report(qwk=None, interval=None, floors=[("length", 0.1)])) == "QWK is -."


def test_humans_are_named():
    full = full_report({"1": ScoreRange(1, 4)}, essays=60, resamples=10)
    assert verdict_sentence(full).endswith(f"; two humans agree at {full.mean.human_human.qwk:.3f}.")


def test_next_step_in_order():
    missed = [replace(judge("smd", 0.4, "prompt 1"), prompt="1")]
    rescaled = report(qwk_rescaled=0.72, flags=missed)
    assert next_step(rescaled).startswith("Rescale the scores, for a QWK of 0.720: aes-dynloss calibrate RUN")
    assert "another system's" in next_step(rescaled)
    assert next_step(report(qwk_rescaled=0.705, flags=missed)) == (
        "Before scores are used, look into what misses its criterion: SMD 0.400 on prompt 1 (criterion: from -0.15 to "
        "0.15)."
    )
    assert next_step(report(interval=(0.5, 0.8))) == "Have more essays scored by humans: the interval is wide."
    assert next_step(report()).endswith("aes-dynloss evaluate.")


@pytest.mark.parametrize(("missed", "said"), [("qwk", True), ("pearson", True), ("smd", False)])
@pytest.mark.parametrize("floors", [[("length", 0.3)], []])
def test_a_better_scorer_is_looked_for_where_agreement_of_a_run_is_low(missed, said, floors):
    found = report(flags=[judge(missed, 0.5, "mean over prompts")], floors=floors)
    advice = "More essays scored by humans, or a better scorer (aes-dynloss tune), may raise QWK and r."
    assert next_step(found).endswith(advice) == (said and bool(floors))


def test_where_it_stands():
    found = report(floors=[("length", 0.3)])
    assert report_text(found).splitlines()[-2:] == [f"Verdict: {verdict_sentence(found)}", f"Next: {next_step(found)}"]
    page = report_page(found, title="A")
    assert page.index("above every simple scorer") < page.index("were held against human scores")


def test_each_missed_criterion_is_named_once():
    qwk = [judge("qwk", 0.5, "mean over prompts"), replace(judge("qwk", 0.4, "prompt 1"), prompt="1")]
    groups = [
        replace(judge("subgroup_smd", value, f"prompt {p}, L1 a"), prompt=p, group=["L1", "a"])
        for p, value in (("1", 0.3), ("2", -0.2))
    ]
    assert next_step(report(flags=[*groups, *qwk])) == (
        "Before scores are used, look into what misses its criterion: QWK 0.500 (criterion: at least 0.70), SMD of a "
        "subgroup 0.300 on prompt 1, L1 a and 1 more (criterion: from -0.10 to 0.10)."
    )


@pytest.mark.parametrize(
    ("criterion", "values", "worst"),
    [
        (Criterion("QWK", "at least", 0.7), (0.65, 0.3), "0.300 on prompt 2"),
        (Criterion("QWK", "at most", -1.0), (-0.9, 0.9, 0.8), "0.900 on prompt 2"),
        (Criterion("QWK", "within", 0.1), (0.2, 0.3, -0.4), "-0.400 on prompt 3"),
    ],
)
def test_the_worst_of_a_missed_criterion_is_named(criterion, values, worst):
    criteria = {"qwk": criterion}
    flags = [
        replace(judge("qwk", value, f"prompt {prompt}", criteria), prompt=str(prompt))
        for prompt, value in enumerate(values, start=1)
    ]
    said = next_step(replace(report(flags=flags), rules=Rules(criteria)))
    assert f"look into what misses its criterion: QWK {worst} and {len(values) - 1} more (criterion: " in said
