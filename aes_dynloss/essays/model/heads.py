"""From an essay's vector to a score, or to a distribution over the score points of its prompt."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from aes_dynloss.essays.model.prompt_scales import PromptScale

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
