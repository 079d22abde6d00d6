"""``aes-dynloss benchmark``: what it leaves, goes on with, shares and refuses."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import pandas as pd
import pytest
from command_line import command
from forked import finish, start, stop_when
from small_grid import write_small_grid

pytestmark = pytest.mark.slow

FILES = {
    "provenance.json",
    "benchmark.csv",
    "report.html",
    "benchmark.json",
    "benchmark.md",
    "benchmark.yaml",
    "cells",
    "floors",
    "locks",
    "predictions",
    "work",
}


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("grid")
    write_small_grid(folder)
    return folder


@pytest.fixture(scope="module")
def whole(place) -> Path:
    """A grid that nobody stops."""
    assert finish(start("benchmark", "grid.yaml", "-o", "whole", folder=place)) == 0, (place / "err").read_text()
    return place / "whole"


def cells_in(folder: Path) -> set[str]:
    return {path.parent.relative_to(folder).as_posix() for path in folder.rglob("cell.json")}


def figures(folder: Path) -> dict:
    return json.loads((folder / "benchmark.json").read_text())["arms"]


def without_cost(arms: dict) -> dict:
    return {name: {key: value for key, value in arm.items() if key != "cost"} for name, arm in arms.items()}


def test_what_it_leaves_behind(whole):
    assert {path.name for path in whole.iterdir()} == FILES
    assert cells_in(whole / "cells") == {f"{arm}/fold_{fold}/seed_0" for arm in ("mse", "mae") for fold in (0, 1)}
    assert not list((whole / "work").rglob("*.*"))
    report = json.loads((whole / "benchmark.json").read_text())
    assert report["control"] == "mse"
    assert set(report["arms"]) == {"mse", "mae"}
    assert len(report["runs"]) == 4
    assert report["manifests"]["fold_1"]["split"]["essays"]["test"] == 12


def test_its_kappa_is_the_mean_of_the_runs(whole):
    """By the runs' own reports: the mean over prompts of the mean over folds."""
    reports = [
        json.loads((whole / "cells" / "mae" / f"fold_{k}" / "seed_0" / "report.json").read_text()) for k in (0, 1)
    ]
    for prompt, entry in figures(whole)["mae"]["prompts"].items():
        assert entry["qwk"] == pytest.approx(sum(report["prompts"][prompt]["qwk"] for report in reports) / 2, abs=1e-9)
    mean = sum(report["mean"]["qwk"] for report in reports) / 2
    assert figures(whole)["mae"]["mean"]["qwk"] == pytest.approx(mean, abs=1e-9)


def test_all_three_files_say_the_same(whole):
    value = figures(whole)["mse"]["mean"]["qwk"]
    with (whole / "benchmark.csv").open(encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if row["arm"] == "mse" and row["measure"] == "qwk"]
    (mean,) = (row for row in rows if row["prompt"] == "mean")
    assert float(mean["value"]) == pytest.approx(value)
    assert f"{value:.3f}" in (whole / "benchmark.md").read_text(encoding="utf-8")


def test_no_essay_text_is_in_the_report(place, whole):
    essays = [json.loads(line)["text"][:40] for line in (place / "essays.jsonl").read_text().splitlines()]
    for name in ("benchmark.json", "benchmark.md", "benchmark.csv"):
        text = (whole / name).read_text(encoding="utf-8")
        assert not [essay for essay in essays if essay in text]


def test_killed_again_and_again_it_goes_on(place, whole):
    """What it reports in the end is what a grid that nobody stopped reports."""
    folder = place / "killed"
    for count in range(3):
        process = start("benchmark", "grid.yaml", "-o", "killed", folder=place)
        stop_when(process, lambda count=count: len(cells_in(folder / "cells")) > count)
        assert not (folder / "benchmark.json").exists()
        for cell in (folder / "cells").rglob("seed_*"):
            assert (cell / "report.json").exists()
            assert (cell / "cell.json").exists()
    done = {path: path.stat().st_mtime_ns for path in (folder / "cells").rglob("report.json")}
    assert finish(start("benchmark", "grid.yaml", "-o", "killed", folder=place)) == 0
    assert without_cost(figures(folder)) == without_cost(figures(whole))
    assert len(done) >= 3
    assert all(path.stat().st_mtime_ns == then for path, then in done.items())


