"""Anchors: boxes of a few sizes in every cell of a grid, matched to true boxes and moved to fit them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np
import torch
from torch import Tensor

from aes_dynloss import DataError

IGNORED_ABOVE = 0.5
# Sides beyond e^4 times an anchor's, or below e^-4 of them, are no answers; a bound keeps areas above 0 and finite.
LARGEST_GROWTH = 4.0


@dataclass(frozen=True)
class AnchorGrid:
    """Anchor a of the cell in row r and column c is number (r * columns + c) * A + a.

    Args:
        sizes: Widths and heights in pixels, (A, 2).
        stride: Side of a cell in pixels.
        size: Height and width of the images, multiples of ``stride``.
    """

    sizes: Tensor
    stride: int
    size: tuple[int, int]

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns of cells."""
        return self.size[0] // self.stride, self.size[1] // self.stride

    def __len__(self) -> int:
        """Number of anchors N."""
        rows, columns = self.shape
        return rows * columns * len(self.sizes)

    def priors(self) -> Tensor:
        """Centre x and y, width and height of each anchor, (N, 4)."""
        rows, columns = self.shape
        y = (torch.arange(rows) + 0.5) * self.stride
        x = (torch.arange(columns) + 0.5) * self.stride
        centres = torch.stack(torch.meshgrid(x, y, indexing="xy"), dim=-1)
        places = centres[:, :, None].expand(-1, -1, len(self.sizes), -1)
        return torch.cat([places, self.sizes.cpu().expand(rows, columns, -1, -1)], dim=-1).reshape(-1, 4)


@dataclass(frozen=True)
class Matched:
    """What each anchor and each box of a batch is to learn.

    Args:
        states: 1 for an anchor that is some box's own, 0 for background, -1 for neither, (B, N).
        anchors: Number of each box's anchor, -1 for padding, (B, M) int64.
        labels: Its class, -1 for padding, (B, M) int64.
        boxes: Corners x1, y1, x2, y2 in pixels, (B, M, 4).
    """

    states: Tensor
    anchors: Tensor
    labels: Tensor
    boxes: Tensor

    def packed(self) -> Tensor:
        """All in one, (B, N + 6 M) float32, which holds numbers up to 2^24 exactly."""
        each = torch.cat([self.anchors[..., None].float(), self.labels[..., None].float(), self.boxes], dim=2)
        return torch.cat([self.states.float(), each.flatten(1)], dim=1)

    @classmethod
    def unpacked(cls, targets: Tensor, anchors: int) -> Self:
        """The same from :meth:`packed`'s answer.

        Args:
            targets: (B, N + 6 M).
            anchors: Their number N.
        """
        each = targets[:, anchors:].unflatten(1, (-1, 6))  # type: ignore[no-untyped-call]
        return cls(targets[:, :anchors], each[..., 0].long(), each[..., 1].long(), each[..., 2:])


def match(boxes: Tensor, labels: Tensor, grid: AnchorGrid) -> Matched:
    """Give each box an anchor of the cell that holds its centre: the free one whose shape fits best.

    Anchors that overlap a box by more than half are not the background's either, as they would be right to answer. A
    box whose cell has no free anchor left is not learnt.

    Args:
        boxes: (B, M, 4), corners in pixels.
        labels: (B, M) int64, -1 for padding.
        grid: The anchors.

    References:
        Redmon and Farhadi 2018, YOLOv3: An incremental improvement, section 2.1.
    """
    real = labels >= 0
    sides = (boxes[..., 2:] - boxes[..., :2]).clamp(min=0)
    shared = torch.minimum(sides[:, :, None], grid.sizes).prod(-1)
    fit = shared / (sides.prod(-1)[:, :, None] + grid.sizes.prod(-1) - shared)
    rows, columns = grid.shape
    column, row = ((boxes[..., :2] + boxes[..., 2:]) / 2 / grid.stride).long().unbind(-1)
    cells = row.clamp(0, rows - 1) * columns + column.clamp(0, columns - 1)
    firsts = (cells * len(grid.sizes)).tolist()
    choices = fit.argsort(dim=2, descending=True, stable=True).tolist()
    anchors = torch.full_like(labels, -1)
    for image, box in real.nonzero().tolist():
        taken = set(anchors[image].tolist())
        wished = (firsts[image][box] + choice for choice in choices[image][box])
        anchors[image, box] = next((anchor for anchor in wished if anchor not in taken), -1)
    overlap = box_iou(_corners(grid.priors()), torch.where(real[..., None], boxes, 0.0))
    states = torch.where((overlap > IGNORED_ABOVE).any(2), -1, 0)
    image, box = (anchors >= 0).nonzero(as_tuple=True)
    states[image, anchors[image, box]] = 1
    learnt = anchors >= 0
    return Matched(
        states, anchors, torch.where(learnt, labels, -1), torch.where(learnt[..., None], boxes, -1.0).float()
    )


