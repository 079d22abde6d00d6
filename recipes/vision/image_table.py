"""What every table of pictures has in common."""

from __future__ import annotations

from collections.abc import Sized

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


class ImageTable(Sized):
    """A table, see :class:`aes_dynloss.training.batching.Examples`, whose examples are images of one size."""

    @property
    def lengths(self) -> NDArray[np.int64]:
        """All alike."""
        return np.ones(len(self), dtype=np.int64)

    @property
    def sequences(self) -> NDArray[np.int64]:
        """One each."""
        return np.ones(len(self), dtype=np.int64)


def pixel_moments(images: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and deviation of each channel on [0, 1], (C, 1, 1) each, by the counts of its 256 shades.

    Args:
        images: (N, C, H, W) uint8.
    """
    counts = torch.stack([torch.bincount(shades.flatten(), minlength=256) for shades in images.unbind(1)])
    shares = counts.double() / counts.sum(1, keepdim=True)
    shades = torch.arange(256, device=images.device, dtype=torch.float64) / 255
    mean = shares @ shades
    deviation = (shares @ shades.square() - mean.square()).clamp(min=1e-6).sqrt()
    return mean.float()[:, None, None], deviation.float()[:, None, None]
