"""Batch norm whose second derivatives cost few passes over the images."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from aes_dynloss import ShapeError


class BatchNorm(nn.BatchNorm2d):
    """``torch.nn.BatchNorm2d``, with second derivatives written out.

    Those of torch are put together from some thirty passes over the whole input, a third of the time of a step that a
    teacher differentiates. Values and first derivatives are torch's own.

    References:
        Ioffe and Szegedy 2015, Batch normalization.
    """

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to the same; in evaluation the running statistics are used.

        Raises:
            ShapeError: There is a single number a channel to learn from.
        """
        if not self.training or self.momentum is None or self.running_mean is None or self.running_var is None:
            return super().forward(x)
        if x.numel() == x.shape[1]:
            raise ShapeError(
                f"Batch norm learns from more than one number a channel, found {tuple(x.shape)}. Take more images in a "
                "forward pass, or larger ones."
            )
        if self.num_batches_tracked is not None:
            self.num_batches_tracked.add_(1)
        running = self.running_mean, self.running_var
        given = x, self.weight, self.bias, *running, self.momentum, self.eps
        answer: Tensor = _Normalised.apply(*given)  # type: ignore[no-untyped-call, unused-ignore]
        return answer


class _Normalised(Function):
    """y = w (x - mean x) r + b, r = 1 / sqrt(var x + eps), by channel."""

    @staticmethod
    def forward(
        ctx: Any,  # noqa: ANN401 - autograd's own
        x: Tensor,
        weight: Tensor,
        bias: Tensor,
        running_mean: Tensor,
        running_var: Tensor,
        momentum: float,
        eps: float,
    ) -> Tensor:
        y, mean, r = torch.native_batch_norm(x, weight, bias, running_mean, running_var, True, momentum, eps)
        ctx.save_for_backward(x, weight, mean, r)
        ctx.eps = eps
        return y

    @staticmethod
    def backward(ctx: Any, slope: Tensor) -> tuple[Tensor | None, ...]:  # noqa: ANN401
        x, weight, mean, r = ctx.saved_tensors
        slopes = _Slopes.apply(slope, x, weight, mean, r, ctx.eps)  # type: ignore[no-untyped-call, unused-ignore]
        return *slopes, None, None, None, None


class _Slopes(Function):
    """dx = w r P g, dw = sum g z, db = sum g, with z = (x - mean) r and P u = u - mean u - z mean(u z)."""

    @staticmethod
    def forward(
        ctx: Any,  # noqa: ANN401
        slope: Tensor,
        x: Tensor,
        weight: Tensor,
        mean: Tensor,
        r: Tensor,
        eps: float,
    ) -> tuple[Tensor, Tensor, Tensor]:
        to_x, to_weight, to_bias = _slopes(slope, x, weight, mean, r, eps)
        ctx.save_for_backward(slope, x, weight, mean, r, to_weight, to_bias)
        ctx.eps = eps
        return to_x, to_weight, to_bias

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, v: Tensor, v_weight: Tensor, v_bias: Tensor) -> tuple[Tensor | None, ...]:  # noqa: ANN401
        """Second derivatives, with v, v_w, v_b the cotangents of dx, dw and db.

        Means are by channel, over N numbers each, and S = mean(v g) - mean v mean g - mean(v z) mean(g z).
        To g: w r P v + v_w z + v_b. To w: N r S. To x: w r^2 (-z S - mean(v z) P g - mean(g z) P v) + v_w r P g.
        """
        slope, x, weight, mean, r, to_weight, to_bias = ctx.saved_tensors
        count = x.numel() // x.shape[1]
        bent, v_z, v_sum = _slopes(v.contiguous(), x, weight, mean, r, ctx.eps)
        v_z, v_mean, g_z, g_mean = v_z / count, v_sum / count, to_weight / count, to_bias / count
        together = (v * slope).sum((0, 2, 3), dtype=r.dtype) / count - v_mean * g_mean - v_z * g_z
        # Both answers are sums of x, g and v with a factor for each channel, and a constant.
        to_slope = _wide(v_weight * r) * x + _wide(v_bias - v_weight * r * mean)
        of_g = v_weight * r - weight * r * r * v_z
        of_v = -weight * r * r * g_z
        of_z = -weight * r * r * together - of_g * g_z - of_v * v_z
        constant = -of_g * g_mean - of_v * v_mean - of_z * r * mean
        to_x = torch.addcmul(_wide(constant), _wide(of_z * r), x)
        to_x.addcmul_(_wide(of_g), slope).addcmul_(_wide(of_v), v)
        return (to_slope + bent).to(slope.dtype), to_x.to(x.dtype), count * r * together, None, None, None


def _slopes(slope: Tensor, x: Tensor, weight: Tensor, mean: Tensor, r: Tensor, eps: float) -> list[Tensor]:
    wanted = [True, True, True]
    return list(torch.ops.aten.native_batch_norm_backward(slope, x, weight, None, None, mean, r, True, eps, wanted))


def _wide(by_channel: Tensor) -> Tensor:
    return by_channel[:, None, None]