def decode(raw: Tensor, priors: Tensor, stride: int) -> Tensor:
    """Boxes that a network answers: the centre moves within its cell, the sides grow by a factor.

    Args:
        raw: Four numbers an anchor, (..., 4).
        priors: Of the same anchors, see :meth:`AnchorGrid.priors`; broadcast.
        stride: Side of a cell.

    Returns:
        Corners in pixels, (..., 4).

    References:
        Redmon and Farhadi 2018, YOLOv3: An incremental improvement, section 2.1.
    """
    centre = priors[..., :2] + (raw[..., :2].sigmoid() - 0.5) * stride
    sides = priors[..., 2:] * raw[..., 2:].clamp(-LARGEST_GROWTH, LARGEST_GROWTH).exp()
    return _corners(torch.cat([centre, sides], dim=-1))


def box_iou(first: Tensor, second: Tensor) -> Tensor:
    """Intersection over union of all pairs.

    Args:
        first: Corners, (..., N, 4).
        second: Corners, (..., M, 4).

    Returns:
        (..., N, M), 0 where either has no area.
    """
    shared, union, _ = _areas(first[..., :, None, :], second[..., None, :, :])
    return shared / union.clamp(min=torch.finfo(union.dtype).tiny)


def generalised_iou(first: Tensor, second: Tensor) -> Tensor:
    """Intersection over union, less the part of the hull that belongs to neither: it tells how far boxes are apart.

    Args:
        first: Corners, (..., 4), of areas above 0.
        second: Corners, (..., 4).

    Returns:
        (...), in (-1, 1].

    References:
        Rezatofighi et al. 2019, Generalized intersection over union, algorithm 1.
    """
    shared, union, hull = _areas(first, second)
    return shared / union - (hull - union) / hull


def anchor_sizes(sides: Tensor, count: int) -> Tensor:
    """Sizes about which the sides of boxes cluster, by k-means of their logarithms, the smallest first.

    Args:
        sides: Widths and heights of training boxes, (N, 2), above 0.
        count: Clusters A.

    Returns:
        (A, 2).

    Raises:
        DataError: Fewer boxes of different sizes than clusters.

    References:
        Redmon and Farhadi 2017, YOLO9000: Better, faster, stronger, section 2 (dimension clusters).
    """
    from sklearn.cluster import KMeans

    different = len(np.unique(sides.numpy(), axis=0))
    if different < count:
        raise DataError(
            f"The training boxes have {different} different sizes, expected at least model.anchors = {count} of them. "
            "Set model.anchors lower or read more images."
        )
    # In logarithms, so that a small box counts as much as a large one.
    centres = KMeans(count, n_init=4, random_state=0).fit(sides.double().log().numpy()).cluster_centers_
    sizes = torch.from_numpy(np.exp(centres)).float()
    return sizes[sizes.prod(1).argsort()]


def _corners(boxes: Tensor) -> Tensor:
    """Centres and sides to corners."""
    half = boxes[..., 2:] / 2
    return torch.cat([boxes[..., :2] - half, boxes[..., :2] + half], dim=-1)


def _areas(first: Tensor, second: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Areas that pairs share, that they cover, and of the box about both."""
    low = torch.maximum(first[..., :2], second[..., :2])
    high = torch.minimum(first[..., 2:], second[..., 2:])
    shared = (high - low).clamp(min=0).prod(-1)
    union = _area(first) + _area(second) - shared
    low, high = torch.minimum(first[..., :2], second[..., :2]), torch.maximum(first[..., 2:], second[..., 2:])
    return shared, union, (high - low).prod(-1)


def _area(boxes: Tensor) -> Tensor:
    return (boxes[..., 2:] - boxes[..., :2]).clamp(min=0).prod(-1)
