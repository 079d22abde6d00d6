from __future__ import annotations

import pytest
from sample_robustness import sample_robustness

from aes_dynloss.reports.robustness_entry import Robustness


@pytest.fixture(scope="module")
def measured() -> Robustness:
    return sample_robustness()
