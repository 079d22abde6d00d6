"""RSMTool itself runs on what was exported, and finds what the report says."""

from __future__ import annotations

import math
import os
import subprocess
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from exported_essays import HALF, HALVES, RANGES, SUBGROUPS, WHOLE, checked, config_of, csv_of, dev_of_one, essays_of

from aes_dynloss.measures.agreement import agreement_within, pearson, quadratic_weighted_kappa
from aes_dynloss.measures.breakdowns import GIVEN
from aes_dynloss.measures.calibration import fit_rescaling, score_versions
from aes_dynloss.measures.chance_agreement import unweighted_kappa
from aes_dynloss.measures.reliability import prmse
from aes_dynloss.reports.exports import export_rsmeval
from aes_dynloss.reports.prompts import build_report

IDS = ["007", "7", "NA", "1.0", "a,b", 'q"x', " sp", "<script>alert(1)</script>"]


def near(value):
    """Within 1e-6 of a figure, or undefined as it is."""
    return pytest.approx(math.nan if value is None else value, abs=1e-6, nan_ok=True)


@pytest.fixture(scope="module")
def runs(rsmtool_python, tmp_path_factory):
    """Both prompts' essays, their report, and rsmeval's tables by prompt."""
    place = tmp_path_factory.mktemp("rsmeval")
    halves = essays_of(HALVES, HALF, 150, 3)
    # The report's subgroups are those of raw, RSMTool's those of trimmed raw.
    halves["raw"] = halves["raw"].clip(HALF.low, HALF.high)
    halves.loc[np.arange(150) % 10 >= 3, "second_reference"] = math.nan  # three in ten are scored twice
    table = pd.concat([essays_of("1", WHOLE, 240, 6), halves], ignore_index=True)
    table.loc[: len(IDS) - 1, "essay_id"] = IDS
    test, dev = checked(table), dev_of_one()
    paths = export_rsmeval(test, dev, place / "rsm", subgroups=SUBGROUPS)
    # A file of the working directory that RSMTool would take, were it asked for predictions.csv.
    csv_of(paths[0]).assign(reference=1).to_csv(place / "predictions.csv", index=False)
    tables = {prompt: run_rsmeval(rsmtool_python, path) for prompt, path in zip(RANGES, paths, strict=True)}
    # RSMTool tells of the smallest group too.
    report = build_report(test, dev=dev, subgroups=SUBGROUPS, resamples=0, min_group=1)["prompts"]
    return SimpleNamespace(table=test.table, dev=dev.table, report=report, tables=tables)


