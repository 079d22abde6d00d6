"""A student of plain vectors: small, exact in float64, and able to feed every component loss."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from aes_dynloss.teaching.student import Batch, Elements

FEATURES, CLASSES, GROUPS = 5, 4, 3


class ToyStudent(nn.Module):
    """Two hidden layers; the first output is the score, the others are a distribution over classes."""

    def __init__(self, *, dropout: float = 0.0, link: str = "sigmoid", width: int = 8, seed: int = 0) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        self.link = link
        self.lower = nn.Linear(FEATURES, width, dtype=torch.float64)
        self.upper = nn.Linear(width, width, dtype=torch.float64)
        self.head = nn.Linear(width, 1 + CLASSES, dtype=torch.float64)
        self.dropout = nn.Dropout(dropout)
        with torch.no_grad():
            for parameter in self.parameters():
                parameter.copy_(0.4 * torch.randn(parameter.shape, generator=generator, dtype=torch.float64))
        self.register_buffer("centres", torch.tensor([0.4, 0.5, 0.6], dtype=torch.float64))
        self.register_buffer("spreads", torch.tensor([0.2, 0.25, 0.3], dtype=torch.float64))

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.dropout(torch.tanh(self.lower(x)))
        return self.head(self.dropout(torch.tanh(self.upper(hidden))))

    def elements(self, outputs: Tensor, targets: Tensor, groups: Tensor) -> Elements:
        scores = outputs[:, 0]
        return Elements(
            scores=torch.sigmoid(scores) if self.link == "sigmoid" else scores,
            targets=targets,
            groups=groups,
            centre=self.centres[groups],
            spread=self.spreads[groups],
            logits=scores if self.link == "sigmoid" else None,
            log_probs=functional.log_softmax(outputs[:, 1:], dim=1),
            classes=(targets.clamp(0, 1) * (CLASSES - 1)).round().long(),
        )

    def parameter_stack(self) -> list[list[tuple[str, nn.Parameter]]]:
        return [list(layer.named_parameters()) for layer in (self.lower, self.upper, self.head)]

    def as_module(self) -> nn.Module:
        return self


class ToyExamples:
    """A table of random vectors whose targets lie on [0, 1] and can be learnt."""

    def __init__(self, number: int, *, seed: int = 0, groups: int = GROUPS, longest: int = 30) -> None:
        generator = np.random.default_rng(seed)
        self.x = generator.standard_normal((number, FEATURES))
        signal = self.x @ np.array([1.0, -0.5, 0.8, 0.3, -1.2]) + 0.3 * generator.standard_normal(number)
        self.targets = 1.0 / (1.0 + np.exp(-signal))
        self.groups = generator.integers(0, groups, number)
        self._lengths = generator.integers(1, longest + 1, number)
        self._sequences = generator.integers(1, 4, number)

    @property
    def lengths(self) -> np.ndarray:
        return self._lengths

    @property
    def sequences(self) -> np.ndarray:
        return self._sequences

    def __len__(self) -> int:
        return len(self.targets)

    def batch(self, rows) -> Batch:
        rows = np.asarray(rows, dtype=np.int64)
        return Batch(
            inputs={"x": torch.from_numpy(self.x[rows])},
            targets=torch.from_numpy(self.targets[rows]),
            groups=torch.from_numpy(self.groups[rows]),
            index=torch.from_numpy(rows),
        )


class NormedStudent(ToyStudent):
    """With batch norm between its layers."""

    def __init__(self, **how) -> None:
        super().__init__(**how)
        self.norm = nn.BatchNorm1d(self.lower.out_features, dtype=torch.float64)

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.dropout(self.norm(torch.tanh(self.lower(x))))
        return self.head(self.dropout(torch.tanh(self.upper(hidden))))

    def parameter_stack(self) -> list[list[tuple[str, nn.Parameter]]]:
        lower, *others = super().parameter_stack()
        return [lower + list(self.norm.named_parameters("norm")), *others]

    @property
    def statistics(self) -> tuple[int, list[float]]:
        """How often batch norm's statistics were moved, and the means."""
        return int(self.norm.num_batches_tracked), self.norm.running_mean.tolist()


class VariedExamples(ToyExamples):
    """A table that varies its vectors anew in every batch, out of torch's generator."""

    def batch(self, rows) -> Batch:
        plain = super().batch(rows)
        x = plain.inputs["x"]
        return replace(plain, inputs={"x": x + 0.3 * torch.randn(x.shape, dtype=torch.float64)})
