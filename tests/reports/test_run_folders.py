from __future__ import annotations

import json

import pandas as pd
import pytest
from facts import facts
from scored_runs import RANGES, grid, scored_run, write_run

from aes_dynloss.errors import ConfigError, DataError
from aes_dynloss.reports.arms import arm_names
from aes_dynloss.reports.comparison import compare_arms
from aes_dynloss.reports.read_runs import read_arms


def read_runs(path):
    (runs,) = read_arms([path]).values()
    return runs


def write_grid(root, runs):
    for run in runs:
        write_run(root / run.stratum / f"seed_{run.seed}", run)
    return root


def test_a_runs_folder(tmp_path):
    run = scored_run("mse")
    (found,) = read_runs(write_run(tmp_path / "fold_3" / "seed_1", run))
    assert (found.stratum, found.seed) == ("", "")
    pd.testing.assert_frame_equal(found.test.table, run.test.table)
    pd.testing.assert_frame_equal(found.dev.table, run.dev.table)
    assert found.test.ranges == found.dev.ranges == RANGES
    assert found.test.inferred == found.dev.inferred == frozenset()


def test_a_run_without_dev_predictions(tmp_path):
    (found,) = read_runs(write_run(tmp_path / "run", scored_run("mse", dev=False)))
    assert found.dev is None


@pytest.mark.parametrize("name", ["p.csv", "p.jsonl", "p.parquet"])
def test_a_file_of_predictions(tmp_path, name):
    table = scored_run("mse").test.table
    write = {"csv": table.to_csv, "parquet": table.to_parquet}
    if name.endswith("jsonl"):
        table.to_json(tmp_path / name, orient="records", lines=True)
    else:
        write[name.split(".")[1]](tmp_path / name, index=False)
    (found,) = read_runs(tmp_path / name)
    pd.testing.assert_frame_equal(found.test.table, table)
    assert (found.stratum, found.seed, found.dev) == ("", "", None)


def test_runs_beneath_a_folder_are_told_apart_by_their_paths(tmp_path):
    write_grid(tmp_path / "mse", grid("mse", strata=("fold_0", "fold_1/half")))
    (tmp_path / "mse" / "fold_0" / "plots").mkdir()
    found = read_runs(tmp_path / "mse")
    expected = [("fold_0", "1"), ("fold_0", "2"), ("fold_1/half", "1"), ("fold_1/half", "2")]
    assert [(run.stratum, run.seed) for run in found] == expected


def test_an_arm_of_a_run_for_each_prompt_meets_one_of_a_run_for_all(tmp_path):
    write_grid(tmp_path / "all", grid("all"))
    for prompt, span in RANGES.items():
        for run in grid("each", prompts={prompt: span}):
            write_run(tmp_path / "each" / run.stratum / f"prompt_{prompt}" / f"seed_{run.seed}", run)
    arms = read_arms([tmp_path / "all", tmp_path / "each"])
    assert [len(runs) for runs in arms.values()] == [4, 8]
    assert {run.stratum for run in arms["each"]} == {"fold_0", "fold_1"}
    result = compare_arms(arms, "all", resamples=240)
    assert result["notes"] == []
    assert result["differences"]["qwk"]["arms"]["each"]["mean"]["by_seed"].keys() == {"1", "2"}


def test_the_folders_of_a_run_are_no_runs(tmp_path):
    run = write_run(tmp_path / "arm" / "seed_1", scored_run("mse"))
    write_run(run / "teacher" / "seed_2", scored_run("mse"))
    write_run(tmp_path / "arm" / ".trash" / "seed_3", scored_run("mse"))
    assert [found.seed for found in read_runs(tmp_path / "arm")] == ["1"]


def test_incomplete_runs_are_refused_by_name(tmp_path):
    arm = write_grid(tmp_path / "arm", grid("mse"))
    (arm / "fold_1" / "seed_2" / "report.json").unlink()
    message = r"The run in .*arm/fold_1/seed_2 has no report.json: it is incomplete. Go on with it by"
    for name in ("predictions_test.csv", "manifest.json"):
        with pytest.raises(DataError, match=message):
            read_runs(arm)
        (arm / "fold_1" / "seed_2" / name).unlink()
    # Stopped before it wrote anything that tells a run: its name still does.
    with pytest.raises(DataError, match=message):
        read_runs(arm)


def test_a_run_without_a_test_split(tmp_path):
    (write_run(tmp_path / "run", scored_run("mse")) / "predictions_test.csv").unlink()
    with pytest.raises(DataError, match=r"run has no predictions_test.csv: without a test split"):
        read_runs(tmp_path / "run")


def test_faults_in_a_run_name_it(tmp_path):
    run = write_run(tmp_path / "run", scored_run("mse"))
    report = json.loads((run / "report.json").read_text())
    report["prompts"]["2"]["range"] = {"low": 1, "high": 3, "step": 1}
    (run / "report.json").write_text(json.dumps(report))
    with pytest.raises(DataError, match=facts(run, "Row", "prompt 2")):
        read_runs(run)
    for damage in (None, {}, {"low": 1}, {"low": 1, "high": 0}):
        report["prompts"]["2"]["range"] = damage
        (run / "report.json").write_text(json.dumps(report))
        with pytest.raises(DataError, match=r"report.json is no whole report: prompts\.2\.range"):
            read_runs(run)
    (run / "report.json").write_text("{}")
    with pytest.raises(DataError, match=r"report.json is no report"):
        read_runs(run)


def test_paths_without_a_run(tmp_path):
    with pytest.raises(DataError, match="nothing is not there"):
        read_runs(tmp_path / "nothing")
    (tmp_path / "empty" / "within").mkdir(parents=True)
    with pytest.raises(DataError, match=facts("empty", "predictions_test.csv")):
        read_runs(tmp_path / "empty")


def test_names_are_as_short_as_they_can_be(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    paths = ["runs/mse", "runs/a/seed_1", "runs/b/seed_1", "other/b/seed_1", "."]
    names = ["mse", "a/seed_1", "runs/b/seed_1", "other/b/seed_1", tmp_path.name]
    assert list(arm_names(paths)) == names
    assert list(arm_names(["x/../runs/mse/"])) == ["mse"]
    for twice in ("./runs/mse", tmp_path / "runs/mse", "runs/x/../mse"):
        with pytest.raises(ConfigError, match="runs/mse is given twice"):
            arm_names([*paths, twice])


def test_dev_essays_of_other_prompts_alone_are_none(tmp_path):
    """As where a prompt was left out: nothing can be fitted on them, and their ranges are not asked for."""
    (run,) = read_runs(write_run(tmp_path / "run", scored_run("mse")))
    assert run.dev is not None
    dev = tmp_path / "run" / "predictions_dev.csv"
    table = pd.read_csv(dev, dtype={"prompt_id": str})
    table["prompt_id"] = "another"
    table.to_csv(dev, index=False)
    (run,) = read_runs(tmp_path / "run")
    assert run.dev is None
    assert not run.test.notes