def test_arms_that_are_trained_are_stacked_by_dev(place, whole, monkeypatch):
    shutil.copytree(whole, place / "by_dev")
    monkeypatch.chdir(place)
    outcome = command("benchmark", "grid.yaml", "stacks={both: [mse, mae]}", "-o", "by_dev")
    assert outcome.code == 0, outcome.err
    report = json.loads((place / "by_dev" / "benchmark.json").read_text())
    assert set(report["arms"]) == {"mse", "mae", "both"}
    weights = report["arms"]["both"]["weights"]["fold_0"]["phones"]
    assert sum(weights.values()) == pytest.approx(1)
    assert any("members' predictions of dev" in note for note in report["notes"])


def test_what_a_killed_process_left_half_written_goes(place, whole):
    halves = [whole / ".config.yaml.1.tmp", whole / ".benchmark.json.1.tmp"]
    for half in halves:
        half.write_text("half", encoding="utf-8")
    assert finish(start("benchmark", "grid.yaml", "-o", "whole", folder=place)) == 0
    assert not [half for half in halves if half.exists()]


def test_two_processes_share_a_grid(place, whole):
    together = [start("benchmark", "grid.yaml", "-o", "shared", folder=place) for _ in range(2)]
    assert [finish(process) for process in together] == [0, 0], (place / "err").read_text()
    assert without_cost(figures(place / "shared")) == without_cost(figures(whole))
    assert not list((place / "shared" / "work").rglob("*.*"))


def test_more_seeds_are_added_to_what_is_done(place, whole):
    done = {path: path.stat().st_mtime_ns for path in (whole / "cells").rglob("report.json")}
    words = ["benchmark", "grid.yaml", "arms={mse: {}}", "--folds", "0", "--seeds", "2", "-o", "whole"]
    assert finish(start(*words, folder=place)) == 0
    assert all(path.stat().st_mtime_ns == then for path, then in done.items())
    assert set(figures(whole)) == {"mse", "mse, mean of 2 seeds"}
    assert "held against single runs of mse" in (whole / "benchmark.md").read_text(encoding="utf-8")
    assert len(json.loads((whole / "benchmark.json").read_text())["runs"]) == 2


def test_what_a_run_cost_that_was_stopped_is_not_told(place, whole):
    folder = place / "cells_of_a_stopped_run"
    shutil.copytree(whole, folder)
    cost = folder / "cells" / "mse" / "fold_0" / "seed_0" / "cell.json"
    cost.write_text(json.dumps(json.loads(cost.read_text()) | {"resumed": True, "seconds": 1e6}))
    assert finish(start("benchmark", "grid.yaml", "-o", folder.name, folder=place)) == 0
    entry = figures(folder)["mse"]["cost"]
    assert entry["runs"] == 1
    assert entry["total_seconds"] < 1e5
    assert "1 of 4 runs were stopped" in (folder / "benchmark.md").read_text(encoding="utf-8")


def test_runs_on_another_split_are_refused(place, whole):
    folder = place / "another_split"
    shutil.copytree(whole, folder)
    path = folder / "cells" / "mae" / "fold_0" / "seed_0" / "manifest.json"
    manifest = json.loads(path.read_text())
    manifest["split"]["sha256"]["dev"] = "0" * 64
    path.write_text(json.dumps(manifest))
    assert finish(start("benchmark", "grid.yaml", "-o", folder.name, folder=place)) == 2
    assert "mae/fold_0/seed_0 was run on other essays" in (place / "err").read_text()


