from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from aes_dynloss.teaching.policies import StateTracker, StudentState
from aes_dynloss.teaching.student import random_state, replayed, set_random_state

CPU = torch.device("cpu")


def test_as_tensor():
    found = StudentState(0.25, 0.5, 0.75).as_tensor()
    assert found.dtype == torch.float32
    assert found.tolist() == [0.25, 0.5, 0.75]


def test_progress_runs_from_0_to_1():
    tracker = StateTracker(total_steps=4)
    seen = []
    for tracker.step in (0, 1, 4, 5):
        seen.append(tracker.state().progress)
    assert seen == [0.0, 0.25, 1.0, 1.0]
    assert tracker.state() == StudentState(1.0, 1.0, 0.0)


def test_the_running_error_is_an_exponential_mean():
    tracker = StateTracker(total_steps=9, memory=0.5)
    for error in (0.5, 0.25, 7.0):
        tracker.take_error(error)
    assert tracker.train_error == pytest.approx((((1 * 0.5 + 0.25) * 0.5) + 0.125) * 0.5 + 0.5)


@given(st.lists(st.floats(-10, 10)), st.floats(-10, 10))
def test_all_fields_stay_within_0_and_1(errors, measure):
    tracker = StateTracker(total_steps=3)
    for error in errors:
        tracker.take_error(error)
    tracker.take_measure(measure)
    state = tracker.state()
    assert 0 <= state.train_error <= 1
    assert state.dev_measure == min(1.0, max(0.0, measure))


def test_random_numbers_are_replayed_and_then_go_on():
    torch.manual_seed(0)
    before = random_state(CPU)
    first, second = torch.rand(3), torch.rand(3)
    set_random_state(before, CPU)
    torch.rand(3)
    with replayed(before, CPU):
        assert torch.equal(torch.rand(3), first)
        torch.rand(50)
    assert torch.equal(torch.rand(3), second)


def test_random_numbers_go_on_after_an_error():
    torch.manual_seed(0)
    before = random_state(CPU)

    def interrupted():
        with replayed(before, CPU):
            torch.rand(5)
            raise KeyError

    with pytest.raises(KeyError):
        interrupted()
    assert torch.equal(random_state(CPU).cpu, before.cpu)
