from __future__ import annotations

import csv
import io
import json
import re
from dataclasses import replace
from itertools import count

import pandas as pd
import pytest
from scored_runs import RANGES, grid

from aes_dynloss.measures.bootstrap import IntervalSettings
from aes_dynloss.reports.benchmark import RunCost, ScoredRun, build_benchmark_report
from aes_dynloss.reports.comparison import COVERS, VERSIONS, Benchmark
from aes_dynloss.reports.comparison_tables import benchmark_markdown, benchmark_rows
from aes_dynloss.reports.predictions import check_predictions
from aes_dynloss.reports.prompts import report_json
from aes_dynloss.reports.published_systems import ASAP_SYSTEMS
from aes_dynloss.tables.score_range import ScoreRange

H100 = "NVIDIA H100 80GB HBM3"
COLUMNS = ["arm", "prompt", "measure", "value", "low", "high", "sd_over_seeds", "n"]


def build(arms, **settings):
    fixed = {"settings": IntervalSettings(480, 0.95, 0), "protocol": "two folds", **settings}
    return build_benchmark_report(arms, "mse", **fixed)


def raters(run):
    table = run.test.table
    table = table.assign(rater1=table["reference"], rater2=table["score"])
    return ScoredRun(run.stratum, run.seed, check_predictions(table, ranges=RANGES), run.dev)


ARMS = {"mse": [raters(run) for run in grid("mse")], "stde": grid("stde", noise=0.1)}
COSTS = {"mse": [RunCost(seconds, H100, 1) for seconds in (1200, 1300, 1250, 1254)], "stde": [RunCost(4, H100, 2)] * 4}
FLOORS = {stratum: {"length": {"2": 0.5, "10": 0.61}} for stratum in ("fold_0", "fold_1")}


def told_apart(value, numbers):
    """A report's arms with another number for each of their figures, so that none can pass for another."""
    if isinstance(value, float):
        return next(numbers) / 1000
    if isinstance(value, list):
        return [told_apart(one, numbers) for one in value]
    if isinstance(value, dict):
        return {key: one if key == "cost" else told_apart(one, numbers) for key, one in value.items()}
    return value


REPORT = build(ARMS, costs=COSTS, floors=FLOORS, published=ASAP_SYSTEMS)
REPORT = Benchmark.from_dict({**REPORT, "arms": told_apart(REPORT.to_dict()["arms"], count(-100))})
MARKDOWN = benchmark_markdown(REPORT)
ROWS = benchmark_rows(REPORT)


def tables(text):
    """Tables of markdown as lists of dicts, by the line that they stand below."""
    found, title = {}, ""
    for block in text.split("\n\n"):
        lines = block.splitlines()
        if not lines[0].startswith("| "):
            title = lines[0]
            continue
        cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
        assert all(re.fullmatch("---:?", mark) for mark in cells[1])
        assert {len(row) for row in cells} == {len(cells[0])}
        found[title] = [dict(zip(cells[0], row, strict=True)) for row in cells[2:]]
    return found


def rounded(value):
    return "-" if value is None else f"{value:.3f}".replace("-0.000", "0.000")


TABLES = tables(MARKDOWN)
ARM_TABLE = next(iter(TABLES.values()))


def one_prompt(seed, scores, ids="abcd"):
    table = pd.DataFrame({"essay_id": list(ids), "prompt_id": "1", "reference": [0, 0, 1, 1], "score": scores})
    table["raw"] = table["score"]
    return ScoredRun("", seed, check_predictions(table, ranges={"1": ScoreRange(0, 1)}), None)


