from __future__ import annotations

import logging

import pytest
import torch
from taught_runs import LOSSES, taught_run

from aes_dynloss.teaching.hypergradient.differences import check_differences


@pytest.mark.parametrize("rule", ["momentum", "adamw", "clipped"])
@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("micro", [8, 4])
def test_silent_where_differences_are_good(loss, micro, rule, caplog):
    run = taught_run(loss=loss, micro=micro, rule=rule)
    with run.live.undisturbed(), caplog.at_level(logging.DEBUG):
        error = check_differences(run.objective, run.rule, run.walk(), run.measure, 1e-4)
    assert 0 < error < 1e-4
    assert not caplog.records


def test_both_ways_attend_on_one_kernel():
    """On a GPU two kernels draw two dropout masks, so that differences would be off whatever their size."""
    run, seen = taught_run(), []
    trajectory = run.walk()
    run.live.module.register_forward_hook(lambda *_: seen.append(torch.backends.cuda.flash_sdp_enabled()))
    with run.live.undisturbed():
        check_differences(run.objective, run.rule, trajectory, run.measure, 1e-4)
    assert seen[-3:] == [False] * 3  # that of the exact product, and the two that differ


@pytest.mark.parametrize("size", [30.0, 1e-17])
def test_loud_where_they_are_not(size, caplog):
    run = taught_run()
    with run.live.undisturbed():
        error = check_differences(run.objective, run.rule, run.walk(), run.measure, size)
    assert error > 0.15
    (record,) = caplog.records
    assert record.levelname == "WARNING"
    assert f"off by {100 * error:.0f} %" in record.getMessage()
    assert f"(now {size:g}; float32 likes 1e-3" in record.getMessage()
    assert "teacher.hypergradient.estimator=exact" in record.getMessage()
