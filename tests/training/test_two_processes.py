"""Two gloo processes do what one does."""

from __future__ import annotations

import pytest
import torch
import two_processes
from started_together import run_together
from toy_runs import assert_same_weights, settings
from toy_student import ToyExamples, ToyStudent

from aes_dynloss.training.batching import share_of, steps_left
from aes_dynloss.training.prediction import predict

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    """The results of all that two processes do, in one start of both."""
    folder = tmp_path_factory.mktemp("two")
    run_together(two_processes, folder)
    return torch.load(folder / "found.pt", weights_only=False)


def test_there_were_two(found):
    assert found["processes"] == 2


@pytest.mark.parametrize("name", two_processes.RUNS)
def test_the_same_run(found, name, tmp_path):
    one, two = two_processes.run(tmp_path, **two_processes.RUNS[name]), found[name]
    assert two.losses == pytest.approx(one.losses, abs=1e-9)
    for line, other in zip(one.log, two.log, strict=True):
        assert line.keys() == other.keys()
        assert line.get("terms", {}) == pytest.approx(other.get("terms", {}), abs=1e-9)
        assert line.get("gradient_norm") == pytest.approx(other.get("gradient_norm"), abs=1e-9)
        assert line.get("dev") == pytest.approx(other.get("dev"), abs=1e-9)
    assert_same_weights(two.weights, one.weights, 1e-9)
    assert two.result.best_step == one.result.best_step
    assert two.result.stopped_early == one.result.stopped_early


def test_the_runs_are_uneven_where_they_say_so():
    """Shares of different sizes, different numbers of micro-batches, and an empty share really occur."""

    def shares(number, batch_size):
        examples = ToyExamples(number)
        steps = steps_left(examples, settings(batch_size=batch_size), taken=0)
        return {tuple(len(share_of(step.rows, examples, rank, 2)) for rank in (0, 1)) for step in steps}

    assert shares(37, 6) == {(3, 3), (3, 2)}
    assert shares(37, 3) == {(2, 1), (1, 1)}
    assert shares(5, 2) == {(1, 1), (1, 0)}


def test_resumed_is_uninterrupted(found):
    straight, resumed = found["resumed"]
    assert resumed.result == straight.result
    assert resumed.log == straight.log
    assert_same_weights(resumed.weights, straight.weights)


def test_resumed_between_evaluations_is_uninterrupted(found):
    """Each process with batch norm's statistics of its own, which agree only where the student is measured."""
    straight, resumed, saved = found["resumed by the clock"]
    assert saved == 10
    assert resumed.result == straight.result
    assert resumed.log == straight.log
    assert_same_weights(resumed.weights, straight.weights)


@pytest.mark.parametrize("number", [1, 2, 9])
def test_predictions(found, accelerator, number):
    torch.testing.assert_close(
        found[f"predictions of {number}"], predict(accelerator, ToyStudent(), ToyExamples(number))
    )


def test_errors_reach_both(found):
    for nan, (new, again, resumed, forced) in found["errors"]:
        assert "After step 3 the loss is nan" in nan or "After step 1 the loss is nan" in nan
        assert (new, resumed, forced) == ("none", "none", "none")
        assert "already holds a run (config.yaml)" in again


def test_processes_end_with_the_same_statistics_of_batch_norm(found):
    """Each has statistics of its own share; measured and saved is one network."""
    mine, others = found["normed"]
    assert any("running_var" in name for name in mine)
    assert_same_weights(mine, others)