def test_markdown_to_the_letter():
    arms = {"mse": [one_prompt("", [0, 1, 0, 1])], "a|b": [one_prompt("", [0, 0, 1, 1])]}
    report = build(arms, protocol="one split", costs={"mse": [RunCost(7.25, "CPU, 2 threads", 1)]}).to_dict()
    report["arms"]["mse"]["mean"]["qwk_interval"] = [-0.5, 0.5]
    report["differences"]["qwk"]["arms"]["a|b"]["mean"] |= {"interval": [-0.0001, 1.0], "p": 0.25, "p_holm": 3e-5}
    report["notes"] = ["A note."]
    assert benchmark_markdown(report).splitlines() == [
        "# Benchmark",
        "",
        "QWK on test essays. Protocol: one split. 4 essays, 1 prompt, 1 stratum, 1 seed. Control: mse.",
        "",
        "| arm | QWK | 95 % | rescaled | cut points | r | sd ratio | sd over seeds | seconds (CPU-seconds) |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
        "| mse | 0.000 | -0.500 to 0.500 | - | - | 0.000 | 1.000 | - | 7.2 |",
        "| a\\|b | 1.000 | 1.000 to 1.000 | - | - | 1.000 | 1.000 | - | - |",
        "",
        "Means over strata. rescaled: given the human scores' mean and sd on dev; cut points: tuned on dev; r and sd "
        "ratio: of raw predictions; sd over seeds: of the QWK. seconds: mean of a run's wall time times its processes, "
        "on CPU, 2 threads; runs that share a device count it in full.",
        "",
        "## Differences from mse",
        "",
        "### QWK minus that of mse (comparisons that Holm p corrects for: 1)",
        "",
        "| arm | difference | 95 % | p | Holm p |",
        "| --- | ---: | ---: | ---: | ---: |",
        "| a\\|b | +1.000 | 0.000 to +1.000 | 0.2500 | <0.0001 |",
        "",
        "## Notes",
        "",
        f"- {COVERS} Resamples: 480.",
        "- A note.",
    ]
    assert benchmark_markdown(report).endswith("- A note.\n")


def test_the_arms_table_is_that_of_the_report():
    assert [row["arm"] for row in ARM_TABLE] == list(REPORT["arms"])
    for row, (arm, entry) in zip(ARM_TABLE, REPORT["arms"].items(), strict=True):
        mean = entry["mean"]
        assert row["QWK"] == rounded(mean["qwk"])
        assert row["95 %"] == " to ".join(rounded(end) for end in mean["qwk_interval"])
        assert row["rescaled"] == rounded(mean["qwk_rescaled"])
        assert row["cut points"] == rounded(mean["qwk_cut_points"])
        assert row["r"] == rounded(mean["pearson"])
        assert row["sd ratio"] == rounded(mean["sd_ratio"])
        assert row["sd over seeds"] == rounded(mean["over_seeds"]["qwk"]["sd"])
        assert (row["sd over seeds"] == "-") == ("mean of" in arm)
    seconds = [row["seconds (GPU-seconds)"] for row in ARM_TABLE]
    assert seconds == ["1,251", "8.0", "2 x 1,251", "2 x 8.0"]
    assert f"on {H100}; runs that share" in MARKDOWN
    assert "160 essays, 2 prompts, 2 strata (fold_0, fold_1), 2 seeds. Control: mse." in MARKDOWN


def test_seconds_of_several_units_are_named():
    costs = {"mse": [RunCost(20, H100, 1)], "stde": [RunCost(20, H100, 1), RunCost(30, "CPU, 2 threads", 1)]}
    table = next(iter(tables(benchmark_markdown(build(ARMS, costs=costs))).values()))
    assert [row["seconds (GPU-seconds)"] for row in table] == ["20", "-", "2 x 20", "-"]
    costs["stde"] = costs["stde"][1:]
    text = benchmark_markdown(build(ARMS, costs=costs))
    found = [row["seconds"] for row in next(iter(tables(text).values()))]
    assert found == ["20 GPU-seconds", "30 CPU-seconds", "2 x 20 GPU-seconds", "2 x 30 CPU-seconds"]
    assert "on CPU, 2 threads; NVIDIA H100 80GB HBM3; runs that share" in text
    assert "- Arms ran on different devices" in text
    assert "seconds" not in next(iter(tables(benchmark_markdown(build(ARMS))).values()))[0]


