"""Pooling against a loop over essays, chunks and tokens."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from aes_dynloss.essays.model.scoring_model import Pooling

KINDS = ("mean", "cls", "attention")
WIDTH = 5
# Chunks of four essays, not in the order of the essays, and their lengths; 7 is the longest.
OWNER = [2, 0, 1, 0, 3, 1, 0]
LENGTHS = [7, 3, 1, 6, 2, 7, 4]


def build(kind: str, dtype: torch.dtype = torch.float64) -> Pooling:
    torch.manual_seed(0)
    pooling = Pooling(kind, WIDTH).to(dtype)
    if kind == "attention":
        torch.nn.init.normal_(pooling.query.weight, std=2.0)
    return pooling


def batch(dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor, Tensor, int]:
    torch.manual_seed(1)
    hidden = torch.randn(len(OWNER), max(LENGTHS), WIDTH, dtype=dtype) * 2
    mask = (torch.arange(max(LENGTHS)) < torch.tensor(LENGTHS)[:, None]).long()
    return hidden, mask, torch.tensor(OWNER), 4


def plain(pooling: Pooling, hidden: Tensor, mask: Tensor, owner: Tensor, essays: int) -> Tensor:
    rows = []
    for essay in range(essays):
        chunks = [c for c in range(len(owner)) if owner[c] == essay]
        if pooling.kind == "cls":
            rows.append(torch.stack([hidden[c, 0] for c in chunks]).mean(0))
            continue
        tokens = torch.stack([hidden[c, t] for c in chunks for t in range(hidden.shape[1]) if mask[c, t]])
        if pooling.kind == "mean":
            rows.append(tokens.mean(0))
        else:
            scores = torch.tanh(tokens @ pooling.project.weight.T + pooling.project.bias) @ pooling.query.weight[0]
            rows.append(torch.softmax(scores, 0) @ tokens)
    return torch.stack(rows)


@pytest.mark.parametrize("kind", KINDS)
def test_equals_a_loop(kind: str) -> None:
    pooling = build(kind)
    torch.testing.assert_close(pooling(*batch()), plain(pooling, *batch()))


@pytest.mark.parametrize("kind", KINDS)
def test_padding_has_no_influence(kind: str) -> None:
    pooling = build(kind)
    hidden, mask, owner, essays = batch()
    noisy = torch.where(mask[:, :, None] == 1, hidden, 1e3 * torch.randn_like(hidden)).requires_grad_()
    longer = torch.cat([noisy, torch.full((len(owner), 3, WIDTH), 77.0, dtype=hidden.dtype)], dim=1)
    longer_mask = torch.cat([mask, mask.new_zeros(len(owner), 3)], dim=1)
    pooled = pooling(longer, longer_mask, owner, essays)
    torch.testing.assert_close(pooled, pooling(hidden, mask, owner, essays))
    pooled.square().sum().backward()
    assert not noisy.grad[mask == 0].any()


@pytest.mark.parametrize("kind", KINDS)
def test_an_essay_alone_and_in_company(kind: str) -> None:
    pooling = build(kind)
    hidden, mask, owner, essays = batch()
    together = pooling(hidden, mask, owner, essays)
    for essay in range(essays):
        mine = owner == essay
        alone = pooling(hidden[mine], mask[mine], torch.zeros(int(mine.sum()), dtype=torch.int64), 1)
        torch.testing.assert_close(alone[0], together[essay])


def test_attention_starts_as_the_mean() -> None:
    torch.manual_seed(0)
    attention = Pooling("attention", WIDTH).double()
    torch.testing.assert_close(attention(*batch()), build("mean")(*batch()))
    assert attention.project.weight.any()  # so that the query's gradient is not 0
    attention(*batch()).square().sum().backward()
    assert attention.query.weight.grad.any()


def test_attention_of_great_scores_stays_finite() -> None:
    pooling = build("attention", torch.float32)
    with torch.no_grad():
        pooling.query.weight.mul_(1e4)
    hidden, mask, owner, essays = batch(torch.float32)
    hidden.requires_grad_()
    pooled = pooling(hidden, mask, owner, essays)
    torch.testing.assert_close(pooled, plain(pooling, hidden, mask, owner, essays))
    pooled.sum().backward()
    assert hidden.grad.isfinite().all()


@pytest.mark.parametrize("kind", KINDS)
def test_gradients_of_first_and_second_order(kind: str) -> None:
    pooling = build(kind)
    hidden, mask, owner, essays = batch()

    def pooled(states: Tensor) -> Tensor:
        return pooling(states, mask, owner, essays)

    assert torch.autograd.gradcheck(pooled, [hidden.requires_grad_()])
    assert torch.autograd.gradgradcheck(pooled, [hidden])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_autocast_leaves_the_sums_in_float32(kind: str, dtype: torch.dtype) -> None:
    pooling = build(kind, torch.float32)
    hidden, mask, owner, essays = batch(torch.float32)
    hidden = hidden.to(dtype)
    with torch.autocast("cpu", torch.bfloat16):
        pooled = pooling(hidden, mask, owner, essays)
    assert pooled.dtype == torch.float32
    torch.testing.assert_close(pooled, plain(pooling, hidden.float(), mask, owner, essays))
