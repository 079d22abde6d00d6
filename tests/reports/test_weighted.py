from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from aes_dynloss.errors import DataError
from aes_dynloss.reports.page import report_page
from aes_dynloss.reports.predictions import check_predictions
from aes_dynloss.reports.prompts import build_report, read_report, write_report
from aes_dynloss.reports.report_files import report_rows
from aes_dynloss.reports.traits import by_scale
from aes_dynloss.reports.weighted import build_weighted_report
from aes_dynloss.tables.score_range import ScoreRange

RANGES = {"2": ScoreRange(1, 6), "10": ScoreRange(0, 4, 0.5)}


def predictions(weights):
    parts = []
    for prompt, span in RANGES.items():
        random = np.random.default_rng(len(parts))
        quality, error, second = random.standard_normal((3, 90))
        middle, unit = (span.low + span.high) / 2, (span.high - span.low) / 5
        raw = middle + unit * (quality + 0.5 * error)
        part = pd.DataFrame({"essay_id": [str(number) for number in range(90)], "prompt_id": prompt, "raw": raw})
        part = part.assign(reference=span.to_point(middle + unit * quality), score=span.to_point(raw))
        part["second_reference"] = np.where(
            np.arange(90) < 30, span.to_point(middle + unit * (quality + 0.4 * second)), np.nan
        )
        parts.append(part.assign(group=np.where(np.arange(90) % 3 == 0, "x", "y"), w=weights[: len(part)]))
    return check_predictions(pd.concat(parts, ignore_index=True), ranges=RANGES, kept=["group", "w"])


def figures(entry, names):
    return {name: entry[name] for name in names}


def test_weights_of_one_give_the_report():
    table = predictions([1.0] * 90)
    found = build_weighted_report(table, "w", subgroups=["group"], resamples=0)
    expected = build_report(table, subgroups=["group"], resamples=0)
    names = ("n", "qwk", "exact_agreement", "adjacent_agreement", "pearson", "rmse", "smd", "sd_ratio", "mean_raw")
    humans = ("n", "qwk", "degradation", "pearson", "pearson_degradation", "exact_agreement", "smd", "mean_second")
    for prompt, entry in found.prompts.items():
        other = expected.prompts[prompt]
        assert figures(entry, names) == pytest.approx(figures(other, names))
        assert figures(entry.human_human, humans) == pytest.approx(figures(other.human_human, humans))
        for group, own in entry.fairness.columns["group"].groups.items():
            told = ("n", "qwk", "pearson", "smd", "dsm", "mean_raw")
            assert figures(own, told) == pytest.approx(figures(other.fairness.columns["group"].groups[group], told))
        assert entry.stands_for == entry.effective_n == 90
    assert found.mean.qwk == pytest.approx(expected.mean.qwk)
    assert [flag.verdict for flag in found.flags if flag.criterion == "qwk"] == [
        flag.verdict for flag in expected.flags if flag.criterion == "qwk"
    ]


def test_a_small_group_cannot_be_computed_from_the_others():
    table = predictions([1.0] * 90)
    groups = np.where(np.arange(180) % 90 == 0, "z", table.table["group"])
    report = build_weighted_report(replace(table, table=table.table.assign(group=groups)), "w", subgroups=["group"])
    for entry in report.prompts.values():
        assert list(entry.fairness.columns["group"].groups) == ["y"]
    assert any("in z; no figure of them is told" in note and "x is withheld too" in note for note in report.notes)


def test_nothing_without_weights_is_told(tmp_path):
    report = build_weighted_report(predictions([3.0, 1.0, 6.5] * 30), "w", resamples=20)
    entry = report.prompts["10"]
    for name in ("kappa", "gwet_ac1", "spearman", "prmse", "qwk_ceiling", "qwk_variance_matched", "qwk_rescaled"):
        assert entry[name] is None
        assert "design weights" in entry.why_missing(name).value
    assert not any((entry.score_points, entry.confusion, entry.score_versions, entry.reliability, report.floors))
    assert entry.smd_interval[0] < entry.smd < entry.smd_interval[1]
    assert list(report.prompts) == ["2", "10"]
    assert report.notes[0].startswith("The figures are estimates for 630 essays from the 180 that were read")
    assert "rescaling bootstrap" in report.settings.interval
    write_report(report, tmp_path / "report.json")
    assert read_report(tmp_path / "report.json") == report
    assert any(row["measure"] == "stands_for" and row["value"] == 315 for row in report_rows(report))


@pytest.mark.parametrize("weights", [[0.2] * 90, [None] + [2] * 89, ["two"] * 90])
def test_weights_that_are_none_are_refused(weights):
    with pytest.raises(DataError):
        build_weighted_report(predictions(weights), "w")


def test_traits_with_weights_of_one_give_the_report():
    parts = [
        predictions([1.0] * 90).table.assign(
            trait=trait, prompt_id=lambda one, trait=trait: one["prompt_id"] + "/" + trait
        )
        for trait in ("form", "style")
    ]
    parts[1]["raw"] = parts[1]["score"] = parts[1]["reference"]
    ranges = {f"{prompt}/{trait}": span for prompt, span in RANGES.items() for trait in ("form", "style")}
    table = check_predictions(pd.concat(parts, ignore_index=True), ranges=ranges, kept=["w"])
    found, expected = build_weighted_report(table, "w", resamples=20), build_report(table, resamples=0)
    for trait, own in found.traits.items():
        for prompt, entry in own.prompts.items():
            assert entry.qwk == pytest.approx(expected.traits[trait].prompts[prompt].qwk)
    assert found.mean.qwk == pytest.approx(expected.mean.qwk)
    assert found.mean.qwk_interval == pytest.approx([found.mean.qwk] * 2), "all were read"
    assert found.trait_means.mcrmse is found.trait_means.correlations is None
    assert found.notes[0].startswith("The figures are estimates for 180 essays from the 180 that were read")
    assert "Agreement by trait" in report_page(found, title="t")


def test_essays_that_those_read_stand_for_are_counted_once_on_several_traits():
    one = predictions([3.0] * 90).table
    parts = [one.assign(trait=trait, prompt_id=one["prompt_id"] + f"/{trait}") for trait in ("form", "style")]
    ranges = {f"{prompt}/{trait}": span for prompt, span in RANGES.items() for trait in ("form", "style")}
    table = check_predictions(pd.concat(parts, ignore_index=True), ranges=ranges, kept=["w"])
    found = build_weighted_report(table, "w", resamples=0)
    assert found.stands_for == by_scale(found).stands_for == 540
    assert report_page(found, title="t").count("180 essays that stand for 540") == 2  # in the head, and in a sentence


def test_traits_are_drawn_together():
    one = predictions([3.0, 1.0, 6.5] * 30).table
    parts = [one.assign(trait=trait, prompt_id=one["prompt_id"] + f"/{trait}") for trait in ("form", "style")]
    ranges = {f"{prompt}/{trait}": span for prompt, span in RANGES.items() for trait in ("form", "style")}
    table = check_predictions(pd.concat(parts, ignore_index=True), ranges=ranges, kept=["w"])
    found = build_weighted_report(table, "w", resamples=200)
    assert found.mean.qwk_interval == pytest.approx(found.traits["form"].mean.qwk_interval), "two equal traits"
