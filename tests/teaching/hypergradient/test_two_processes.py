"""Two gloo processes find the hypergradient of one."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
import taught_processes
import torch
from taught_runs import error_of

pytestmark = pytest.mark.slow


def free_port():
    with socket.socket() as probe:
        probe.bind(("localhost", 0))
        return str(probe.getsockname()[1])


def ended(processes, seconds=300):
    """Exit codes; processes that talk in different orders would wait for ever, so the wait has an end."""
    for _ in range(seconds * 10):
        codes = [process.poll() for process in processes]
        if None not in codes or any(codes):
            break
        time.sleep(0.1)
    return codes


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    """What both processes found, in one start."""
    folder = tmp_path_factory.mktemp("two")
    shared = {"WORLD_SIZE": "2", "MASTER_ADDR": "localhost", "MASTER_PORT": free_port(), "OMP_NUM_THREADS": "1"}
    processes = []
    for rank in ("0", "1"):
        arguments = [sys.executable, str(Path(taught_processes.__file__)), str(folder)]
        with (folder / f"errors{rank}").open("w") as errors:
            processes.append(subprocess.Popen(arguments, env=os.environ | shared | {"RANK": rank}, stderr=errors))
    try:
        codes = ended(processes)
    finally:
        for process in processes:
            process.kill()
            process.wait()
    words = "\n".join((folder / f"errors{rank}").read_text("utf-8")[-3000:] for rank in (0, 1))
    assert codes == [0, 0], words
    return [torch.load(folder / f"found{rank}.pt") for rank in (0, 1)]


@pytest.mark.parametrize("name", taught_processes.RUNS)
def test_two_are_one(found, name):
    right = taught_processes.hypergradients(name, None)
    for estimator, expected in right.items():
        first, second = (answers[name][estimator] for answers in found)
        assert torch.equal(first, second), estimator
        assert error_of(first, expected) < taught_processes.ROOM[estimator], estimator


@pytest.mark.parametrize("loss", ["elements", "batch"])
def test_dropout_of_each_process(found, loss):
    """Masks differ between processes; the run they make together is differentiated all the same."""
    for answers in found:
        exact, numeric = answers["dropout"][loss]
        assert error_of(exact, numeric) < 2e-6
    assert torch.equal(found[0]["dropout"][loss][0], found[1]["dropout"][loss][0])


def test_the_shares_are_uneven():
    sizes = {
        (rank, size): [int((batch.index >= 0).sum()) for batch in taught_processes.share(list(range(size)), rank, 4)]
        for rank in (0, 1)
        for size in (5, 9, 1)
    }
    assert sizes == {(0, 5): [3], (1, 5): [2], (0, 9): [4, 1], (1, 9): [4], (0, 1): [1], (1, 1): [0]}
