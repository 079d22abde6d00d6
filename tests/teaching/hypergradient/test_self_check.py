from __future__ import annotations

import logging

import pytest
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
