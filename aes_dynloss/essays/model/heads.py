"""Pooling and heads: from an essay's token states to one vector, and from it to a score or a distribution of scores."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from aes_dynloss.essays.model.prompt_scales import PromptScale


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


# Log-probability of a score point that a prompt does not have: its probability is exactly 0, its gradient too.
ABSENT = -1e4
_EMBEDDING = 16


class ScoreHead(nn.Module):
    """Scores of essays from their vectors, for every prompt of a model.

    Args:
        kind: regression, softmax or ordinal.
        width: Size of the vectors.
        scales: The prompts with their training statistics.
        prompts: A head for each prompt, one that sees the prompt's embedding, or one that is not told the prompt.
        hidden: Width of a hidden layer, or None.
        dropout: Dropout before each linear layer.

    References:
        McCullagh 1980, Regression models for ordinal data (the cumulative logit of ``ordinal``).
    """

    counts: Tensor

    def __init__(
        self,
        kind: Literal["regression", "softmax", "ordinal"],
        width: int,
        scales: Sequence[PromptScale],
        *,
        prompts: Literal["own_head", "embedding", "shared"],
        hidden: int | None,
        dropout: float,
    ) -> None:
        super().__init__()
        self.kind = kind
        self.own, self.embedded = prompts == "own_head", prompts == "embedding"
        points = max(scale.prompt.range.count for scale in scales)
        self.points = points
        answers = points if kind == "softmax" else 1
        if self.embedded:
            self.embedding = nn.Embedding(len(scales), _EMBEDDING)
            width += _EMBEDDING
        layers: list[nn.Module] = [nn.Dropout(dropout)]
        if hidden is not None:
            layers += [nn.Linear(width, hidden), nn.GELU(), nn.Dropout(dropout)]
        self.body = nn.Sequential(*layers)
        self.answer = nn.Linear(hidden or width, answers * (len(scales) if self.own else 1))
        nn.init.zeros_(self.answer.weight)  # the first answer is each prompt's mean, or its distribution
        nn.init.zeros_(self.answer.bias)
        shares = torch.tensor([[*scale.shares, *[0.0] * (points - len(scale.shares))] for scale in scales])
        counts = torch.tensor([len(scale.shares) for scale in scales])
        self.register_buffer("counts", counts, persistent=False)
        # Half an essay is added to each point, as if a point that was never seen were merely rare.
        valid = torch.arange(points) < counts[:, None]
        smooth = torch.where(valid, shares + 0.5 / 100, 0.0)
        smooth = smooth / smooth.sum(1, keepdim=True)
        if kind == "softmax":
            self.prior = nn.Parameter(torch.where(valid, smooth, 1.0).log())
        elif kind == "ordinal":
            above = (1.0 - smooth.cumsum(1))[:, :-1].clamp(min=1e-4, max=1 - 1e-4)
            borders = -torch.logit(above)
            self.first_border = nn.Parameter(borders[:, :1].clone())
            steps = borders.diff(dim=1).clamp(min=1e-3)
            self.border_steps = nn.Parameter(torch.log(torch.expm1(steps)))

    def forward(self, features: Tensor, prompt: Tensor) -> Tensor:
        """Answers.

        Args:
            features: Vectors of the essays, (B, width).
            prompt: Number of each essay's prompt, (B,).

        Returns:
            regression: (B, 1), in standard deviations of the prompt's training scores; else log-probabilities of the
            score points, (B, points), :data:`ABSENT` where the prompt has fewer.
        """
        if self.embedded:
            features = torch.cat([features, self.embedding(prompt).to(features.dtype)], dim=1)
        answers: Tensor = self.answer(self.body(features))
        if self.own:
            rows = torch.arange(len(prompt), device=prompt.device)
            answers = answers.view(len(prompt), len(self.counts), -1)[rows, prompt]
        answers = answers.to(torch.float64 if answers.dtype == torch.float64 else torch.float32)
        if self.kind == "regression":
            return answers
        valid = torch.arange(self.points, device=prompt.device) < self.counts[prompt][:, None]
        if self.kind == "softmax":
            log_probs = functional.log_softmax((answers + self.prior[prompt]).masked_fill(~valid, ABSENT), dim=1)
            return torch.where(valid, log_probs, ABSENT)
        return self._ordinal(answers, prompt, valid)

    def _ordinal(self, latent: Tensor, prompt: Tensor, valid: Tensor) -> Tensor:
        """Answer ln(sigmoid(z - b_k) - sigmoid(z - b_{k+1})), borders b rising, the outermost infinite."""
        borders = torch.cat([self.first_border, functional.softplus(self.border_steps)], dim=1).cumsum(1)
        reached = latent - borders[prompt]
        end = torch.full_like(latent, -ABSENT)
        upper = torch.cat([end, reached], dim=1)
        lower = torch.cat([reached, -end], dim=1)
        last = torch.arange(self.points, device=prompt.device) == (self.counts[prompt] - 1)[:, None]
        lower = torch.where(last, ABSENT, lower)
        gap = torch.where(valid, upper - lower, 1.0)
        log_probs = functional.logsigmoid(upper) + functional.logsigmoid(-lower) + torch.log(-torch.expm1(-gap))
        return torch.where(valid, log_probs, ABSENT)
