"""Weights by rater and gold loss correction on two gloo processes are what one process finds."""

from __future__ import annotations

import pytest
import torch
import two_raters
from safetensors.torch import load_file
from started_together import run_together
from toy_runs import assert_same_weights

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Of both processes, in one start."""
    folder = tmp_path_factory.mktemp("two")
    run_together(two_raters, folder)
    return folder


@pytest.mark.parametrize("name", two_raters.RUNS)
def test_as_one(folder, tmp_path, name):
    first, second = (torch.load(folder / f"found{rank}.pt", weights_only=False) for rank in (0, 1))
    assert first["processes"] == second["processes"] == 2
    assert_same_weights(first["runs"][name]["weights"], second["runs"][name]["weights"])
    alone = two_raters.found_by(tmp_path, name)
    assert_same_weights(first["runs"][name]["weights"], alone["weights"], 1e-5)
    assert first["runs"][name]["qwk"] == pytest.approx(alone["qwk"], abs=1e-3)
    teachers = [load_file(at / "teacher" / "teacher.safetensors") for at in (folder / name, tmp_path)]
    assert_same_weights(*teachers, tolerance=1e-5)