@pytest.mark.parametrize(
    ("name", "keys", "value"),
    [
        ("cell.json", ("seconds",), None),
        ("cell.json", ("device",), ["cpu"]),
        ("manifest.json", ("machine",), {}),
        ("manifest.json", ("machine", "processes"), {}),
        ("manifest.json", ("split", "sha256"), {}),
        ("manifest.json", ("split",), -1),
    ],
)
def test_a_run_s_damaged_record_is_named(place, whole, monkeypatch, name, keys, value):
    monkeypatch.chdir(place)
    shutil.rmtree(place / "damaged", ignore_errors=True)
    shutil.copytree(whole, place / "damaged")
    path = place / "damaged" / "cells" / "mae" / "fold_1" / "seed_0" / name
    values = json.loads(path.read_text())
    inner = values
    for key in keys[:-1]:
        inner = inner[key]
    inner[keys[-1]] = value
    path.write_text(json.dumps(values))
    outcome = command("benchmark", "grid.yaml", "-o", "damaged")
    assert outcome.code == 2
    assert f"damaged/cells/mae/fold_1/seed_0/{name}" in outcome.error


@pytest.mark.parametrize("damage", ["", "[]", None])
def test_damaged_floors_are_measured_again(place, whole, monkeypatch, damage):
    monkeypatch.chdir(place)
    shutil.rmtree(place / "damaged", ignore_errors=True)
    shutil.copytree(whole, place / "damaged")
    path = place / "damaged" / "floors" / "fold_1.json"
    before = path.read_bytes()
    values = json.loads(before)
    values["floors"]["length"] = "none"
    path.write_text(json.dumps(values) if damage is None else damage)
    assert command("benchmark", "grid.yaml", "-o", "damaged").code == 0
    assert path.read_bytes() == before


def test_floors_of_a_grid_on_some_prompts_alone(place):
    """Fold files may name these prompts' essays alone."""
    kept = {
        row["essay_id"]
        for row in map(json.loads, (place / "essays.jsonl").read_text().splitlines())
        if row["prompt_id"] == "river"
    }
    for path in (place / "folds" / "fold_0").iterdir():
        (place / "some" / "fold_0").mkdir(parents=True, exist_ok=True)
        mine = [word for word in path.read_text().split() if word in kept]
        (place / "some" / "fold_0" / path.name).write_text("\n".join(mine) + "\n")
    words = ["arms={mse: {}}", "prompts=[river]", "splits_dir=some", "folds=[0]", "-o", "some_prompts"]
    assert finish(start("benchmark", "grid.yaml", *words, folder=place)) == 0, (place / "err").read_text()
    assert json.loads((place / "some_prompts" / "benchmark.json").read_text())["floors"]


def test_measured_on_dev_test_is_not_told(place):
    assert finish(start("benchmark", "grid.yaml", "measured_on=dev", "-o", "dev", folder=place)) == 0
    report = json.loads((place / "dev" / "benchmark.json").read_text())
    assert report["strata"] == ["fold_0/a", "fold_0/b", "fold_1/a", "fold_1/b"]
    assert sum(report["essays"].values()) == 24
    assert not (place / "dev" / "floors").exists()


STACK = [
    "finetune.model.frozen_layers=all",
    "finetune.training.epochs=1",
    "arms={ridge: {set: {model.solver: ridge}}, kernel: {set: {model.solver: kernel_ridge}}, "
    "each: {set: {model.solver: ridge, model.linguistic: true}, models: one_per_prompt}}",
    "stacks={all: [ridge, kernel, each]}",
    "floors=false",
]


