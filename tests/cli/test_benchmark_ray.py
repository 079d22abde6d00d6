"""``aes-dynloss benchmark --engine ray``: a grid on a cluster of two workers, one of which is killed."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from command_line import command
from small_grid import write_small_grid

pytest.importorskip("ray", reason="the extra `ray` is not installed")


@pytest.fixture
def place(tmp_path) -> Path:
    write_small_grid(tmp_path)
    return tmp_path


def start(place: Path, *words: str) -> subprocess.Popen:
    code = "import sys; from aes_dynloss.cli.main import run; sys.exit(run(sys.argv[1:]))"
    environment = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}
    with (place / "err").open("w") as err:
        return subprocess.Popen(
            [sys.executable, "-c", code, "benchmark", "grid.yaml", "--engine", "ray", *words],
            cwd=place,
            stdout=subprocess.DEVNULL,
            stderr=err,
            env=environment | {"OMP_NUM_THREADS": "1"},
        )


def workers_at_work(process: subprocess.Popen) -> list[psutil.Process]:
    """Worker processes of a cluster that work on a cell now, which Ray writes into their titles."""
    try:
        children = psutil.Process(process.pid).children(recursive=True)
    except psutil.NoSuchProcess:
        return []
    found = []
    for child in children:
        try:
            if " ".join(child.cmdline()).startswith("ray::_run_there"):
                found.append(child)
        except psutil.Error:
            continue
    return found


def test_a_worker_that_is_killed_is_replaced(place):
    process = start(place, "-o", "grid", "finetune.training.epochs=6")
    killed, until = set(), time.monotonic() + 200
    while process.poll() is None and time.monotonic() < until and not killed:
        # In the midst of a run: its first checkpoint is there, so that the run can go on instead of beginning anew.
        if list((place / "grid" / "work").rglob("checkpoint.pt")):
            for worker in workers_at_work(process)[:1]:
                worker.send_signal(signal.SIGKILL)
                killed.add(worker.pid)
        time.sleep(0.01)
    assert killed
    assert process.wait(300) == 0, (place / "err").read_text()
    report = json.loads((place / "grid" / "benchmark.json").read_text())
    assert sorted(run["run"] for run in report["runs"]) == [
        f"{arm}/fold_{fold}/seed_0" for arm in ("mae", "mse") for fold in (0, 1)
    ]
    assert any(run["resumed"] for run in report["runs"])


def test_a_fault_of_a_run_is_told_as_without_a_cluster(place):
    process = start(place, "-o", "grid", "finetune.model.encoder=folds")
    assert process.wait(200) == 2
    words = (place / "err").read_text()
    assert re.search(r"Error: m[sa]e/fold_[01]/seed_0: .*folds", words)
    assert "Traceback" not in words


def test_more_than_the_cluster_has_is_refused(place, monkeypatch):
    process = start(place, "-o", "grid", "--gpus-per-run", "3")
    assert process.wait(200) == 2
    assert "each run wants 3 GPU" in (place / "err").read_text()


def test_without_ray_it_is_said_how_to_get_it(place, monkeypatch):
    monkeypatch.chdir(place)
    monkeypatch.setitem(sys.modules, "ray", None)
    outcome = command("benchmark", "grid.yaml", "--engine", "ray", "-o", "grid")
    assert outcome.code == 2
    assert "pip install 'aes-dynloss[ray]'" in outcome.error
