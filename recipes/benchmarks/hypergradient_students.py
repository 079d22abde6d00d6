"""The students of ``hypergradient_cost.py``, with random weights, and what they read."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn

from aes_dynloss.teaching.student import Batch, Elements, Student


@dataclass(frozen=True)
class Shape:
    """A student's size and a batch's: of a BERT (batch, length), of a residual network (batch, 3, length, length)."""

    layers: int
    width: int
    heads: int
    words: int = 30522
    length: int = 128
    batch: int = 16
    kind: Literal["bert", "residual"] = "bert"


CLASSES = 10
SHAPES = {
    "resnet8": Shape(8, 16, 1, length=32, batch=128, kind="residual"),
    "small": Shape(4, 128, 4, words=7800),
    "minilm": Shape(6, 384, 12),
    "bert-base": Shape(12, 768, 12, length=512),
}
TINY = Shape(1, 16, 2, words=50, length=8, batch=2)
TINY_IMAGES = Shape(8, 2, 1, length=8, batch=4, kind="residual")


class BertStudent(nn.Module):
    """BERT with random weights, mean pooling and one score."""

    def __init__(self, shape: Shape, attention: str) -> None:
        from transformers import BertConfig, BertModel

        super().__init__()
        config = BertConfig(
            vocab_size=shape.words,
            num_attention_heads=shape.heads,
            hidden_size=shape.width,
            intermediate_size=4 * shape.width,
            num_hidden_layers=shape.layers,
        )
        config._attn_implementation = attention
        self.encoder = BertModel(config, add_pooling_layer=False)
        self.head = nn.Linear(shape.width, 1)

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Scores, (B, 1)."""
        hidden = self.encoder(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
        mask = attention_mask[:, :, None]
        answer: Tensor = self.head((hidden * mask).sum(1) / mask.sum(1)).float()
        return answer

    def elements(self, outputs: Tensor, targets: Tensor, groups: Tensor) -> Elements:
        """See :class:`aes_dynloss.teaching.student.Student`."""
        whole = torch.zeros_like(targets), torch.ones_like(targets)
        return Elements(outputs[:, 0], targets, groups, *whole)

    def parameter_stack(self) -> list[list[tuple[str, nn.Parameter]]]:
        """One layer is enough here."""
        return [list(self.named_parameters())]

    def as_module(self) -> nn.Module:
        """Itself."""
        return self


def residual_student(shape: Shape) -> Student:
    """The residual network of the recipes for pictures, with its L2T-DLF loss."""
    sys.path.append(str(Path(__file__).parents[1] / "vision"))
    network = import_module("residual_network")
    config = network.ResidualNetworkConfig(depth=shape.layers, width=shape.width)
    images = torch.randint(256, (64, 3, shape.length, shape.length), dtype=torch.uint8)
    student: Student = network.ResidualNetwork(config, images, torch.arange(64) % CLASSES, CLASSES)
    return student


def random_batch(shape: Shape) -> Batch:
    """What a student of this shape reads in a step."""
    index = torch.arange(shape.batch)
    if shape.kind == "residual":
        images = torch.randint(256, (shape.batch, 3, shape.length, shape.length), dtype=torch.uint8)
        return Batch({"images": images}, torch.randint(CLASSES, (shape.batch,)), torch.zeros_like(index), index)
    words = torch.randint(1, shape.words, (shape.batch, shape.length))
    inputs = {"input_ids": words, "attention_mask": torch.ones_like(words)}
    return Batch(inputs, torch.rand(shape.batch), torch.zeros_like(index), index)
