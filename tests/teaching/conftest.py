from __future__ import annotations

import sys
from pathlib import Path

import pytest

# The toys lie beside the tests that use them.
sys.path.insert(0, str(Path(__file__).parent))


@pytest.fixture(autouse=True)
def _one_thread(one_thread):
    """Students this small only wait for one another's threads."""
