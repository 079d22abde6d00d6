"""From the tokens of all of an essay's chunks to one vector."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn


class Pooling(nn.Module):
    """Pools the tokens of an essay over all of its chunks together.

    mean: the mean over tokens. cls: the mean over chunks of their first token. attention: sum_t a_t h_t with
    a = softmax(v . tanh(W h_t)) over all tokens of the essay.

    Args:
        kind: mean, cls or attention.
        width: Size H of the hidden states.

    References:
        Yang et al. 2016, Hierarchical attention networks (the form of the attention).
    """

    def __init__(self, kind: Literal["mean", "cls", "attention"], width: int) -> None:
        super().__init__()
        self.kind = kind
        if kind == "attention":
            self.project = nn.Linear(width, width)
            self.query = nn.Linear(width, 1, bias=False)
            nn.init.zeros_(self.query.weight)  # starts as the mean

    def forward(self, hidden: Tensor, mask: Tensor, owner: Tensor, essays: int) -> Tensor:
        """Pool.

        Args:
            hidden: Hidden states of C chunks, (C, L, H).
            mask: 1 at tokens, 0 at padding, (C, L).
            owner: Essay of each chunk, (C,), in [0, essays).
            essays: Number of essays B.

        Returns:
            (B, H) in float32 or wider.
        """
        # Sums over hundreds of tokens are no work for bf16, which autocast would choose for these products.
        with torch.autocast(hidden.device.type, enabled=False):
            return self._pooled(hidden.to(_wide(hidden)), mask, owner, essays)

    def _pooled(self, hidden: Tensor, mask: Tensor, owner: Tensor, essays: int) -> Tensor:
        # A matrix of membership instead of index_add: the same sums on a GPU every time, and twice differentiable.
        member = (owner[None, :] == torch.arange(essays, device=owner.device)[:, None]).to(hidden.dtype)
        if self.kind == "cls":
            return member @ hidden[:, 0] / member.sum(1, keepdim=True)
        weights = mask.to(hidden.dtype)
        if self.kind == "attention":
            scores = self.query(torch.tanh(self.project(hidden))).squeeze(-1)
            scores = scores.masked_fill(mask == 0, -torch.inf)
            # Any number may be taken from all scores of an essay; its greatest keeps exp in range.
            top = scores.detach().amax(1)
            top = torch.where(member > 0, top[None, :], -torch.inf).amax(1)
            weights = torch.exp(scores - top[owner][:, None])
        total = member @ torch.einsum("cl,clh->ch", weights, hidden)
        return total / (member @ weights.sum(1, keepdim=True))


def _wide(hidden: Tensor) -> torch.dtype:
    return torch.float64 if hidden.dtype == torch.float64 else torch.float32
