"""Teachers on two gloo processes learn what one learns."""

from __future__ import annotations

import pytest
import torch
import two_teachers
from started_together import run_together

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    """The results of both processes, in one start."""
    folder = tmp_path_factory.mktemp("two")
    run_together(two_teachers, folder)
    return [torch.load(folder / f"found{rank}.pt", weights_only=False) for rank in (0, 1)]


def near(found, expected, tolerance=1e-9):
    """The same numbers in the same nest of lists and mappings."""
    if isinstance(expected, torch.Tensor):
        torch.testing.assert_close(found, expected, rtol=0, atol=tolerance)
    elif isinstance(expected, dict):
        assert found.keys() == expected.keys()
        for key in expected:
            near(found[key], expected[key], tolerance)
    elif isinstance(expected, list):
        assert len(found) == len(expected)
        for one, other in zip(found, expected, strict=True):
            near(one, other, tolerance)
    else:
        assert found == pytest.approx(expected, abs=tolerance or None, rel=0.0)


def test_there_were_two(found):
    assert [each["processes"] for each in found] == [2, 2]


@pytest.mark.parametrize("name", two_teachers.EPISODES)
def test_episodes(found, name, tmp_path):
    first, second = (each["episodes"][name] for each in found)
    near(first["teacher"], second["teacher"], 0.0)
    near(first["answers"], second["answers"], 0.0)
    near(first, two_teachers.episodes(tmp_path, name))


@pytest.mark.parametrize("name", two_teachers.NETWORKS)
def test_runs_under_a_loss_network(found, name, tmp_path):
    first, second = (each["networks"][name] for each in found)
    for part in ("weights", "phi", "teacher"):
        near(first[part], second[part], 0.0)
    near(first, two_teachers.network(tmp_path, name), 1e-6 if name == "kept gradients" else 1e-9)


def test_dropout_leaves_one_teacher(found):
    first, second = (each["dropout"] for each in found)
    near(first, second, 0.0)
