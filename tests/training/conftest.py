from __future__ import annotations

import sys
from pathlib import Path

import pytest

# toy_student.py and toy_runs.py lie beside the tests that use them.
sys.path.insert(0, str(Path(__file__).parent))


@pytest.fixture(autouse=True)
def _one_thread(one_thread):
    """Students this small only wait for one another's threads."""


@pytest.fixture
def accelerator():
    from aes_dynloss.training.accelerator import build_accelerator
    from aes_dynloss.training.config import TrainingConfig

    return build_accelerator(TrainingConfig(device="cpu", precision="float32"))
