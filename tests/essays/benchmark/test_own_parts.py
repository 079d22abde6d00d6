"""Grids with parts from outside: processes that share one, and workers of a cluster."""

from __future__ import annotations

import json
import multiprocessing
import os
from pathlib import Path

import pytest
from forked import finish, start
from plugin_worker import run_all_there
from plugins import FEATURE, LOSS, SCHEDULE, TEACHER
from small_grid import small_grid, write_small_grid

from aes_dynloss.configfile import validate
from aes_dynloss.essays.benchmark.cells import COST, grid_cells
from aes_dynloss.essays.benchmark.config import BenchmarkConfig
from aes_dynloss.parts import PLUGINS, add_plugins
from aes_dynloss.training.grid import run_in_turn
from aes_dynloss.training.ray_cluster import packed

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("own_parts")]

ARMS = {
    "mse": {},
    "own_loss": {
        "set": {
            "loss.terms": {"log_cosh": {"schedule": "sawtooth", "teeth": 2}, "mse": "rest"},
            "model.linguistic": ["counts", "hedges"],
        }
    },
    "own_teacher": {
        "set": {
            "loss.terms": {"mse": 1.0, "stde": 0.1},
            "teacher": {"kind": "exponentiated", "window": 3},
            "data.split.teacher_dev_fraction": 0.25,
        }
    },
}


@pytest.fixture
def place(tmp_path) -> Path:
    write_small_grid(tmp_path, arms=ARMS, floors=False)
    (tmp_path / "my_parts.py").write_text(LOSS + SCHEDULE + TEACHER + FEATURE, encoding="utf-8")
    return tmp_path


def test_two_processes_share_a_grid(place):
    words = ["--plugin", "my_parts.py", "benchmark", "grid.yaml", "--folds", "0", "-o", "grid"]
    processes = [start(*words, folder=place) for _ in range(2)]
    assert [finish(process) for process in processes] == [0, 0], (place / "err").read_text()
    report = json.loads((place / "grid" / "benchmark.json").read_text(encoding="utf-8"))
    assert set(report["arms"]) >= set(ARMS)
    manifests = {
        arm: json.loads((place / "grid" / "cells" / arm / "fold_0" / "seed_0" / "manifest.json").read_text())
        for arm in ARMS
    }
    assert {arm: sorted(one.get("parts", {})) for arm, one in manifests.items()} == {
        "mse": [],
        "own_loss": ["features", "losses", "schedules"],
        "own_teacher": ["teachers"],
    }


def test_without_the_plugin_its_arms_are_named(place):
    process = start("benchmark", "grid.yaml", "--folds", "0", "-o", "grid", folder=place)
    assert finish(process) == 2
    assert "arms.own_loss" in (place / "err").read_text()


def test_a_worker_has_the_plugins_of_its_driver(place, monkeypatch):
    monkeypatch.chdir(place)
    add_plugins(["my_parts.py"])
    config = validate(BenchmarkConfig, small_grid(arms=ARMS, floors=False, folds=[0]), "grid")
    cells = [one for one in grid_cells(config, ["phones", "river"], place / "grid") if one.arm.startswith("own")]
    for cell in cells:  # complete, so that a worker has nothing left to do but to read them
        cell.folder.mkdir(parents=True)
        (cell.folder / COST).write_text("{}", encoding="utf-8")
    plugins = os.environ[PLUGINS]
    monkeypatch.delenv(PLUGINS)  # a worker elsewhere has not this process's environment
    tasks = [packed(run_in_turn, [cell])[0] for cell in cells]
    context, codes = multiprocessing.get_context("spawn"), {}
    for given in (plugins, ""):
        worker = context.Process(target=run_all_there, args=(tasks, place, given))
        worker.start()
        worker.join(240)
        codes[given] = worker.exitcode
    assert codes == {plugins: 0, "": 1}
