"""Two gloo processes find the hypergradient of one."""

from __future__ import annotations

import pytest
import taught_processes
import torch
from started_together import run_together
from taught_runs import error_of

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    """What both processes found, in one start."""
    folder = tmp_path_factory.mktemp("two")
    run_together(taught_processes, folder, seconds=300)
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
