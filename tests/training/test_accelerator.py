from __future__ import annotations

import random

import numpy as np
import pytest
import torch
from accelerate.state import AcceleratorState, PartialState
from pydantic import ValidationError
from toy_runs import settings

from aes_dynloss.errors import ConfigError
from aes_dynloss.training import hardware
from aes_dynloss.training.accelerator import build_accelerator, plain_accelerator
from aes_dynloss.training.config import TrainingConfig
from aes_dynloss.training.run_folder import describe_run


def drawn():
    return random.random(), np.random.random(), float(torch.rand(()))  # noqa: NPY002


def test_all_generators_are_seeded():
    build_accelerator(settings(seed=3))
    first = drawn()
    build_accelerator(settings(seed=3))
    assert drawn() == first
    build_accelerator(settings(seed=4))
    assert not set(drawn()) & set(first)


@pytest.fixture
def anew():
    """Accelerate as it is in a new process, as often as it is called: one process has one precision."""
    before, shared = AcceleratorState._shared_state.copy(), PartialState._shared_state.copy()
    yield lambda: AcceleratorState._reset_state(reset_partial_state=True)
    AcceleratorState._reset_state(reset_partial_state=True)
    PartialState._shared_state.update(shared)
    AcceleratorState._shared_state.update(before)


@pytest.mark.parametrize(("has_bf16", "expected"), [(False, "no"), (True, "bf16")])
def test_the_precision_is_the_processor_s(monkeypatch, anew, has_bf16, expected):
    monkeypatch.setattr(hardware, "cpu_has_bf16", lambda: has_bf16)
    anew()
    accelerator = build_accelerator(settings(precision="auto"))
    assert accelerator.device == torch.device("cpu")
    assert accelerator.mixed_precision == expected
    assert describe_run(accelerator, [])["precision"] == {"no": "float32"}.get(expected, expected)


def test_a_precision_that_is_known_already(monkeypatch, anew):
    monkeypatch.setattr(hardware, "cpu_has_bf16", lambda: True)
    anew()
    assert build_accelerator(settings(precision="auto"), precision="float32").mixed_precision == "no"


def test_a_run_in_another_precision_than_the_one_before(monkeypatch, anew):
    """And scoring beside them is in float32, as in a process of its own."""
    matrix = torch.randn(8, 8)
    anew()
    for precision in ("float32", "bf16", "float32"):
        with build_accelerator(settings(precision="auto"), precision=precision).autocast():
            assert (matrix @ matrix).dtype == {"bf16": torch.bfloat16}.get(precision, torch.float32)
        with plain_accelerator(cpu=True).autocast():
            assert (matrix @ matrix).dtype == torch.float32


def test_the_environment_does_not_make_scores_others(monkeypatch, anew):
    """`accelerate launch` sets this, as do machines where somebody once ran `accelerate config`."""
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "bf16")
    anew()
    assert plain_accelerator(cpu=True).mixed_precision == "no"
    anew()
    assert plain_accelerator(cpu=True, mixed_precision=None).mixed_precision == "bf16"


def test_a_tracker_that_is_not_installed():
    with pytest.raises(ConfigError, match=r"training.trackers: abacus is not installed; here are: .* leave it out"):
        build_accelerator(settings(trackers=["abacus"]))


@pytest.mark.parametrize(
    "changed",
    [
        {"epochs": 0}, {"batch_size": 0}, {"micro_batch_tokens": 0}, {"micro_batch_size": 0}, {"length_window": 0},
        {"learning_rate": 0}, {"head_learning_rate": 0}, {"layer_decay": 0}, {"layer_decay": 1.1}, {"weight_decay": -1},
        {"warmup": 1}, {"warmup": -0.1}, {"decay": "step"}, {"clip_norm": 0}, {"averaging": 0}, {"averaging": 1},
        {"precision": "fp16"}, {"device": "cuda"}, {"evaluations": 0}, {"patience": 0}, {"log_every": 0}, {"seed": -1},
        {"seed": 2**31}, {"epoch": 1}, {"checkpoint_minutes": 0},
    ],
)  # fmt: skip
def test_settings_that_cannot_be(changed):
    with pytest.raises(ValidationError, match=next(iter(changed))):
        TrainingConfig(**changed)
