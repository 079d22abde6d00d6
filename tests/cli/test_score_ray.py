"""`aes-dynloss score FOLDER --engine ray` on two nodes: whoever is killed, it says what one process says.

AES_DYNLOSS_KILLS says how many workers and drivers are; a release is tried with 50.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import psutil
import pytest
from command_line import command
from explained_scorers import classical
from parts import entries, products, write_parts

from aes_dynloss.training.ray_cluster import connected_ray

pytest.importorskip("ray", reason="the extra `ray` is not installed")

KILLS = int(os.environ.get("AES_DYNLOSS_KILLS", "2"))
NAMES = [f"part_{number}.jsonl" for number in range(6)]
FILES = ("--review", "OUT.csv", "--audit", "OUT.log")


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("ray")
    classical().save_pretrained(folder / "model")
    write_parts(folder / "in", NAMES, count=1500)
    assert start(folder, "local").wait(200) == 0, (folder / "err").read_text()
    return folder


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    from ray.cluster_utils import Cluster

    made = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
    yield made
    made.shutdown()


def start(place: Path, name: str, *words: str) -> subprocess.Popen:
    code = "import sys; from aes_dynloss.cli.main import run; sys.exit(run(sys.argv[1:]))"
    files = [word.replace("OUT", name) for word in FILES]
    with (place / "err").open("a") as err:
        return subprocess.Popen(
            [sys.executable, "-c", code, "score", "model", "in", "-o", name, *files, *words],
            cwd=place,
            stdout=subprocess.DEVNULL,
            stderr=err,
            env=os.environ | {"OMP_NUM_THREADS": "1"},
        )


def scoring(place: Path, name: str, others: set[int]) -> list[psutil.Process]:
    """The workers but others that score now; none before the first window of a part is saved."""
    if not list((place / f"{name}.parts" / "files").rglob("0*.json")):
        return []
    found = []
    for process in psutil.process_iter():
        try:
            if " ".join(process.cmdline()).startswith("ray::_run_there") and process.cwd() == str(place):
                found += [process] if process.pid not in others else []
        except psutil.Error:
            continue
    return found


def until(process: subprocess.Popen, condition: Any) -> Any:
    """What a condition says as soon as it holds, while the process is there."""
    last = time.monotonic() + 120
    while process.poll() is None and time.monotonic() < last:
        if found := condition():
            return found
        time.sleep(0.01)
    return None


def check_same(place: Path, name: str) -> None:
    assert products(place / name) == products(place / "local")
    assert (place / f"{name}.csv").read_bytes() == (place / "local.csv").read_bytes()
    assert entries(place / f"{name}.log") == entries(place / "local.log")
    assert not (place / f"{name}.parts").exists()


def test_a_node_that_is_killed_loses_nothing(place, cluster):
    node = cluster.add_node(num_cpus=1)
    raylet = next(one for one in node.all_processes["raylet"]).process.pid
    process = start(place, "out", "--engine", "ray", "--address", cluster.address)

    def there() -> bool:
        return any(worker.ppid() == raylet for worker in scoring(place, "out", set()))

    assert until(process, there), (place / "err").read_text()
    cluster.remove_node(node, allow_graceful=False)
    assert process.wait(200) == 0, (place / "err").read_text()
    check_same(place, "out")


def test_drivers_and_workers_that_are_killed_lose_nothing(place, cluster):
    words = ("--engine", "ray", "--address", cluster.address, "--resume")
    kills, ends, generator = 0, 0, random.Random(0)
    while kills < KILLS:
        name = f"out_{ends}"
        process = start(place, name, *words)
        killed = until(process, partial(scoring, place, name, set())) or []
        time.sleep(generator.uniform(0, 1))
        for worker in killed:
            worker.send_signal(signal.SIGKILL)
        kills += len(killed)
        if until(process, partial(scoring, place, name, {worker.pid for worker in killed})):
            time.sleep(generator.uniform(0, 1))
            process.kill()
            process.wait()
            kills += 1
        elif process.wait(200) == 0:
            ends += 1
    assert start(place, f"out_{ends}", *words).wait(200) == 0, (place / "err").read_text()
    for number in range(ends + 1):
        check_same(place, f"out_{number}")


def test_a_cluster_that_nobody_named_is_left_alone(cluster, monkeypatch):
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    with connected_ray() as ray:
        assert ray.get_runtime_context().gcs_address != cluster.address


def test_an_address_that_nobody_has_is_refused_in_seconds(place):
    began = time.monotonic()
    refused = command(
        "score", place / "model", place / "in", "-o", place / "none", "--engine", "ray", "--address", "127.0.0.1:1"
    )
    assert refused.code == 2
    assert "no cluster can be reached at 127.0.0.1:1" in refused.error
    assert time.monotonic() - began < 30
    assert not (place / "none").exists()


def test_without_ray_it_is_said_how_to_get_it(place, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    refused = command("score", place / "model", place / "in", "-o", place / "none", "--engine", "ray")
    assert refused.code == 2
    assert "pip install 'aes-dynloss[ray]'" in refused.error
