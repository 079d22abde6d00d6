"""A student whose every example has several elements and a number beside them, as segmenters and detectors have."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor, nn

from aes_dynloss.teaching.student import Batch, Elements

PLACES, FEATURES, CLASSES = 4, 2, 3
NO_TRUTH = -1


class DenseStudent(nn.Module):
    """A class at each of four places and one number an example, by a convolution; smooth, in float64.

    Args:
        norm: Whether there is batch norm.
        kinds: Whether the places are of two kinds in turn.
        number: Whether the number's squared error is part of an example's loss.
        seed: Of the weights.
    """

    def __init__(self, *, norm: bool = True, kinds: bool = True, number: bool = True, seed: int = 0) -> None:
        super().__init__()
        self.kinds, self.number = kinds, number
        between = [nn.BatchNorm1d(3)] if norm else []
        self.body = nn.Sequential(nn.Conv1d(FEATURES, 3, 3, padding=1, bias=not norm), *between, nn.Tanh())
        self.head = nn.Linear(3 * PLACES, CLASSES * PLACES + 1)
        self.double()
        generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for parameter in self.parameters():
                parameter.copy_(0.5 * torch.randn(parameter.shape, generator=generator, dtype=torch.float64))
        self.register_buffer("chance_error", torch.tensor(0.6, dtype=torch.float64))
        self.register_buffer("importance", torch.tensor([0.5, 0.1, 0.25, 0.15], dtype=torch.float64))

    def forward(self, x: Tensor) -> Tensor:
        """(B, 2, 4) to (B, 13): four times three logits, and a number."""
        return self.head(self.body(x).flatten(1))

    def elements(self, outputs: Tensor, targets: Tensor, groups: Tensor) -> Elements:
        truth = targets[:, :PLACES].long()
        kinds = torch.arange(PLACES, device=truth.device).remainder(2).repeat(len(truth))
        return Elements.of_classes(
            outputs[:, :-1].reshape(-1, CLASSES).log_softmax(1),
            truth.clamp(min=0).flatten(),
            self.chance_error,
            weights=torch.where(truth == NO_TRUTH, 0.0, self.importance),
            other=0.5 * (outputs[:, -1] - targets[:, -1]).square() if self.number else None,
            kinds=kinds if self.kinds else None,
        )

    def parameter_stack(self) -> list[list[tuple[str, nn.Parameter]]]:
        return [list(self.body.named_parameters("body")), list(self.head.named_parameters("head"))]

    def as_module(self) -> nn.Module:
        return self


def dense_examples(rows: Sequence[int]) -> Batch:
    """Rows of an endless table; one place in five has no truth, and rows 3, 13, ... have none at all."""
    inputs, targets = [], []
    for row in rows:
        generator = np.random.default_rng(row)
        x = generator.standard_normal((FEATURES, PLACES))
        truth = np.digitize(x.sum(0) + 0.5 * generator.standard_normal(PLACES), [-0.6, 0.6]).astype(float)
        truth[(generator.random(PLACES) < 0.2) | (row % 10 == 3)] = NO_TRUTH
        inputs.append(x)
        targets.append([*truth, x.mean() + 0.1 * generator.standard_normal()])
    index = torch.as_tensor(list(rows))
    return Batch({"x": torch.tensor(np.stack(inputs))}, torch.tensor(targets), torch.zeros_like(index), index)


def with_fillers(batch: Batch) -> Batch:
    """The batch with two rows between its own that count for nothing, and would matter if they did."""
    order = torch.tensor([len(batch), *range(len(batch)), len(batch)])
    x = torch.cat([batch.inputs["x"], torch.full((1, FEATURES, PLACES), 3.0, dtype=torch.float64)])
    targets = torch.cat([batch.targets, torch.full((1, PLACES + 1), 2.0, dtype=torch.float64)])
    groups = torch.cat([batch.groups, batch.groups[:1]])
    index = torch.cat([batch.index, torch.tensor([-1])])
    return replace(batch, inputs={"x": x[order]}, targets=targets[order], groups=groups[order], index=index[order])


def by_loops(student: DenseStudent, loss_of: object, batch: Batch) -> Tensor:
    """The mean loss of a batch, place by place.

    Args:
        student: The student.
        loss_of: From log-probabilities, (3,), class and kind of a place to its loss.
        batch: All examples.
    """
    outputs, losses = student(**batch.inputs), []
    for row, target in zip(outputs, batch.targets, strict=True):
        whole = 0.5 * (row[-1] - target[-1]) ** 2 if student.number else torch.zeros((), dtype=torch.float64)
        for place, weight in enumerate(student.importance.tolist()):
            if target[place] != NO_TRUTH:
                logits = row[CLASSES * place : CLASSES * (place + 1)]
                kind = place % 2 if student.kinds else 0
                whole = whole + weight * loss_of(logits - logits.logsumexp(0), int(target[place]), kind)
        losses.append(whole)
    return torch.stack(losses).mean()
