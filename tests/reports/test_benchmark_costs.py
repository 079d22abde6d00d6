from __future__ import annotations

import pytest

from aes_dynloss.errors import ConfigError
from aes_dynloss.reports.benchmark import RunCost, cost_entry, cost_notes

H100, CPU = "NVIDIA H100 80GB HBM3", "CPU, 2 threads"


def test_seconds_are_wall_time_times_processes():
    entry = cost_entry([RunCost(100, H100, 1), RunCost(30.5, H100, 2)])
    assert entry == {
        "runs": 2,
        "seconds_per_run": 80.5,
        "total_seconds": 161,
        "unit": "GPU-seconds",
        "devices": [H100],
    }
    assert cost_entry([RunCost(0, CPU, 3)])["unit"] == "CPU-seconds"
    assert cost_entry([]) is None


def test_seconds_of_cards_and_of_processors_are_not_added():
    mixed = cost_entry([RunCost(100, H100, 1), RunCost(30, CPU, 2)])
    assert mixed == {
        "runs": 2,
        "seconds_per_run": None,
        "total_seconds": None,
        "unit": None,
        "devices": [CPU, H100],
    }
    assert cost_notes({"mse": mixed, "none": None}) == [
        "mse: its runs were on cards and on processors, whose seconds are not added."
    ]


def test_arms_on_other_devices_are_noted():
    entries = {"mse": cost_entry([RunCost(1, H100, 1)]), "stde": cost_entry([RunCost(1, "NVIDIA A100", 1)])}
    assert cost_notes(entries) == [
        "Arms ran on different devices, so that their seconds do not compare (mse: NVIDIA H100 80GB HBM3; stde: NVIDIA "
        "A100)."
    ]
    assert cost_notes({"mse": entries["mse"], "again": entries["mse"], "none": None}) == []
    assert cost_notes({}) == []


@pytest.mark.parametrize(
    "values",
    [(-1, H100, 1), (float("nan"), H100, 1), (float("inf"), H100, 1), (1, " ", 1), (1, H100, 0)],
)
def test_costs_that_cannot_be(values):
    with pytest.raises(ConfigError, match="seconds >= 0, a device and processes >= 1"):
        RunCost(*values)
