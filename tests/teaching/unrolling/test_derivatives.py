from __future__ import annotations

import torch

from aes_dynloss.teaching.unrolling.derivatives import differentiable_grad, vjp


def test_slopes_can_be_differentiated_again():
    x = torch.tensor([1.0, 2.0], dtype=torch.float64, requires_grad=True)
    unused = torch.ones(2, requires_grad=True)
    first, none = differentiable_grad(x.pow(3).sum(), [x, unused])
    assert none.tolist() == [0.0, 0.0]
    assert vjp([first], [torch.ones_like(x)], [x])[0].tolist() == [6.0, 12.0]


def test_outputs_without_a_graph_add_nothing():
    x = torch.tensor([1.0, 2.0], requires_grad=True)
    fixed, two = torch.ones(2), torch.full((2,), 2.0)
    assert vjp([fixed], [two], [x])[0].tolist() == [0.0, 0.0]
    assert vjp([fixed, x.square()], [two, two], [x])[0].tolist() == [4.0, 8.0]