def test_what_stands_beside_the_arms():
    found = {row["system"]: row for row in TABLES["## Floors, human raters and published systems"]}
    assert found["floor: essay length"]["QWK"] == "0.555"
    human = REPORT["human_human"]["mean"]
    assert found["human-human"] == {
        "system": "human-human",
        "QWK": rounded(human),
        "measured": "two raters with each other, not with the resolved score, on 160 essays",
    }
    assert list(found)[2:] == [one.system for one in ASAP_SYSTEMS]
    for one in ASAP_SYSTEMS:
        row = found[one.system]
        assert (row["QWK"], row["measured"]) == (rounded(one.qwk), f"own protocol: {one.source}")
    assert "## Floors" not in benchmark_markdown(build({"mse": ARMS["stde"]}))


def test_differences_are_those_of_the_report():
    titles = {
        "qwk": "### QWK minus that of mse (comparisons that Holm p corrects for: 3)",
        "qwk_rescaled": "### rescaled QWK minus that of mse (comparisons that Holm p corrects for: 3)",
        "qwk_minus_rescaled": (
            "### QWK as it is minus the rescaled QWK of mse (comparisons that Holm p corrects for: 4)"
        ),
    }
    for kind, title in titles.items():
        answers = REPORT["differences"][kind]["arms"]
        assert [row["arm"] for row in TABLES[title]] == list(answers)
        for row in TABLES[title]:
            entry = answers[row["arm"]]["mean"]
            assert float(row["difference"]) == pytest.approx(entry["difference"], abs=5.1e-4)
            assert row["difference"][0] in "+-0"
            assert [float(end) for end in row["95 %"].split(" to ")] == pytest.approx(entry["interval"], abs=5.1e-4)
            assert float(row["p"]) == pytest.approx(entry["p"], abs=5.1e-5)
            assert float(row["Holm p"]) == pytest.approx(entry["p_holm"], abs=5.1e-5)
    assert "## Differences" in benchmark_markdown(build({"mse": ARMS["mse"]}, ensembles=False))
    plain = [one_prompt("", [0, 1, 0, 1])]
    assert "## Differences" not in benchmark_markdown(build({"mse": plain}))


def test_prompts_are_those_of_the_report():
    titles = {"qwk": "### QWK", "qwk_rescaled": "### QWK, rescaled", "qwk_cut_points": "### QWK, cut points"}
    for version, title in titles.items():
        rows = {row["prompt"]: row for row in TABLES[title]}
        for arm, entry in REPORT["arms"].items():
            row = rows.pop(arm)
            assert list(row) == ["prompt", "2", "10", "mean"]
            assert [row[prompt] for prompt in RANGES] == [rounded(entry["prompts"][one][version]) for one in RANGES]
            assert row["mean"] == rounded(entry["mean"][version])
        assert list(rows) == (["floor: essay length", "human-human"] if version == "qwk" else [])
    length, human = TABLES["### QWK"][-2:]
    assert list(length.values()) == ["floor: essay length", "0.500", "0.610", "0.555"]
    assert human["10"] == rounded(REPORT["human_human"]["prompts"]["10"]["qwk"])


def test_what_no_arm_has_is_left_out():
    text = benchmark_markdown(build({arm: grid(arm, dev=False) for arm in ("mse", "stde")}))
    assert "### QWK\n" in text
    assert "### QWK, rescaled" not in text
    assert "### rescaled QWK" not in text
    assert [row["rescaled"] for row in next(iter(tables(text).values()))] == ["-"] * 4


def test_seeds_that_differ_are_told_by_their_numbers():
    text = benchmark_markdown(build({"mse": ARMS["mse"], "stde": grid("stde", seeds=("1", "2", "3"))}))
    assert "2 strata (fold_0, fold_1), 2 to 3 seeds. Control: mse." in text


def test_notes_close_the_markdown():
    report = replace(REPORT, notes=["One note.", "Another."])
    assert benchmark_markdown(report).endswith(f"- {COVERS} Resamples: 480.\n- One note.\n- Another.\n")


