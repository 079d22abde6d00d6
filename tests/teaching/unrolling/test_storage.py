from __future__ import annotations

import pytest
import torch

from aes_dynloss.teaching.unrolling.unroll import keep
from aes_dynloss.teaching.unrolling.update_rules import Point


@pytest.mark.parametrize(("storage", "error"), [("device", 0.0), ("host", 0.0), ("bf16", 2.0**-8)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_kept_point_comes_back(storage, error, dtype):
    point = Point(torch.linspace(-3, 3, 50, dtype=dtype), (torch.rand(50, dtype=dtype),), 7)
    again = keep(point, storage)()
    assert again.step == 7
    for there, here in zip((again.weights, *again.slots), (point.weights, *point.slots), strict=True):
        assert there.dtype == dtype
        assert bool(((there - here).abs() <= error * here.abs()).all())
    assert torch.equal(again.weights, point.weights) == (error == 0.0)
