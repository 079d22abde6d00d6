"""What every table of pictures has in common."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Collection, Mapping, Sequence, Sized
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from aes_dynloss import DataError
from aes_dynloss.teaching.student import Batch

Table = TypeVar("Table", bound="ImageTable")

RATERS = ("trusted", "untrusted")  # by the numbers that targets have beside them, see ImageTable.trusted_rows


class ImageTable(Sized):
    """A table, see :class:`aes_dynloss.training.batching.Examples`, whose examples are images of one size."""

    @property
    def lengths(self) -> NDArray[np.int64]:
        """All alike."""
        return np.ones(len(self), dtype=np.int64)

    @property
    def trusted_rows(self) -> NDArray[np.int64] | None:
        """Rows whose targets are known to be right; None where nothing says that others' may be wrong."""
        return None

    @property
    def sequences(self) -> NDArray[np.int64]:
        """One each."""
        return np.ones(len(self), dtype=np.int64)

    @abstractmethod
    def batch(self, rows: Sequence[int]) -> Batch:
        """The images in these rows."""


def four(parts: Mapping[str, Table]) -> tuple[Table, Table, Table, Table]:
    """The tables train, teacher_dev, dev and test."""
    return parts["train"], parts["teacher_dev"], parts["dev"], parts["test"]


def check_numbering(numbers: Collection[int], where: Callable[[int], str], remedy: str) -> None:
    """Refuse numbers that would make many classes of few: a student has an output for each up to the highest.

    Args:
        numbers: Those that occur as labels, at least one.
        where: Tells where a number stands, for messages.
        remedy: What to do, for messages.

    Raises:
        DataError: One is negative, or more than half of those from 0 to the highest do not occur.
    """
    lowest, highest, used = min(numbers), max(numbers), len(set(numbers))
    if lowest < 0:
        raise DataError(f"{where(lowest)}: the label is {lowest}, expected a class's number, 0 or more. {remedy}")
    if highest + 1 > 2 * used:
        raise DataError(
            f"{where(highest)}: the label {highest} makes {highest + 1} classes, and only {used} of them occur. "
            f"Expected numbers from 0 on without large gaps. {remedy}"
        )


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
