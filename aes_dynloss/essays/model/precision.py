"""Scoring in fewer bits: the encoder in bf16, or its linear layers in int8; pooling and head stay in float32."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

import torch
from torch import Tensor, nn

from aes_dynloss.errors import ConfigError
from aes_dynloss.essays.model.ensemble import EssayEnsemble
from aes_dynloss.essays.model.scorer import EssayScorer, Scorer

Precision = Literal["float32", "bf16", "int8"]
# Part of essays whose score points must stay what they are in float32.
LEAST_EQUAL = 0.995
_LEVELS = 127


class Int8Linear(nn.Module):
    """A linear layer that multiplies in int8 and answers in float32.

        x W' + b  is near  s_x s_w (round(x / s_x) round(W / s_w)') + b,  s = max |row| / 127

    Every row of x, which is a token, has a scale of its own, so that an essay's score hangs on no other essay.

    Args:
        layer: The layer in float32, which is left as it is.

    References:
        Yao et al. 2022, ZeroQuant (a scale for each token, and for each row of the weight).
    """

    weight: Tensor
    scale: Tensor
    bias: Tensor

    def __init__(self, layer: nn.Linear) -> None:
        super().__init__()
        weight, scale = _quantized(layer.weight.detach().float())
        bias = torch.zeros(len(weight)) if layer.bias is None else layer.bias.detach().float()
        self.register_buffer("weight", weight)
        self.register_buffer("scale", scale.squeeze(1))
        self.register_buffer("bias", bias)

    def forward(self, states: Tensor) -> Tensor:
        """From (..., in) to (..., out)."""
        rows, scale = _quantized(states.flatten(0, -2))
        products = torch._int_mm(rows, self.weight.T).float().mul_(scale)
        return torch.addcmul(self.bias, products, self.scale).unflatten(0, states.shape[:-1])


def _quantized(rows: Tensor) -> tuple[Tensor, Tensor]:
    """Rows in int8, (N, K), and their scales, (N, 1)."""
    scale = (rows.abs().amax(1, keepdim=True) / _LEVELS).clamp_(min=torch.finfo(rows.dtype).tiny)
    return (rows / scale).round_().to(torch.int8), scale


def in_precision(scorer: Scorer, precision: Precision) -> Scorer:
    """A scorer that computes in a precision, for scoring alone; the one given is left as it is.

    Args:
        scorer: One model in float32, or an ensemble of such.
        precision: float32, bf16 (a CPU without instructions for it is slow) or int8 (on CPU).

    Raises:
        ConfigError: int8 is asked for on a GPU, or the scorer is of a kind that is not known here.
    """
    if precision == "float32":
        return scorer
    reduced = copy.copy(scorer)
    if isinstance(reduced, EssayEnsemble):
        reduced.members = [replace(one, scorer=_reduced(one.scorer, precision)) for one in reduced.members]
        return reduced
    if isinstance(reduced, EssayScorer):
        return _reduced(reduced, precision)
    raise ConfigError(f"A {type(scorer).__name__} cannot score in {precision}. Score in float32.")


def _reduced(scorer: EssayScorer, precision: Precision) -> EssayScorer:
    if precision == "int8" and scorer.accelerator.device.type != "cpu":
        raise ConfigError("int8 is for CPUs. Choose bf16 on a GPU, or keep the GPU out of it.")
    reduced = copy.copy(scorer)
    reduced.model = copy.deepcopy(scorer.model)
    if precision == "bf16":
        reduced.model.encoder.to(torch.bfloat16)
    else:
        _quantize_layers(reduced.model.encoder)
    return reduced


def _quantize_layers(module: nn.Module) -> None:
    for name, child in module.named_children():
        if type(child) is nn.Linear:
            setattr(module, name, Int8Linear(child))
        else:
            _quantize_layers(child)


def equal_scores(scorer: Scorer, reduced: Scorer, texts: Sequence[str], prompt_ids: Sequence[str]) -> int:
    """Essays out of N to which both scorers give the same score point."""
    full, answer = (one.score(texts, prompt_ids).score for one in (scorer, reduced))
    return int((full == answer).sum())