def run_rsmeval(python, path):
    """Run rsmeval from another folder; its tables by name."""
    place = path.parents[2]
    command = [Path(python).with_name("rsmeval"), path.relative_to(place), f"out_{path.parent.name}"]
    done = subprocess.run(
        command, cwd=place, env={**os.environ, "HOME": str(place)}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    output, name = place / f"out_{path.parent.name}", config_of(path)["experiment_id"]
    assert (output / "report" / f"{name}_report.html").stat().st_size > 10_000

    def table(of):
        file = output / "output" / f"{name}_{of}.csv"
        return pd.read_csv(file, index_col=0, dtype={"spkitemid": str}, keep_default_na=False, na_values=[""])

    return table


def versions_of(runs, prompt):
    """One prompt's human scores, second human's scores, and machine scores by version."""
    essays, dev = (table[table["prompt_id"] == prompt] for table in (runs.table, runs.dev))
    line = fit_rescaling(dev["raw"], dev["reference"]) if len(dev) else None
    human, second = (essays[column].to_numpy() for column in ("reference", "second_reference"))
    return human, second, score_versions(essays["raw"], RANGES[prompt], line)


@pytest.mark.parametrize("prompt", RANGES)
def test_every_essay_is_used(runs, prompt):
    essays = runs.table[runs.table["prompt_id"] == prompt]
    found = runs.tables[prompt]("pred_processed").reset_index()
    assert list(found["spkitemid"]) == list(essays["essay_id"])
    assert (runs.tables[prompt]("eval")["N"] == len(essays)).all()
    assert prompt == "1" or (found["sc1"] == 0).any()


@pytest.mark.parametrize("prompt", RANGES)
def test_agreement_is_that_of_the_report(runs, prompt):
    ours, theirs, span = runs.report[prompt], runs.tables[prompt]("eval").loc["raw_trim_round"], RANGES[prompt]
    assert theirs["wtkappa"] == near(ours["qwk"])
    assert theirs["kappa"] == near(ours["kappa"])
    assert theirs["exact_agr"] / 100 == near(ours["exact_agreement"])
    assert theirs["adj_agr"] / 100 == near(ours["adjacent_agreement"])
    every = runs.tables[prompt]("eval")
    versions = {name: entry for name, entry in ours["score_versions"].items() if name != GIVEN}
    assert list(every.index) == list(versions)
    assert ("scale" in every.index) == (prompt == "1")
    for version, entry in versions.items():
        row = every.loc[version]
        assert row["corr"] == near(entry["pearson"]), version
        assert row["RMSE"] * span.step == near(entry["rmse"]), version
        # RSMTool divides by the humans' sd, the report by the mean of both variances.
        assert row["SMD"] == near(entry["smd"] * math.sqrt((1 + entry["sd_ratio"] ** 2) / 2)), version
        if version.endswith("round"):
            assert row["wtkappa"] == near(entry["qwk"]), version
            assert row["exact_agr"] / 100 == near(entry["exact_agreement"]), version


@pytest.mark.parametrize("prompt", RANGES)
def test_versions_are_measured_alike(runs, prompt):
    human, _, versions = versions_of(runs, prompt)
    every, short, span = runs.tables[prompt]("eval"), runs.tables[prompt]("eval_short").iloc[0], RANGES[prompt]
    for version, scores in versions.items():
        row = every.loc[version]
        assert row["wtkappa"] == near(float(quadratic_weighted_kappa(human, scores))), version
        if version.endswith("round"):
            assert row["kappa"] == near(float(unweighted_kappa(human, scores, span))), version
            assert row["adj_agr"] / 100 == near(float(agreement_within(human, scores, span.step))), version
    kind = "scale" if prompt == "1" else "raw"
    for measure, version in (("wtkappa", "trim"), ("corr", "trim"), ("kappa", "trim_round"), ("SMD", "trim_round")):
        assert short[f"{measure}.{kind}_{version}"] == near(every.loc[f"{kind}_{version}", measure])


@pytest.mark.parametrize("prompt", RANGES)
def test_two_humans_and_true_scores(runs, prompt):
    human, second, versions = versions_of(runs, prompt)
    ours, tables = runs.report[prompt], runs.tables[prompt]
    humans, worse = tables("consistency").iloc[0], tables("degradation")
    assert humans["wtkappa"] == near(ours["human_human"]["qwk"])
    assert humans["corr"] == near(ours["human_human"]["pearson"])
    assert humans["kappa"] == near(ours["human_human"]["kappa"])
    assert humans["SMD"] == near(ours["human_human"]["smd"])
    assert humans["N"] == ours["human_human"]["n"]
    assert humans["exact_agr"] / 100 == near(ours["human_human"]["exact_agreement"])
    assert humans["adj_agr"] / 100 == near(ours["human_human"]["adjacent_agreement"])
    for theirs, name in (("h1_mean", "mean_first"), ("h2_sd", "sd_second")):
        assert humans[theirs] * RANGES[prompt].step == near(ours["human_human"][name])
    # RSMTool subtracts the other way round, and takes the machine's agreement on all essays, scored twice or not.
    assert -worse.loc["raw_trim_round", "wtkappa"] == near(ours["human_human"]["qwk"] - ours["qwk"])
    assert -worse.loc["raw", "corr"] == near(ours["human_human"]["pearson"] - ours["pearson"])
    if prompt == "1":
        assert -worse.loc["raw_trim_round", "wtkappa"] == near(ours["human_human"]["degradation"])
    straight = tables("disattenuated_correlations")["corr_disattenuated"]
    assert straight["raw"] == near(ours["pearson_disattenuated"])
    true = tables("true_score_eval")
    assert true.loc["raw", "PRMSE true"] == near(ours["prmse"])
    assert (true.loc["raw", "N"], true.loc["raw", "N multiple"]) == (
        ours["human_ratings"]["n"],
        ours["human_ratings"]["n_twice"],
    )
    for theirs, name in (("Variance of errors", "error_variance"), ("True score var", "true_variance")):
        assert true.loc["raw", theirs] * RANGES[prompt].step ** 2 == near(ours["human_ratings"][name])
    for version, scores in versions.items():
        expected = float(prmse(scores, np.column_stack([human, second])))
        assert true.loc[version, "PRMSE true"] == near(expected), version
        hm, hh = float(pearson(human, scores)), ours["human_human"]["pearson"]
        assert worse.loc[version, "corr"] == near(hm - hh), version


def test_score_points(runs):
    theirs, ours = runs.tables[HALVES]("score_dist"), runs.report[HALVES]["score_points"]
    theirs = theirs.set_index("score")
    for entry in ours:
        share = (
            theirs.loc[entry["point"] / HALF.step] if entry["human"] + entry["machine"] else {"human": 0, "sys_raw": 0}
        )
        assert share["human"] * 1.5 == near(entry["human"])
        assert share["sys_raw"] * 1.5 == near(entry["machine"])


@pytest.mark.parametrize("prompt", RANGES)
@pytest.mark.parametrize("column", SUBGROUPS)
def test_subgroups(runs, prompt, column):
    name, kind = column.replace(" ", "_"), "scale" if prompt == "1" else "raw"
    theirs = runs.tables[prompt](f"eval_by_{name}")
    human, _, versions = versions_of(runs, prompt)
    scores = versions[f"{kind}_trim"]
    own = runs.table.loc[runs.table["prompt_id"] == prompt, column].to_numpy()
    assert set(theirs.index) == {"All data", *(label_of(column, group) for group in own)}
    for group in set(own):
        row, ours, inside = theirs.loc[label_of(column, group)], runs.report[prompt], own == group
        entry = ours["fairness"]["columns"][column]["groups"][group]
        assert row["N"] == entry["n"]
        standard = [(values - values.mean()) / values.std(ddof=1) for values in (human, scores)]
        assert row[f"DSM.{kind}_trim"] == near((standard[1] - standard[0])[inside].mean())
        assert row[f"corr.{kind}_trim"] == near(float(pearson(human[inside], scores[inside])))
        if kind == "raw":  # of which the report speaks; no prediction is beyond the range
            assert row["DSM.raw_trim"] == near(entry["dsm"])
            assert row["corr.raw_trim"] == near(entry["pearson"])
            assert row["exact_agr.raw_trim_round"] / 100 == near((human == versions["raw_trim_round"])[inside].mean())


@pytest.mark.parametrize("column", SUBGROUPS)
def test_fairness_over_all_groups(runs, column):
    theirs = runs.tables[HALVES](f"fairness_metrics_by_{column.replace(' ', '_')}")
    ours = runs.report[HALVES]["fairness"]["columns"][column]
    titles = {"osa": "Overall score accuracy", "osd": "Overall score difference", "csd": "Conditional score difference"}
    for measure, title in titles.items():
        assert theirs.loc["R2", title] == near(ours[measure]["r_squared_adjusted"])
        assert theirs.loc["sig", title] == near(ours[measure]["p"])


def label_of(column, group):
    """A group's name in the export: the second column has a group None."""
    return group if column == "L1" else f"[{group}]"