def of(arm, prompt, measure):
    (row,) = [row for row in ROWS if (row["arm"], row["prompt"], row["measure"]) == (arm, prompt, measure)]
    return row


def test_rows_hold_the_reports_figures_with_all_digits():
    assert all(list(row) == COLUMNS for row in ROWS)
    counted = 0
    for arm, entry in REPORT["arms"].items():
        for prompt, figures in [*entry["prompts"].items(), ("mean", entry["mean"])]:
            n = 160 if prompt == "mean" else 80
            for version in VERSIONS:
                row = of(arm, prompt, version)
                assert (row["value"], row["n"]) == (figures[version], n)
                assert [row["low"], row["high"]] == figures[f"{version}_interval"]
                assert row["sd_over_seeds"] == figures["over_seeds"][version]["sd"]
            for measure in ("pearson", "sd_ratio"):
                row = of(arm, prompt, measure)
                assert list(row.values())[3:] == [figures[measure], None, None, None, n]
            counted += 5
        row = of(arm, "mean", "seconds_per_run")
        assert list(row.values())[3:] == [entry["cost"]["seconds_per_run"], None, None, None, 4]
        counted += 1
    for kind, answers in REPORT["differences"].items():
        for arm, answered in answers["arms"].items():
            for prompt, found in [*answered["prompts"].items(), ("mean", answered["mean"])]:
                row = of(arm, prompt, f"difference_{kind}")
                assert [row["value"], row["low"], row["high"]] == [found["difference"], *found["interval"]]
                assert (row["sd_over_seeds"], row["n"]) == (None, 160 if prompt == "mean" else 80)
                counted += 1
    for prompt, value in [("2", 0.5), ("10", 0.61), ("mean", 0.555)]:
        assert of("floor length", prompt, "qwk")["value"] == pytest.approx(value)
        human = REPORT["human_human"]
        expected = human["mean"] if prompt == "mean" else human["prompts"][prompt]["qwk"]
        row = of("human-human", prompt, "qwk")
        assert (row["value"], row["n"]) == (expected, 160 if prompt == "mean" else 80)
        counted += 2
    for one in ASAP_SYSTEMS:
        assert list(of(f"published {one.system}", "mean", "qwk").values())[3:] == [one.qwk, None, None, None, None]
        counted += 1
    assert counted == len(ROWS)


def test_rows_of_what_is_not_there():
    rows = benchmark_rows(build({"mse": [one_prompt("", [1, 1, 1, 1])], "stde": [one_prompt("", [0, 0, 1, 1])]}))
    assert {row["arm"] for row in rows} == {"mse", "stde"}
    found = {(row["arm"], row["measure"]): row["value"] for row in rows if row["prompt"] == "mean"}
    assert found["mse", "pearson"] is None
    assert found["mse", "qwk_rescaled"] is None
    assert found["stde", "difference_qwk"] == 1.0
    assert ("stde", "difference_qwk_rescaled") not in found
    assert ("mse", "seconds_per_run") not in found


def test_csv_json_and_markdown_agree():
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS)
    writer.writeheader()
    writer.writerows(ROWS)
    written = list(csv.DictReader(io.StringIO(text.getvalue())))
    report = Benchmark.from_dict(json.loads(report_json(REPORT)))
    means = {row["arm"]: row for row in written if (row["prompt"], row["measure"]) == ("mean", "qwk")}
    for row in ARM_TABLE:
        in_json = report["arms"][row["arm"]]["mean"]["qwk"]
        assert float(means[row["arm"]]["value"]) == in_json
        assert row["QWK"] == rounded(in_json)
    assert means["mse, mean of 2 seeds"]["sd_over_seeds"] == ""
    assert benchmark_markdown(report) == MARKDOWN
    assert benchmark_rows(report) == ROWS
    assert len(written) == len(ROWS)


def test_no_output_holds_an_essays_id():
    ids = [essay for run in ARMS["mse"] for part in (run.test, run.dev) for essay in part.table["essay_id"]]
    assert not [essay for essay in ids if essay in MARKDOWN or essay in json.dumps(ROWS)]
