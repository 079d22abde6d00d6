"""Students of a few hundred weights in float64 that still have what makes hypergradients go wrong.

Attention, layer norm, dropout and recomputed activations in one; batch norm in the other. All functions are smooth,
so that finite differences of whole runs are good to many digits.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from aes_dynloss.teaching.student import Batch, Elements

FEATURES, TOKENS, SIDE, CLASSES, GROUPS = 3, 4, 5, 3, 2


class Answers(nn.Module):
    """What both students share: the first output is the score, the others are a distribution over classes."""

    def reset(self, seed: int) -> None:
        generator = torch.Generator().manual_seed(seed)
        self.double()
        with torch.no_grad():
            for parameter in self.parameters():
                noise = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
                parameter.copy_(0.5 * noise)
        self.register_buffer("centres", torch.tensor([0.4, 0.6], dtype=torch.float64))
        self.register_buffer("spreads", torch.tensor([0.2, 0.3], dtype=torch.float64))

    def elements(self, outputs: Tensor, targets: Tensor, groups: Tensor) -> Elements:
        return Elements(
            scores=torch.sigmoid(outputs[:, 0]),
            targets=targets,
            groups=groups,
            centre=self.centres[groups],
            spread=self.spreads[groups],
            logits=outputs[:, 0],
            log_probs=functional.log_softmax(outputs[:, 1:], dim=1),
            classes=(targets * (CLASSES - 1)).round().long(),
        )

    def parameter_stack(self) -> list[list[tuple[str, nn.Parameter]]]:
        return [list(self.named_parameters())]

    def as_module(self) -> nn.Module:
        return self


class Block(nn.Module):
    """One layer of a Transformer encoder, with the fast attention kernel."""

    def __init__(self, width: int, dropout: float) -> None:
        super().__init__()
        self.projection = nn.Linear(width, 3 * width)
        self.mixing = nn.Linear(width, width)
        self.feed_forward = nn.Sequential(nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width))
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(2))
        self.dropout = dropout

    def forward(self, hidden: Tensor) -> Tensor:
        heads = [part.unflatten(-1, (2, -1)).transpose(1, 2) for part in self.projection(hidden).chunk(3, dim=-1)]
        rate = self.dropout if self.training else 0.0
        read = functional.scaled_dot_product_attention(*heads, dropout_p=rate).transpose(1, 2).flatten(2)
        hidden = self.norms[0](hidden + functional.dropout(self.mixing(read), rate))
        return self.norms[1](hidden + functional.dropout(self.feed_forward(hidden), rate))


class SmallTransformer(Answers):
    """A Transformer encoder; ``gradient_checkpointing`` is named as transformers name it."""

    def __init__(self, *, dropout: float = 0.1, checkpointing: bool = False, width: int = 4, seed: int = 0) -> None:
        super().__init__()
        self.gradient_checkpointing = checkpointing
        self.embedding = nn.Linear(FEATURES, width)
        self.block = Block(width, dropout)
        self.head = nn.Linear(width, 1 + CLASSES)
        self.reset(seed)

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.embedding(x)
        if self.gradient_checkpointing and self.training:
            hidden = checkpoint(self.block, hidden, use_reentrant=False)
        else:
            hidden = self.block(hidden)
        return self.head(hidden.mean(1))


class SmallConvNet(Answers):
    """Two convolutions with batch norm."""

    def __init__(self, *, seed: int = 0) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3), nn.Tanh(), nn.Conv2d(3, 3, 2), nn.BatchNorm2d(3), nn.Tanh()
        )
        self.head = nn.Linear(3, 1 + CLASSES)
        self.reset(seed)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.body(x).mean((2, 3)))


def examples(rows: range | list[int], *, images: bool = False, seed: int = 0) -> Batch:
    """Rows of an endless table."""
    found = []
    for row in rows:
        generator = torch.Generator().manual_seed(1000 * seed + row)
        shape = (1, SIDE, SIDE) if images else (TOKENS, FEATURES)
        x = torch.randn(shape, generator=generator, dtype=torch.float64)
        found.append((x, torch.sigmoid(3 * x.mean() + 0.5 * torch.randn((), generator=generator)), row % GROUPS))
    x, targets, groups = zip(*found, strict=True)
    return Batch(
        inputs={"x": torch.stack(x)},
        targets=torch.stack(targets).double(),
        groups=torch.tensor(groups),
        index=torch.tensor(list(rows)),
    )