def test_a_stack_learns_its_weights_in_each_fold(place, monkeypatch):
    monkeypatch.chdir(place)
    outcome = command("benchmark", "grid.yaml", *STACK, "-o", "stacked")
    assert outcome.code == 0, outcome.err
    entry = figures(place / "stacked")["all"]
    assert (entry["ensemble_of"], entry["members"]) == (["ridge", "kernel", "each"], 3)
    assert entry["mean"]["qwk"] is not None
    for fold in ("fold_0", "fold_1"):
        for prompt in ("phones", "river"):
            weights = entry["weights"][fold][prompt]
            assert weights.keys() == {"ridge, 0", "kernel, 0", "each, 0"}
            assert sum(weights.values()) == pytest.approx(1)
    published = pd.read_parquet(place / "stacked" / "predictions" / "stacked.all.parquet")
    assert published["essay_id"].is_unique
    assert published["seed"].isna().all()
    assert "all: a stack's weights by stratum and prompt" in (place / "stacked" / "benchmark.md").read_text()
    # Another fold's file in the place of a cell's own: its models have learned from this fold's test essays.
    cells = place / "stacked" / "cells" / "kernel"
    files = [cells / fold / "seed_0" / "predictions_oof.csv" for fold in ("fold_0", "fold_1")]
    own = files[0].read_bytes()
    shutil.copy(files[1], files[0])
    outcome = command("benchmark", "grid.yaml", *STACK, "-o", "stacked")
    assert outcome.code == 2
    assert "predictions_oof.csv is not what the run wrote of its train essays" in outcome.error
    files[0].unlink()
    outcome = command("benchmark", "grid.yaml", *STACK, "-o", "stacked")
    assert outcome.code == 2
    assert "kernel/fold_0/seed_0 has no predictions_oof.csv for a stack. Remove " in outcome.error
    files[0].write_bytes(own)
    assert command("benchmark", "grid.yaml", *STACK, "-o", "stacked").code == 0


DRAWN = [
    "finetune.data.source=draw_{seed}/fold_{fold}/essays.jsonl",
    "splits_dir=draw_{seed}",
    "seeds=2",
    "ensembles=false",
    "floors=false",
    "chosen={best: [mse, mae]}",
]


def essays_of(place: Path) -> list[dict]:
    return [json.loads(line) for line in (place / "essays.jsonl").read_text(encoding="utf-8").splitlines()]


def write_draws(place: Path, *, learned: float, measured: float = 0.0) -> None:
    """Data that differ by fold and seed: what is learned from, and, where it must not be, what is measured."""
    for seed in range(2):
        for fold in range(2):
            folder = place / f"draw_{seed}" / f"fold_{fold}"
            shutil.copytree(place / "folds" / f"fold_{fold}", folder, dirs_exist_ok=True)
            test = (folder / "test_ids.txt").read_text(encoding="utf-8").split()
            train = (folder / "train_ids.txt").read_text(encoding="utf-8").split()
            rest = train.pop(seed)  # dev differs by draw
            (folder / "train_ids.txt").write_text("\n".join(train), encoding="utf-8")
            with (folder / "dev_ids.txt").open("a", encoding="utf-8") as file:
                file.write(f"{rest}\n")
            rows = essays_of(place)
            for row in rows:
                if row["essay_id"] in train[seed::4]:
                    row["score"] = learned
                if row["essay_id"] == test[0] and seed == 1 and measured:
                    row["score"] = measured
            lines = "".join(json.dumps(row) + "\n" for row in rows)
            (folder / "essays.jsonl").write_text(lines, encoding="utf-8")


def test_data_that_differ_by_fold_and_draw(place, monkeypatch):
    monkeypatch.chdir(place)
    write_draws(place, learned=2)
    assert command("benchmark", "grid.yaml", *DRAWN, "-o", "drawn").code == 0
    manifests = [json.loads(path.read_text()) for path in sorted((place / "drawn" / "cells").rglob("manifest.json"))]
    assert len({manifest["data"]["sha256"] for manifest in manifests}) == 4
    clean = {row["essay_id"]: row["score"] for row in essays_of(place)}
    for path in (place / "drawn" / "cells").rglob("predictions_test.csv"):
        measured = pd.read_csv(path)
        assert measured["reference"].tolist() == [clean[essay] for essay in measured["essay_id"]]
    entry = figures(place / "drawn")["best"]
    assert sum(entry["chosen"].values()) == 4
    published = pd.read_parquet(place / "drawn" / "predictions" / "drawn.best.parquet")
    assert not published[["essay_id", "fold", "seed"]].duplicated().any()
    assert set(published["seed"]) == {0, 1}
    beside = ["--against", "drawn/predictions/drawn.mse.parquet"]
    shutil.copytree(place / "drawn", place / "beside")
    assert command("benchmark", "grid.yaml", *DRAWN, "-o", "beside", *beside).code == 0
    arms = figures(place / "beside")
    assert arms["drawn.mse.parquet"]["mean"]["qwk"] == arms["mse"]["mean"]["qwk"]
    # Draws that were made anew while the grid was away.
    write_draws(place, learned=1)
    outcome = command("benchmark", "grid.yaml", *DRAWN, "-o", "drawn")
    assert outcome.code == 2
    assert "mse/fold_0/seed_0 was run on other essays" in outcome.error


def test_draws_that_differ_in_what_is_measured_are_refused(place, monkeypatch):
    monkeypatch.chdir(place)
    write_draws(place, learned=2, measured=3)
    outcome = command("benchmark", "grid.yaml", *DRAWN, "-o", "x")
    assert outcome.code == 2
    assert "fold_0: the test essays of seed 1, their texts, scores or score ranges are not those of seed 0" in (
        outcome.error
    )
    assert not (place / "x" / "cells").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["nothing.yaml", "-o", "x"], "There is no file nothing.yaml"),
        (["grid.yaml", "arms={a: {set: {training.epochs: 0}}}", "-o", "x"], "arms.a"),
        (["grid.yaml", "prompts=[sea]", "-o", "x"], "no essay of prompt 'sea'"),
        (["grid.yaml", "splits_dir=elsewhere", "-o", "x"], "elsewhere/fold_0"),
        (["grid.yaml", "finetune.data.source=none.csv", "-o", "x"], "none.csv"),
        (["grid.yaml", "finetune={}", "-o", "x"], "finetune.data is missing"),
        (["grid.yaml", "folds=[7]", "-o", "x"], "fold_7"),
        (
            ["grid.yaml", "folds=[0,7]", "-o", "x"],
            "there are fold_0, fold_1. Name those that are there by folds, or --folds 0,1",
        ),
        (["essays.jsonl", "-o", "x"], "is a table of essays; CONFIG is the YAML of a grid"),
        (["grid.yaml", "finetune.data.source=-", "-o", "x"], "standard input can be read once"),
        (["grid.yaml", "-o", "essays.jsonl/grid"], "cannot be used"),
        (
            ["grid.yaml", "arms={a: {}, b: {set: {training.precision: bf16}}}", "-o", "x"],
            "one process can have only one",
        ),
    ],
)
def test_faults_are_told_before_any_run(place, monkeypatch, words, message):
    monkeypatch.chdir(place)
    outcome = command("benchmark", *words)
    assert outcome.code == 2
    assert message in outcome.error
    assert not (place / "x" / "cells").exists()


@pytest.mark.parametrize(
    "words", [["grid.yaml"], ["grid.yaml", "-o", "x", "--gpus-per-run", "1"], ["grid.yaml", "-o", "x", "--seeds", "0"]]
)
def test_wrong_use(place, monkeypatch, words):
    monkeypatch.chdir(place)
    assert command("benchmark", *words).code == 2


def test_several_processes_of_one_run_are_refused(place, monkeypatch):
    monkeypatch.chdir(place)
    monkeypatch.setenv("WORLD_SIZE", "2")
    outcome = command("benchmark", "grid.yaml", "-o", "y")
    assert outcome.code == 2
    assert "--engine ray" in outcome.error
